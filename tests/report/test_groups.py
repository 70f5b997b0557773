import base64
import io
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from vlm_r1.data.access import Access
from vlm_r1.report.drawing import MAX_BOXES, MAX_IMAGES, boxes_of
from vlm_r1.report.groups import GROUPS_PER_STEP, MAX_COMPLETIONS, show_steps
from vlm_r1.report.images import data_url
from vlm_r1.report.read import read_run
from vlm_r1.types import AnswerValue, Group

RunOf = Callable[[list[Group]], Path]
MakeGroup = Callable[..., Group]
WRONG, RIGHT = ("no", "no", 0.0, None), ("yes", "yes", 1.0, None)


def test_the_remote_pictures_of_a_page_have_a_time_in_all(run_of: RunOf, group: MakeGroup) -> None:
    """Six pictures of a server that never answers, with 30 s for each, but a second for all."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        root = f"http://127.0.0.1:{silent.getsockname()[1]}"
        images = tuple(f"{root}/{name}.png" for name in "abc")
        groups = [group("which?", "yes", [RIGHT, WRONG], images, ((8, 8),) * 3) for _ in range(2)]
        start = time.monotonic()
        (step,), _ = show_steps(read_run(run_of(groups)).rollouts, Access(roots=(root,), until=start + 1))
    assert [image.url for group in step.groups for image in group.images] == [None] * 6
    assert 1 <= time.monotonic() - start < 30


def shown(folder: Path):
    (step,), _ = show_steps(read_run(folder).rollouts)
    return step


@pytest.mark.parametrize(
    ("answer", "boxes"),
    [
        pytest.param([1, 2, 3, 4], [((1, 2, 3, 4), "")], id="one box"),
        pytest.param([[1, 2, 3, 4], [5, 6, 7, 8]], [((1, 2, 3, 4), ""), ((5, 6, 7, 8), "")], id="boxes"),
        pytest.param([{"bbox": [1, 2, 3, 4], "label": 5}], [((1, 2, 3, 4), "5")], id="label that is no text"),
        pytest.param({"bbox_2d": [1, 2, 3, 4]}, [((1, 2, 3, 4), "")], id="one object"),
        pytest.param("<answer>[1, 2, 3, 4]</answer>", [((1, 2, 3, 4), "")], id="gold as text"),
        pytest.param([1, 2, 3], [], id="three numbers"),
        pytest.param([1, 2, 3, "4"], [], id="a text among the numbers"),
        pytest.param([True, False, True, False], [], id="truth values"),
        pytest.param([1, 2, 3, 10**400], [], id="beyond floats"),
        pytest.param([1, 2, 3, None], [], id="null, as NaN is logged"),
        pytest.param({"bbox_2d": "x"}, [], id="box that is none"),
        pytest.param([], [], id="empty list"),
        pytest.param(None, [], id="null"),
    ],
)
def test_boxes_in_answers_of_all_shapes(answer: AnswerValue, boxes: list):
    assert [(box, label) for (box, _), label in boxes_of(answer)] == boxes


def test_the_first_groups_that_differ_come_before_those_that_teach_nothing(run_of: RunOf, group: MakeGroup):
    teaches = [False, True, False, True, True, False]
    groups = [group("?", "yes", [RIGHT, WRONG if t else RIGHT], record_id=str(i)) for i, t in enumerate(teaches)]
    step = shown(run_of(groups))
    assert [g.record_id for g in step.groups] == ["1", "3", "4", "0"]
    assert len(step.groups) == GROUPS_PER_STEP
    assert step.n_groups == 6
    # format pays 1 to all twelve, accuracy 1 to all but three: (12 + 9) / 12 = 1.75
    assert step.mean_reward == "1.75"


def test_the_best_completion_comes_first_and_keeps_its_number(run_of: RunOf, group: MakeGroup):
    (g,) = shown(run_of([group("?", "yes", [WRONG, RIGHT])])).groups
    assert [(c.index, c.reward, c.advantage) for c in g.completions] == [(1, "2.00", "+0.71"), (0, "1.00", "−0.71")]
    assert g.completions[0].parts == (("accuracy", "1.00"), ("format", "1.00"))


def test_a_completion_that_no_part_judged_comes_last_and_shows_no_number(run_of: RunOf, group: MakeGroup):
    one = group("?", 1, [("a", 1, 0.2, None), ("b", 2, 0.8, None), ("c", 3, 0.5, None)])
    unjudged = replace(one.rollouts[0], score=replace(one.rollouts[0].score, reward=None, parts={"accuracy": None}))
    step = shown(run_of([replace(one, rollouts=(unjudged, *one.rollouts[1:]))]))
    (g,) = step.groups
    assert [(c.index, c.reward) for c in g.completions] == [(1, "1.80"), (2, "1.50"), (0, "–")]
    assert g.completions[-1].parts == (("accuracy", "–"),)
    assert step.mean_reward == "1.65"  # of 1.8 and 1.5


def test_colours_span_the_rewards_of_what_was_parsed(run_of: RunOf, group: MakeGroup):
    answers = [("a", [0, 0, 1, 1], 0.2, None), ("b", [0, 0, 1, 1], 0.8, None), ("c", None, 0.0, "no_box")]
    folder = run_of([group("?", [0, 0, 1, 1], answers)])
    (step,), scale = show_steps(read_run(folder).rollouts)
    assert (scale.low, scale.high) == (1.2, 1.8)
    colours = {c.index: c.colour for c in step.groups[0].completions}
    assert colours == {0: "#8f0da4", 1: "#f0f921", 2: "#8f0da4"}


def test_no_rollouts_show_no_steps():
    assert show_steps({})[0] == ()


def test_huge_groups_are_cut_with_a_note(run_of: RunOf, group: MakeGroup):
    many: AnswerValue = [[i, i, i + 1, i + 1] for i in range(MAX_BOXES + 40)]
    answers = [("x", many if i == 0 else None, 0.0, None) for i in range(MAX_COMPLETIONS + 5)]
    images = tuple(f"/nowhere/{i}.png" for i in range(MAX_IMAGES + 2))
    (g,) = shown(run_of([group("?", 1, answers, images, ((10, 10),) * len(images))])).groups
    assert (len(g.completions), g.completions_left_out) == (MAX_COMPLETIONS, 5)
    assert (len(g.images), g.images_left_out) == (MAX_IMAGES, 2)
    assert len(g.images[0].boxes) == MAX_BOXES
    assert g.images[1].boxes == ()


def test_an_answer_in_words_is_not_drawn(run_of: RunOf, group: MakeGroup):
    answers = [("[1, 2, 3, 4]", "[1, 2, 3, 4]", 0.0, None)] * 2
    (g,) = shown(run_of([group("<image>?", "A", answers, ("/nowhere.png",), ((10, 10),))])).groups
    assert g.images[0].boxes == ()


@pytest.mark.parametrize(
    ("size", "kind", "embedded"),
    [
        pytest.param((56, 40), "PNG", (56, 40), id="tiny images stay as they are"),
        pytest.param((1600, 1000), "JPEG", (640, 400), id="large ones are scaled down"),
    ],
)
def test_an_embedded_image(tmp_path: Path, size: tuple[int, int], kind: str, embedded: tuple[int, int]):
    Image.new("RGB", size, "#112233").save(tmp_path / "a.png")
    url = data_url(tmp_path / "a.png", 640)
    assert url is not None
    head, _, body = url.partition(",")
    assert head == f"data:image/{kind.lower()};base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        assert (image.format, image.size) == (kind, embedded)
        assert image.convert("RGB").getpixel((5, 5)) == pytest.approx((0x11, 0x22, 0x33), abs=2)


@pytest.mark.parametrize("content", [pytest.param(None, id="gone"), pytest.param(b"\x89PNG\r\n\x1a\nno", id="torn")])
def test_an_image_that_cannot_be_read_is_left_out(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert data_url(tmp_path / "a.png", 640) is None
