"""The page of a comparison: its sentence, its pairs at fixed quantiles of the change, and its flips."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from testing_browser import BROWSER, HOSTILE
from testing_evaluations import answered, write_evaluation_of
from vlm_r1.evaluation.compare import compare_results
from vlm_r1.evaluation.compare_files import read_results
from vlm_r1.evaluation.compare_values import Comparison
from vlm_r1.evaluation.protocol import DataSet, Protocol
from vlm_r1.report.comparison_page import build_comparison_page
from vlm_r1.types import Record

N = 40
GOLD = [10, 10, 30, 30]
PROTOCOL = Protocol(name="small", title="A small set", data=DataSet(set="small"), task="rec")


def write(folder: Path, name: str, shifts: list[int], problem: str = "thing") -> Path:
    """Answers whose boxes are moved to the right by so many pixels: right while (20 - s) / (20 + s) > 0.5, s <= 6."""
    groups = []
    for index, shift in enumerate(shifts):
        words = " on the left" if index % 2 else ""
        path = folder / "images" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (6 * index, 90, 90)).save(path)
        record = Record(
            str(index), "rec", f"<image>{problem} {index}{words}", (str(path),), GOLD, source=f"v.jsonl:{index + 1}"
        )
        groups.append(answered(record, f"<think>t</think><answer>[{10 + shift}, 10, {30 + shift}, 30]</answer>"))
    return write_evaluation_of(folder, name, groups, PROTOCOL)


FIRST = [20, *[8] * 19, *[0] * 20]  # 20 of 40 right
OTHER = [0, *[6] * 9, *[8] * 10, *[0] * 16, *[15] * 4]  # 10 become right, 4 wrong: 26 of 40


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    return compare_results(read_results([write(tmp_path, "a", FIRST), write(tmp_path, "b", OTHER)]))


def rows_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(text.partition('id="rows">')[2].partition("</script>")[0])


def test_the_sentence_has_both_counts_and_the_flips(comparison: Comparison, tmp_path: Path, parse: Callable):
    elements = parse(build_comparison_page(comparison, tmp_path / "page.html"))
    (said,) = [e.text for e in elements if e.has_class("headline")]
    # (26 - 20) / 40 = 15 points
    assert said.startswith("b is right on 26 of 40, a on 20: +15.0 points [")
    assert said.endswith("], 10 better, 4 worse.")


def test_pairs_stand_at_fixed_quantiles_of_the_change(comparison: Comparison, tmp_path: Path, parse: Callable):
    elements = parse(build_comparison_page(comparison, tmp_path / "page.html"))
    places = ["most improved", "85 %", "70 %", "50 %", "25 %", "5 %", "most spoiled"]
    assert [e.text for e in elements if e.has_class("place")] == places
    cards = [e for e in elements if e.has_class("record")]
    assert "thing 0" in cards[0].text
    captions = [e.text for e in elements if e.tag == "strong" and cards[0] in e.ancestors]
    assert captions == ["IoU 0.00", "IoU 1.00"]
    assert [e.text for e in elements if e.tag == "strong" and cards[-1] in e.ancestors] == ["IoU 1.00", "IoU 0.14"]
    views = [e for e in elements if e.has_class("view") and cards[0] in e.ancestors]
    drawn = [[e.attributes["x"] for e in elements if e.has_class("edge") and v in e.ancestors] for v in views]
    assert drawn == [["10", "30"], ["10", "10"]]  # truth and answer, before and after


def test_flips_in_both_directions_are_rows_with_pictures(comparison: Comparison, tmp_path: Path):
    data = rows_of(build_comparison_page(comparison, tmp_path / "page.html"))
    assert data["groups"] == [["better", 10], ["worse", 4], ["neither better nor worse", 26]]
    assert (data["sides"], data["closed"]) == (["a", "b"], ["neither better nor worse"])
    rows = [[row for row in data["rows"] if row["k"] == k] for k in range(3)]
    assert [row["i"] for row in rows[0]] == [str(i) for i in range(10)]  # the greatest change first
    assert [row["i"] for row in rows[1]] == [str(i) for i in range(36, 40)]
    assert [[answer["s"] for answer in row["a"]] for row in rows[0]] == [[0, 1]] * 10
    assert [all("u" in row for row in kind) for kind in rows] == [True, True, False]


def test_tables_have_the_differences_of_all_and_of_parts(comparison: Comparison, tmp_path: Path, parse: Callable):
    elements = parse(build_comparison_page(comparison, tmp_path / "page.html"))
    cells = [e.text for e in elements if e.tag == "td" and e.inside("numbers")]
    row = cells[: cells.index("mean IoU")]
    assert row[:4] == ["accuracy at IoU 0.5", "40", "50.0\xa0%", "65.0\xa0%"]
    assert row[5:7] == ["10", "4"]
    whole = cells.index("format rate")
    assert cells[whole : whole + 4] == ["format rate", "100.0\xa0%", "100.0\xa0%", "+0.0 points"]
    heads = [e.text for e in elements if e.tag == "h3" and e.inside("numbers")]
    assert heads == ["Of the whole set", "Accuracy at IoU 0.5 by words"]
    short, long = cells.index("1-3"), cells.index("4-6")
    # of the records with an even number, 0 to 8 become right, 36 and 38 wrong
    assert (cells[short + 1], cells[short + 5], cells[short + 6]) == ("20", "5", "2")
    assert (cells[long + 1], cells[long + 5], cells[long + 6]) == ("20", "5", "2")


def test_several_results_are_each_compared_with_the_first(tmp_path: Path, parse: Callable):
    paths = [
        write(tmp_path, name, shifts) for name, shifts in (("a", FIRST), ("b", OTHER), ("c", [*FIRST[5:], *FIRST[:5]]))
    ]
    page = build_comparison_page(compare_results(read_results(paths)), tmp_path / "page.html")
    elements = parse(page)
    assert len([e for e in elements if e.has_class("headline")]) == 2
    assert [e.text for e in elements if e.tag == "h1"] == ["a → b, c"]
    names = [name for name, _ in rows_of(page)["groups"]]
    assert names == [f"{other}: {kind}" for other in "bc" for kind in ("better", "worse", "neither better nor worse")]
    assert rows_of(page)["sides"] == ["a", "b", "c"]


def test_equal_results_change_nothing(tmp_path: Path, parse: Callable):
    paths = [write(tmp_path, name, FIRST) for name in "ab"]
    page = build_comparison_page(compare_results(read_results(paths)), tmp_path / "page.html")
    (said,) = [e.text for e in parse(page) if e.has_class("headline")]
    assert said == "b is right on 20 of 40, a on 20: +0.0 points [0.0, 0.0], 0 better, 0 worse."
    assert rows_of(page)["groups"] == [["neither better nor worse", 40]]


def test_pictures_elsewhere_are_not_read(comparison: Comparison, tmp_path: Path, parse: Callable):
    moved = [replace(comparison.first, path=tmp_path / "x" / "a.json")]
    versus = replace(comparison.others[0], other=replace(comparison.others[0].other, path=tmp_path / "x" / "b.json"))
    elements = parse(
        build_comparison_page(replace(comparison, first=moved[0], others=(versus,)), tmp_path / "page.html")
    )
    assert not [e for e in elements if e.tag == "image"]
    assert any("outside of image_root" in e.text for e in elements if e.has_class("note"))


class TestInChromium:
    pytestmark = BROWSER

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [1280, 400])
    def test_pairs_are_seen_and_flips_can_be_chosen(
        self, comparison: Comparison, tmp_path: Path, open_page: Callable, width: int, scheme: str
    ):
        path = build_comparison_page(comparison, tmp_path / "page.html")
        page, logged, fetched = open_page(path, width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("#answers .heap").count() == 3
        page.get_by_label("change").select_option(label="worse (4)")
        rows = page.locator("#answers li")
        assert rows.count() == 4
        assert rows.first.locator("svg.view image").count() == 2
        assert [side.inner_text() for side in rows.first.locator(".side").all()] == ["a", "b"]
        before, after = (rows.first.locator(f".answer >> nth={i} >> .given .edge").bounding_box() for i in (0, 1))
        left, right = (rows.first.locator(f".answer >> nth={i} >> .truth .edge").bounding_box() for i in (0, 1))
        assert before["x"] - left["x"] == pytest.approx(0, abs=1)
        assert after["x"] - right["x"] == pytest.approx(15 / 20 * right["width"], rel=0.1)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert logged == []
        assert [url for url in fetched if not url.startswith("data:")] == [path.as_uri()]

    def test_hostile_text_does_nothing(self, tmp_path: Path, open_page: Callable):
        paths = [write(tmp_path, name, FIRST[:5], HOSTILE) for name in "ab"]
        found = compare_results(read_results(paths))
        versus = replace(found.others[0], other=replace(found.others[0].other, label=HOSTILE))
        path = build_comparison_page(replace(found, others=(versus,)), tmp_path / "page.html")
        page, logged, _ = open_page(path)
        assert page.title() == "page · VLM-R1 comparison"
        assert page.locator("img, iframe").count() == 0
        assert HOSTILE.replace("\x00", "␀") in page.locator("h1").inner_text()
        assert logged == []
