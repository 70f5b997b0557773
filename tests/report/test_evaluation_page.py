"""The page of one evaluation: what it says, which pictures it reads, and that any damaged result still makes one."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from testing_browser import HOSTILE
from testing_evaluations import answered, write_evaluation_of
from vlm_r1.config.data import Allowed, DataSource
from vlm_r1.data.image_paths import image_paths
from vlm_r1.errors import DataError
from vlm_r1.evaluation.protocol import DataSet, Protocol
from vlm_r1.report import answers_page
from vlm_r1.report.answers_page import MAX_THUMBNAILS, images_beside
from vlm_r1.report.evaluation_page import build_evaluation_page, headline
from vlm_r1.report.evaluation_tables import class_rows, confusion_matrix, metric_rows, subset_tables
from vlm_r1.types import Group, Record

GOLD = [10, 10, 30, 30]


def rows_of(page: Path) -> dict[str, Any]:
    """What the page's script reads."""
    text = page.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="rows">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def boxes(n: int, folder: Path, picture: bool = True) -> list[Group]:
    """Answers to `rec` about pictures in a folder: the first ones fit, the last ones do not."""
    groups: list[Group] = []
    for index in range(n):
        path = folder / f"{index}.png"
        if picture:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 48), (index % 256, 90, 90)).save(path)
        record = Record(str(index), "rec", f"<image>thing {index}", (str(path),), GOLD, source=f"v.jsonl:{index + 1}")
        shift = round(30 * index / n)
        text = f"<think>t</think><answer>[{10 + shift}, 10, {30 + shift}, 30]</answer>"
        groups.append(answered(record, text))
    return groups


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return write_evaluation_of(tmp_path, "val", boxes(20, tmp_path / "images"))


def test_the_page_says_what_was_measured_and_shows_fixed_quantiles(result: Path, parse: Callable):
    page = build_evaluation_page(result)
    assert page == result.with_suffix(".html")
    elements = parse(page)
    # IoU of a box moved by s is (20 - s) / (20 + s): above 0.5 while s < 6.67, that is for 5 of the 20
    (said,) = [e.text for e in elements if e.has_class("headline")]
    assert said.replace("\xa0", " ").startswith("The box is right (IoU above 0.5) for 25.0 % of 20 records; with 95 %")
    assert [e.text for e in elements if e.has_class("place")] == [
        "best",
        "85 %",
        "70 %",
        "50 %",
        "25 %",
        "5 %",
        "worst",
    ]
    cards = [e for e in elements if e.has_class("record")]
    assert ["thing 0" in cards[0].text, "thing 19" in cards[-1].text] == [True, True]
    assert "IoU 1.00" in cards[0].text
    assert "no overlap" in cards[-1].text
    pictures = [e for e in elements if e.tag == "image"]
    assert len(pictures) == 7
    assert all(e.attributes["href"].startswith("data:image/png;base64,") for e in pictures)
    drawn = [e for e in elements if e.has_class("edge") and cards[-1] in e.ancestors]
    sides = [tuple(e.attributes[key] for key in ("x", "y", "width", "height")) for e in drawn]
    assert sides == [("10", "10", "20", "20"), ("38", "10", "20", "20")]  # the truth, then the answer
    assert "vlm-r1 eval checkpoints/small &#39;val set.jsonl&#39; --protocol refcoco" in page.read_text(
        encoding="utf-8"
    )


def test_all_rows_are_there_by_fault_and_the_failures_have_pictures(result: Path):
    data = rows_of(build_evaluation_page(result))
    assert data["groups"] == [["too little overlap", 8], ["no overlap", 7], ["right", 5]]
    assert data["closed"] == ["right"]
    by_group = [[row for row in data["rows"] if row["k"] == k] for k in range(3)]
    assert [len(rows) for rows in by_group] == [8, 7, 5]
    assert [all("u" in row for row in rows) for rows in by_group] == [True, True, False]
    assert [row["i"] for row in by_group[0]] == [str(index) for index in range(12, 4, -1)]  # the worst first
    assert by_group[0][0]["a"][0]["b"] == [[28, 10, 20, 20]]


