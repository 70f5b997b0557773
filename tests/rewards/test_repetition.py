import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.errors import ConfigError
from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.repetition import MAX_WORDS, repetition
from vlm_r1.types import Record, Thinking

RECORD = Record("1", "ovd", "?", (), "x", source="f.jsonl:7")
CAT, DOG = (LabelledBox(label, (1.0, 2.0, 3.0, 4.0)) for label in ("cat", "dog"))
CAT_BESIDE = LabelledBox("cat", (1.0, 2.0, 3.0, 5.0))


def _given(text="", value=None):
    return RewardInput(text, split_tags(text), Thinking.REQUIRED, value, "x", (), RECORD)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", 0.0, id="empty"),
        pytest.param("a b c d e", 0.0, id="fewer_than_six_words"),
        pytest.param("a b c d e f g h", 0.0, id="nothing_twice"),
        pytest.param("a a a a a a a", -0.5, id="one_word"),  # 2 six-grams, 1 unique
        pytest.param("a b c d e f A B C D E F", -1 / 7, id="six_words_twice"),  # 7 six-grams, the last as the first
        pytest.param("a " * 105, -0.99, id="a_hundred_times"),  # 100 six-grams, 1 unique
    ],
)
def test_words(text, expected):
    assert repetition(_given(text)) == pytest.approx(expected, abs=1e-12)
    assert repetition(_given(text, value="an answer that is no set of boxes")) == pytest.approx(expected, abs=1e-12)


def test_the_length_of_an_item_comes_from_the_recipe():
    assert repetition(_given("a b a b a"), ngram=2) == -0.5  # ab ba ab ba: 2 of 4
    assert repetition(_given("a b a b a"), ngram=1) == pytest.approx(2 / 5 - 1)
    with pytest.raises(ConfigError, match="ngram is 0"):
        repetition(_given("a"), ngram=0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param((CAT, DOG, CAT_BESIDE), 0.0, id="label_or_box_differs"),
        pytest.param((CAT, CAT), -0.5, id="twice"),
        pytest.param((CAT,) * 9 + (DOG,), -0.8, id="box_spam"),  # 2 unique of 10
    ],
)
def test_labelled_boxes_are_counted_instead_of_words(value, expected):
    assert repetition(_given("a " * 100, value)) == pytest.approx(expected, abs=1e-12)


def test_no_boxes_at_all_leave_the_words():
    assert repetition(_given("a a a a a a a", value=())) == -0.5


def test_only_the_head_of_an_endless_text_is_read():
    head = " ".join(map(str, range(MAX_WORDS)))
    assert repetition(_given(head + " a" * 10_000)) == 0.0
    assert repetition(_given(head.replace(" 9 ", " 8 ") + " a" * 10_000), ngram=1) == pytest.approx(-1 / MAX_WORDS)


@given(st.lists(st.sampled_from("ab c\n"), max_size=40).map("".join), st.integers(1, 4))
def test_bounded_and_equal_to_counting_by_hand(text, ngram):
    words = text.lower().split()
    seen = [" ".join(words[i : i + ngram]) for i in range(len(words) - ngram + 1)]
    repeated = sum(item in seen[:i] for i, item in enumerate(seen))
    reward = repetition(_given(text), ngram=ngram)
    assert reward == pytest.approx(-repeated / len(seen) if seen else 0.0, abs=1e-12)
    assert -1.0 < reward <= 0.0
