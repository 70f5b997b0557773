"""A `.json` file that is one object: its list of rows is read, it is a row itself, or one sentence says what it is."""

import json
from pathlib import Path

import pytest
from PIL import Image

from vlm_r1.data.jsonl import find_rows, read_jsonl, scan_jsonl
from vlm_r1.data.rows import Problem
from vlm_r1.errors import DataError, brief

SHARED = Path(__file__).resolve().parents[2] / "../shared"
ROW = {"problem": "the red square", "solution": [40, 30, 80, 60], "image": "a.jpg"}
TURNS = [{"from": "human", "value": "<image>the square"}, {"from": "gpt", "value": [40, 30, 80, 60]}]
CHAT = [{"role": "user", "content": "<image>how many?"}, {"role": "assistant", "content": "3"}]


@pytest.fixture
def json_text(tmp_path):
    """`json_text("…")`: a file a.json of that text, beside the picture a.jpg."""
    Image.new("RGB", (160, 120)).save(tmp_path / "a.jpg")

    def write(text: str, mark: str = "") -> str:
        (tmp_path / "a.json").write_text(mark + text, encoding="utf-8")
        return str(tmp_path / "a.json")

    return write


OBJECTS = [
    pytest.param({"data": [ROW, {**ROW, "id": "é"}]}, [ROW, {**ROW, "id": "é"}], id="a list under data"),
    pytest.param({"version": "[{", "é": [ROW], "n": [1, 2], "none": []}, [ROW], id="beside other values"),
    pytest.param({"id": 1, "image": "a.jpg", "conversations": TURNS}, "itself", id="one row, which holds turns"),
    pytest.param({"messages": CHAT, "images": ["a.jpg"]}, "itself", id="one row, a chat"),
    pytest.param({"problem": "1 + 1?", "answer": 2}, "itself", id="one row without lists"),
    pytest.param({"conversations": [ROW]}, [ROW], id="rows under the key of a format"),
]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(("value", "rows"), OBJECTS)
def test_one_object(json_text, value, rows, indent, mark):
    """The numbers are those of the items, as in a list."""
    offsets = find_rows(json_text(f"\n {json.dumps(value, indent=indent, ensure_ascii=False)}\n\n", mark))
    rows = [value] if rows == "itself" else rows
    assert [json.loads(line) for line in offsets.lines()] == rows
    assert offsets.numbers_N.tolist() == list(range(1, len(rows) + 1))


def test_a_bad_item_is_named_by_its_number(json_text):
    path = json_text(json.dumps({"data": [ROW, {**ROW, "image": "b.jpg"}, ROW]}, indent=2))
    records, problems = scan_jsonl(path, task="rec")
    assert [record.source for record in records] == [f"{path}:1", f"{path}:3"]
    assert [problem.source for problem in problems] == [f"{path}:2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            json.dumps({"accuracy": 0.5, "results": {"a": 1}}, indent=2),
            "this is one JSON object with the keys accuracy, results; wanted a list of rows, alone or as the one list "
            "of objects under a key",
            id="no list",
        ),
        pytest.param(
            json.dumps({"train": [ROW], "test": [ROW]}, indent=2),
            "this is one JSON object with the keys train, test; wanted a list of rows, alone or as the one list of "
            "objects under a key, and here are several: train, test",
            id="two lists",
        ),
        pytest.param(
            json.dumps({"images": [{"id": 1}], "annotations": [{"id": 1}], "categories": []}, indent=2),
            "this is one JSON object with the keys images, annotations, categories; wanted a list of rows, alone or as "
            "the one list of objects under a key. Annotation files are read by vlm-r1 data convert",
            id="COCO",
        ),
        pytest.param(
            json.dumps(dict.fromkeys("abcdefghijk", 1), indent=2),
            "this is one JSON object with the keys a, b, c, d, e, f, g, h, …; wanted a list",
            id="many keys",
        ),
        pytest.param(json.dumps({"k" * 10_000: 1}), "this is one JSON object with the keys kkkk", id="a long key"),
        pytest.param('{\n "data": [\n  {"a": 1},\n  {"a" 2}\n ]\n}', "not valid JSON: Expecting ':'", id="broken"),
        pytest.param('{\n "data": [\n', "not valid JSON: Expecting value", id="cut off"),
        pytest.param('{\n "a": 1,\n 2: 3\n}', "not valid JSON: no key and colon at character", id="a number as key"),
        pytest.param('{\n "a": 1\n "b": 2\n}', "not valid JSON: no comma or } at character", id="no comma"),
        pytest.param(
            '{\n "a": 1\n}\n{\n "a": 2\n}', "more stands behind the first JSON object, at line 4. Wanted", id="several"
        ),
        pytest.param("{}", "this is one JSON object with the keys (none); wanted", id="empty"),
        pytest.param(
            f"[{json.dumps(ROW)}]\n[{json.dumps(ROW)}]", "more stands behind the first JSON list, at line 2", id="lists"
        ),
        pytest.param(f"[{json.dumps(ROW)}] x", "more stands behind the first JSON list, at line 1. Wanted", id="rest"),
        pytest.param('{"a": ' * 100_000, "not valid JSON: ", id="nested too deep"),
    ],
)
def test_one_error_for_the_file(json_text, text, message):
    path = json_text(text)
    _, problems = scan_jsonl(path, task="rec")
    assert [problem.source for problem in problems] == [path]
    assert problems[0].message.startswith(message)
    assert len(problems[0].message) < 400


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([ROW, ROW], id="objects on lines"),
        pytest.param(['{"problem": "?"', ROW, ROW], id="the first is broken"),
        pytest.param([ROW, '{"problem": "?"', ROW], id="the second is broken"),
    ],
)
def test_lines_stay_lines(json_text, lines):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    assert find_rows(json_text(text)).numbers_N.tolist() == list(range(1, len(lines) + 1))