def test_few_keys_as_of_an_evaluation_in_training_make_a_shorter_page(tmp_path: Path, parse: Callable):
    run = tmp_path / "run"
    path = write_evaluation_of(run / "eval", "after-val", boxes(3, run / "start" / "images"))
    (run / "config.yaml").write_text("seed: 1\n")
    known = ("name", "data", "task", "n", "seed", "metrics", "format_rate", "parse_failures")
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({key: tree[key] for key in known} | {"step": 120}))
    elements = parse(build_evaluation_page(path))
    facts = " ".join(e.text for e in elements if e.tag == "dd" and e.inside("facts"))
    assert "the run run" in facts
    assert "120" in facts
    assert any("The result holds no protocol" in e.text for e in elements)
    assert sum(e.tag == "image" for e in elements) == 3  # pictures below the run's folder are read
    assert not any(e.attributes.get("id") in ("classes", "subsets") for e in elements)


def test_tables_of_classes_subsets_and_confusion(tmp_path: Path, parse: Callable):
    groups = boxes(4, tmp_path)
    more = {
        "subsets": {"box_size": {"small": {"n": 3, "metrics": {"accuracy_iou50": {"mean": 0.5, "ci95": [0.2, 0.8]}}}}},
        "classes": [
            {"label": "cat", "gold": 5, "predicted": 4, "ap": 0.9, "ap50": 1.0, "precision": 1.0, "recall": 0.8},
            {"label": "dog", "gold": 2, "predicted": 9, "ap": 0.1, "ap50": 0.2, "precision": 0.1, "recall": 0.5},
        ],
        "confusion": [["cat", "cat", 4], ["cat", "dog", 1], [None, "dog", 7], ["dog", None, 1]],
        "dataset": {"ap": 0.5, "nms_ap": 0.4},
    }
    elements = parse(build_evaluation_page(write_evaluation_of(tmp_path, "val", groups, **more)))

    def cells(section: str) -> list[str]:
        return [e.text for e in elements if e.tag == "td" and e.inside(section)]

    assert cells("classes")[:14] == [
        *("dog", "2", "9", "0.100", "0.200", "0.100", "0.500"),
        *("cat", "5", "4", "0.900", "1.000", "1.000", "0.800"),
    ]
    # columns by how often a label occurs: dog 1 + 7 + 1, cat 4 + 1; then what was missed
    assert cells("classes")[14:] == ["0", "0", "1", "1", "4", "0", "7", "0", "0"]
    assert any(e.tag == "li" and e.text == "(not there) → dog: 7" for e in elements)
    subset = [text.split() for text in cells("subsets")]
    assert subset == [["small"], ["3"], ["50.0", "%20.0", "–", "80.0"], []]
    assert cells("numbers")[-3:] == ["AP", "0.500", "0.400"]


def test_only_pictures_below_allowed_folders_are_read(tmp_path: Path, parse: Callable):
    """Samples name any file of the disk; a link inside leads out too."""
    groups = boxes(3, tmp_path / "private")
    path = write_evaluation_of(tmp_path / "results", "val", groups)
    (tmp_path / "results" / "in.png").symlink_to(tmp_path / "private" / "0.png")
    lines = path.with_suffix(".samples.jsonl").read_text().splitlines()
    lines[0] = lines[0].replace(str(tmp_path / "private" / "0.png"), str(tmp_path / "results" / "in.png"))
    path.with_suffix(".samples.jsonl").write_text("\n".join(lines))
    page = build_evaluation_page(path)
    elements = parse(page)
    assert not [e for e in elements if e.tag == "image"]
    assert sum("outside of image_root" in e.text for e in elements if e.has_class("note")) == 3
    assert "data:image" not in page.read_text(encoding="utf-8").partition("<body>")[2]
    source = DataSource(path="x.jsonl", image_root=str(tmp_path / "results"))
    allowed = Allowed(allowed_local_media_path=[str(tmp_path / "private")])
    shown = parse(build_evaluation_page(path, image_paths(source, allowed)))  # control: allowed, they are shown
    assert sum(e.tag == "image" for e in shown) == 3


def test_a_result_in_no_run_opens_its_own_folder_alone(tmp_path: Path):
    assert not images_beside([tmp_path / "eval" / "val.json"]).is_inside(str(tmp_path / "a.png"))
    (tmp_path / "config.yaml").touch()
    assert images_beside([tmp_path / "eval" / "val.json"]).is_inside(str(tmp_path / "a.png"))


