"""Options of multiple-choice rows, as benchmarks and people write them."""

import pytest

from vlm_r1.data.options import with_options
from vlm_r1.errors import DataError

CATS, LETTERED = ["cat", "dog"], {"A": "cat", "B": "dog"}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        pytest.param({"options": ["cat", "dog"]}, CATS, id="list"),
        pytest.param({"options": {"A": "cat", "B": "dog"}}, LETTERED, id="object"),
        pytest.param({"options": "['cat', 'dog']"}, CATS, id="a list of Python as text"),
        pytest.param({"options": '["cat", "dog"]'}, CATS, id="JSON as text"),
        pytest.param({"options": "{'A': 'cat', 'B': 'dog'}"}, LETTERED, id="an object as text"),
        pytest.param({"options": "cat\ndog\n"}, CATS, id="one a line"),
        pytest.param({"options": ["cat", "dog", None, None]}, CATS, id="nulls at the end"),
        pytest.param(
            {"options": ["cat", None, "dog", ""]}, {"A": "cat", "C": "dog"}, id="a null between keeps letters"
        ),
        pytest.param({"options": {"A": "cat", "B": "dog", "C": None}}, LETTERED, id="null in an object"),
        pytest.param({"options": [1, 2.5]}, ["1", "2.5"], id="numbers"),
        pytest.param({"options": [{"label": "A", "text": "cat"}, {"label": "B", "text": "dog"}]}, CATS, id="objects"),
        pytest.param({"choices": ["cat", "dog"]}, CATS, id="choices"),
        pytest.param({"choices": {"text": ["cat", "dog"], "label": ["A", "B"]}}, LETTERED, id="ARC"),
        pytest.param({"options": None, "candidates": CATS}, CATS, id="null beside a synonym"),
        pytest.param({"A": "cat", "B": "dog", "C": None, "hint": "x"}, LETTERED, id="MMBench: keys A, B"),
        pytest.param({"option_a": "cat", "option_b": "dog"}, LETTERED, id="option_a"),
    ],
)
def test_options_are_found(columns, expected):
    found = with_options(columns, "Which?", "choice")
    assert found["options"] == expected
    assert {key: value for key, value in found.items() if key != "options"} == {
        key: value for key, value in columns.items() if key != "options"
    }
    assert with_options(columns, "Which?", "vqa") == columns


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param({}, 'no options in the problem, nor under "options"', id="none"),
        pytest.param({"options": None}, 'no options in the problem, nor under "options"', id="null"),
        pytest.param({"options": "cat or dog"}, '"options" is "cat or dog"; wanted a list of texts', id="a sentence"),
        pytest.param({"options": [None, None]}, '"options" is [null, null]; wanted', id="nulls alone"),
        pytest.param({"options": ["cat"]}, '"options" is ["cat"]; wanted', id="one"),
        pytest.param({"options": "[" * 5000}, '"options" is "[[[', id="nested"),
        pytest.param({"options": ["<image 1>", "<video>"]}, '"options" holds', id="pictures"),
        pytest.param({"options": "['<image 1>', '<image 2>']"}, '"options" holds <image 1>', id="numbered pictures"),
    ],
)
def test_no_options_is_an_error(columns, message):
    with pytest.raises(DataError) as raised:
        with_options(columns, "Which animal is it?", "choice")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "problem",
    [
        "Which?\nA. cat\nB. dog",
        "Which? (a) cat (b) dog",
        "Which? A: cat, B: dog",
        "Choose A, B or C.",
        "哪个？A.猫B.狗",
        "哪个？Ａ．猫　Ｂ．狗",
        "Which? (1) cat (2) dog",
    ],
)
def test_a_problem_that_names_its_options_needs_no_column(problem):
    assert with_options({"level": 1}, problem, "choice") == {"level": 1}
