import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.rollout_log import SCHEMA, RolloutRow, read_rollouts, rollouts_path, write_rollouts
from vlm_r1.types import (
    AnswerValue,
    BoxFormat,
    Completion,
    EncodedPrompt,
    Group,
    ImageFrame,
    Record,
    Rollout,
    Score,
    StopReason,
)


def group(record_id: str, *answers: AnswerValue, text: str = "hm") -> Group:
    source = f"train.jsonl:{record_id}"
    record = Record(record_id, "rec", "<image>the dog", ("/data/a.png",), [1, 2, 3, 4], source=source)
    frames = (ImageFrame((640, 480), (644, 476)),)
    encoded = EncodedPrompt((5, 6, 7), {}, frames, "<|user|><image>the dog", None, "r1", BoxFormat.INPUT_PIXELS)
    rollouts = tuple(
        Rollout(
            Completion.sampled((8, 9), (-0.5, -0.25), text, StopReason.LENGTH if answer is None else StopReason.STOP),
            Score(0.75, {"accuracy": 0.5, "format": 1.0}, answer, "no_box" if answer is None else None, {"iou": 0.5}),
            advantage=-1.5,
        )
        for answer in answers
    )
    return Group(record, encoded, rollouts)


def written(tmp_path: Path, *groups: Group) -> list[RolloutRow]:
    path = rollouts_path(tmp_path, 7)
    write_rollouts(path, 7, groups)
    return read_rollouts(path)


def test_what_was_left_out_is_null_in_the_file_and_what_was_logged_beside_is_there(tmp_path: Path):
    score = Score(None, {"accuracy": None, "format": 1.0}, None, None, {}, {"note": "dim", "sizes": [1, 2]})
    one = group("0", None)
    row = written(tmp_path, replace(one, rollouts=(replace(one.rollouts[0], score=score),)))[0]
    raw = pq.read_table(rollouts_path(tmp_path, 7)).to_pylist()[0]
    assert (raw["reward"], json.loads(raw["parts"])) == (None, {"accuracy": None, "format": 1.0})
    assert math.isnan(row.reward)
    assert math.isnan(row.parts["accuracy"])
    assert row.extra == {"note": "dim", "sizes": [1, 2]}


def test_a_file_of_a_version_without_extras_is_read(tmp_path: Path):
    rows = written(tmp_path, group("0", [1, 2, 3, 4]))
    path = rollouts_path(tmp_path, 7)
    pq.write_table(pq.read_table(path).drop_columns(["extra"]), path)
    assert read_rollouts(path) == rows


def test_every_field_of_a_row(tmp_path: Path):
    row = written(tmp_path, group("0", [1.5, 2.0, 3.0, 4.0]))[0]
    assert row == RolloutRow(
        step=7,
        group=0,
        completion=0,
        record_id="0",
        source="train.jsonl:0",
        task="rec",
        problem="<image>the dog",
        images=("/data/a.png",),
        image_sizes=((640, 480),),
        input_sizes=((644, 476),),
        box_format="input_pixels",
        template="r1",
        reward_name=None,
        gold=[1, 2, 3, 4],
        prompt="<|user|><image>the dog",
        text="hm",
        answer=[1.5, 2.0, 3.0, 4.0],
        reward=0.75,
        parts={"accuracy": 0.5, "format": 1.0},
        metrics={"iou": 0.5},
        reason=None,
        advantage=-1.5,
        tokens=2,
        stop_reason="stop",
    )


def test_groups_are_contiguous_and_numbered_within_the_step(tmp_path: Path):
    rows = written(tmp_path, group("a", 1, None, 3), group("b", 4, 5))
    assert [(r.record_id, r.group, r.completion, r.answer, r.reason, r.stop_reason) for r in rows] == [
        ("a", 0, 0, 1, None, "stop"),
        ("a", 0, 1, None, "no_box", "length"),
        ("a", 0, 2, 3, None, "stop"),
        ("b", 1, 0, 4, None, "stop"),
        ("b", 1, 1, 5, None, "stop"),
    ]


def test_the_file_has_the_documented_columns_and_types(tmp_path: Path):
    written(tmp_path, group("a", None))
    schema = pq.read_schema(tmp_path / "rollouts" / "step-000007.parquet")
    assert {name: str(schema.field(name).type) for name in ("step", "text", "reward")} == {
        "step": "int64",
        "text": "string",
        "reward": "double",
    }
    assert schema.field("images").type.value_type == pa.string()
    assert schema.field("image_sizes").type.value_type.value_type == pa.int64()
    table = pq.read_table(tmp_path / "rollouts" / "step-000007.parquet").to_pylist()
    assert table[0]["answer"] == "null"
    assert table[0]["reason"] == "no_box"


