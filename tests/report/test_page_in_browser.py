"""The page as a browser sees it: nothing hostile acts, nothing is fetched, boxes stand where they should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from testing_browser import BROWSER, HOSTILE
from vlm_r1.config.schema import DataSource
from vlm_r1.curation.data_check import check_data
from vlm_r1.report.build import build_report
from vlm_r1.report.data_page import write_data_page
from vlm_r1.tasks.templates import get_template

pytestmark = BROWSER


def test_hostile_completions_do_nothing(run_of: Callable, hostile: Callable, open_page: Callable):
    path = build_report(run_of([hostile(HOSTILE, "/nowhere.png"), hostile("<b>" * 400_000, "/nowhere.png")]))
    page, logged, fetched = open_page(path)
    assert page.title() == "run · VLM-R1 run"
    page.wait_for_selector("#items .item")
    assert page.locator("script").count() == 3  # ours: two of data, and the one that draws
    assert page.locator("img, iframe").count() == 0
    for place in ("#groups .group", "#items .item"):
        assert HOSTILE.replace("\x00", "␀") in page.locator(place).first.inner_text()
    assert [url for url in fetched if not url.startswith("data:")] == [path.as_uri()]
    assert logged == []


def test_a_box_covers_the_pixels_it_names(run_of: Callable, group: Callable, tmp_path: Path, open_page: Callable):
    Image.new("RGB", (56, 56), "white").save(tmp_path / "a.png")
    answers = [("a", [14.0, 28.0, 42.0, 56.0], 1.0, None), ("b", [0.0, 0.0, 56.0, 56.0], 0.2, None)]
    folder = run_of([group("<image>it", [14, 28, 42, 56], answers, (str(tmp_path / "a.png"),), ((56, 56),))])
    page, _, _ = open_page(build_report(folder))
    image = page.locator("#groups svg.view image").bounding_box()
    edge = page.locator("#groups .b0 .edge").evaluate(
        "e => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height] }"
    )
    assert image["width"] > 300  # a 56-pixel image is drawn large
    assert edge[0] - image["x"] == pytest.approx(image["width"] * 14 / 56, abs=4)  # the stroke is 3 wide
    assert edge[1] - image["y"] == pytest.approx(image["height"] * 28 / 56, abs=4)
    assert edge[2] == pytest.approx(image["width"] * 28 / 56, abs=8)
    assert edge[3] == pytest.approx(image["height"] * 28 / 56, abs=8)


def test_pointing_at_a_completion_fades_the_others_boxes(grpo_run: Path, open_page: Callable):
    page, _, _ = open_page(build_report(grpo_run))
    group = page.locator(".group").last
    row = group.locator(".row").first
    index = next(name for name in row.get_attribute("class").split() if name != "row").removeprefix("r")

    def opacity(selector: str) -> float:
        page.wait_for_timeout(200)  # the fade
        return float(group.locator(selector).first.evaluate("e => getComputedStyle(e).opacity"))

    others = f".box:not(.truth):not(.b{index})"
    assert opacity(others) == 1
    row.focus()
    assert (opacity(others), opacity(f".b{index}"), opacity(".truth")) == (0.1, 1, 1)


@pytest.mark.parametrize("width", [pytest.param(1280, id="laptop"), pytest.param(390, id="phone")])
def test_nothing_sticks_out_sideways(grpo_run: Path, open_page: Callable, width: int):
    page, logged, fetched = open_page(build_report(grpo_run), width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert logged == []
    assert [url for url in fetched if url.startswith("http")] == []


def test_the_page_of_a_data_file_draws_its_boxes_and_runs_nothing(tmp_path: Path, open_page: Callable):
    Image.new("RGB", (56, 56), "white").save(tmp_path / "a.png")
    turns = [{"from": "human", "value": f"<image>{HOSTILE}"}, {"from": "gpt", "value": [14, 28, 42, 56]}]
    lines = [json.dumps({"image": "a.png", "conversations": turns})] * 3
    (tmp_path / "d.jsonl").write_text("\n".join(lines), encoding="utf-8")
    source = DataSource(path=str(tmp_path / "d.jsonl"))
    write_data_page(tmp_path / "page.html", source, check_data(source, get_template("r1"), images=True), 2)
    page, logged, fetched = open_page(tmp_path / "page.html", 390)
    assert (page.title(), logged) == ("d.jsonl · VLM-R1 data", [])
    assert page.locator(".record").count() == 2
    assert page.locator("script, img, iframe").count() == 0
    assert [url for url in fetched if not url.startswith("data:")] == [(tmp_path / "page.html").as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    image, edge = (page.locator(f"{name} >> nth=0").bounding_box() for name in ("svg.view image", ".truth .edge"))
    assert edge["x"] - image["x"] == pytest.approx(image["width"] * 14 / 56, abs=4)
    assert edge["height"] == pytest.approx(image["height"] * 28 / 56, abs=8)
