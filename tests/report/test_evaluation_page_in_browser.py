"""A click-through of the page of an evaluation: its rows are filtered by mouse and keyboard, and no text acts."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from testing_browser import BROWSER, HOSTILE
from testing_evaluations import answered, write_evaluation_of
from vlm_r1.evaluation.protocol import DataSet, Protocol
from vlm_r1.report.evaluation_page import build_evaluation_page
from vlm_r1.types import Group, Record

pytestmark = BROWSER

LABELS = ("bus", "car", "dog")


def detections(folder: Path) -> list[Group]:
    """90 answers about pictures of 600 by 450: each label is found, moved away or not answered in turn."""
    rng = random.Random(0)
    groups: list[Group] = []
    for index in range(90):
        path = folder / f"{index}.png"
        Image.new("RGB", (600, 450), (60, 90, 2 * index)).save(path)
        label, fate = LABELS[index % 3], index // 3 % 3
        side = (20, 60, 200)[index % 3]  # small, medium and large by COCO's bounds: 400, 3,600 and 40,000 square pixels
        x, y = rng.randrange(200), rng.randrange(200)
        gold = [{"bbox_2d": [x, y, x + side, y + side], "label": label}]
        moved = [{"bbox_2d": [x + side, y, x + 2 * side, y + side], "label": label}]
        text = (str(gold), str(moved), "")[fate].replace("'", '"')
        record = Record(str(index), "ovd", f"<image>{label} {index}", (str(path),), gold, source=f"v.jsonl:{index}")
        tagged = f"<think>t</think><answer>```json\n{text}\n```</answer>" if text else "I do not know"
        groups.append(answered(record, tagged))
    return groups


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    return build_evaluation_page(write_evaluation_of(folder, "val", detections(folder)))


def shown(page) -> dict[str, int]:
    """Heading → drawn rows, of the groups that are there."""
    heads = page.locator("#answers .heap").all()
    return {head.locator("summary").inner_text().split("\n")[0]: head.locator("li").count() for head in heads}


def test_groups_open_filter_and_grow(page_file: Path, open_page: Callable):
    page, logged, fetched = open_page(page_file)
    assert shown(page) == {"boxes do not fit30": 8, "not readable: no_answer_tag30": 8, "right30": 0}
    page.get_by_role("button", name="Show 22 more of 22").first.click()
    assert list(shown(page).values()) == [30, 8, 0]
    page.locator("summary", has_text="right").click()
    assert list(shown(page).values()) == [30, 8, 8]

    page.get_by_label("label").select_option("dog")
    assert shown(page) == {"boxes do not fit10": 8, "not readable: no_answer_tag10": 8, "right10": 0}
    page.get_by_label("what is wrong").select_option(label="boxes do not fit (30)")
    page.get_by_label("size").select_option("small")
    assert shown(page) == {}  # dogs are large
    assert page.locator("#count").inner_text() == "0 of 90 rows"
    page.get_by_label("size").select_option("large")
    assert shown(page) == {"boxes do not fit10": 8}
    page.get_by_label("text").fill("DOG 32")
    page.get_by_text("1 of 90 rows", exact=True).wait_for()
    assert page.locator("#answers h4").inner_text() == "dog 32"
    page.get_by_role("button", name="Clear").click()
    assert list(shown(page)) == ["boxes do not fit30", "not readable: no_answer_tag30", "right30"]
    assert logged == []
    assert [url for url in fetched if not url.startswith("data:")] == [page_file.as_uri()]


def test_everything_works_by_keyboard(page_file: Path, open_page: Callable):
    page, _, _ = open_page(page_file)
    page.get_by_label("what is wrong").focus()
    page.keyboard.press("ArrowDown")
    assert list(shown(page)) == ["boxes do not fit30"]
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert list(shown(page)) == ["boxes do not fit10"]
    for key in ("Tab", "Tab", "Tab", "Enter"):  # past size and text to the button that clears
        page.keyboard.press(key)
    assert len(shown(page)) == 3
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first group closes
    assert page.locator("#answers .heap").first.get_attribute("open") is None
    page.keyboard.press("Enter")
    more = page.get_by_role("button", name="Show 22 more of 22").first
    more.focus()
    page.keyboard.press("Enter")
    focused = page.evaluate("document.activeElement.querySelector('h4').textContent")
    assert focused == page.locator("#answers .heap").first.locator("li h4").nth(8).inner_text()


def test_a_row_draws_truth_and_answer_where_they_lie(page_file: Path, open_page: Callable):
    page, _, _ = open_page(page_file)
    row = page.locator("#answers li").first
    image = row.locator("svg.view image").bounding_box()
    edges = [
        row.locator(f".{kind} .edge").evaluate("e => { const r = e.getBoundingClientRect(); return [r.x, r.width] }")
        for kind in ("truth", "given")
    ]
    scale = image["width"] / 600
    side = (20, 60, 200)[LABELS.index(row.locator(".truth title").text_content().removeprefix("truth: "))]
    assert edges[1][0] - edges[0][0] == pytest.approx(side * scale, abs=4)  # the answer is moved by its own width
    assert edges[0][1] == pytest.approx(side * scale, abs=5)
    assert row.locator(".given title").text_content().startswith("answer: ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [pytest.param(1280, id="laptop"), pytest.param(400, id="phone")])
def test_nothing_sticks_out_and_colours_follow_the_scheme(
    page_file: Path, open_page: Callable, width: int, scheme: str
):
    page, logged, _ = open_page(page_file, width, scheme)
    for summary in page.locator("summary").all():
        if summary.locator("xpath=..").get_attribute("open") is None:
            summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])
    assert (red < 60) == (scheme == "dark")
    assert logged == []


def test_hostile_text_does_nothing(tmp_path: Path, open_page: Callable):
    gold = [{"bbox_2d": [1, 2, 30, 40], "label": HOSTILE}]
    record = Record(HOSTILE, "ovd", f"<image>{HOSTILE}", ("/nowhere.png",), gold, source=HOSTILE)
    others = [Record(str(i), "ovd", "<image>x", ("/nowhere.png",), gold, source=HOSTILE) for i in range(2)]
    protocol = Protocol(name="x", title=HOSTILE, data=DataSet(set=HOSTILE))
    texts = (f"<think>t</think><answer>None</answer>{HOSTILE}", HOSTILE + "\ud83d", "ab" * 500_000)
    groups = [answered(one, text) for one, text in zip((record, *others), texts, strict=True)]
    more = {"classes": [{"label": HOSTILE}], "confusion": [[HOSTILE, None, 3]], "parse_failures": {HOSTILE: 1}}
    result = write_evaluation_of(tmp_path, "val", groups, protocol, **more)
    page, logged, fetched = open_page(build_evaluation_page(result))
    page.get_by_label("text").fill("I am not there")
    page.get_by_text("0 of 3 rows", exact=True).wait_for()
    page.get_by_label("text").fill("<SCRIPT>document.title")
    page.get_by_text("3 of 3 rows", exact=True).wait_for()
    assert page.title() == "val · VLM-R1 evaluation"
    assert page.locator("img, iframe").count() == 0
    assert page.locator("script").count() == 2
    assert HOSTILE.replace("\x00", "␀") in page.locator("#answers h4").all_inner_texts()
    assert [url for url in fetched if not url.startswith("data:")] == [result.with_suffix(".html").as_uri()]
    assert logged == []


def test_control_the_policy_runs_no_other_script(page_file: Path, tmp_path: Path, open_page: Callable):
    """If a text did become a script, the page's policy would not run it."""
    text = page_file.read_text(encoding="utf-8")
    (tmp_path / "owned.html").write_text(
        text.replace(
            "</main>", "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='o'\"></main>"
        )
    )
    page, logged, _ = open_page(tmp_path / "owned.html")
    assert page.title() == "val · VLM-R1 evaluation"
    assert any("Content Security Policy" in line for line in logged)
    assert len(shown(page)) == 3  # our own script has run


def test_without_scripts_the_pictures_are_there(page_file: Path, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("#quantiles svg.view image").count() == 7
    assert "switched off" in page.locator("noscript").inner_text()
    assert not page.locator("#controls").is_visible()
    context.close()
