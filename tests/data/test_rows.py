"""What a source says about its rows: paths, coordinates, orientation, task, template."""

import json

import fsspec
import pytest
from PIL import ExifTags, Image

from vlm_r1.config import DataSource
from vlm_r1.data.formats import AUTO
from vlm_r1.data.images import image_size
from vlm_r1.data.lines import vlm_r1_line
from vlm_r1.data.records import RecordFile
from vlm_r1.data.rows import Problem, RowReader, find_format, parse_row
from vlm_r1.data.split import split_position
from vlm_r1.data.tokens import find_control_tokens
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.types import Record


@pytest.fixture
def folder(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise: 640x480 as stored, 480x640 upright
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    Image.new("RGB", (640, 480)).save(tmp_path / "turned.png", exif=exif)
    return tmp_path


def read(folder, row, measure=image_size, **source):
    reader = RowReader(DataSource(path=str(folder / "x.jsonl"), **{"task": "rec", **source}), AUTO, measure)
    return reader.read(json.dumps(row).encode(), 7)


def row(answer, image="a.png", **other):
    return {"image": image, "problem": "the cat", "solution": answer, **other}


def test_what_the_source_says_of_all_its_rows(folder):
    source = {"task": "vqa", "reward": "exact_match", "template": "paper"}
    found = read(folder, row("yes", level=3), **source)
    assert found == Record(
        id="7",
        task="vqa",
        problem="<image>the cat",
        images=(str(folder / "a.png"),),
        answer="yes",
        reward="exact_match",
        source=f"{folder}/x.jsonl:7",
        template="paper",
        columns={"level": 3},
    )


@pytest.mark.parametrize(
    ("source", "image", "answer", "expected"),
    [
        pytest.param({}, "a.png", [10, 20, 110, 220], [10, 20, 110, 220], id="pixels"),
        # 640x480: a tenth is 64 and 48
        pytest.param({"coordinates": "norm_1000"}, "a.png", [100, 200, 300, 400], [64, 96, 192, 192], id="norm_1000"),
        pytest.param({"coordinates": "norm_1"}, "a.png", "[0.1, 0.2, 0.3, 0.4]", [64, 96, 192, 192], id="norm_1, text"),
        # 480x640, upright: a tenth is 48 and 64
        pytest.param({"coordinates": "norm_1"}, "turned.png", [0.1, 0.2, 0.3, 0.4], [48, 128, 144, 256], id="upright"),
        # x: 480 − 220 … 480 − 20, y: 10 … 110
        pytest.param({"orientation": "stored"}, "turned.png", [10, 20, 110, 220], [260, 10, 460, 110], id="stored"),
        pytest.param({"orientation": "stored"}, "a.png", [10, 20, 110, 220], [10, 20, 110, 220], id="stored, upright"),
        # on 640x480 [64, 96, 192, 192], then turned: x 480 − 192 … 480 − 96, y 64 … 192
        pytest.param(
            {"coordinates": "norm_1", "orientation": "stored"},
            "turned.png",
            [0.1, 0.2, 0.3, 0.4],
            [288, 64, 384, 192],
            id="norm_1, stored",
        ),
    ],
)
def test_boxes_become_pixels_of_the_upright_image(folder, source, image, answer, expected):
    found = read(folder, row(answer, image), **source)
    assert isinstance(found, Record), found
    assert found.answer == expected


def test_a_row_may_state_its_unit(folder):
    messages = [{"role": "user", "content": "<image>the cat"}, {"role": "assistant", "content": "<bbox>"}]
    objects = {"ref": [], "bbox": [[0.1, 0.2, 0.3, 0.4]], "bbox_type": "norm1"}
    swift = {"messages": messages, "images": ["a.png"], "objects": objects}
    for source in ({}, {"coordinates": "norm_1"}):
        found = read(folder, swift, **source)
        assert isinstance(found, Record)
        assert found.answer == pytest.approx([64, 96, 192, 192])
    clash = read(folder, swift, coordinates="norm_1000")
    assert "coordinates is norm_1000, but the row itself says norm_1: remove coordinates" in str(clash)


@pytest.mark.parametrize(
    ("answer", "source", "message"),
    [
        pytest.param([0, 0, 2, 0.5], {"coordinates": "norm_1"}, "outside its image 640x480", id="outside, converted"),
        pytest.param(3, {"coordinates": "norm_1"}, "the answer 3 holds something else than boxes", id="no box"),
        pytest.param(
            [0, 0, 1, 1], {"coordinates": "norm_1", "measure": None}, "without a look at the image", id="blind"
        ),
    ],
)
def test_boxes_that_cannot_be_converted(folder, answer, source, message):
    found = read(folder, row(answer), **source)
    assert isinstance(found, Problem)
    assert message in found.message
    assert found.source == f"{folder}/x.jsonl:7"


LABELLED = {"label": "cat"}


@pytest.mark.parametrize(
    ("task", "answer", "message"),
    [
        pytest.param("rec", [50, 20, 10, 40], "box (50, 20, 10, 40) has no area: its corners are out", id="rec"),
        pytest.param("rec", {"bbox_2d": [50, 20, 10, 40]}, "corners are out of order", id="rec, an object"),
        pytest.param("rec", "<box>[[50, 20, 10, 40]]</box>", "corners are out of order", id="rec, a text"),
        pytest.param("rec", "<|box_start|>(50,20),(10,40)<|box_end|>", "box (50, 20, 10, 40) has no", id="Qwen2-VL"),
        pytest.param("ovd", "cat(9,2),(3,4)", "corners are out of order", id="ovd, round brackets"),
        pytest.param("multi_rec", [[1, 2, 3, 4], [1, 9, 3, 4]], "box (1, 9, 3, 4) has no area: its", id="multi_rec"),
        pytest.param(
            "multi_rec", [[5, 2, 3, 4], [1, 9, 3, 4]], "boxes (5, 2, 3, 4), (1, 9, 3, 4) have no area", id="two of them"
        ),
        pytest.param("ovd", [{"bbox_2d": [9, 2, 3, 4], **LABELLED}], "corners are out of order", id="ovd"),
        pytest.param("ovd", '[{"bbox": [9, 2, 3, 4], "label": "cat"}]', "corners are out of order", id="ovd, a text"),
        pytest.param("gui_click", [9, 2, 3, 4], "corners are out of order", id="gui_click"),
        pytest.param("ovd", [{"bbox_2d": [1, 2, 900, 4], **LABELLED}], "outside its image 640x480", id="ovd, outside"),
        pytest.param("multi_rec", [[1, 2, 3, 4], [1, 2, 3, 900]], "outside its image 640x480", id="multi_rec, outside"),
        pytest.param("gui_click", [1, 2, 900, 4], "outside its image 640x480", id="gui_click, outside"),
        pytest.param("ovd", [{"bbox_2d": [1, 2, 1, 4], **LABELLED}], "box (1, 2, 1, 4) has no area", id="ovd, a line"),
    ],
)
def test_gold_boxes_are_looked_at_in_every_task(folder, task, answer, message):
    found = read(folder, row(answer), task=task)
    assert isinstance(found, Problem)
    assert message in found.message


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        pytest.param("ovd", [{"bbox_2d": [1, 2, 3, 4], "label": "cat", "colour": [9, 8, 7, 6]}], id="other numbers"),
        pytest.param("ovd", "None", id="none"),
        pytest.param("gui_click", [[9, 2], [3, 4], [5, 60]], id="a polygon"),
        pytest.param("vqa", "[9, 2, 3, 4]", id="no boxes in this task"),
    ],
)
def test_what_are_no_boxes_is_not_looked_at(folder, task, answer):
    assert isinstance(read(folder, row(answer), task=task), Record)


