"""The VLM-R1 line format: what is read, and what each bad line says."""

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from vlm_r1.data.jsonl import find_rows, iter_jsonl, read_jsonl, scan_jsonl
from vlm_r1.data.rows import Problem
from vlm_r1.errors import DataError
from vlm_r1.types import Record

SHARED = Path(__file__).resolve().parents[2] / "../shared"


def line(**changes):
    """A good line about a.png, with keys replaced, or dropped where the new value is `...`."""
    row = {
        "id": 1,
        "image": "a.png",
        "conversations": [{"from": "human", "value": "<image>the cat"}, {"from": "gpt", "value": [10, 20, 110, 220]}],
    } | changes
    return json.dumps({key: value for key, value in row.items() if value is not ...})


def asked(question, answer):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    Image.new("RGB", (32, 16)).save(tmp_path / "b.png")
    (tmp_path / "broken.png").write_bytes(b"this is no image")
    return tmp_path


def written(folder, *lines):
    path = folder / "train.jsonl"
    path.write_bytes(b"".join((text if isinstance(text, bytes) else text.encode()) + b"\n" for text in lines))
    return path


def read_one(folder, text, **options):
    (record,) = read_jsonl(written(folder, text), **{"task": "vqa", **options})
    return record


def test_a_line_becomes_a_record(folder):
    path = written(folder, line(id=17, accu_reward_method="iou", difficulty={"is": 0.5}))
    assert read_jsonl(path, task="rec") == [
        Record(
            id="17",
            task="rec",
            problem="<image>the cat",
            images=(str(folder / "a.png"),),
            answer=[10, 20, 110, 220],
            thought=None,
            reward="iou",
            source=f"{path}:1",
            columns={"difficulty": {"is": 0.5}},
        )
    ]


@pytest.mark.parametrize(
    ("question", "images", "problem"),
    [
        pytest.param("<image>who?", "a.png", "<image>who?", id="one image"),
        pytest.param("who? <image>", ["a.png"], "who? <image>", id="list of one, mark elsewhere"),
        pytest.param("<image> or <image>?", ["a.png", "b.png"], "<image> or <image>?", id="two images"),
        pytest.param("same?", ["a.png", "b.png"], "<image><image>same?", id="no marks: images come first"),
        pytest.param("1 + 1?", ..., "1 + 1?", id="no image key"),
        pytest.param("1 + 1?", None, "1 + 1?", id="image null"),
        pytest.param("1 + 1?", [], "1 + 1?", id="empty list"),
    ],
)
def test_images_and_their_marks(folder, question, images, problem):
    record = read_one(folder, line(image=images, conversations=asked(question, "yes")))
    names = images if isinstance(images, list) else [images] if isinstance(images, str) else []
    assert record.problem == problem
    assert record.images == tuple(str(folder / name) for name in names)


@pytest.mark.parametrize(
    ("value", "thought", "answer"),
    [
        pytest.param("No Defect", None, "No Defect", id="text"),
        pytest.param(" <answer> 7 </answer> ", None, "7", id="answer tags"),
        pytest.param("<think>two ears</think><answer>cat</answer>", "two ears", "cat", id="thought and answer"),
        pytest.param("[0, 1)", None, "[0, 1)", id="text that only looks like a list"),
        pytest.param(3, None, 3, id="integer"),
        pytest.param(0, None, 0, id="zero is an answer"),
        pytest.param(0.5, None, 0.5, id="number"),
        pytest.param([1, 2, 3, 4], None, [1, 2, 3, 4], id="list"),
        pytest.param([], None, [], id="empty list: nothing to detect"),
        pytest.param({"a": [1]}, None, {"a": [1]}, id="object"),
    ],
)
def test_answers(folder, value, thought, answer):
    record = read_one(folder, line(conversations=asked("<image>?", value)))
    assert (record.thought, record.answer) == (thought, answer)
    assert type(record.answer) is type(answer)


