"""Reading annotation files, and errors that name file and key path."""

import pytest

from vlm_r1.converters.files import read_json, take, take_numbers
from vlm_r1.errors import DataError


@pytest.mark.parametrize(
    ("row", "key", "kind", "message"),
    [
        pytest.param({"id": 1}, "bbox", list, "a.json: annotations[3].bbox: missing, got the keys id; wanted a list"),
        pytest.param({"bbox": "x"}, "bbox", list, "a.json: annotations[3].bbox: got 'x', wanted a list"),
        pytest.param({"n": 1.5}, "n", int, "annotations[3].n: got 1.5, wanted an integer", id="no integer"),
        pytest.param({"n": True}, "n", int, "annotations[3].n: got True, wanted an integer", id="a truth value"),
        pytest.param({"n": float("nan")}, "n", float, "annotations[3].n: got nan, wanted a number", id="NaN"),
        pytest.param({"n": None}, "n", None, "got None, wanted an integer or a text", id="no id"),
        pytest.param([1], "n", int, "annotations[3]: got [1], wanted an object with the key 'n'", id="no object"),
    ],
)
def test_wrong_values_are_named(row, key, kind, message):
    with pytest.raises(DataError) as error:
        take(row, key, kind, "a.json", "annotations", 3)
    assert str(error.value).endswith(message)


def test_right_values_pass():
    row = {"a": 3, "b": "x", "c": [1, 2.5]}
    assert (take(row, "a", float, "f"), take(row, "a", None, "f"), take(row, "b", None, "f")) == (3, 3, "x")
    assert take_numbers(row, "c", 2, "f") == [1, 2.5]


@pytest.mark.parametrize("values", [[1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, True], [1, 2, 3, float("inf")]])
def test_other_than_four_numbers(values):
    with pytest.raises(DataError, match=r"f: bbox: got .*, wanted 4 numbers"):
        take_numbers({"bbox": values}, "bbox", 4, "f")


def test_what_is_forgotten_is_gone_at_any_depth(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"annotations": [{"id": 1, "segmentation": [[1, 2]]}]}')
    forgetful = read_json(path, slim=lambda row: {key: row[key] for key in row if key != "segmentation"})
    assert forgetful == {"annotations": [{"id": 1}]}
    assert read_json(path) == {"annotations": [{"id": 1, "segmentation": [[1, 2]]}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"{", "not valid JSON", id="cut off"),
        pytest.param(b"[" * 100_000, "not valid JSON", id="nested without end"),
        pytest.param(b'"\xff"', "not valid JSON", id="not UTF-8"),
        pytest.param(None, "cannot read the file: No such file", id="missing"),
    ],
)
def test_unreadable_files(tmp_path, content, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_json(path)
    assert str(error.value).startswith(str(path))


def test_a_byte_order_mark_is_taken_off(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(path) == [1]