def test_the_columns_are_those_of_the_documentation():
    text = (Path(__file__).parents[2] / "docs/runs.md").read_text(encoding="utf-8")
    section = text.partition("## `rollouts/step-NNNNNN.parquet`")[2].partition("\n## ")[0]
    positions = [section.index(f"`{name}`") for name in SCHEMA.names]
    assert positions == sorted(positions)


def test_a_step_without_groups_is_an_empty_file(tmp_path: Path):
    assert written(tmp_path) == []


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        pytest.param([math.nan, math.inf, 1.0], [None, None, 1.0], id="not finite"),
        pytest.param({"label": "\ud800 dog"}, {"label": "? dog"}, id="unpaired surrogate"),
        pytest.param(10**400, 10**400, id="huge integer"),
        pytest.param(10**5000, None, id="an integer that Python does not write"),
        pytest.param("a\x00b", "a\x00b", id="NUL"),
    ],
)
def test_answers_that_no_strict_json_holds(tmp_path: Path, answer: AnswerValue, read: AnswerValue):
    assert written(tmp_path, group("a", answer))[0].answer == read


def test_an_answer_of_3000_levels_is_cut_at_100(tmp_path: Path):
    nested: AnswerValue = 1
    for _ in range(3000):
        nested = [nested]
    read = written(tmp_path, group("a", nested))[0].answer
    for _ in range(100):
        assert isinstance(read, list)
        (read,) = read
    assert read == "(nested too deeply to be written)"


@given(text=st.text(st.characters(exclude_categories=())))
@example(text="half a pair: \ud83d")
@example(text="\x00\u202e🙂")
def test_any_text_can_be_logged(tmp_path_factory, text: str):
    row = written(tmp_path_factory.mktemp("text"), group("a", text, text=text))[0]
    assert row.text == row.answer == text.encode("utf-8", "replace").decode()


def test_a_part_that_is_not_finite_stays_visible(tmp_path: Path):
    broken = group("a", 1)
    score = Score(math.nan, {"accuracy": math.nan}, 1, None, {})
    rows = written(tmp_path, Group(broken.record, broken.encoded, (Rollout(broken.rollouts[0].completion, score),)))
    assert math.isnan(rows[0].reward)
    assert math.isnan(rows[0].parts["accuracy"])


@pytest.mark.parametrize("content", [pytest.param(None, id="missing"), pytest.param(b"not Parquet", id="damaged")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None):
    path = tmp_path / "step-000001.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"step-000001\.parquet: no rollouts can be read: .*record_id"):
        read_rollouts(path)


def test_a_file_without_a_column_is_an_error(tmp_path: Path):
    path = tmp_path / "step-000001.parquet"
    pq.write_table(pa.table({"step": [1], "text": ["x"], "answer": [json.dumps(1)]}), path)
    with pytest.raises(CheckpointError, match="no rollouts can be read"):
        read_rollouts(path)


def other_table(path: Path, **columns: list[object]) -> None:
    """Write a rollout file with some columns replaced; None leaves a column out."""
    write_rollouts(path, 7, [group("a", 1)])
    table = pq.read_table(path)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.remove_column(place) if values == [] else table.set_column(place, name, pa.array(values))
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param({"text": []}, "no rollouts can be read", id="a column is missing"),
        pytest.param({"step": ["x"]}, "no rollouts can be read", id="a text for a number"),
        pytest.param({"text": [{"a": 1}]}, "no rollouts can be read", id="a structure for a text"),
        pytest.param({"text": [None]}, "row 0: text is null", id="null"),
        pytest.param({"parts": ["[1]"]}, "row 0: parts is \\[1\\]; wanted a JSON object", id="parts are a list"),
        pytest.param({"parts": ['{"a": "b"}']}, "row 0: parts holds 'b'; wanted numbers", id="a part is a text"),
        pytest.param({"gold": ["[" * 100_000]}, "row 0: gold is not JSON", id="brackets"),
        pytest.param({"image_sizes": [[[1]]]}, "row 0: image_sizes holds", id="a size of one number"),
        pytest.param({"image_sizes": [[]]}, "row 0: wanted a path, a size", id="no size for an image"),
    ],
)
def test_a_damaged_table_is_refused_with_the_row_and_the_column(tmp_path: Path, columns, message: str):
    path = tmp_path / "step-000007.parquet"
    other_table(path, **columns)
    with pytest.raises(CheckpointError, match=message):
        read_rollouts(path)


def test_the_table_of_these_tests_can_be_read_as_it_is(tmp_path: Path):
    other_table(tmp_path / "step-000007.parquet", text=["other"])
    assert [row.text for row in read_rollouts(tmp_path / "step-000007.parquet")] == ["other"]