@pytest.mark.parametrize(
    ("row", "default", "reward"),
    [
        pytest.param({}, None, None, id="the task's own"),
        pytest.param({}, "mcq", "mcq", id="the file's"),
        pytest.param({"accu_reward_method": "iou"}, "mcq", "iou", id="the line's goes first"),
    ],
)
def test_reward_of_the_line_goes_before_the_files(folder, row, default, reward):
    assert read_one(folder, line(**row), reward=default).reward == reward


def test_image_root_and_absolute_paths(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = written(elsewhere, line(), line(image=str(folder / "b.png")))
    first, second = read_jsonl(path, image_root=folder, task="vqa")
    assert first.images == (str(folder / "a.png"),)
    assert second.images == (str(folder / "b.png"),)


def test_blank_lines_a_byte_order_mark_and_repeated_or_missing_ids(folder):
    path = written(folder, b"\xef\xbb\xbf" + line().encode(), "", "  ", line(), line(id=...))
    records = read_jsonl(path, task="rec")
    assert [record.id for record in records] == ["1", "1", "5"]
    assert [record.source for record in records] == [f"{path}:1", f"{path}:4", f"{path}:5"]


BAD_LINES = [
    pytest.param(line(image="gone.png"), "FOLDER/gone.png: image not found. Check image_root", id="missing image"),
    pytest.param(line(image="broken.png"), "FOLDER/broken.png: not an image of a known format. ", id="broken image"),
    pytest.param(
        '{"id": 1, "image"',
        "not valid JSON: Expecting ':' delimiter at column 18. Wanted one JSON object",
        id="bad JSON",
    ),
    pytest.param('{"id": NaN}', "not valid JSON: NaN is not a number of JSON", id="NaN"),
    pytest.param('{"id": "\\ud800"}', "not valid JSON: 'utf-8' codec can't encode", id="half a surrogate pair"),
    pytest.param("[" * 100_000, "not valid JSON: ", id="nested too deep"),
    pytest.param('{"id": ' + "1" * 5000 + "}", "not valid JSON: Exceeds the limit", id="integer too long"),
    pytest.param('{"id": "café"}'.encode("latin-1"), "not UTF-8: byte 0xe9 at position 11", id="not UTF-8"),
    pytest.param("[1, 2]", "got [1, 2], wanted a JSON object", id="not an object"),
    pytest.param(
        line(conversations=...),
        "the keys id, image do not fit format vlm_r1, which wants conversations. Known: vlm_r1, vlm_r1_eval, ",
        id="no turns",
    ),
    pytest.param(line(conversations="hi"), '"conversations" is "hi", wanted turns', id="turns are a text"),
    pytest.param(line(conversations=["hi", 3]), '"conversations" is ["hi", 3], wanted turns', id="turns are texts"),
    pytest.param(line(conversations=asked("<image>?", 1)[:1]), '"conversations" is [{"from": "human"', id="no answer"),
    pytest.param(line(conversations=asked("<image>?", 1)[:1] * 2), "wanted turns", id="two questions in a row"),
    pytest.param(line(conversations=asked(["?"], 1)), 'the question is ["?"], wanted a text', id="question a list"),
    pytest.param(
        line(conversations=[{"from": "human"}, {"from": "gpt"}]), 'the human turn has no "value"', id="no value"
    ),
    pytest.param(line(conversations=asked("<image>?", None)), "there is no answer; wanted a text", id="null answer"),
    pytest.param(line(conversations=asked("<image>?", "<answer> </answer>")), "there is no answer", id="empty answer"),
    pytest.param(line(image=3), '"image" is 3, wanted a path, a list of paths, or no such key', id="image is a number"),
    pytest.param(line(image=[""]), '"image" is [""], wanted a path', id="empty path"),
    pytest.param(line(image=["a.png", "b.png"]), "1 <image> in the question for 2 images; wanted", id="too few marks"),
    pytest.param(line(image=...), "1 <image> in the question for 0 images; wanted", id="mark without image"),
    pytest.param(line(accu_reward_method=2), '"accu_reward_method" is 2, wanted the name', id="reward is a number"),
    pytest.param(
        line(conversations=asked("<image>cat", [10, 20, 700, 220])),
        "box (10, 20, 700, 220) outside its image 640x480; wanted",
        id="box right of its image",
    ),
    pytest.param(
        line(conversations=asked("<image>cat", [10, -2, 70, 220])), "box (10, -2, 70, 220) outside", id="box above"
    ),
    pytest.param(
        line(conversations=asked("<image>cat", "<think>a</think><answer>[1, 2, 3, 482]</answer>")),
        "box (1, 2, 3, 482) outside its image 640x480",
        id="box in a text",
    ),
    pytest.param(
        line(conversations=asked("<image>cat", [110, 20, 10, 220])), "box (110, 20, 10, 220) has no area", id="reversed"
    ),
]


@pytest.mark.parametrize(("bad", "message"), BAD_LINES)
def test_bad_line(folder, bad, message):
    path = written(folder, line(), bad, line())
    records, problems = scan_jsonl(path, task="rec")
    assert [record.source for record in records] == [f"{path}:1", f"{path}:3"]
    (problem,) = problems
    assert str(problem).startswith(f"{path}:2: ")
    assert message.replace("FOLDER", str(folder)) in problem.message
    with pytest.raises(DataError) as raised:
        read_jsonl(path, task="rec")
    assert str(raised.value) == str(problem)


@pytest.mark.parametrize(
    "box",
    [
        pytest.param([0, 0, 640, 480], id="the whole image"),
        pytest.param([-1, -1, 641, 481], id="one pixel over"),
        pytest.param(["a", "b", "c", "d"], id="no numbers: the task's to judge"),
        pytest.param([1, 2, 3], id="three numbers: the task's to judge"),
    ],
)
def test_box_that_passes(folder, box):
    assert read_one(folder, line(conversations=asked("<image>cat", box)), task="rec").answer == box


def test_box_of_another_task_is_not_the_readers_business(folder):
    assert read_one(folder, line(conversations=asked("<image>cat", [9, 9, 900, 900])), task="vqa")


@pytest.mark.parametrize("content", [pytest.param(b"", id="no bytes"), pytest.param(b"\n \n", id="blank lines")])
def test_empty_file(tmp_path, content):
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"empty\.jsonl: holds no records; wanted one JSON object on each line"):
        read_jsonl(path, task="rec")


