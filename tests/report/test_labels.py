"""The table of labels of a detection run."""

from __future__ import annotations

from pathlib import Path

from testing_evaluations import answered
from testing_held_out import write_held_out
from vlm_r1.evaluation.runner import summarize_evaluation, write_evaluation
from vlm_r1.report.held_out import held_out_sets
from vlm_r1.report.labels import labels_of_run
from vlm_r1.report.read import read_run
from vlm_r1.types import Record

DOG, CAT = ({"bbox_2d": [10 + x, 10, 30 + x, 30], "label": label} for x, label in ((0, "dog"), (30, "cat")))


def write(folder: Path, moment: str, found: list[list[dict]]) -> None:
    """An answer for each record, to a picture with a dog and, but for the last record, a cat."""
    groups = []
    for index, boxes in enumerate(found):
        gold = [DOG, CAT] if index + 1 < len(found) else [DOG]
        text = f"<think>t</think><answer>```json\n{boxes}\n```</answer>".replace("'", '"')
        record = Record(str(index), "ovd", "<image>all", (f"/{index}.png",), gold, source=f"v.jsonl:{index + 1}")
        groups.append(answered(record, text))
    write_evaluation(folder / "eval", summarize_evaluation(groups, name=moment, data="v", step=0, seed=0), groups)


def test_what_became_of_each_label(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    write(tmp_path, "before-val", [[DOG], [DOG], []])
    write(tmp_path, "after-val", [[DOG, CAT], [DOG], [DOG]])
    table = labels_of_run(held_out_sets(read_run(tmp_path), []))
    assert table is not None
    assert table.columns == ("AP, before", "AP, after", "found, before", "found, after")
    rows = {row.label: (row.objects, *(text.replace("\xa0", " ") for text in row.values[2:])) for row in table.rows}
    # dogs: 2 of 3, then all; cats: none of 2, then 1
    assert rows == {"dog": ("3", "67 %", "100 %"), "cat": ("2", "0 %", "50 %")}
    assert (table.rows[0].label, table.rows[0].values[1]) == ("dog", "1.000")


def test_other_tasks_have_no_such_table(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    write_held_out(tmp_path, {"before": [8], "after": [0]})
    assert labels_of_run(held_out_sets(read_run(tmp_path), [])) is None
