"""Lists of names: what is written is read again, and a comma inside a name makes no two of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.parsing.names import list_names, split_names

LISTS = [
    pytest.param(["cat", "red car"], "cat, red car", id="plain"),
    pytest.param(["bowl, ceramic"], '"bowl, ceramic"', id="a comma in the only name"),
    pytest.param(["dog", "ceramic", "bowl, ceramic"], 'dog, ceramic, "bowl, ceramic"', id="beside a part of it"),
    pytest.param(['a "small", old dog'], '"a ""small"", old dog"', id="comma and quotes"),
    pytest.param(['12" pizza'], '12" pizza', id="inches"),
    pytest.param(['"stop" sign'], '"""stop"" sign"', id="starts with a quote"),
    pytest.param(["dog", "碗，陶瓷", "猫、狗"], 'dog, "碗，陶瓷", "猫、狗"', id="other commas"),
]


@pytest.mark.parametrize(("names", "text"), LISTS)
def test_lists(names, text):
    assert list_names(names) == text
    assert split_names(text) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("cat,dog ,  cow", ["cat", "dog", "cow"], id="spaces"),
        pytest.param("cat,, dog,", ["cat", "dog"], id="empty ones"),
        pytest.param("", [], id="nothing"),
        pytest.param('猫、狗，"红，色"、牛', ["猫", "狗", "红，色", "牛"], id="Chinese commas"),
        pytest.param('"cat, dog', ['"cat', "dog"], id="a quote that is never closed"),
        pytest.param('"cat" dog, cow', ['"cat" dog', "cow"], id="a quote inside"),
    ],
)
def test_what_people_write(text, names):
    assert split_names(text) == names


@given(st.lists(st.text(alphabet='ab ,，、".', min_size=1).map(str.strip).filter(bool)))
def test_every_list_is_read_again(names):
    assert split_names(list_names(names)) == names


@given(st.text(alphabet='a ,"', max_size=40))
def test_any_text_is_split(text):
    assert all(name == name.strip() != "" for name in split_names(text))


def test_a_long_text_takes_no_long_time():
    assert split_names('"' + '""' * 50_000)
    assert split_names(" " * 50_000) == []
    assert len(split_names('"a,' * 50_000)) == 50_000
