import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from vlm_r1.cli import report as report_command
from vlm_r1.errors import CheckpointError
from vlm_r1.report.build import build_report
from vlm_r1.report.excerpt import excerpt

HOSTILE = "</script></style></textarea><img src=x onerror=\"document.title='owned'\">'\"&{{ 7 * 7 }}\x00\u202e"
SECTIONS = ("held-out", "curves", "time", "groups")


def text_of(elements: list, name: str) -> str:
    return " ".join(e.text for e in elements if e.attributes.get("id") == name)


def with_class(elements: list, name: str) -> list:
    return [e for e in elements if e.has_class(name)]


def rectangles(elements: list, *names: str) -> list[tuple]:
    """(x, y, width, height) of the coloured edges of boxes with all the given classes, in the groups' images."""
    edges = [e for e in with_class(elements, "edge") if e.inside("view") and all(e.inside(name) for name in names)]
    return [tuple(e.attributes[key] for key in ("x", "y", "width", "height")) for e in edges]


@pytest.fixture
def one_group(run_of: Callable, group: Callable, tmp_path: Path) -> Path:
    """A 64 × 48 image, truth (10, 20)–(30, 44), a box that is right, one half outside, and one that was not parsed."""
    Image.new("RGB", (64, 48), "#888").save(tmp_path / "a.png")
    answers = [
        ("<answer>[10, 20, 30, 44]</answer>", [10.0, 20.0, 30.0, 44.0], 1.0, None),
        ("<answer>[-4, 0.5, 8, 8]</answer>", [-4.0, 0.5, 8.25, 8.0], 0.0, None),
        ("somewhere", None, 0.0, "no_answer_tag"),
    ]
    images, sizes = (str(tmp_path / "a.png"),), ((64, 48),)
    return run_of([group("<image>the dog", [10, 20, 30, 44], answers, images, sizes)])


def test_boxes_stand_in_original_pixels(one_group: Path, parse: Callable):
    page = parse(build_report(one_group))
    (view,) = with_class(page, "view")
    (image,) = [e for e in page if e.tag == "image"]
    assert view.attributes["viewbox"] == "0 0 64 48"
    assert (image.attributes["width"], image.attributes["height"]) == ("64", "48")
    assert rectangles(page, "truth") == [("10", "20", "20", "24")]  # 30 − 10, 44 − 20
    assert rectangles(page, "b0") == [("10", "20", "20", "24")]
    assert rectangles(page, "b1") == [("-4", "0.5", "12.25", "7.5")]  # 8.25 + 4, 8 − 0.5
    assert rectangles(page, "b2") == []


def test_a_completions_row_tells_what_it_got(one_group: Path, parse: Callable):
    page = parse(build_report(one_group))
    rows = [" ".join(row.text.split()) for row in with_class(page, "row")]
    assert rows[0].startswith("2.00 #1 accuracy 1.00, format 1.00 advantage +1.00 11 tokens [10, 20, 30, 44]")
    assert rows[2] == "0.00 #3 accuracy 0.00, format 0.00 advantage −1.00 3 tokens no_answer_tag somewhere"


def test_better_boxes_are_drawn_over_worse_ones_and_the_truth_over_all(one_group: Path, parse: Callable):
    page = parse(build_report(one_group))
    drawn = [e.attributes["class"] for e in with_class(page, "box") if e.inside("view")]
    assert drawn == ["box b1", "box b0", "box truth"]


def test_a_finished_run_has_every_section(grpo_run: Path, parse: Callable):
    page = parse(build_report(grpo_run))
    assert all("Left out" not in text_of(page, name) for name in SECTIONS)
    titles = [" ".join(e.text.split()) for e in page if e.tag == "figcaption"]
    wanted = ("Reward", "Accuracy at IoU 0.5", "Loss", "KL", "Entropy", "Gradient norm", "Completion length")
    for title in (*wanted, "Groups without signal", "Parse failures"):
        assert any(found.startswith(title) for found in titles), title
    assert "+36.0 points" in text_of(page, "held-out")
    assert [t.text.split()[1] for t in page if t.tag == "h3"] == ["1", "20", "40"]
    assert len(with_class(page, "group")) == 12
    assert len(with_class(page, "row")) == 12 * 8


def test_a_supervised_run_has_curves_and_says_what_is_left_out(sft_run: Path, parse: Callable):
    page = parse(build_report(sft_run))
    assert "Left out: there is no summary.json" in text_of(page, "held-out")
    assert "Supervised training (SFT), step by step" in text_of(page, "curves")
    assert "update" in text_of(page, "time")
    assert "Left out: there are no rollouts" in text_of(page, "groups")


