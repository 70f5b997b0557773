"""Several answers to each held-out record: means, pass@k, intervals, and that only the record decides the draws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlm_r1.cli.console import before_after_table
from vlm_r1.config import load_config
from vlm_r1.errors import CheckpointError, ConfigError
from vlm_r1.evaluation.measures import measure
from vlm_r1.evaluation.protocol import Decoding
from vlm_r1.evaluation.runner import sample_rows, summarize_evaluation
from vlm_r1.evaluation.samples import as_sample, read_samples
from vlm_r1.grpo.trainer import train
from vlm_r1.report.build import build_report
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.run_folder import RunFolder
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.held_out import decoding_of, read_evaluation
from vlm_r1.types import Completion, EncodedPrompt, Group, Record, Rollout, Score, StopReason


def answered(number: int, picture: str, right: list[float]) -> Group:
    """A record about a picture whose answers are right (1) or wrong (0); the first one has no form."""
    rollouts = [
        Rollout(
            Completion.sampled((n,), (0.0,), f"{n}", StopReason.STOP),
            Score(value, {"accuracy": value, "format": float(n > 0)}, "A" if value else "B", None, {"accuracy": value}),
        )
        for n, value in enumerate(right)
    ]
    record = Record(str(number), "choice", "q", (picture,), "A", source=f"val.jsonl:{number}")
    return Group(record, EncodedPrompt((1,), {}, (), ""), tuple(rollouts))


def summary(groups: list[Group]) -> dict:
    return summarize_evaluation(groups, name="after-val", data="val.jsonl", step=3, seed=0)


def test_means_and_pass_at_k_by_hand() -> None:
    """Right are 2, 0 and 1 of 4: mean (2/4 + 0/4 + 1/4) / 3, passed by 2 of 3; the majority is right nowhere but…

    … in the first record, where two answers are A and two are B, the earlier one counts: A.
    """
    groups = [
        answered(1, "a.png", [1, 0, 0, 1]),
        answered(2, "b.png", [0, 0, 0, 0]),
        answered(3, "c.png", [0, 0, 1, 0]),
    ]
    found = summary(groups)
    assert (found["n"], found["draws"]) == (3, 4)
    means = {name: value["mean"] for name, value in found["metrics"].items()}
    assert means == pytest.approx({"accuracy": 0.25, "accuracy_pass@4": 2 / 3, "accuracy_majority@4": 1 / 3})
    assert {value["n"] for value in found["metrics"].values()} == {3}
    assert found["format_rate"] == 9 / 12


def test_the_numbers_are_those_of_vlm_r1_eval() -> None:
    groups = [answered(1, "a.png", [1, 0, 0]), answered(2, "a.png", [1, 1, 0]), answered(3, "c.png", [0, 0, 0])]
    samples = [as_sample(row, "") for group in groups for row in sample_rows(group)]
    assert summary(groups)["metrics"] == measure(samples, None, seed=0)["metrics"]


def test_intervals_draw_pictures() -> None:
    """Two records about one picture are no two observations: there is one cluster, and no width."""
    one = summary([answered(1, "a.png", [1, 0]), answered(2, "a.png", [0, 0])])["metrics"]["accuracy"]
    two = summary([answered(1, "a.png", [1, 0]), answered(2, "b.png", [0, 0])])["metrics"]["accuracy"]
    assert one["ci95"] == [0.25, 0.25]
    assert two["ci95"] == [0.0, 0.5]


def test_one_answer_is_greedy_and_several_are_drawn_as_in_training(recipe, rec_files) -> None:
    held = {"data.eval": {"in_domain": {"path": str(rec_files["in_domain"])}}}
    drawn = {"sampling.temperature": 0.7, "sampling.top_p": 0.9, "seed": 5}
    one, three = (
        decoding_of(load_config(recipe(**held, **drawn, **{"training.num_generations_eval": k}))) for k in (1, 3)
    )
    assert one == Decoding(max_completion_length=8)
    assert three == Decoding(temperature=0.7, top_p=0.9, max_completion_length=8, samples=3, seed=5)


def test_without_held_out_data_it_has_no_effect(recipe) -> None:
    with pytest.raises(ConfigError, match=r"training.num_generations_eval has no effect without data.eval"):
        load_config(recipe(**{"training.num_generations_eval": 4}))


@pytest.fixture
def run(recipe, rec_files, tmp_path: Path):
    """`run(trainer, **options)`: the folder and the summary of a run of one step that changes nothing."""

    def make(trainer=train, **options: object) -> tuple[Path, dict]:
        fixed = {
            "data.eval": {"in_domain": {"path": str(rec_files["in_domain"])}},
            "training.max_steps": 1,
            "training.learning_rate": 0.0,
            "training.num_generations_eval": 3,
        }
        return tmp_path / "run", trainer(load_config(recipe(**(fixed | options))))

    return make


@pytest.mark.parametrize("trainer", [train, train_sft], ids=["grpo", "sft"])
def test_a_run_draws_the_same_answers_at_each_evaluation(trainer, run) -> None:
    folder, found = run(trainer, **{"training.eval_batch_size": 5})
    before, after = (list(read_samples(folder / f"eval/{m}-in_domain.samples.jsonl")) for m in ("before", "after"))
    assert len(before) == 12 * 3
    assert [sample.draw for sample in before[:6]] == [0, 1, 2, 0, 1, 2]
    assert [sample.text for sample in before] == [sample.text for sample in after], "nothing was learnt"
    assert len({sample.text for sample in before[:3]}) > 1, "the answers to a record are draws of their own"
    assert "accuracy_iou50_pass@3" in found["after"]["in_domain"]
    written = json.loads((folder / "eval/after-in_domain.json").read_text())
    assert (written["n"], written["draws"]) == (12, 3)
    assert found["after"]["in_domain"]["accuracy_iou50_pass@3"] == written["metrics"]["accuracy_iou50_pass@3"]["mean"]


def test_they_are_shown_and_read(run, rec_files) -> None:
    folder, found = run(**{"training.max_steps": 2, "training.eval_steps": 1})
    assert "eval/in_domain/accuracy_iou50_pass@3" in read_metrics(folder / "metrics.jsonl")[0]
    table = before_after_table(found, 3)
    assert table.title == "Held-out results in %, 3 answers to each record, with 95 % intervals"
    assert "accuracy_iou50_pass@3" in list(table.columns[1].cells)
    assert "ccuracy at IoU 0.5, pass@3" in build_report(folder).read_text(encoding="utf-8")
    samples = folder / "eval/after-in_domain.samples.jsonl"
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(CheckpointError, match="has 35 whole lines, but 36 answers were judged"):
        read_evaluation(RunFolder(folder), "after-in_domain")