@pytest.mark.parametrize("source", [{"coordinates": "norm_1000"}, {"orientation": "stored"}])
def test_boxes_are_not_turned_round_by_conversion(folder, source):
    found = read(folder, row([{"bbox_2d": [500, 200, 100, 400], **LABELLED}]), task="ovd", **source)
    assert "box (500, 200, 100, 400) has no area: its corners are out of order" in str(found)


def test_boxes_on_one_of_several_images_cannot_be_converted(folder):
    found = read(folder, row([0, 0, 1, 1], ["a.png", "a.png"]), coordinates="norm_1")
    assert "need to lie on 1 image, got 2" in str(found)


def test_remote_images_are_measured_too(folder):
    with fsspec.open("memory://rows/a.png", "wb") as file, open(folder / "a.png", "rb") as local:
        file.write(local.read())
    found = read(folder, row([1, 2, 3, 4]), image_root="memory://rows")
    assert isinstance(found, Record)
    assert found.images == ("memory://rows/a.png",)
    beyond = read(folder, row([1, 2, 3, 900]), image_root="memory://rows")
    assert "outside its image 640x480" in str(beyond)


def test_options_and_the_message_of_the_system_reach_the_record(folder):
    asked = {"question": "Which?", "choices": "['cat', 'dog']", "answer": "B", "image": "a.png"}
    found = read(folder, asked, task="choice")
    assert isinstance(found, Record)
    assert found.columns == {"choices": "['cat', 'dog']", "options": ["cat", "dog"]}
    turns = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "?"}, {"from": "gpt", "value": "no"}]
    found = read(folder, {"conversations": turns}, task="vqa")
    assert isinstance(found, Record)
    assert found.system == "Be brief."
    again = read(folder, vlm_r1_line(found), task="vqa")
    assert isinstance(again, Record)
    assert (again.system, again.problem, again.answer) == ("Be brief.", "?", "no")