def test_a_missing_picture_and_a_remote_one_say_so(tmp_path: Path, parse: Callable):
    groups = boxes(2, tmp_path, picture=False)
    record = Record("r", "rec", "<image>x", ("https://example.org/a.png",), GOLD, source="v:3")
    groups.append(answered(record, "<think>t</think><answer>[0, 0, 5, 5]</answer>"))
    notes = [e.text for e in parse(build_evaluation_page(write_evaluation_of(tmp_path, "val", groups))) if e.tag == "p"]
    assert sum("image not found" in text for text in notes) == 2
    assert sum("are not allowed" in text for text in notes) == 1


@pytest.mark.parametrize(
    ("task", "gold", "text"),
    [
        ("choice", "A", "B"),
        ("counting", 3, "4"),
        ("math", "12", "13"),
        ("yes_no", "yes", "no"),
        ("gui_click", GOLD, "[1, 2]"),
    ],
)
def test_tasks_without_boxes_are_cards_of_text(tmp_path: Path, parse: Callable, task: str, gold: Any, text: str):
    picture = str(tmp_path / "a.png")
    Image.new("RGB", (64, 48), "white").save(picture)
    images = () if task == "math" else (picture,)
    marks = "<image>" * len(images)
    records = [Record(str(i), task, f"{marks}which, (A) x or (B) y?", images, gold, source=f"v:{i}") for i in range(2)]
    tagged = [f"<think>t</think><answer>{words}</answer>" for words in (text, str(gold))]
    path = write_evaluation_of(tmp_path, "val", [answered(r, t) for r, t in zip(records, tagged, strict=True)])
    elements = parse(build_evaluation_page(path))
    assert sum(e.has_class("record") for e in elements) == 2
    assert sum(e.tag == "image" for e in elements) == 2 * len(images)
    assert ("w" in rows_of(path.with_suffix(".html"))["rows"][0]) == bool(images)


