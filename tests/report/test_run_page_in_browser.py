"""A run's page in use: its answers are filtered, ordered and found again; taps and keys do what pointing does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testing_browser import BROWSER
from vlm_r1.report import build
from vlm_r1.report.build import build_report
from vlm_r1.report.sidecars import page_data

pytestmark = BROWSER


@pytest.fixture(scope="module")
def page_file(run_folder: Path) -> Path:
    return build_report(run_folder)


@pytest.fixture
def opened(page_file: Path, open_page: Callable) -> Iterator:
    page, logged, _ = open_page(page_file)
    page.wait_for_selector("#items .item")
    yield page
    assert logged == []


def shown(page) -> list[str]:
    page.wait_for_timeout(250)
    return [title.strip() for title in page.locator("#items .item h4").all_inner_texts()]


def test_records_in_order_of_change_and_by_filter(opened):
    assert shown(opened)[0] == "thing 1"
    opened.select_option("#by-order", label="most spoiled first")
    assert shown(opened)[0] == "thing 2"
    opened.fill("#by-text", "thing 11")
    assert shown(opened) == ["thing 11"]
    assert opened.locator("#count").inner_text() == "1 of 12 records"
    opened.click("#clear")
    opened.select_option("#by-reason", label="no overlap")
    assert shown(opened) == ["thing 2"]  # judged after the training
    opened.select_option("#by-step", label="before")
    assert shown(opened) == ["thing 1"]


def test_how_a_box_moves_over_the_evaluations(opened):
    first = opened.locator("#items .item").first
    lefts = first.locator(".box:not(.truth) .edge").evaluate_all("all => all.map(one => one.getAttribute('x'))")
    assert lefts == ["30", "14", "10"]  # before, step 6, after
    first.locator(".row").nth(1).focus()
    opened.wait_for_timeout(200)
    assert first.locator(".b0").evaluate("e => getComputedStyle(e).opacity") == "0.1"
    assert first.locator(".b1").evaluate("e => getComputedStyle(e).opacity") == "1"


def test_groups_by_step_reward_and_record(opened):
    opened.select_option("#by-source", label="training (24)")
    opened.wait_for_timeout(200)
    opened.select_option("#by-step", label="3")
    assert shown(opened) == ["thing 0", "thing 3"]
    opened.click("#items .item >> nth=0 >> text=This record at all 12 places")
    assert shown(opened) == ["thing 0"]
    opened.select_option("#by-step", label="any")
    assert shown(opened) == ["thing 0"] * 6
    assert opened.locator("#count").inner_text() == "12 of 24 groups"
    opened.click("#clear")
    opened.fill("#by-low", "3")  # accuracy and format make 2 at most
    assert shown(opened) == []
    opened.fill("#by-low", "2")
    assert len(shown(opened)) == 6


def test_keys_and_taps_read_a_chart(opened):
    chart, readout = opened.locator("svg.chart").first, opened.locator(".readout").first
    chart.focus()
    opened.keyboard.press("End")
    assert readout.inner_text().startswith("step 12: total")
    opened.keyboard.press("ArrowLeft")
    assert readout.inner_text().startswith("step 11: total")
    chart.locator(".band").nth(3).dispatch_event("click")  # a tap
    assert readout.inner_text().startswith("step 4: total")


def test_a_tap_on_a_box_chooses_its_completion(opened):
    group = opened.locator("#groups .group").first
    group.locator(".box.b1").dispatch_event("click")
    assert group.locator(".row.r1").evaluate("e => e === document.activeElement")


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_hidden_sideways(page_file: Path, open_page: Callable, width: int):
    page, logged, _ = open_page(page_file, width, "dark")
    page.wait_for_selector("#items .item")
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth &&"
        " getComputedStyle(e).overflowX !== 'visible').map(e => e.outerHTML.slice(0, 80))"
    )
    assert (wide, page.evaluate("document.documentElement.scrollWidth"), logged) == ([], width, [])


def test_the_page_is_there_within_a_second(page_file: Path, open_page: Callable):
    page, _, _ = open_page(page_file)
    assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < 1000


def test_data_beside_the_page_are_loaded_from_the_disk(
    run_folder: Path, tmp_path: Path, open_page: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(build, "page_data", lambda made, folder: page_data(made, folder, 20_000))
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    path = build_report(folder)
    assert len(list((folder / "report_files").iterdir())) == 1  # the training; the held-out set is in the page
    page, logged, _ = open_page(path)
    page.wait_for_selector("#items .item")
    page.select_option("#by-source", label="training (24)")
    page.wait_for_selector("#items .item >> text=step 1")
    assert (page.locator("#left").inner_text(), logged) == ("", [])
    shutil.move(folder / "report_files", folder / "lost")
    page, _, _ = open_page(path)
    page.wait_for_selector("#items .item")
    page.select_option("#by-source", label="training (24)")
    page.wait_for_selector("#left >> text=24 groups are not shown")
