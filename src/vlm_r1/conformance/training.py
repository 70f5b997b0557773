"""Checks of training and saving. Each of them loads fresh models, because it changes them."""

# pyright: standard

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from vlm_r1.config.schema import LoraSection, TrainingSection
from vlm_r1.conformance.base import Finding, few
from vlm_r1.conformance.context import Context, weighted_sum
from vlm_r1.policy.logprobs import TokenLogProbs
from vlm_r1.rollouts.env import same_encoding
from vlm_r1.training.differences import difference, explained_by_rounding
from vlm_r1.training.optimizer import make_optimizers

STEP = TrainingSection(learning_rate=0.05, weight_decay=0.0)
"""A step so large that every type shows it. It moves only parameters with a gradient."""

NOISE = 1e-6
"""Gradients below this share of the largest are rounding, e.g. of a key's bias, which no softmax depends on."""

LARGEST_SAVE = 20_000_000_000
"""Largest model, in bytes of weights, that is written to find out whether it can be read again."""


def freeze(context: Context) -> Finding:
    """Compare the frozen and the trained parameters with `Context.roles`."""
    seeing, taking_part = context.roles
    model = context.load(freeze_vision_modules=True)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    trained = set(_gradients(context, model))
    numbers = {"frozen": len(frozen), "of them make features": len(frozen & seeing), "train": len(trained)}
    needless = (frozen & taking_part) - seeing
    faults = {
        "parameters that make image features are not frozen, add their modules to vision_modules": seeing - frozen,
        "parameters that make no image features are frozen, take them out of vision_modules": needless,
        "parameters that the model's own forward uses got no gradient": taking_part - frozen - trained,
    }
    return Finding(numbers, _complaints(faults))


def step(context: Context) -> Finding:
    """Take one optimizer step on all weights, and one with frozen vision modules."""
    seeing, taking_part = context.roles
    numbers, problems = {}, []
    for way, frozen in {"all": False, "vision frozen": True}.items():
        model = context.load(freeze_vision_modules=frozen)
        taken = _take_step(context, model)
        wanted = taking_part - seeing if frozen else taking_part
        faults = {
            "parameters did not change": (wanted - taken.gradients.keys()) | (_alive(taken.gradients) - taken.changed),
            "parameters changed that should not": taken.changed - wanted,
        }
        numbers[way] = f"{len(taken.changed)} of {taken.total} changed"
        problems += [f"{way}: {problem}" for problem in _complaints(faults)]
    return Finding(numbers, tuple(problems))


def lora(context: Context) -> Finding:
    """Add LoRA adapters to a recipe's default layers, and take one optimizer step."""
    seeing, _ = context.roles
    model = context.load(lora=LoraSection(r=2, lora_alpha=4))
    adapters = {name for name, p in model.named_parameters() if p.requires_grad}
    layers = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in adapters}
    taken = _take_step(context, model)
    faults = {
        "layers that make image features got adapters": {name for name in seeing if name.rpartition(".")[0] in layers},
        "weights of the base changed": taken.changed - adapters,
        "adapters did not change": (adapters - taken.gradients.keys()) | (_alive(taken.gradients) - taken.changed),
    }
    return Finding({"adapted": f"{len(layers)} layers", "changed": len(taken.changed)}, _complaints(faults))


def save(context: Context) -> Finding:
    """Change a model, save it, and check that plain transformers loads the same."""
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        room = min(LARGEST_SAVE, shutil.disk_usage(folder).free * 0.9)
        if (size := _bytes(context)) > room:
            return Finding(not_applicable=f"{size / 1e9:.0f} GB of weights would be written, {room / 1e9:.0f} may be")
        model = context.load()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.02)
            before = context.plain_logprobs(model, context.batch)
            model.save_pretrained(folder)
            context.adapter.save(folder)
            dtype = model.dtype
            del model  # only one model at a time is in memory
            trust = context.trust_remote_code
            reloaded: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, trust_remote_code=trust)
            if dtype == torch.float64:  # a mixture of experts computes float64 only so
                reloaded.set_experts_implementation("eager")
            reloaded.to(context.device).eval()
            after = context.plain_logprobs(reloaded, context.batch)
        differs = difference(TokenLogProbs(before, before, before != 0), after)
        if not explained_by_rounding(differs, dtype):
            problems.append(
                f"saved and loaded again, log-probabilities differ by {differs}: prepare() may replace modules only by "
                "others with the same parameters under the same names"
            )
        reader = context.load_adapter(folder)
        others = [k for k, own in context.prompts.items() if not same_encoding(own, context.encode_kind(k, reader))]
        problems += [f"{kind}: the saved tokenizer and image processor encode it otherwise" for kind in others]
    return Finding({"megabytes": f"{size / 1e6:.1f}", "largest difference": differs.largest}, tuple(problems))


class _Step(NamedTuple):
    """The result of an optimizer step: gradients, names of changed parameters, and the number of all."""

    gradients: Mapping[str, Tensor]
    changed: set[str]
    total: int


def _take_step(context: Context, model: nn.Module) -> _Step:
    before = {name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters()}
    gradients = _gradients(context, model)
    for optimizer in make_optimizers(model, STEP):
        optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p.detach().cpu(), before[name])}
    return _Step(gradients, changed, len(before))


def _complaints(faults: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Return a line for each fault that some parameters have."""
    return tuple(f"{fault}: {few(sorted(names))}" for fault, names in faults.items() if names)


def _gradients(context: Context, model: nn.Module) -> dict[str, Tensor]:
    """Compute gradients of the policy's log-probabilities, as in training; the parameters keep them."""
    policy = context.policy(context.layout[0], model)
    weighted_sum(policy(context.one_group).logprobs_NT).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _alive(gradients: Mapping[str, Tensor]) -> set[str]:
    """Return the names of gradients that are more than rounding."""
    sizes = {name: float(gradient.abs().max()) for name, gradient in gradients.items()}
    return {name for name, size in sizes.items() if size > NOISE * max(sizes.values())}


def _bytes(context: Context) -> int:
    return context.parameters * torch.empty(0, dtype=context.model.dtype).element_size()