@pytest.mark.parametrize(
    ("name", "reason"),
    [pytest.param("gone.jsonl", "No such file", id="missing"), pytest.param(".", "Is a directory", id="a folder")],
)
def test_file_that_cannot_be_read(tmp_path, name, reason):
    with pytest.raises(DataError, match=f"cannot read the data file: {reason}"):
        read_jsonl(tmp_path / name, task="rec")


def test_a_message_that_repeats_is_said_once_with_its_number(folder):
    path = written(folder, *["{"] * 23)
    with pytest.raises(DataError) as raised:
        read_jsonl(path, task="rec")
    first, others = str(raised.value).splitlines()
    assert first.startswith(f"{path}:1: not valid JSON")
    assert others == "    and 22 more with the same message: lines 2, 3, 4, 5, 6, …"


def test_each_image_is_measured_once_and_its_error_told_for_each_record(folder):
    measured = []

    def measure(path, access):
        measured.append(path)
        raise DataError("bad image")

    path = written(folder, line(), line())
    found = list(iter_jsonl(path, image_root="", task="rec", reward=None, measure=measure))
    assert found == [Problem(f"{path}:1", "bad image"), Problem(f"{path}:2", "bad image")]
    assert measured == [str(folder / "a.png")]


def test_without_measure_no_image_is_looked_at(folder):
    path = written(folder, line(image="gone.png"))
    (record,) = iter_jsonl(path, image_root="", task="rec", reward=None, measure=None)
    assert isinstance(record, Record)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["from", "value", "x"]), inner),
    max_leaves=8,
)
rows = st.fixed_dictionaries({}, optional=dict.fromkeys(json.loads(line()), json_values)) | json_values


