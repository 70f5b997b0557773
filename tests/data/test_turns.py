"""Rows with a system message and earlier turns, in each format that has them."""

import json

import pytest

from testing_messages import IMAGE, SYSTEM, assistant, text, user
from vlm_r1.config.data import DataSource
from vlm_r1.data.formats import AUTO, Example, read_row
from vlm_r1.data.lines import vlm_r1_line
from vlm_r1.data.records import RecordFile
from vlm_r1.data.tokens import control_tokens_in, find_control_tokens
from vlm_r1.errors import DataError
from vlm_r1.types import Turn

BOX = [1, 2, 3, 4]


def human(value):
    return {"from": "human", "value": value}


def gpt(value):
    return {"from": "gpt", "value": value}


def turns(*texts):
    return tuple(Turn("assistant" if place % 2 else "user", words) for place, words in enumerate(texts))


GOOD = [
    pytest.param(
        {
            "messages": [
                SYSTEM,
                user([IMAGE, text("Red?")]),
                assistant("Yes."),
                user([text("And "), IMAGE]),
                assistant("I"),
            ],
            "images": ["a.png", "b.png"],
        },
        Example(
            "And <image>",
            ("a.png", "b.png"),
            "I",
            system=SYSTEM["content"],
            history=turns("<image>Red?", "Yes."),
            columns={"system": SYSTEM["content"]},
        ),
        id="messages with an image in each question",
    ),
    pytest.param(
        {
            "prompt": [user("<image>Red?"), assistant("Yes."), user("How many?")],
            "answer": 3,
            "images": ["a.png"],
        },
        Example("How many?", ("a.png",), 3, history=turns("<image>Red?", "Yes.")),
        id="a prompt whose last question has no image",
    ),
    pytest.param(
        {
            "conversations": [human("Red?"), gpt("Yes."), human("Blue?"), gpt("No."), human("cat"), gpt(BOX)],
            "image": "a.png",
        },
        Example("cat", ("a.png",), BOX, history=turns("<image>Red?", "Yes.", "Blue?", "No.")),
        id="ShareGPT without marks: the picture comes first of all",
    ),
    pytest.param(
        {
            "conversations": [human("See <image 2>?"), gpt("As in <image 1>."), human("And <image 1>?"), gpt("I")],
            "images": ["a.png", "b.png"],
        },
        Example("And <image>?", ("b.png", "a.png"), "I", history=turns("See <image>?", "As in <image 1>.")),
        id="numbered marks over all turns; those of an answer are text",
    ),
    pytest.param(
        {"query": "And now?", "response": "b", "history": [["<image>Red?", "Yes."]], "images": ["a.png"]},
        Example("And now?", ("a.png",), "b", history=turns("<image>Red?", "Yes.")),
        id="ms-swift's history",
    ),
    pytest.param(
        {
            "instruction": "Count",
            "input": "the cats",
            "output": "3",
            "system": "Be brief.",
            "history": [["Red?", "Yes."], ["Blue?", "No."]],
        },
        Example(
            "Count\nthe cats",
            (),
            "3",
            system="Be brief.",
            history=turns("Red?", "Yes.", "Blue?", "No."),
            columns={"system": "Be brief."},
        ),
        id="Alpaca's system and history",
    ),
    pytest.param(
        {
            "messages": [user("<image><ref-object>?"), assistant("a dog"), user("<ref-object>?"), assistant("<bbox>")],
            "images": ["a.png"],
            "objects": {"ref": ["dog", "cat"], "bbox": [BOX]},
        },
        Example("cat?", ("a.png",), BOX, history=turns("<image>dog?", "a dog")),
        id="ms-swift: refs in the order of the messages",
    ),
    pytest.param(
        {"query": "c", "response": "d", "history": None, "system": ""},
        Example("c", (), "d"),
        id="an empty history and system",
    ),
]


@pytest.mark.parametrize(("row", "expected"), GOOD)
def test_what_stands_before_the_question_is_read(row, expected):
    assert read_row(row, AUTO) == expected


