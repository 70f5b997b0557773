"""Boxes are drawn on the image where they lie: on the page of a run, and on the page of a data file."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from vlm_r1.cli import data
from vlm_r1.report.build import build_report
from vlm_r1.report.drawing import MAX_IMAGES, boxes_of
from vlm_r1.report.groups import show_steps
from vlm_r1.report.read import read_run
from vlm_r1.types import AnswerValue, PlacedBox

WIDE, TALL = (64, 48), (30, 60)
FIRST, SECOND = [10, 20, 30, 44], [5, 6, 25, 50]
RECTANGLES = {"[10, 20, 30, 44]": ("10", "20", "20", "24"), "[5, 6, 25, 50]": ("5", "6", "20", "44")}


def rectangles(elements: list, name: str) -> dict[str, list[tuple]]:
    """Size of each shown image → (x, y, width, height) of its boxes of that class, e.g. "truth"."""
    views = [e for e in elements if e.has_class("view")]
    edges = [e for e in elements if e.has_class("edge") and e.inside(name)]
    return {
        view.attributes["viewbox"].removeprefix("0 0 "): [
            tuple(e.attributes[key] for key in ("x", "y", "width", "height")) for e in edges if view in e.ancestors
        ]
        for view in views
    }


def on(*, wide: Sequence[list[int]] = (), tall: Sequence[list[int]] = ()) -> dict[str, list[tuple]]:
    return {"64 48": [RECTANGLES[str(box)] for box in wide], "30 60": [RECTANGLES[str(box)] for box in tall]}


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[str, str]:
    for name, wh in (("a.png", WIDE), ("b.png", TALL)):
        Image.new("RGB", wh, "#888").save(tmp_path / name)
    return str(tmp_path / "a.png"), str(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("task", "gold", "answer", "truth", "drawn"),
    [
        pytest.param(
            "testing_placed:FIND_TWICE",
            [FIRST, SECOND],
            [{"bbox_2d": FIRST, "image": 0}, {"bbox_2d": SECOND, "image": 1}],
            on(wide=[FIRST], tall=[SECOND]),
            on(wide=[FIRST], tall=[SECOND]),
            id="one on each",
        ),
        pytest.param(
            "testing_placed:SECOND_REC",
            SECOND,
            {"bbox_2d": SECOND, "image": 1},
            on(tall=[SECOND]),
            on(tall=[SECOND]),
            id="rec on the second",
        ),
        pytest.param(
            "testing_placed:SECOND_MULTI_REC",
            "None",
            [{"bbox_2d": SECOND, "image": 1}],
            on(),
            on(tall=[SECOND]),
            id="no truth",
        ),
        pytest.param(
            "testing_placed:LAST_OVD",
            [{"bbox_2d": SECOND, "label": "cat"}],
            [{"bbox_2d": SECOND, "label": "dog", "image": -1}],
            on(tall=[SECOND]),
            on(tall=[SECOND]),
            id="ovd on the last",
        ),
        pytest.param(
            "testing_placed:NEEDS_SCENE",
            [{"bbox_2d": FIRST, "image": 0}, {"bbox_2d": SECOND, "image": 1}],
            [{"bbox_2d": FIRST, "image": 0}, {"bbox_2d": SECOND, "image": 1}],
            on(wide=[FIRST], tall=[SECOND]),
            on(wide=[FIRST], tall=[SECOND]),
            id="a task that fails without its line",
        ),
        pytest.param("gui_click", SECOND, [15.0, 20.0], on(tall=[SECOND]), on(), id="a region of the last"),
        pytest.param("not_installed:TASK", FIRST, [FIRST], on(wide=[FIRST]), on(wide=[FIRST]), id="an unknown task"),
        pytest.param(
            "not_installed:TASK",
            [{"bbox_2d": SECOND, "image": 1}],
            [{"bbox_2d": SECOND, "image": "b.png"}],
            on(tall=[SECOND]),
            on(wide=[SECOND]),
            id="an unknown task, images in its data",
        ),
    ],
)
def test_the_page_of_a_run(
    run_of: Callable, group: Callable, pictures, parse: Callable, task, gold, answer, truth, drawn
):
    answers = [("<answer>…</answer>", answer, 1.0, None), ("no", None, 0.0, "no_answer_tag")]
    run = run_of([group("<image><image>it", gold, answers, pictures, (WIDE, TALL), task)])
    page = parse(build_report(run, allowed_tasks=[task]))
    assert rectangles(page, "truth") == truth
    assert rectangles(page, "b0") == drawn
    assert rectangles(page, "b1") == on()


def test_a_task_that_only_the_run_names_is_not_imported(
    run_of: Callable, group: Callable, pictures, parse: Callable, tmp_path, monkeypatch
):
    """Its boxes are drawn as they are written, and the page says so; allowed, it is imported."""
    (tmp_path / "planted_task.py").write_text(f"open({str(tmp_path / 'made')!r}, 'w').close()\nTASK = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    answers = [("<answer>…</answer>", SECOND, 1.0, None)]
    run = run_of([group("<image><image>it", SECOND, answers, pictures, (WIDE, TALL), "planted_task:TASK")])
    page = build_report(run)
    assert rectangles(parse(page), "truth") == on(wide=[SECOND])
    assert "--allow-task planted_task:TASK" in page.read_text(encoding="utf-8")
    assert not (tmp_path / "made").exists()
    assert "--allow-task" not in build_report(run, allowed_tasks=["planted_task:TASK"]).read_text(encoding="utf-8")
    assert (tmp_path / "made").exists()


def test_an_image_with_a_box_is_always_shown(run_of: Callable, group: Callable):
    images = tuple(f"/nowhere/{i}.png" for i in range(MAX_IMAGES + 3))
    sizes = tuple((10 + i, 10) for i in range(len(images)))
    (step,), _ = show_steps(
        read_run(run_of([group("?", [1, 2, 3, 4], [("?", None, 0.0, "no_box")], images, sizes, "gui_click")])).rollouts
    )
    (shown,) = step.groups
    assert [image.width for image in shown.images] == [*range(10, 10 + MAX_IMAGES), 10 + MAX_IMAGES + 2]
    assert shown.images_left_out == 2
    assert [len(image.boxes) for image in shown.images] == [0] * MAX_IMAGES + [1]


@pytest.mark.parametrize(
    ("image", "place"),
    [
        pytest.param(1, 1, id="index"),
        pytest.param(-1, -1, id="from the end"),
        pytest.param("b.png", 0, id="a name"),
        pytest.param(None, 0, id="null"),
        pytest.param(1.0, 0, id="a fraction"),
    ],
)
def test_the_image_of_an_answers_box(image: AnswerValue, place: int):
    assert list(boxes_of({"bbox_2d": [1, 2, 3, 4], "image": image})) == [(PlacedBox((1, 2, 3, 4), place), "")]


@pytest.mark.parametrize(
    ("task", "answer", "truth"),
    [
        pytest.param("testing_placed:FIND_TWICE", [FIRST, SECOND], on(wide=[FIRST], tall=[SECOND]), id="one on each"),
        pytest.param("testing_placed:SECOND_REC", SECOND, on(tall=[SECOND]), id="rec on the second"),
    ],
)
def test_the_page_of_a_data_file(tmp_path: Path, pictures, parse: Callable, task: str, answer, truth):
    row = {"problem": "<image><image>it", "images": list(pictures), "answer": answer}
    (tmp_path / "d.jsonl").write_text(json.dumps(row), encoding="utf-8")
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    arguments = ["check", str(tmp_path / "d.jsonl"), "--task", task, "--page", str(tmp_path / "page.html")]
    assert data.run(parser.parse_args(arguments)) == 0
    assert rectangles(parse(tmp_path / "page.html"), "truth") == truth
