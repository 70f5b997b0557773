"""Run folders with held-out evaluations: boxes that are moved to the right by so many pixels, judged and written.

A gold box is 20 wide, so a box moved by s has an IoU of (20 - s) / (20 + s): 0 → 1, 4 → 0.67, 8 → 0.43, 20 → 0. Its
accuracy at IoU 0.5 is 1 up to s = 6. None stands for an answer that cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from testing_evaluations import answered
from vlm_r1.evaluation.runner import summarize_evaluation, write_evaluation
from vlm_r1.evaluation.samples import Sample, read_samples
from vlm_r1.report.held_out import Change, change_between
from vlm_r1.types import Group, Record

GOLD = [10, 10, 30, 30]
MAIN = "accuracy_iou50"
Shift = int | None


def groups_of(folder: Path, shifts: Sequence[Shift], problem: str = "thing") -> list[Group]:
    """A judged answer to each record; record 3 is about "thing 3"."""
    made = []
    for index, shift in enumerate(shifts):
        path = folder / "images" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.new("RGB", (64, 48), (6 * index % 250, 90, 90)).save(path)
        record = Record(
            str(index), "rec", f"<image>{problem} {index}", (str(path),), GOLD, source=f"v.jsonl:{index + 1}"
        )
        text = (
            "<think>t</think>"
            if shift is None
            else f"<think>t</think><answer>[{10 + shift}, 10, {30 + shift}, 30]</answer>"
        )
        made.append(answered(record, text))
    return made


def write_held_out(folder: Path, moments: Mapping[str, Sequence[Shift]], dataset: str = "val") -> Path:
    """Write `eval/<moment>-<dataset>` for each moment as a training does; "after" has step 40."""
    for moment, shifts in moments.items():
        step = int(moment.removeprefix("step-")) if moment.startswith("step-") else 40 * (moment == "after")
        groups = groups_of(folder, shifts)
        summary = summarize_evaluation(groups, name=f"{moment}-{dataset}", data="v.jsonl", step=step, seed=0)
        write_evaluation(folder / "eval", summary, groups)
    return folder


def samples_of(folder: Path, moment: str, dataset: str = "val") -> list[Sample]:
    """The samples of one evaluation."""
    return list(read_samples(folder / "eval" / f"{moment}-{dataset}.samples.jsonl"))


def change_of(folder: Path, before: Sequence[Shift], after: Sequence[Shift]) -> Change:
    """The change between two evaluations."""
    write_held_out(folder, {"before": before, "after": after})
    return change_between(samples_of(folder, "before"), samples_of(folder, "after"), MAIN)
