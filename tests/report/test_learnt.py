"""The sentences at the top of a run's page: what they claim is true of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from testing_held_out import Shift, write_held_out
from vlm_r1.report.held_out import held_out_sets
from vlm_r1.report.learnt import Learnt, learnt
from vlm_r1.report.read import read_run


def told(folder: Path, moments: Mapping[str, Sequence[Shift]], steps: int = 40, stage: str = "grpo") -> Learnt:
    """The sentences of a run of so many of 40 planned steps; a reward is its step, a loss 100 minus it."""
    rows = [{"step": n, "stage": stage, "reward/mean": n, "loss": 100 - n} for n in range(1, steps + 1)]
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(yaml.safe_dump({"training": {"max_steps": 40}, "grpo": {"num_generations": 8}}))
    write_held_out(folder, moments)
    run = read_run(folder)
    return learnt(run, held_out_sets(run, []))


@pytest.mark.parametrize(
    ("moments", "steps", "start", "certainty"),
    [
        pytest.param(
            {"before": [8] * 20, "after": [0] * 20},
            40,
            "It learnt: the box is right (IoU above 0.5) in 100.0 % of the answers to 20 held-out records, before "
            "training 0.0 %.",
            "The difference is +100.0 points, with 95 % confidence between +100.0 and +100.0 points: chance does not "
            "explain it.",
            id="learnt",
        ),
        pytest.param(
            {"before": [0] * 20, "after": [8] * 20},
            40,
            "It got worse: the box is right",
            "chance does not explain it.",
            id="worse",
        ),
        pytest.param(
            {"before": [8] * 20, "after": [0, *[8] * 19]},
            40,
            "No clear change: the box is right (IoU above 0.5) in 5.0 %",
            "this interval contains 0: it may be chance.",
            id="within chance",
        ),
        pytest.param(
            {"before": [8] * 20, "after": [8] * 20},
            40,
            "Nothing changed: the box is right (IoU above 0.5) in 0.0 % of the answers to 20 held-out records, as "
            "before training.",
            "Every answer is as good as before training.",
            id="nothing changed",
        ),
        pytest.param(
            {"before": [10] * 20, "after": [8] * 20},
            40,
            "No clear change: the box is right (IoU above 0.5) in 0.0 % of the answers to 20 held-out records, as "
            "before training.",
            "The accuracy at IoU 0.5 of every answer is as before training; other metrics of some are not. Of 20 "
            "answers, 20 are better",
            id="only another metric changed",
        ),
        pytest.param(
            {"before": [8] * 3, "after": [0] * 3},
            40,
            "Too few records to tell: the box is right",
            "3 pictures are too few to tell it from chance.",
            id="few",
        ),
        pytest.param(
            {"before": [8] * 20, "step-000010": [0] * 20},
            15,
            "It learnt: after step 10 of 40, the box is right (IoU above 0.5) in 100.0 %",
            "In 15 steps of 40 planned, the model wrote answers of its own, 8 to each question",
            id="stopped",
        ),
        pytest.param(
            {"before": [8] * 20},
            15,
            "Before training, the box is right (IoU above 0.5) in 0.0 % of the answers to 20 held-out records; "
            "nothing has been measured since.",
            "In 15 steps",
            id="only before",
        ),
        pytest.param(
            {"after": [0] * 20},
            40,
            "The box is right (IoU above 0.5) in 100.0 % of the answers to 20 held-out records; nothing was measured "
            "before training",
            "In 40 steps",
            id="only after",
        ),
        pytest.param(
            {},
            40,
            "Nothing was measured on held-out records",
            # the means of the first and the last four steps: (1 + 2 + 3 + 4) / 4 and (37 + 38 + 39 + 40) / 4
            "The reward of its answers in training went from 2.50 at the start to 38.5 at the end, means over 4 steps",
            id="no evaluation",
        ),
        pytest.param({}, 0, "Nothing was measured on held-out records", "`data.eval`", id="not begun"),
    ],
)
def test_sentences(tmp_path: Path, moments: dict[str, list[Shift]], steps: int, start: str, certainty: str):
    found = told(tmp_path, moments, steps)
    assert found.headline.replace("\xa0", " ").startswith(start)
    assert certainty in " ".join(found.told).replace("\xa0", " ")


def test_answers_are_counted(tmp_path: Path):
    found = told(tmp_path, {"before": [8, 8, 0, 4], "after": [0, 4, 8, 4]})
    assert "Of 4 answers, 2 are better than before, 1 worse, and 1 as good." in found.told


def test_a_supervised_run(tmp_path: Path):
    found = told(tmp_path, {}, 4, "sft")
    assert found.told[0].startswith("In 4 steps of 40 planned, the model was trained to write the right answers")
    assert "The loss in training went from 99.0 at the start to 96.0 at the end;" in found.told[1]


def test_numbers_without_answers_make_no_claim(tmp_path: Path):
    """A run whose samples were deleted: both numbers stand there, and nobody says that it learnt."""
    told(tmp_path, {"before": [8] * 20, "after": [0] * 20})
    (tmp_path / "eval/before-val.samples.jsonl").unlink()
    run = read_run(tmp_path)
    found = learnt(run, held_out_sets(run, []))
    assert found.headline.startswith("The box is right")
    assert "not on file" in " ".join(found.told)


@pytest.mark.parametrize(
    ("doubted", "start"),
    [
        ((), "It learnt: "),
        (("other",), "It learnt: "),
        (("val",), "A higher number, but see the findings: the box is right"),
        (("",), "A higher number, but see the findings: the box is right"),
    ],
)
def test_what_a_finding_calls_into_doubt_is_no_success(tmp_path: Path, doubted: tuple[str, ...], start: str):
    told(tmp_path, {"before": [8] * 20, "after": [0] * 20})
    run = read_run(tmp_path)
    assert learnt(run, held_out_sets(run, []), doubted).headline.startswith(start)


def test_each_further_set_has_its_own_sentence(tmp_path: Path):
    told(tmp_path, {"before": [8] * 20, "after": [0] * 20})
    write_held_out(tmp_path, {"before": [8] * 20, "after": [0, *[8] * 19]}, "val_b")
    run = read_run(tmp_path)
    found = learnt(run, held_out_sets(run, []))
    assert found.headline.startswith("It learnt")
    assert "On val b: the box is right" in found.others[0]
    assert "which may be chance" in found.others[0]
