"""The folder `state/` of a checkpoint: optimizers, and the trainer's own numbers. Schedules follow from the step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from vlm_r1.errors import CheckpointError
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.runtime.checkpoint import checkpoint_step
from vlm_r1.runtime.manifest import FILE, find_damage
from vlm_r1.runtime.run_folder import read_json

_OF_RECIPE = ("initial_lr", "weight_decay", "betas", "eps", "fused")
"""Settings of parameter groups that the recipe decides, also where a resumed run has a new recipe."""


def write_state(folder: Path, optimizers: Sequence[Any], own: Mapping[str, Any]) -> None:
    """Write `optimizer.bin` (the second is `optimizer_1.bin`) and `trainer.json`.

    Args:
        own: the trainer's own state, as JSON.
    """
    folder.mkdir()
    for place, optimizer in enumerate(optimizers):
        torch.save(optimizer.state_dict(), _file(folder, place))
    (folder / "trainer.json").write_text(json.dumps(own), encoding="utf-8")


def write_weights(folder: Path, models: Mapping[str, torch.nn.Module]) -> None:
    """Write the weights of further models of a run, such as a reference that changes, each once, in their types."""
    for name, model in models.items():
        weights = {key: p.detach().cpu().contiguous() for key, p in model.named_parameters()}
        save_file(weights, folder / f"{name}.safetensors")


@torch.no_grad()
def load_weights(folder: Path, name: str, model: torch.nn.Module) -> bool:
    """Load what `write_weights` wrote; returns whether it is there.

    Raises:
        CheckpointError: it is not of this model.
    """
    path = folder / f"{name}.safetensors"
    if not path.exists():
        return False
    try:
        weights, own = load_file(path), dict(model.named_parameters())
        if weights.keys() != own.keys():
            raise ValueError(f"has other weights, e.g. {min(weights.keys() ^ own.keys())}")
        for key, parameter in own.items():
            parameter.copy_(weights[key])
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be resumed from with this recipe: {error!r:.200}") from error
    return True


def read_state(folder: Path, step: int) -> dict[str, Any]:
    """Read `trainer.json` of the checkpoint of a step.

    Raises:
        CheckpointError: it cannot be read, is of another step, or is not as `write_state` writes it.
    """
    path = folder / "trainer.json"
    state = read_json(path)
    if state.get("step") != step or isinstance(state.get("step"), bool):
        raise CheckpointError(f"{path}: is of step {state.get('step')!r:.40}, but its folder is of step {step}")
    stream = state.get("stream")
    lists = [stream.get("drawn"), stream.get("records")] if is_object(stream) else [None]
    inputs = state.get("inputs", {})
    whole = all(is_list(numbers) and all(map(_is_count, numbers)) for numbers in lists)
    bad = state.get("bad_records", [])
    named = is_list(bad) and all(is_object(entry) and isinstance(entry.get("source"), str) for entry in bad)
    counts = [state.get("skipped_in_a_row"), state.get("overlong_prompts", 0)]
    if not (whole and named and all(map(_is_count, counts)) and is_object(inputs)):
        raise CheckpointError(f"{path}: is not the state of a trainer: wanted step, skipped_in_a_row, stream")
    return state


def why_not_usable(checkpoint: Path) -> str | None:
    """Return why a checkpoint cannot be resumed from, and which file is to blame; None if it can.

    A checkpoint of an older version has no manifest; then only `trainer.json` is looked at.
    """
    if damage := find_damage(checkpoint):
        return damage
    try:
        state = read_state(checkpoint / "state", checkpoint_step(checkpoint))
    except CheckpointError as error:
        return str(error).removeprefix(f"{checkpoint}/")
    has_manifest = (checkpoint / FILE).exists()
    return None if has_manifest or "inputs" not in state else f"{FILE} is missing"


def load_optimizers(folder: Path, optimizers: Sequence[Any]) -> None:
    """Load what `write_state` wrote. Learning rate, weight decay and the like stay those of the recipe.

    Raises:
        CheckpointError: a file cannot be read, or is not of these optimizers.
    """
    for place, optimizer in enumerate(optimizers):
        path = _file(folder, place)
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            groups = zip(saved["param_groups"], optimizer.state_dict()["param_groups"], strict=True)
            now = [{**old, **{key: new[key] for key in _OF_RECIPE if key in new}} for old, new in groups]
            optimizer.load_state_dict({**saved, "param_groups": now})
        except Exception as error:  # torch's unpickler raises anything on damaged files
            raise CheckpointError(
                f"{path}: cannot be resumed from with this recipe: {error!r:.200}. Use the run's own config.yaml, or "
                "delete this checkpoint to resume from the one before"
            ) from error


def set_schedules(schedulers: Sequence[Any], step: int) -> None:
    """Move new schedules of learning rates to a step; they are functions of it (`LambdaLR`)."""
    for wrapped in schedulers:
        schedule: torch.optim.lr_scheduler.LambdaLR = wrapped.scheduler
        rates = [base * factor(step) for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
        moved = {"last_epoch": step, "_step_count": step + 1, "_last_lr": rates}
        schedule.load_state_dict({**schedule.state_dict(), **moved})
        for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def checkpoint_bytes(model: torch.nn.Module, optimizers: Sequence[Any], adapters_only: bool) -> int:
    """Return about how many bytes a checkpoint takes: the weights that it holds, and the optimizers' tensors.

    Args:
        adapters_only: it holds only the weights that train (LoRA).
    """
    saved = [p for p in model.parameters() if p.requires_grad or not adapters_only]
    states = [tensor for optimizer in optimizers for tensor in _tensors(optimizer.state_dict()["state"])]
    return sum(t.nbytes for t in [*saved, *states])


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of nested dictionaries; bitsandbytes nests its own."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif is_object(tree):
        for value in tree.values():
            yield from _tensors(value)


def _file(folder: Path, place: int) -> Path:
    return folder / ("optimizer.bin" if place == 0 else f"optimizer_{place}.bin")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