def test_a_run_that_has_only_begun(tmp_path: Path, parse: Callable):
    (tmp_path / "metrics.jsonl").write_text("")
    page = parse(build_report(tmp_path))
    assert all("Left out" in text_of(page, name) for name in SECTIONS)


def test_groups_without_boxes_images_or_words(run_of: Callable, group: Callable, parse: Callable):
    images, sizes = ("/nowhere/a.png", "/nowhere/b.png"), ((64, 48), (32, 32))
    groups = [
        group("How many?", 3, [("3", 3, 1.0, None), ("", None, 0.0, "no_answer_tag")], task="counting"),
        group("<image><image>Compare.", "No Defect", [("x", "No Defect", 1.0, None)], images, sizes, task="gui"),
        group("", None, [("x", None, 0.0, None)]),
    ]
    page = parse(build_report(run_of(groups)))
    counting, gui, bare = with_class(page, "group")
    assert "truth 3" in " ".join(counting.text.split())
    assert "(empty)" in counting.text
    assert gui.text.count("The image is not shown: it cannot be read, or it is remote") == 2
    assert "(no text)" in bare.text
    assert with_class(page, "truth") == []


def test_hostile_text_is_shown_as_text(run_of: Callable, hostile: Callable, parse: Callable):
    path = build_report(run_of([hostile(HOSTILE, "/nowhere/</style>.png")]))
    page = parse(path)
    assert {e.tag for e in page} & {"img", "textarea", "iframe", "object", "link"} == set()
    assert [e.attributes.get("type") for e in page if e.tag == "script"] == ["application/json"] * 2 + [None]  # ours
    assert not [name for e in page for name in e.attributes if name.startswith("on")]
    (article,) = with_class(page, "group")
    assert "<" not in "".join(e.text for e in page if e.attributes.get("type") == "application/json")
    seen = HOSTILE.replace("\x00", "␀").replace("\u202e", "\\u202e")
    assert article.text.count(seen) >= 6  # problem, source, record, gold, answer, reason, texts
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", path.read_text(encoding="utf-8"))


def test_megabytes_of_text_are_cut_with_a_note(run_of: Callable, hostile: Callable, parse: Callable):
    path = build_report(run_of([hostile("<b>&" * 500_000, "/nowhere.png")]))
    assert path.stat().st_size < 200_000
    assert "1,998,000 characters left out" in with_class(parse(path), "group")[0].text  # 4 · 500,000 − 2,000


def test_the_page_asks_for_nothing_from_outside(grpo_run: Path, parse: Callable):
    page = parse(build_report(grpo_run))
    (policy,) = [e for e in page if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert (policy.attributes["content"] or "").startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )
    links = [value for e in page for key, value in e.attributes.items() if key in ("href", "src", "srcset", "action")]
    assert links
    assert all(value and value.startswith("data:image/") for value in links)
    style = "".join(e.text for e in page if e.tag == "style")
    assert not re.search(r"url\(|@import", style)


def test_building_again_gives_the_same_page_and_leaves_nothing_else(grpo_run: Path):
    names = {path.name for path in grpo_run.iterdir()}
    first = build_report(grpo_run).read_bytes()
    assert build_report(grpo_run).read_bytes() == first
    assert {path.name for path in grpo_run.iterdir()} == names | {"report.html"}


def test_what_is_no_run_gets_no_page(tmp_path: Path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        build_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "fits", "short"),
    [
        pytest.param("one line", True, "one line", id="short"),
        pytest.param("two\nlines", False, "two lines", id="two lines"),
        pytest.param("x" * 111, False, "x" * 110 + "…", id="long line"),
    ],
)
def test_what_is_folded(text: str, fits: bool, short: str):
    shown = excerpt(text, 2000)
    assert (shown.fits, shown.short) == (fits, short)


def test_the_command_prints_the_pages_path(sft_run: Path, capsys: pytest.CaptureFixture[str]):
    parser = argparse.ArgumentParser()
    report_command.add_arguments(parser)
    assert report_command.run(parser.parse_args([str(sft_run)])) == 0
    assert capsys.readouterr().out == f"{sft_run / 'report.html'}\n"


def test_the_page_is_built_without_torch_and_the_command_line_without_pillow():
    light = "import sys, vlm_r1.cli.report; assert 'PIL' not in sys.modules"
    page = "import vlm_r1.report.build; assert 'torch' not in sys.modules"
    code = f"{light}; {page}"
    subprocess.run([sys.executable, "-c", code], check=True)
