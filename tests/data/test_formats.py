"""Each format on rows as its users write them; rows that no format knows."""

import pytest

from testing_messages import IMAGE, SYSTEM, assistant, text, user
from vlm_r1.data.formats import AUTO, FORMATS, Example, get_format, read_row, recognise_row
from vlm_r1.errors import ConfigError, DataError

BOX, OTHER = [10, 20, 110, 220], [30, 40, 50, 60]


def swift(answer, question="<image>where?", images=("a.png",), **objects):
    messages = [user(question), *([] if answer is None else [assistant(answer)])]
    return {"messages": messages, "images": list(images), "objects": objects}


def example(problem, answer, images=("a.png",), **other):
    return Example(problem, tuple(images), answer, **other)


# format, row, what is read out of it
GOOD = [
    pytest.param(
        "vlm_r1",
        {
            "id": 7,
            "image": "a.png",
            "conversations": [{"from": "human", "value": "<image>cat"}, {"from": "gpt", "value": BOX}],
            "accu_reward_method": "iou",
            "note": "x",
        },
        example("<image>cat", BOX, reward="iou", columns={"note": "x"}),
        id="VLM-R1",
    ),
    pytest.param(
        "vlm_r1_eval",
        {
            "image": "a.png",
            "problem": "the cat",
            "solution": BOX,
            "normalized_solution": [15, 41, 171, 458],
            "width": 640,
        },
        example("<image>the cat", BOX, coordinates="pixels", columns={"width": 640}),
        id="VLM-R1 evaluation: the box in pixels counts",
    ),
    pytest.param(
        "r1_v",
        {"image": "a.png", "problem": "How many?", "solution": "<answer> 3 </answer>"},
        example("<image>How many?", "3"),
        id="R1-V",
    ),
    pytest.param(
        "r1_v",
        {
            "image": {"path": "a.png", "bytes": None},
            "problem": "1 + 1?",
            "solution": "<think>b</think><answer>2</answer>",
        },
        example("<image>1 + 1?", "2", thought="b"),
        id="open-r1-multimodal: thought, image as datasets writes it",
    ),
    pytest.param(
        "easy_r1",
        {"images": ["a.png", "b.png"], "problem": "<image><image>Same?", "answer": "no", "solution": "They differ."},
        example("<image><image>Same?", "no", ("a.png", "b.png"), columns={"solution": "They differ."}),
        id="EasyR1: a worked solution is a column",
    ),
    pytest.param(
        "conversational",
        {"messages": [user("who?"), assistant("<answer>I</answer>")], "image": None},
        example("who?", "I", ()),
        id="messages of texts, no image",
    ),
    pytest.param(
        "conversational",
        {"messages": [user([IMAGE, text("who?")]), assistant([text("I")])], "images": ["a.png"]},
        example("<image>who?", "I"),
        id="image part without a path: the images key's",
    ),
    pytest.param(
        "conversational",
        {"messages": [user([text("who "), {"type": "image", "image": "a.png"}, text("?")]), assistant("I")]},
        example("who <image>?", "I"),
        id="image part with its path",
    ),
    pytest.param(
        "conversational",
        {
            "prompt": [user([{"type": "image_url", "image_url": {"url": "s3://b/a.png"}, "text": None}, text("?")])],
            "solution": 4,
        },
        example("<image>?", 4, ("s3://b/a.png",)),
        id="image part with a URL; keys that a table filled with null",
    ),
    pytest.param(
        "conversational",
        {"prompt": [SYSTEM, user("who?")], "solution": "<think>m</think><answer>I</answer>", "image": "a.png"},
        example("<image>who?", "I", thought="m", system="Be brief.", columns={"system": "Be brief."}),
        id="TRL GRPO: prompt and solution; the system message is asked, and a column",
    ),
    pytest.param(
        "conversational",
        {"prompt": "who?", "ground_truth": "I", "level": 2},
        example("who?", "I", (), columns={"level": 2}),
        id="prompt is a text",
    ),
    pytest.param(
        "conversational",
        {"prompt": [user("who?")], "completion": [assistant("I")]},
        example("who?", "I", ()),
        id="TRL prompt and completion",
    ),
    pytest.param(
        "conversational",
        {"messages": [user("who?"), assistant("I")], "solution": "me"},
        example("who?", "I", (), columns={"solution": "me"}),
        id="the assistant's message goes first",
    ),
    pytest.param(
        "ms_swift",
        swift("<bbox>", "<image>Find <ref-object>", ref=["the cat"], bbox=[BOX], bbox_type="real"),
        example("<image>Find the cat", BOX, coordinates="pixels"),
        id="ms-swift: one box",
    ),
    pytest.param(
        "ms_swift",
        swift("<bbox>, <bbox>", ref=[], bbox=[BOX, OTHER]),
        example("<image>where?", [BOX, OTHER]),
        id="ms-swift: several boxes",
    ),
    pytest.param(
        "ms_swift",
        swift("<ref-object><bbox>\n<ref-object><bbox>", ref=["cat", "dog"], bbox=[BOX, OTHER], bbox_type="norm1"),
        example(
            "<image>where?",
            [{"bbox_2d": BOX, "label": "cat"}, {"bbox_2d": OTHER, "label": "dog"}],
            coordinates="norm_1",
        ),
        id="ms-swift: pairs are labelled boxes",
    ),
    pytest.param(
        "ms_swift",
        swift('[{"bbox_2d": <bbox>, "label": "<ref-object>"}]', ref=['12" disc'], bbox=[BOX], image_id=[0]),
        example("<image>where?", [{"bbox_2d": BOX, "label": '12" disc'}]),
        id="ms-swift: JSON with a quote in a ref",
    ),
    pytest.param(
        "ms_swift",
        swift("Action: click(start_box='<bbox>')", ref=[], bbox=[[615, 226]]),
        example("<image>where?", "Action: click(start_box='[615, 226]')"),
        id="ms-swift: another text",
    ),
    pytest.param(
        "ms_swift",
        {"messages": [SYSTEM, user("1 + 1?")], "objects": None, "solution": "2"},
        example("1 + 1?", "2", (), system="Be brief.", columns={"system": "Be brief."}),
        id="ms-swift: GRPO, no objects in this row",
    ),
    pytest.param(
        "question_answer",
        {"question": "How many?", "image_path": "a.png", "ground_truth": "3", "hint": "x"},
        example("<image>How many?", "3", columns={"hint": "x"}),
        id="R1-V's evaluation files",
    ),
    pytest.param(
        "question_answer",
        {"question": "Who?", "answers": ["I", "me"], "image": "a.png"},
        example("<image>Who?", ["I", "me"]),
        id="several accepted answers",
    ),
    pytest.param(
        "conversational",
        {
            "messages": [{"role": "developer", "content": "Be brief."}, user([{"image": "a.png"}, {"text": "?"}])],
            "answer": 1,
        },
        example("<image>?", 1, system="Be brief.", columns={"system": "Be brief."}),
        id="Qwen's parts without types; OpenAI's developer",
    ),
    pytest.param(
        "question_answer",
        {"query": "<image>How many?", "images": ["a.png"], "response": "3"},
        example("<image>How many?", "3"),
        id="query and response",
    ),
    pytest.param(
        "question_answer",
        {"instruction": "Count.", "input": "<image>The cats.", "output": "3", "images": ["a.png"]},
        example("Count.\n<image>The cats.", "3"),
        id="Alpaca: instruction, input, output",
    ),
    pytest.param(
        "question_answer",
        {"question": "Who?", "image_1": "a.png", "image_2": "b.png", "image_3": None, "answer": "I", "img_type": "x"},
        example("<image><image>Who?", "I", ("a.png", "b.png"), columns={"image_3": None, "img_type": "x"}),
        id="MMMU: one key for each image",
    ),
    pytest.param(
        "conversational",
        {
            "data_source": "my/geometry",
            "prompt": [user("<image>How many?")],
            "images": [{"image": "a.png"}],
            "reward_model": {"style": "rule", "ground_truth": "1"},
        },
        example(
            "<image>How many?",
            "1",
            columns={"data_source": "my/geometry", "reward_model": {"style": "rule", "ground_truth": "1"}},
        ),
        id="verl",
    ),
    pytest.param(
        "vlm_r1",
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "user", "value": "<image>cat"},
                {"from": "assistant", "value": "yes"},
            ],
            "image": "a.png",
        },
        example("<image>cat", "yes", system="Be brief.", columns={"system": "Be brief."}),
        id="ShareGPT with a turn of the system",
    ),
    pytest.param(
        "vlm_r1",
        {
            "conversations": [{"from": "human", "value": "<image>cat"}, {"from": "gpt", "value": BOX}],
            "system": "Be brief.",
            "images": ["a.png"],
        },
        example("<image>cat", BOX, system="Be brief.", columns={"system": "Be brief."}),
        id="ShareGPT as LLaMA-Factory writes it",
    ),
    pytest.param(
        "vlm_r1",
        {"conversations": [user("<image>cat"), assistant("yes")], "image": "a.png"},
        example("<image>cat", "yes"),
        id="conversations in OpenAI's words",
    ),
    pytest.param(
        "easy_r1",
        {"problem": "What is in <image 2> but not in <image_1>?", "answer": "a cat", "images": ["a.png", "b.png"]},
        example("What is in <image> but not in <image>?", "a cat", ("b.png", "a.png")),
        id="numbered marks: the pictures in the order of the marks",
    ),
    pytest.param(
        "easy_r1",
        {"problem": "Compare [image 2] and [image 1].", "answer": "a cat", "images": ["a.png", "b.png"]},
        example("Compare <image> and <image>.", "a cat", ("b.png", "a.png")),
        id="numbered words in brackets are marks where there are no others",
    ),
    pytest.param(
        "easy_r1",
        {"problem": "<image><image>Compare [image 2] and [image 1].", "answer": "yes", "images": ["a.png", "b.png"]},
        example("<image><image>Compare [image 2] and [image 1].", "yes", ("a.png", "b.png")),
        id="numbered words in brackets are text where there are marks",
    ),
    pytest.param(
        "easy_r1",
        {"problem": "Who?", "answer": "I", "image": "x/a.png", "image_path": "y/a.png", "videos": [], "audio": None},
        example("<image>Who?", "I", ("x/a.png",), columns={"image_path": "y/a.png", "videos": [], "audio": None}),
        id="two names of one picture; nothing under videos and audio",
    ),
    pytest.param(
        "easy_r1",
        {"problem": "Who?", "answer": "I", "image": "a.png", "mask": "a_mask.png", "image_id": 3, "video_id": "x7"},
        example("<image>Who?", "I", columns={"mask": "a_mask.png", "image_id": 3, "video_id": "x7"}),
        id="remarks beside a picture",
    ),
]


