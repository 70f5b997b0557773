"""A step of GRPO on records of two images, with a box on each or on the second; the page draws each where it lies."""

from __future__ import annotations

import json
import re

import pytest

from vlm_r1.config import load_config
from vlm_r1.errors import DataError
from vlm_r1.grpo.trainer import train
from vlm_r1.report.build import build_report
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path

FIRST, SECOND = [4, 8, 40, 30], [10, 20, 50, 70]  # drawn at x, y with 36 × 22 and with 40 × 50 pixels


@pytest.fixture
def run_on(recipe, picture, tmp_path):
    """`run_on("testing_placed:FIND_TWICE", answer)`: train for one step on records with this answer."""

    def run(task, answer):
        images = [picture(84, 56, 2), picture(56, 84, 3)]
        row = {"problem": "<image><image>the red circle", "images": images, "answer": answer}
        lines = [json.dumps({"id": n, **row}) for n in range(4)]
        (tmp_path / "two.jsonl").write_text("\n".join(lines), encoding="utf-8")
        source = {"path": str(tmp_path / "two.jsonl"), "image_root": str(tmp_path.parent), "task": task}
        train(load_config(recipe(**{"data.train": [source], "training.max_steps": 1})))
        return tmp_path / "run"

    return run


@pytest.mark.parametrize(
    ("task", "answer", "drawn"),
    [
        pytest.param(
            "testing_placed:FIND_TWICE",
            [FIRST, SECOND],
            {"84 56": [("4", "8", "36", "22")], "56 84": [("10", "20", "40", "50")]},
            id="one_on_each",
        ),
        pytest.param(
            "testing_placed:SECOND_REC",
            SECOND,
            {"84 56": [], "56 84": [("10", "20", "40", "50")]},
            id="rec_on_the_second",
        ),
    ],
)
def test_a_step_and_its_page(run_on, task, answer, drawn) -> None:
    folder = run_on(task, answer)
    rows = read_rollouts(rollouts_path(folder, 1))
    assert len(rows) == 16  # four records, four completions each
    assert {row.task for row in rows} == {task}
    assert {row.image_sizes for row in rows} == {((84, 56), (56, 84))}
    assert any(row.advantage for row in rows)
    page = build_report(folder, allowed_tasks=[task]).read_text(encoding="utf-8")
    views = re.findall(r'<svg class="view" viewBox="0 0 (.*?)"(.*?)</svg>', page, re.DOTALL)
    assert len(views) == 2 * 4  # images of four groups
    edge = r'class="edge" x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)"'
    for size, view in views:
        assert re.findall(edge, view) == drawn[size]


def test_rec_on_two_images_says_what_to_do_before_a_model_is_loaded(run_on) -> None:
    with pytest.raises(DataError, match=r"two\.jsonl:1: task rec wants exactly 1 image, got 2; name the image"):
        run_on("rec", FIRST)
