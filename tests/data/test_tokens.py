"""Control tokens in data: found in all rows, wherever a model reads or is to write them, however JSON writes them."""

import json

import pytest

from vlm_r1.config import DataSource
from vlm_r1.data.records import CHECKED_LINES, RecordFile
from vlm_r1.data.tokens import KNOWN_TOKENS, control_tokens_in, find_control_tokens
from vlm_r1.models.loading import ADAPTERS
from vlm_r1.types import IMAGE_TOKEN, Record

OWN = {
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
    "<|object_ref_start|>",
    "<|im_end|>",
    "<|image_pad|>",
    "</s>",
    "<｜end▁of▁turn｜>",
    "<image>",
}


def found(tmp_path, *lines, tokens=OWN):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [
        (p.source.removeprefix(f"{path}:"), p.message) for p in find_control_tokens(RecordFile(source(path)), tokens)
    ]


def source(path, **other):
    return DataSource(path=str(path), task="vqa", **other)


def row(problem="how?", answer="so", **other):
    return {"problem": problem, "answer": answer, **other}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        pytest.param(row("a <|image_pad|> b"), "<|image_pad|> in the question", id="question"),
        pytest.param(row(answer="cat<|im_end|>"), "<|im_end|> in the answer", id="answer"),
        pytest.param(row(answer=[{"label": "<|im_end|>"}]), "<|im_end|> in the answer", id="answer, nested"),
        pytest.param(
            row(answer="<think><|im_end|></think><answer>x</answer>"), "<|im_end|> in the thought", id="thought"
        ),
        pytest.param(row(answer="<image>"), "<image> in the answer", id="the mark of pictures, in the answer"),
        pytest.param(row(options=["a", "</s>"]), "</s> in options or labels", id="options"),
        pytest.param(
            {"messages": [{"role": "system", "content": "</s>"}, {"role": "user", "content": "?"}], "answer": 1},
            "</s> in the system's message",
            id="system",
        ),
        pytest.param(row("x <｜end▁of▁turn｜>"), "<｜end▁of▁turn｜> in the question", id="not ASCII"),
    ],
)
def test_a_token_is_found_with_its_line(tmp_path, columns, says):
    plain = json.dumps(columns, ensure_ascii=False)
    escaped = json.dumps(columns)
    angles = escaped.replace("<", "\\u003c").replace(">", "\\u003e")
    upper = escaped.replace("<", "\\u003C").replace(">", "\\u003E").replace("/", "\\/")
    clean = json.dumps(row())
    everything = "".join(f"\\u{ord(c):04x}" if c in "<>|/_is" else c for c in escaped)
    lines = [plain, escaped, *([] if "messages" in columns else [clean]), angles, upper, everything]
    problems = found(tmp_path, *lines)
    assert [line for line, _ in problems] == [str(n) for n, line in enumerate(lines, start=1) if line != clean]
    assert {message.split(":")[0].removeprefix("the model's own token ") for _, message in problems} == {says}


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param(row("<image>who?", images=["a.png"]), id="marks of pictures"),
        pytest.param(row(note="<|im_end|>"), id="a column that nobody reads"),
        pytest.param(row("<|im_end|"), id="half a token"),
        pytest.param(
            row("Where is <ref>the cat</ref>?", "<box>[[1, 2, 3, 4]]</box>"), id="objects as InternVL has them"
        ),
        pytest.param(row("Where is <|object_ref_start|>the cat?"), id="objects as Qwen-VL has them"),
        pytest.param(row("is < smaller than </ s>?"), id="other angles"),
    ],
)
def test_what_is_no_token(tmp_path, columns):
    assert found(tmp_path, json.dumps(columns)) == []


def test_no_row_of_a_long_file_is_passed_over(tmp_path):
    n = CHECKED_LINES + 5000
    lines = [json.dumps(row(f"question {i}")) for i in range(n)]
    lines[n - 2] = json.dumps(row("end <|im_end|>"))
    assert [line for line, _ in found(tmp_path, *lines)] == [str(n - 1)]


def test_only_the_part_that_is_drawn_from_is_looked_at(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row("<|im_end|>", id=i)) + "\n" for i in range(50)), encoding="utf-8")
    halves = [RecordFile(source(path, split_range=part)) for part in ((0, 0.5), (0.5, 1))]
    numbers = [{problem.source for problem in find_control_tokens(half, OWN)} for half in halves]
    assert [len(part) for part in numbers] == [len(half) for half in halves]
    assert numbers[0].isdisjoint(numbers[1])


def test_no_tokens_and_bad_rows(tmp_path):
    assert found(tmp_path, json.dumps(row("<|im_end|>")), tokens=()) == []
    assert found(tmp_path, '{"problem": "<|im_end|>"', json.dumps(row())) == []  # not JSON: told when it is checked


def test_the_table_knows_the_tokens_of_all_families():
    for name, adapter in ADAPTERS.items():
        own = {getattr(adapter, "placeholder", ""), adapter.template_image_token, *adapter.answer_wrappers} - {
            "",
            IMAGE_TOKEN,
        }
        assert own <= KNOWN_TOKENS, name


def test_the_tokens_of_a_checkpoint(adapter, family_adapter):
    own = adapter.own_tokens()
    assert {"<|image_pad|>", "<|im_end|>"} <= own
    assert own.isdisjoint({"<think>", "</think>", "<answer>", "</answer>", ""})
    assert "<start_of_image>" in family_adapter("gemma3").own_tokens()


def test_places_of_a_record():
    record = Record("1", "vqa", "<image><|im_end|></s>", ("a.png",), ["<|im_end|>"], thought="ok")
    assert list(control_tokens_in(record, ["<|im_end|>", "</s>"])) == [
        ("the question", "<|im_end|>"),
        ("the question", "</s>"),
        ("the answer", "<|im_end|>"),
    ]