@pytest.mark.parametrize(("name", "row", "expected"), GOOD)
def test_row_is_recognised_and_read(name, row, expected):
    assert recognise_row(row) == name
    assert read_row(row, AUTO) == expected
    assert read_row(row, name) == expected


def test_every_format_has_a_good_row():
    assert {case.values[0] for case in GOOD} == set(FORMATS)


TURNS = "wanted the user and the assistant by turns, a system message before them or none, and the user's question"
BAD = [
    pytest.param(
        {"image": "a.png", "images": ["b.png"], "problem": "?", "answer": 1}, '"image" and "images"', id="both"
    ),
    pytest.param(
        {"images": ["a.png", 3], "problem": "?", "answer": 1}, '"images" is ["a.png", 3], wanted a path', id="3"
    ),
    pytest.param(
        {"images": ["a.png"], "problem": "<image><image>?", "answer": 1}, "2 <image> in the question for 1", id="marks"
    ),
    pytest.param({"problem": None, "solution": 1}, "the question is null, wanted a text", id="no question"),
    pytest.param({"problem": "?", "solution": None}, "there is no answer; wanted", id="no answer"),
    pytest.param({"problem": "?", "solution": 1, "accu_reward_method": []}, '"accu_reward_method" is []', id="reward"),
    pytest.param({"prompt": [user("?")]}, "there is no answer: no message of the assistant, and none of", id="no gold"),
    pytest.param({"messages": [assistant("I")]}, TURNS, id="no user"),
    pytest.param({"messages": [user("a"), user("c"), assistant("d")]}, TURNS, id="two questions in a row"),
    pytest.param({"messages": [user("a"), {"role": "tool", "content": "b"}]}, TURNS, id="a tool"),
    pytest.param({"messages": [user("a"), SYSTEM]}, TURNS, id="system message at the end"),
    pytest.param({"messages": {"role": "user"}}, TURNS, id="no list"),
    pytest.param({"messages": [{"role": "user"}]}, TURNS, id="no content"),
    pytest.param({"messages": [user(3)]}, "the content is 3; wanted a text, or a list", id="content a number"),
    pytest.param({"messages": [user([{"type": "audio"}])]}, 'a part of the content is {"type": "audio"}', id="audio"),
    pytest.param({"messages": [user("a"), assistant([IMAGE])]}, "the assistant's message holds an image", id="drawn"),
    pytest.param(swift("<bbox>", ref=[], bbox=[]), "there are more <bbox> in the messages", id="too few boxes"),
    pytest.param(swift("x", "<image><ref-object>", ref=[], bbox=[]), "there are more <ref-object>", id="too few refs"),
    pytest.param(swift("x", "<image><bbox>", ref=[], bbox=[BOX]), "the question holds <bbox>", id="box in question"),
    pytest.param(swift("x", ref=["a"], bbox=[], bbox_type="norm1000"), '"objects" is {"ref": ["a"]', id="unknown unit"),
    pytest.param({**swift("x"), "objects": "[]"}, '"objects" is "[]"; wanted', id="objects a text"),
    pytest.param({"q": "?", "label": 1}, "the keys q, label fit no format. Known: vlm_r1 (conv", id="none"),
    pytest.param({}, "the keys (none) fit no format", id="no keys"),
    pytest.param(
        {"question": "?", "query": "!", "answer": 1}, '"question" and "query" all look like the question', id="two"
    ),
    pytest.param(
        {"question": "?", "response": "1", "label": "2"},
        '"response" and "label" both look like the answer; rename the right one to "answer"',
        id="two answers",
    ),
    pytest.param(
        {"conversations": [{"from": "system", "value": "a"}, *swift("x")["messages"]], "system": "b"},
        'a turn of the system and the key "system" differ',
        id="two systems",
    ),
    pytest.param(
        swift("<bbox>", ref=[], bbox=[BOX, OTHER]), '2 boxes in "objects" for 1 <bbox>; wanted one', id="box left"
    ),
    pytest.param(
        swift("cat", ref=[], bbox=[BOX]), '1 box in "objects" for 0 <bbox>; wanted one', id="box without a place"
    ),
    pytest.param(
        swift("<bbox>", ref=["cat"], bbox=[BOX]), '1 ref in "objects" for 0 <ref-object>; wanted one', id="ref left"
    ),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_bad_row(row, message):
    with pytest.raises(DataError) as raised:
        read_row(row, AUTO)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        pytest.param({"problem": "?", "solution": 1}, "They fit r1_v", id="another fits"),
        pytest.param(
            {"q": "?"},
            "Known: vlm_r1, vlm_r1_eval, easy_r1, r1_v, ms_swift, conversational, question_answer",
            id="none",
        ),
    ],
)
def test_named_format_that_does_not_fit(row, advice):
    with pytest.raises(DataError) as raised:
        read_row(row, "easy_r1")
    keys = ", ".join(row)
    expected = f"the keys {keys} do not fit format easy_r1, which wants problem, answer. {advice}"
    assert str(raised.value) == expected


def test_objects_are_not_lost_on_the_conversational_format():
    with pytest.raises(DataError, match="set format: ms_swift"):
        read_row(swift("<bbox>", ref=[], bbox=[BOX]), "conversational")


def test_unknown_format():
    with pytest.raises(ConfigError, match=r'unknown format "easyr1"\. Did you mean "easy_r1"'):
        get_format("easyr1")


def test_a_format_of_ones_own():
    assert get_format("vlm_r1.data.formats.problem_answer:R1_V") is FORMATS["r1_v"]
