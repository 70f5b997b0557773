"""Labels on boxes: inside the picture, beside one another, readable in a browser; and what is left out is counted."""

import json
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from testing_browser import BROWSER
from vlm_r1.config import DataSource
from vlm_r1.curation.data_check import check_data
from vlm_r1.report.data_page import write_data_page
from vlm_r1.report.drawing import MAX_BOXES, DrawnBox, DrawnImage
from vlm_r1.report.tags import LONGEST, Tag, place_labels
from vlm_r1.tasks.templates import get_template

WH = (540, 480)
"""Letters are 540 / 27 = 20 high, and plates 1.3 · 20 = 26."""


def one(text: str, box: tuple[float, float, float, float], at_top: bool = True, wh: tuple[int, int] = WH) -> Tag:
    (tag,) = place_labels([(text, box, at_top)], wh)
    assert tag is not None
    return tag


def shared(a: Tag, b: Tag) -> float:
    """Area that two plates share."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(0.0, width) * max(0.0, height)


@pytest.mark.parametrize(
    ("box", "at_top", "x", "y"),
    [
        pytest.param((100, 100, 300, 300), True, 100, 74, id="above: 100 - 26"),
        pytest.param((100, 100, 300, 300), False, 100, 300, id="below"),
        pytest.param((100, 10, 300, 300), True, 100, 0, id="at the upper edge it is moved down"),
        pytest.param((100, 100, 300, 470), False, 100, 454, id="at the lower edge it is moved up: 480 - 26"),
        pytest.param((0, 0, 540, 480), True, 0, 0, id="a box of the whole picture"),
        pytest.param((-1e300, -5, 1e300, 5), True, 0, 0, id="a box far over the picture"),
    ],
)
def test_where_one_label_stands(box, at_top, x, y):
    tag = one("cat", box, at_top)
    assert (tag.x, tag.y, tag.size, tag.height) == (x, y, 20, 26)
    assert tag.width == pytest.approx(20 * (1.64 + 2 * 0.3))  # c, a and t are 0.64 + 0.64 + 0.36 wide


def test_at_the_right_edge_it_is_moved_left():
    tag = one("cat", (530, 100, 540, 200))
    assert tag.x + tag.width == pytest.approx(540)


@pytest.mark.parametrize(
    ("wh", "size"),
    [
        pytest.param((540, 480), 20, id="540 / 27"),
        pytest.param((37, 370), 10, id="tall: 370 / 37"),
        pytest.param((2700, 46), 46 / (1.15 * 1.3), id="wide: a line fits"),
    ],
)
def test_letters_have_the_same_size_on_every_card(wh, size):
    assert one("cat", (0, 0, 5, 5), wh=wh).size == pytest.approx(size)
    many = place_labels([("cat", (0, 0, 5, 5), True)] * 13, wh)
    assert next(filter(None, many)).size == pytest.approx(min(max(wh[0] / 27, wh[1] / 37) * 0.75, wh[1] / (1.15 * 1.3)))


def test_a_long_label_is_cut_and_fits():
    tag = one("a very long name of a thing " * 9, (500, 0, 540, 9))
    assert len(tag.text) == LONGEST
    assert tag.text.endswith("…")
    narrow = one("a very long name of a thing " * 9, (5, 50, 9, 60), wh=(100, 75))
    assert narrow.text.endswith("…")
    assert 0 <= narrow.x <= narrow.x + narrow.width <= 100


@pytest.mark.parametrize("n", [5, 30, 100])
@pytest.mark.parametrize("wh", [(640, 480), (3000, 4000), (60, 40), (100, 900), (900, 60)])
def test_labels_never_leave_the_picture_nor_hide_one_another(n: int, wh: tuple[int, int]):
    random = Random(n)

    def box() -> tuple[float, float, float, float]:
        x, y = random.uniform(0, wh[0]), random.uniform(0, wh[1])
        return (x, y, random.uniform(x, wh[0]), random.uniform(y, wh[1]))

    names = ("person", "traffic light", "a name that is as long as names are", "猫", "W", "")
    tags = place_labels([(random.choice(names), box(), random.random() < 0.5) for _ in range(n)], wh)
    found = [tag for tag in tags if tag]
    beside = max(0.0, 0.17 * wh[1] - wh[0] / 2)
    for tag in found:
        assert -beside - 1e-6 <= tag.x
        assert tag.x + tag.width <= wh[0] + beside + 1e-6
        assert 0 <= tag.y <= tag.y + tag.height <= wh[1] + 1e-6
    for a, b in combinations(found, 2):
        assert shared(a, b) <= 0.12 * min(a.width * a.height, b.width * b.height) + 1e-6
    assert found


def test_boxes_at_one_place_have_labels_one_above_another():
    tags = place_labels([("cat", (200, 200, 300, 300), True)] * 3, WH)
    right = 300 - 20 * (1.64 + 2 * 0.3)
    assert [(round(tag.x, 6), tag.y) for tag in tags if tag] == [(200, 174), (right, 174), (200, 200)]


def test_the_labels_of_gold_boxes_are_placed_first_and_the_rest_is_counted():
    answer = DrawnBox("100", "100", "50", "50", completion=0, colour="#f00", label="answer")
    gold = DrawnBox("100", "100", "50", "50", completion=None, colour="", label="gold")
    image = DrawnImage(
        None, 100, 30, pixelated=False, boxes=(*[answer] * 9, gold, DrawnBox("1", "2", "3", "4", 0, "", ""))
    )
    assert image.tags[0][1].text == "gold"
    assert image.n_untagged == 10 - len(image.tags) > 0


# ---- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[..., Path]:
    """`page_of([(wh, colour, [(label, box), …]), …], n_records)`: the page about a file of these records."""

    def write(records: Sequence, n_records: int) -> Path:
        rows = []
        for i, (wh, colour, boxes) in enumerate(records):
            Image.new("RGB", wh, colour).save(tmp_path / f"{i}.png")
            answer = [{"bbox_2d": box, "label": label} for label, box in boxes]
            rows.append({"image": f"{i}.png", "problem": f"no {i}", "answer": answer or "None"})
        (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        source = DataSource(path=str(tmp_path / "d.jsonl"), task="ovd")
        write_data_page(tmp_path / "page.html", source, check_data(source, get_template("r1"), images=True), n_records)
        return tmp_path / "page.html"

    return write


@pytest.mark.parametrize(
    ("n", "asked", "shown"),
    [
        pytest.param(3, 24, [0, 1, 2], id="fewer than asked for"),
        pytest.param(7, 5, [0, 1, 2, 4, 5], id="5 of 7: 0, 1.4, 2.8, 4.2, 5.6"),
        pytest.param(25, 24, [*range(24)], id="one too many"),
        pytest.param(1, 1, [0], id="one"),
    ],
)
def test_as_many_records_as_asked_for(page_of: Callable, parse: Callable, n: int, asked: int, shown: list[int]):
    elements = parse(page_of([((30, 20), "#888", [])] * n, asked))
    titles = [e.text for e in elements if e.tag == "h4"]
    assert titles == [f"no {i}" for i in shown]
    said = f"{len(shown)} records, spread evenly" if len(shown) > 1 else "1 record with its gold boxes"
    assert any(said in e.text for e in elements if e.has_class("note"))


def test_boxes_that_are_not_drawn_are_counted(page_of: Callable, parse: Callable):
    boxes = [("cat", [i, i, i + 20, i + 20]) for i in range(MAX_BOXES + 5)]
    elements = parse(page_of([((640, 480), "#888", boxes)], 1))
    assert sum(e.has_class("edge") for e in elements) == MAX_BOXES
    notes = [e.text for e in elements if e.has_class("note")]
    assert "5 more boxes are not drawn." in notes
    n_tags = sum(e.has_class("tag") for e in elements)
    assert any(f"{MAX_BOXES - n_tags} label" in note for note in notes) == (n_tags < MAX_BOXES)


_SHOWN = """all => all.map(tag => {
  const inner = tag.getBoundingClientRect(), plate = tag.previousElementSibling.getBoundingClientRect()
  const view = tag.closest("svg").getBoundingClientRect()
  const colours = [getComputedStyle(tag).fill, getComputedStyle(tag.previousElementSibling).fill]
  const sides = r => [r.left, r.top, r.right, r.bottom]
  return {text: tag.textContent, inner: sides(inner), plate: sides(plate), view: sides(view), colours}
})"""


@pytest.mark.browser
@pytest.mark.skipif(BROWSER[1].args[0], reason="no Chromium found")
@pytest.mark.parametrize(
    ("width", "scheme"), [pytest.param(1280, "light", id="wide"), pytest.param(390, "dark", id="400")]
)
def test_labels_can_be_read_in_a_browser(page_of: Callable, open_page: Callable, width: int, scheme: str):
    corners = [
        ("top left", [0, 0, 20, 20]),
        ("right below", [600, 440, 640, 480]),
        ("</text><script>", [300, 200, 400, 300]),
        ("WWWWW mmmmm", [0, 300, 50, 350]),
        ("猫と犬", [400, 20, 500, 90]),
    ]
    tall = [("person in a long dress", [10, 200, 70, 900])]
    path = page_of([((640, 480), "#fff", corners), ((640, 480), "#000", corners), ((80, 1000), "#888", tall)], 3)
    page, logged, _ = open_page(path, width, scheme)
    assert logged == []
    assert page.locator("script").count() == 0
    tags = page.locator(".tag").evaluate_all(_SHOWN)
    assert [tag["text"] for tag in tags[:5]] == [label for label, _ in corners]
    assert len(tags) == 11
    for tag in tags:
        left, top, right, bottom = tag["plate"]
        assert left - 2 <= tag["inner"][0] <= tag["inner"][2] <= right + 2, "the text is on its plate"
        assert tag["inner"][3] - tag["inner"][1] >= 10, "it is large enough"
        assert tag["view"][0] - 1 <= left <= right <= tag["view"][2] + 1, "the plate is not cut"
        assert tag["view"][1] - 1 <= top <= bottom <= tag["view"][3] + 1
        assert contrast(*tag["colours"]) > 7
    assert page.evaluate("document.documentElement.scrollWidth") == width


def contrast(text: str, plate: str) -> float:
    """WCAG's contrast of a text on a plate that lies on white, which is the worst ground for white letters."""

    def channels(colour: str) -> list[float]:
        return [float(part) for part in colour[colour.index("(") + 1 : -1].replace("/", ",").split(",")]

    def luminance(rgb: Sequence[float]) -> float:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    *rgb, alpha = channels(plate)
    seen = [alpha * value + (1 - alpha) * 255 for value in rgb]
    light, dark = sorted((luminance(channels(text)[:3]), luminance(seen)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_by_hand():
    assert contrast("rgb(255, 255, 255)", "rgba(0, 0, 0, 1)") == pytest.approx(21)
    assert contrast("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)") == pytest.approx(1)
