import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.metrics_log import append_metrics, read_metrics, truncate_after


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def rows(n: int) -> list[dict[str, float | str]]:
    return [{"step": step, "stage": "grpo", "loss": step / 4} for step in range(1, n + 1)]


def test_what_is_appended_is_read_back_in_order(path: Path):
    for row in rows(3):
        append_metrics(path, row)
    assert read_metrics(path) == rows(3)
    assert path.read_text().splitlines()[0] == '{"step": 1, "stage": "grpo", "loss": 0.25}'


def test_numbers_that_are_not_finite_are_strict_json_null_and_read_as_nan(path: Path):
    append_metrics(path, {"step": 1, "loss": math.nan, "grad_norm": math.inf})
    assert json.loads(path.read_text()) == {"step": 1, "loss": None, "grad_norm": None}
    row = read_metrics(path)[0]
    assert math.isnan(float(row["loss"]))
    assert math.isnan(float(row["grad_norm"]))


@given(cut=st.integers(min_value=0, max_value=60))
def test_a_file_cut_anywhere_reads_as_the_whole_lines_before_the_cut(tmp_path_factory, cut: int):
    path = tmp_path_factory.mktemp("cut") / "metrics.jsonl"
    lines = [json.dumps(row) + "\n" for row in rows(3)]
    text = "".join(lines)
    path.write_text(text[: len(text) - cut])
    kept = len(text) - cut
    whole = sum(sum(map(len, lines[: i + 1])) - 1 <= kept for i in range(3))  # a line without its newline is whole
    assert read_metrics(path) == rows(3)[:whole]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('{"step": 1, "lo', id="torn"),
        pytest.param("[1, 2]", id="no object"),
        pytest.param('{"loss": 1.0}', id="no step"),
        pytest.param('{"step": true}', id="a step that is no number"),
        pytest.param('{"step": 2, "loss": [1]}', id="a list for a number"),
        pytest.param('{"step": 2, "loss": 1' + "0" * 400 + "}", id="a number that no float can hold"),
        pytest.param("[" * 100_000, id="100,000 brackets"),
    ],
)
def test_a_bad_line_that_is_not_the_last_is_an_error_with_its_place(path: Path, line: str):
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl:2: wanted a JSON object of numbers and"):
        read_metrics(path)


def test_a_missing_file_is_an_error_with_its_path(path: Path):
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: cannot be read: No such file"):
        read_metrics(path)


def test_truncating_drops_later_steps_and_a_torn_line_and_appending_goes_on(path: Path):
    for row in rows(5):
        append_metrics(path, row)
    with path.open("a") as file:
        file.write('{"step": 6, "sta')
    truncate_after(path, 3)
    append_metrics(path, rows(4)[3])
    assert read_metrics(path) == rows(4)
    assert path.read_bytes().count(b"\n") == 4


def test_truncating_keeps_the_bytes_of_what_stays(path: Path):
    for row in [*rows(2), {"step": 3, "loss": math.nan, "note": "é"}]:
        append_metrics(path, row)
    before = path.read_bytes()
    truncate_after(path, 3)
    assert path.read_bytes() == before


def test_truncating_where_nothing_was_logged_makes_no_file(path: Path):
    truncate_after(path, 0)
    assert not path.exists()
