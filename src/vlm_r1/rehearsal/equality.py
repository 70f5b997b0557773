"""Whether a run that was resumed is the run that never stopped: metrics, completions, evaluations and weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import list_rollouts, read_rollouts
from vlm_r1.runtime.run_folder import RunFolder

_OF_THE_CLOCK = ("time/", "tokens_per_s/")


def check_equal(straight: RunFolder, resumed: RunFolder) -> str:
    """Compare two run folders to the last bit, but for what depends on the clock.

    Returns:
        A line that says what was compared.

    Raises:
        CheckpointError: they differ; names the first difference of each kind.
    """
    found = [next(kind, None) for kind in _differences(straight, resumed)]
    if different := [one for one in found if one is not None]:
        raise CheckpointError(
            f"the run that was resumed differs from the one that never stopped: {'; '.join(different)}. Is a reward of "
            "yours random, or does it depend on the time?"
        )
    return "metrics, completions, evaluations and weights equal those of the run that never stopped, bit for bit"


def moved_weights(start: Path, end: Path) -> tuple[int, int]:
    """Return how many tensors of `end` differ from those of `start` with the same name, and how many there are.

    A tensor that `start` does not have, such as a LoRA adapter, counts as different.
    """
    before, after = (_weights(path) for path in (start, end))
    moved = [name for name, tensor in after.items() if name not in before or not torch.equal(tensor, before[name])]
    return len(moved), len(after)


def _differences(a: RunFolder, b: RunFolder) -> Iterator[Iterator[str]]:
    yield _of_metrics(a, b)
    yield _of_rollouts(a, b)
    yield _of_evaluations(a, b)
    yield _of_weights(a, b)


def _of_metrics(a: RunFolder, b: RunFolder) -> Iterator[str]:
    ours, theirs = (read_metrics(run.metrics) for run in (a, b))
    if len(ours) != len(theirs):
        yield f"{len(theirs)} lines of metrics, not {len(ours)}"
    for row, other in zip(ours, theirs, strict=False):
        for name in sorted(row.keys() | other.keys()):
            if not name.startswith(_OF_THE_CLOCK) and not _same(row.get(name), other.get(name)):
                yield f"metric {name} of step {row['step']} is {other.get(name)}, not {row.get(name)}"


def _of_rollouts(a: RunFolder, b: RunFolder) -> Iterator[str]:
    ours, theirs = (list_rollouts(run.rollouts) for run in (a, b))
    for step in sorted(ours.keys() | theirs.keys()):
        if step not in ours or step not in theirs or read_rollouts(ours[step]) != read_rollouts(theirs[step]):
            yield f"the completions of step {step}"


def _of_evaluations(a: RunFolder, b: RunFolder) -> Iterator[str]:
    ours, theirs = ({path.name: path for path in sorted(run.evaluations.glob("*.json*"))} for run in (a, b))
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs or ours[name].read_bytes() != theirs[name].read_bytes():
            yield f"the evaluation eval/{name}"


def _of_weights(a: RunFolder, b: RunFolder) -> Iterator[str]:
    ours, theirs = (_weights(run.model) for run in (a, b))
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs or not torch.equal(ours[name], theirs[name]):
            yield f"the weight {name}"


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    opened: Any = safe_open
    for file in sorted(folder.glob("*.safetensors")):
        with opened(file, framework="pt") as tensors:
            found |= {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118, it is no mapping
    return found


def _same(a: Any, b: Any) -> bool:
    return a == b or (a != a and b != b)