def test_the_case_that_was_handed_in():
    path = SHARED / "cases" / "json-object-with-data-list" / "rows.json"
    if not path.exists():
        pytest.skip("shared cases are not here")
    assert [record.answer for record in read_jsonl(path, task="rec")] == [[40, 30, 80, 60]] * 2


DATA_URI = "data:image/png;base64," + "iVBORw0KGgo" * 100_000


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({**ROW, "image": "gone/" + DATA_URI}, id="as a path"),
        pytest.param({**ROW, "problem": DATA_URI, "image": 3}, id="as a question"),
        pytest.param({DATA_URI: 1}, id="as a key"),
        pytest.param({**ROW, "solution": DATA_URI, "image": None, "images": [DATA_URI, 3]}, id="in a list"),
        pytest.param({**ROW, "image": "\n".join("a" * 76 for _ in range(10_000))}, id="in lines"),
    ],
)
def test_a_long_value_never_prints_itself(json_text, row):
    _, problems = scan_jsonl(json_text(json.dumps([row])), task="rec")
    (problem,) = problems
    assert len(str(problem)) < 1500
    assert "\n" not in problem.message


@pytest.mark.parametrize(
    ("text", "short"),
    [
        pytest.param("a.jpg: not found. Check it", "a.jpg: not found. Check it", id="as it is"),
        pytest.param("a\n  b\t", "a b", id="one line"),
        pytest.param("see " + "x" * 401, f"see {'x' * 40}… (401 characters)", id="a long word"),
        pytest.param("x" * 400, "x" * 400, id="as long as a path may be"),
        pytest.param("ab " * 400, f"{('ab ' * 400)[:1000]}… (1,199 characters)", id="many words"),
    ],
)
def test_brief(text, short):
    assert brief(text) == short
    assert Problem("a", text).message == short


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        pytest.param("sub\\a.jpg", "sub/a.jpg", id="Windows"),
        pytest.param("cafe\u0301.jpg", "caf\u00e9.jpg", id="decomposed in the file"),
        pytest.param("caf\u00e9.jpg", "cafe\u0301.jpg", id="decomposed on the disk"),
        pytest.param("back\\slash.jpg", "back\\slash.jpg", id="as it is, where there is such a file"),
    ],
)
def test_paths_of_other_systems(tmp_path, written, on_disk):
    (tmp_path / on_disk).parent.mkdir(exist_ok=True)
    Image.new("RGB", (160, 120)).save(tmp_path / on_disk)
    (tmp_path / "a.json").write_text(json.dumps([{**ROW, "image": written}]), encoding="utf-8")
    (record,) = read_jsonl(tmp_path / "a.json", task="rec")
    assert record.images == (str(tmp_path / on_disk),)


def test_a_path_that_is_nowhere_is_told_as_it_is_written(json_text):
    with pytest.raises(DataError, match=r"sub\\b.jpg: image not found"):
        read_jsonl(json_text(json.dumps([{**ROW, "image": "sub\\b.jpg"}])), task="rec")


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSON", "a.txt"])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("value", [[ROW, {**ROW, "id": 2}], {"data": [ROW, ROW]}])
def test_one_value_under_another_name(tmp_path, name, indent, value):
    (tmp_path / name).write_text(json.dumps(value, indent=indent), encoding="utf-8")
    rows = value if isinstance(value, list) else value["data"]
    one_line_of_an_object = isinstance(value, dict) and indent is None and not name.lower().endswith(".json")
    expected = [value] if one_line_of_an_object else rows
    assert [json.loads(line) for line in find_rows(str(tmp_path / name)).lines()] == expected


@pytest.mark.parametrize("first", ["[1, 2]", '{"problem": "?"', "[", "{"])
def test_lines_under_another_name_stay_lines(tmp_path, first):
    (tmp_path / "a.jsonl").write_text(f"{first}\n{json.dumps(ROW)}\n", encoding="utf-8")
    assert find_rows(str(tmp_path / "a.jsonl")).numbers_N.tolist() == [1, 2]