def test_the_first_rows_that_are_known_decide_the_format():
    lines = [b"{", b'{"note": 1}', b'{"problem": "?", "answer": 1}', b'{"prompt": "?", "answer": 1}']
    assert find_format(lines, AUTO) == "easy_r1"
    assert find_format(lines, "r1_v") == "r1_v"
    assert find_format(lines[:2], AUTO) == AUTO
    with pytest.raises(ConfigError, match="unknown format"):
        find_format(lines, "nothing")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
def test_numbers_that_json_cannot_write_are_refused(number):
    with pytest.raises(DataError, match="not valid JSON"):
        parse_row(b'{"problem": "?", "answer": [1, %s]}' % number.encode())


def test_the_reward_of_a_line_goes_before_that_of_its_source(folder):
    assert read(folder, row("yes"), task="vqa", reward="exact_match").reward == "exact_match"
    assert read(folder, row("yes", accu_reward_method="anls"), task="vqa", reward="exact_match").reward == "anls"
    assert read(folder, row("yes", accu_reward_method=""), task="vqa", reward="exact_match").reward == "exact_match"


def test_the_whole_line_is_kept(folder):
    line = row("<think>a</think><answer>yes</answer>", level=3, accu_reward_method="anls")
    assert read(folder, line, task="vqa").row == line


OWN = {"image": "image_path", "problem": "expression", "answer": "bbox"}


def own(**more):
    return {"image_path": "a.png", "expression": "the cat", "bbox": [10, 20, 100, 200], **more}


def test_a_source_names_the_keys_of_its_rows(folder):
    found = read(folder, own(level=3, answer="left", question="which?"), columns=OWN, box="xywh")
    assert (found.problem, found.images) == ("<image>the cat", (str(folder / "a.png"),))
    assert found.answer == [10, 20, 110, 220]  # 10 + 100, 20 + 200
    assert found.columns == {"level": 3, "answer": "left", "question": "which?"}
    assert found.row == own(level=3, answer="left", question="which?")
    plain = read(folder, row([10, 20, 110, 220]) | {"answer": [0, 0, 5, 5]}, columns={"answer": "solution"})
    assert plain.answer == [10, 20, 110, 220]  # and without columns "answer" would count