def test_a_page_of_many_answers_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Rows beyond the bytes of a page are left out, which it says; thumbnails are counted over all faults."""
    groups = boxes(MAX_THUMBNAILS + 60, tmp_path)
    path = write_evaluation_of(tmp_path, "val", groups)
    data = rows_of(build_evaluation_page(path))
    assert len(data["rows"]) == len(groups)
    assert sum("u" in row for row in data["rows"]) == MAX_THUMBNAILS
    assert {row["k"] for row in data["rows"] if "u" in row} == {0, 1}
    monkeypatch.setattr(answers_page, "ROWS_BYTES", 10_000)
    few = build_evaluation_page(path)
    n_left = len(groups) - len(rows_of(few)["rows"])
    assert 20 < len(rows_of(few)["rows"]) < 100
    assert f"{n_left} more records have no row" in few.read_text(encoding="utf-8")


def test_a_huge_answer_is_cut_and_the_page_says_so(tmp_path: Path):
    record = Record("0", "counting", "how many?" * 1000, (), 3, source="v:1")
    path = write_evaluation_of(tmp_path, "val", [answered(record, "ab" * 500_000)])
    page = build_evaluation_page(path)
    assert page.stat().st_size < 100_000
    assert "998,000 characters left out" in page.read_text(encoding="utf-8")
    assert "999,760 characters left out" in rows_of(page)["rows"][0]["a"][0]["x"]


def test_hostile_text_is_shown_and_half_surrogates_are_written_out(tmp_path: Path, parse: Callable):
    record = Record(
        HOSTILE, "ovd", f"<image>{HOSTILE}", ("/nowhere.png",), [{"bbox_2d": GOLD, "label": HOSTILE}], source=HOSTILE
    )
    protocol = Protocol(name="x", title=HOSTILE, data=DataSet(set=HOSTILE, split=HOSTILE))
    group = answered(record, f"<think>{HOSTILE}\ud83d</think><answer>None</answer>")
    more = {"parse_failures": {HOSTILE: 1}, "classes": [{"label": HOSTILE}], "confusion": [[HOSTILE, None, 3]]}
    path = write_evaluation_of(
        tmp_path, "val", [group], protocol, subsets={HOSTILE: {HOSTILE: {"n": 1, "metrics": {}}}}, **more
    )
    page = build_evaluation_page(path)
    scripts = [e for e in parse(page) if e.tag == "script"]
    assert len(scripts) == 2
    assert "<script>document" not in page.read_text(encoding="utf-8").lower()
    assert "␀" in rows_of(page)["rows"][0]["q"]


DAMAGE: dict[str, Any] = {
    "metrics": [[], "x", {"a": 1}, {"a": {"mean": "x"}}, {"a": {"mean": 0.5, "ci95": [1]}}, {"a": {"mean": 1e400}}],
    "subsets": [
        [],
        {"a": []},
        {"a": {"b": {"n": "x", "metrics": 1}}},
        {"a": {"b": {"metrics": {"accuracy_iou50": 3}}}},
    ],
    "classes": [{}, [1], [{"label": 5, "ap": "x", "gold": []}]],
    "confusion": [{}, [1], [[1, 2]], [["a", "b", "c"]], [[None, None, 2]], [[1, [], 2]]],
    "dataset": [[], {"ap": "x"}, {"ap": {}}],
    "parse_failures": [[], {"a": "x"}],
    "lengths": [5, {"median": "x"}, {"median": 3}],
    "n": ["x", 10**300, -1, None],
    "step": ["x", 1.5],
    "protocol": [5, {"title": 5, "data": 5}, {"inclusive": True}],
    "provenance": [5, {"command": 5}, {"command": [1, None]}, {"model": 5}],
    "format_rate": ["x", None, []],
    "name": [5, "", "x" * 10**5],
    "data": [5, [], None],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in DAMAGE.items() for value in values], ids=str
)
def test_values_of_other_kinds_are_left_out(result: Path, key: str, value: Any):
    tree = json.loads(result.read_text())
    result.write_text(json.dumps(tree | {key: value}))
    page = build_evaluation_page(result).read_text(encoding="utf-8")
    assert page.endswith("</html>")
    assert len(page) < 10**6


@pytest.mark.parametrize("key", ["metrics", "n", "name", "task", "parse_failures", "step"])
def test_missing_keys_are_left_out(result: Path, key: str):
    tree = json.loads(result.read_text())
    del tree[key]
    result.write_text(json.dumps(tree))
    assert build_evaluation_page(result).read_text(encoding="utf-8").endswith("</html>")


def test_missing_samples_are_an_error_that_names_the_file(result: Path):
    result.with_suffix(".samples.jsonl").unlink()
    with pytest.raises(DataError, match=r"val\.samples\.jsonl: cannot be read"):
        build_evaluation_page(result)


def test_no_samples_make_a_page_that_says_so(result: Path):
    result.with_suffix(".samples.jsonl").write_text("")
    assert "There are no answers" in build_evaluation_page(result).read_text(encoding="utf-8")


def test_secrets_of_a_command_are_masked(result: Path):
    tree = json.loads(result.read_text())
    tree["provenance"] |= {"command": ["vlm-r1", "eval", "--api-key", "S3CRET"], "note": "api_key=S3CRET"}
    tree["data"] = "https://me:S3CRET@example.org/a.jsonl"
    result.write_text(json.dumps(tree))
    assert "S3CRET" not in build_evaluation_page(result).read_text(encoding="utf-8")


def test_the_sentence_follows_the_protocol():
    tree = {"n": 5, "metrics": {"accuracy_iou50": {"mean": 0.2}}, "protocol": {"inclusive": True}}
    assert headline(tree) == "The box is right (IoU of at least 0.5) for 20.0\xa0% of 5 records."
    assert headline({"metrics": {}}) == "The result holds no metric."


def test_the_matrix_has_the_most_frequent_labels():
    rng = random.Random(0)
    triples = [[f"label {i}", f"label {rng.randrange(40)}", i] for i in range(40)]
    matrix = confusion_matrix(triples)
    assert matrix is not None
    assert (matrix.n_labels, len(matrix.columns)) == (40, 13)
    assert matrix.rows[0][0] == matrix.columns[0]
    assert all(
        abs(sum(share for _, share in cells) - 1) < 1e-9 or not any(n for n, _ in cells) for _, cells in matrix.rows
    )


def test_rows_of_tables():
    metrics = {"accuracy_iou50": {"mean": 0.5, "ci95": [0.4, 0.6], "n": 10}, "bad": {}, "iou": {"mean": 0.25}}
    assert [(row.name, row.n, row.value.text, row.value.interval) for row in metric_rows(metrics)] == [
        ("accuracy at IoU 0.5", "10", "50.0\xa0%", "40.0 – 60.0"),
        ("mean IoU", "", "0.250", ""),
    ]
    (table,) = subset_tables({"kind": {str(i): {"n": i, "metrics": metrics} for i in range(50)}}, "iou")
    assert (len(table.rows), table.left_out) == (40, 10)
    assert [
        row.label for row in class_rows([{"label": "b", "ap": 0.2}, {"label": "c"}, {"label": "a", "ap": 0.2}])
    ] == ["a", "b", "c"]