@given(
    st.lists(st.binary(max_size=20).filter(lambda raw: b"\n" not in raw) | rows.map(lambda r: json.dumps(r).encode()))
)
def test_every_line_gives_one_record_or_one_problem(tmp_path_factory, lines):
    assume(not _is_list(b"\n".join(lines)))  # which is read as one: test_json_files.py
    path = tmp_path_factory.getbasetemp() / "property.jsonl"
    path.write_bytes(b"\n".join(lines))
    found = list(iter_jsonl(path, image_root="", task="rec", reward=None, measure=lambda _: (10, 10)))
    stripped = [raw.removeprefix(b"\xef\xbb\xbf") if i == 0 else raw for i, raw in enumerate(lines)]
    assert len(found) == max(1, sum(bool(raw.strip()) for raw in stripped))


def _is_list(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return False


ROWS = [{"id": "é"}, {"id": 2, "a": ["]", {"b": "[,"}]}, {"id": "日本"}]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("mark", [pytest.param("", id="plain"), pytest.param("\ufeff", id="byte order mark")])
def test_places_in_a_json_list(tmp_path, indent, ascii_only, mark):
    path = tmp_path / "a.json"
    path.write_text(mark + "\n " + json.dumps(ROWS, indent=indent, ensure_ascii=ascii_only) + "\n", encoding="utf-8")
    offsets = find_rows(str(path))
    assert [json.loads(line) for line in offsets.lines()] == ROWS
    assert json.loads(offsets.line(2)) == ROWS[2]
    assert offsets.numbers_N.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("[]", "holds no records", id="empty"),
        pytest.param("[{}, {]", "not valid JSON: Expecting property name", id="broken item"),
        pytest.param("[{} {}]", "not valid JSON: no comma or ] at character 4", id="no comma"),
        pytest.param("[{}, {}", "not valid JSON: no comma or ] at character 7", id="never closed"),
        pytest.param("[" * 100_000, "not valid JSON: ", id="nested too deep"),
    ],
)
def test_broken_json_list(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_jsonl(path, task="rec")
    assert str(raised.value).startswith(f"{path}: {message}")


def test_lines_in_a_file_that_is_named_json(folder):
    lines = written(folder, line(id="a"), line(id="b"))
    path = lines.rename(folder / "train.json")
    assert [record.id for record in read_jsonl(path, task="rec")] == ["a", "b"]


@given(st.lists(st.binary(max_size=12).filter(lambda raw: not set(raw) & {10})))
def test_places_of_lines_are_those_of_reading_line_by_line(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "places.jsonl"
    path.write_bytes(b"{}\n" + b"\n".join(lines))
    offsets = find_rows(str(path))
    expected = {1 + i: raw for i, raw in enumerate([b"{}", *lines]) if raw.strip()}
    found = [raw.removesuffix(b"\n") for raw in offsets.lines()]
    assert dict(zip(offsets.numbers_N.tolist(), found, strict=True)) == expected


def test_a_real_file_of_the_original_repository():
    path = SHARED / "reference/gui_multi-image.jsonl"
    if not path.exists():
        pytest.skip("the reference files are not here")
    records = list(iter_jsonl(path, image_root="", task="vqa", reward=None, measure=None))
    assert len(records) == 1797
    assert all(isinstance(r, Record) and len(r.images) == 2 for r in records)
    assert all(r.problem.startswith("<image><image>You are tasked") for r in records)
    assert {r.answer for r in records} == {"Operation No Response", "Unexpected Task Result"}