BY_TURNS = "wanted the user and the assistant by turns"
BAD = [
    pytest.param({"messages": [assistant("b"), user("c"), assistant("d")]}, BY_TURNS, id="an answer first"),
    pytest.param({"messages": [user("a"), assistant("b"), SYSTEM, user("c")], "answer": 1}, BY_TURNS, id="system late"),
    pytest.param({"messages": [user("a"), assistant("b"), assistant("d")]}, BY_TURNS, id="two answers in a row"),
    pytest.param({"messages": [SYSTEM]}, BY_TURNS, id="no question"),
    pytest.param(
        {"messages": [user("a"), assistant([IMAGE]), user("c"), assistant("d")]},
        "an earlier message of the assistant holds an image; wanted text",
        id="an earlier answer with an image",
    ),
    pytest.param(
        {"conversations": [human("<image>?"), gpt(BOX), human("?"), gpt(1)], "image": "a.png"},
        "an earlier message of the assistant is [1, 2, 3, 4], wanted a text",
        id="an earlier answer that is no text",
    ),
    pytest.param(
        {"messages": [user("<image>a"), assistant("b"), user("<image>c")], "answer": 1, "images": ["a.png"]},
        "2 <image> in the question for 1 image",
        id="more marks than images over all turns",
    ),
    pytest.param(
        {"messages": [user("see <video>"), assistant("b"), user("c")], "answer": 1},
        "videos and sound are not read",
        id="a video in an earlier turn",
    ),
    pytest.param(
        {"messages": [user("a\0\n\0"), assistant("b"), user("c")], "answer": 1},
        "a message holds NUL characters",
        id="NUL characters",
    ),
    pytest.param(
        {"messages": [user("<image>"), assistant("b"), user(" ")], "answer": 1, "image": "a.png"},
        "the question is empty",
        id="an empty question after earlier turns",
    ),
    pytest.param(
        {"query": "c", "history": [["a", 3]], "response": "d"},
        '"history" is [["a", 3]]; wanted earlier turns [[question, answer], …], or no such key',
        id="a history that is no pairs of texts",
    ),
    pytest.param({"query": "c", "history": "a", "response": "d"}, '"history" is "a"; wanted earlier', id="a text"),
    pytest.param({"query": "c", "system": ["a"], "response": "d"}, '"system" is ["a"], wanted a text', id="system"),
    pytest.param(
        {
            "messages": [user("<image>where? <bbox>"), assistant("b"), user("c"), assistant("d")],
            "images": ["a.png"],
            "objects": {"ref": [], "bbox": [BOX]},
        },
        "the message of an earlier turn holds <bbox>",
        id="a box in an earlier turn",
    ),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_bad_turns(row, message):
    with pytest.raises(DataError) as raised:
        read_row(row, AUTO)
    assert message in str(raised.value)


def record_of(tmp_path, row, **settings):
    """The record of a file of one row."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return RecordFile(DataSource(path=str(path), task="vqa", **settings))


TALK = {"conversations": [human("Red?"), gpt("Yes."), human("cat"), gpt("3")], "id": "7"}


@pytest.mark.parametrize(
    ("own", "source", "asked"),
    [
        pytest.param("Be kind.", "Be brief.", "Be kind.", id="the row's wins"),
        pytest.param(None, "Be brief.", "Be brief.", id="the source's, if the row has none"),
        pytest.param("", "Be brief.", "Be brief.", id="an empty one of the row is none"),
        pytest.param(None, "", None, id="the source says none"),
        pytest.param("Be kind.", None, "Be kind.", id="the row's alone"),
        pytest.param(None, None, None, id="nobody's"),
    ],
)
def test_which_system_message_is_asked(tmp_path, own, source, asked):
    row = TALK if own is None else {**TALK, "system": own}
    assert record_of(tmp_path, row, system_prompt=source)[0].system == asked


def test_a_written_line_is_read_back(tmp_path):
    (record,) = record_of(tmp_path, {**TALK, "system": "Be kind."})
    (again,) = record_of(tmp_path, vlm_r1_line(record))
    assert (again.history, again.system, again.problem, again.answer) == (
        turns("Red?", "Yes."),
        "Be kind.",
        "cat",
        "3",
    )
    unasked = {"problem": "How many?", "answer": 3, "system": "Be kind."}
    (record,) = record_of(tmp_path, unasked)
    assert record.system is None
    (again,) = record_of(tmp_path, vlm_r1_line(record))
    assert again.system is None, "a column that was not asked is not asked later either"


def test_control_tokens_are_found_before_the_question(tmp_path):
    row = {
        **TALK,
        "conversations": [human("<|im_end|>?"), gpt("Yes."), human("cat"), gpt("3")],
        "system": "<|im_start|>",
    }
    file = record_of(tmp_path, row)
    assert list(control_tokens_in(file[0], ["<|im_end|>", "<|im_start|>", "<image>"])) == [
        ("the system's message", "<|im_start|>"),
        ("an earlier turn", "<|im_end|>"),
    ]
    (problem,) = find_control_tokens(file, ["<|im_end|>"])
    assert "<|im_end|> in an earlier turn" in problem.message


def test_the_context_of_a_record(tmp_path):
    (record,) = record_of(tmp_path, {**TALK, "system": "Be kind."})
    assert record.context == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Red?"},
        {"role": "assistant", "content": "Yes."},
    ]
