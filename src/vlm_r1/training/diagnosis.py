"""Why a loss or gradient is not finite: which record, which token, and which layer first.

It runs only when a run stops over it. The last update was skipped, so the weights are those that it was computed with:
each completion is computed once more by itself, with a look at what every module returns, and at its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vlm_r1.policy.logprobs import TokenLogProbs

_RANGE = (
    "the numbers leave their range: try training.mixed_precision=no, or a lower training.learning_rate from an earlier "
    "checkpoint"
)


@dataclass(frozen=True)
class Suspect:
    """One completion of the last update.

    Attributes:
        label: names it, e.g. "train.jsonl:7, completion 3 of 8".
        pieces_T: the text of each of its tokens.
        compute: computes its log-probabilities and its loss, with gradient.
        given: numbers that its loss is made of, as the loss uses them, by name; with what to look at.
    """

    label: str
    pieces_T: Sequence[str]
    compute: Callable[[], tuple[TokenLogProbs, Tensor]]
    given: Mapping[str, Tensor]


class _Watch:
    """Notes the first module whose output is not finite, and the first, backwards, whose output's gradient is not."""

    def __init__(self) -> None:
        self.forward = self.backward = ""

    @contextmanager
    def on(self, model: nn.Module) -> Generator[None]:
        handles: list[RemovableHandle] = []
        for name, module in cast(Iterable[tuple[str, Any]], model.named_modules()):
            handles += [module.register_forward_hook(partial(self._look, name))] if name else []
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _look(self, name: str, _: nn.Module, __: Any, output: Any) -> None:
        for tensor in _tensors(output):
            if not self.forward and not _finite(tensor):
                self.forward = name
            if tensor.requires_grad:
                cast(Any, tensor).register_hook(partial(self._look_back, name))

    def _look_back(self, name: str, gradient: Tensor) -> None:
        if not self.backward and not _finite(gradient):
            self.backward = name


def find_cause(model: nn.Module, suspects: Iterable[Suspect]) -> str | None:
    """Return where the first number that is not finite comes from, and what to try; None if nothing is found.

    Args:
        model: the policy's, whose gradients are empty; they are empty again afterwards.
        suspects: the completions of the last update, in order.
    """
    broken = [name for name, parameter in model.named_parameters() if not _finite(parameter)]
    for suspect in suspects:
        found = _examine(model, suspect)
        model.zero_grad(set_to_none=True)
        if found and broken:
            return f"{suspect.label}: {found}. The weights {broken[0]} are not finite: use another checkpoint"
        if found:
            return f"{suspect.label}: {found}"
    return f"the weights {broken[0]} are not finite: use another checkpoint" if broken else None


def _examine(model: nn.Module, suspect: Suspect) -> str | None:
    watch = _Watch()
    with watch.on(model), torch.enable_grad():
        scored, loss = suspect.compute()
        bad = (~scored.logprobs_NT.isfinite() & scored.mask_NT).nonzero()
        if len(bad):
            layer = f"the first layer that is not finite is {watch.forward}" if watch.forward else "its layers are fine"
            number = float(scored.logprobs_NT.detach()[tuple(bad[0])])
            return f"{_token(suspect, int(bad[0, 1]))} has the log-probability {number}; {layer}; {_RANGE}"
        for name, values in suspect.given.items():
            if not _finite(values):
                return f"{name} ({float(values[~values.isfinite()][0])})"
        if scored.logprobs_NT.requires_grad:
            scored.logprobs_NT.retain_grad()
        if loss.requires_grad:
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
    size, gradients = float(loss.detach()), scored.logprobs_NT.grad
    bad = (~gradients.isfinite()).nonzero() if gradients is not None else torch.empty(0, 2)
    if len(bad):
        return f"{_token(suspect, int(bad[0, 1]))} has a gradient of its loss that is not finite; its loss is {size:g}"
    if not _finite(loss):
        return f"its loss is {size:g}, though each of its numbers is finite: it is a mistake of the loss"
    parameter = next((n for n, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)), None)
    if parameter is None:
        return None
    first = watch.backward or parameter
    return (
        f"its loss is finite, but not the gradient; backwards, the first layer that is not finite is {first}; {_RANGE}"
    )


def _token(suspect: Suspect, t: int) -> str:
    return f"token {t + 1} of {len(suspect.pieces_T)} ({suspect.pieces_T[t]!r})"


def _finite(values: Tensor) -> bool:
    return not values.is_floating_point() or bool(values.isfinite().all())


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
        return
    if isinstance(output, dict | tuple | list):
        held = cast(Any, output)
        for item in held.values() if isinstance(output, dict) else held:
            yield from _tensors(item)