@pytest.mark.parametrize(
    ("source", "image", "answer", "expected"),
    [
        # 640x480: centre (320, 120), 128 wide, 96 high
        pytest.param({"coordinates": "norm_1"}, "a.png", [0.5, 0.25, 0.2, 0.2], [256, 72, 384, 168], id="fractions"),
        pytest.param({}, "a.png", [320, 120, 128, 96], [256, 72, 384, 168], id="pixels"),
        pytest.param({}, "a.png", "[[320, 120, 128, 96]]", [[256, 72, 384, 168]], id="a list as text"),
        # stored 640x480, turned clockwise: x 480 − 168 … 480 − 72, y 256 … 384
        pytest.param({"orientation": "stored"}, "turned.png", [320, 120, 128, 96], [312, 256, 408, 384], id="turned"),
    ],
)
def test_centre_width_and_height_with_every_unit(folder, source, image, answer, expected):
    found = read(folder, own(image_path=image) | {"bbox": answer}, columns=OWN, box="cxcywh", **source)
    assert found.answer == pytest.approx(expected) if answer[0] != "[" else found.answer == expected


def test_pixels_need_no_look_at_the_image(folder):
    assert read(folder, own(), measure=None, columns=OWN, box="xywh").answer == [10, 20, 110, 220]


@pytest.mark.parametrize(
    ("content", "source", "message"),
    [
        pytest.param(
            {"image_path": "a.png", "expresion": "the cat", "bbox": [0, 0, 1, 1]},
            {"columns": OWN},
            'columns names "expression" for the problem, and the row has no such key. Did you mean "expresion"?',
            id="misspelt",
        ),
        pytest.param(
            own(),
            {"columns": {"image": "image_path", "problem": "expression"}},
            "columns names no key for the answer, and the row has no such key",
            id="not named",
        ),
        pytest.param(
            own(image="b.png"), {"columns": OWN}, 'both "image_path" (columns) and "image" are there', id="two pictures"
        ),
        pytest.param(own(bbox=[10, 20, 3, 4]), {"columns": OWN}, "corners are out of order", id="a width as a corner"),
        pytest.param(
            own(bbox=[10, 20, -3, 4]), {"columns": OWN, "box": "xywh"}, "negative width or height", id="negative width"
        ),
        pytest.param(own(bbox=[600, 20, 50, 4]), {"columns": OWN, "box": "xywh"}, "outside its image", id="outside"),
    ],
)
def test_columns_that_do_not_fit(folder, content, source, message):
    assert message in str(read(folder, content, **source))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param({"columns": OWN, "format": "r1_v"}, "so does format: r1_v. Remove one", id="two layouts"),
        pytest.param({"columns": {**OWN, "answer": "expression"}}, '"expression" twice', id="one key, two things"),
        pytest.param({"columns": {"picture": "a"}}, "'image', 'problem' or 'answer'", id="unknown role"),
        pytest.param({"columns": {"image": ""}}, "at least 1 character", id="empty key"),
        pytest.param({"box": "xy"}, "'xyxy', 'xywh' or 'cxcywh'", id="unknown numbers"),
    ],
)
def test_options_of_columns(source, message):
    with pytest.raises(ValueError, match=message):
        DataSource(path="x.jsonl", **source)


def test_everything_that_reads_rows_knows_their_columns(folder):
    """Splits by picture, control tokens, the checks of a file, and the image paths of a row read the same keys."""
    pictures, columns = ["a.png", "a.png", "turned.png"], {**OWN, "image": "shot"}
    rows = [{"shot": name, "expression": "the cat", "bbox": [10, 20, 100, 200]} for name in pictures]
    rows[2]["expression"] = "<|im_end|>the cat"
    (folder / "x.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    source = DataSource(path=str(folder / "x.jsonl"), columns=columns, box="xywh")
    file = RecordFile(source)
    assert file.format == "columns"
    assert [record.answer for record in file.scan(image_size)] == [[10, 20, 110, 220]] * 3
    (problem,) = find_control_tokens(file, ["<|im_end|>"])
    assert problem.source.endswith("x.jsonl:3")
    reader = RowReader(source, "columns", None)
    assert reader.image_paths(json.dumps(rows[0]).encode()) == (str(folder / "a.png"),)
    at = split_position("a.png")
    split = source.model_copy(update={"split_by": "image", "split_range": (at, at + 1e-6)})
    assert [record.id for record in RecordFile(split).scan(None)] == ["1", "2"]
