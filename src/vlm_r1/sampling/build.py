"""Makes samplers by name: from the table, or a user's own by `package.module:Name`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vlm_r1.config.schema import SamplingSection
from vlm_r1.errors import ConfigError
from vlm_r1.policy.logprobs import Policy
from vlm_r1.registry import resolve
from vlm_r1.sampling.base import Sampler
from vlm_r1.sampling.hf import HFSampler

_PAGE = "docs/add_an_objective.md"

SamplerFactory = Callable[[Policy, SamplingSection], Sampler]
"""Makes a sampler from the policy whose weights it samples from and the recipe's section."""


def _hf(policy: Policy, section: SamplingSection) -> Sampler:
    return HFSampler(policy.model, policy.adapter)


SAMPLERS: Mapping[str, SamplerFactory] = {"hf": _hf}


def get_sampler(engine: str) -> SamplerFactory:
    """Return the factory of this name in `SAMPLERS`, or the function or class that `package.module:Name` names.

    Raises:
        ConfigError: unknown name, or one that cannot be imported or called.
    """
    factory = resolve("sampling.engine", engine, SAMPLERS)
    if not callable(factory):
        raise ConfigError(f'sampling.engine "{engine}" is {factory!r:.100}; wanted a class or a function ({_PAGE})')
    return factory


def build_sampler(policy: Policy, section: SamplingSection) -> Sampler:
    """Make the sampler that the recipe names.

    Args:
        policy: without wrappers.

    Raises:
        ConfigError: see `get_sampler`; or what was made is no sampler.
    """
    sampler = get_sampler(section.engine)(policy, section)
    if missing := [name for name in ("sync", "sample") if not callable(getattr(sampler, name, None))]:
        raise ConfigError(f'sampling.engine "{section.engine}" made an object without {missing[0]}() ({_PAGE})')
    return sampler
