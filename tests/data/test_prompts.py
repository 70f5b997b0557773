"""The order of prompts: a permutation in each epoch, the same after a resume and on any number of processes."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.data.prompts import PromptStream, shard
from vlm_r1.errors import CheckpointError, ConfigError, DataError
from vlm_r1.types import Record


def records(n):
    return [Record(id=str(i), task="vqa", problem="?", images=(), answer="yes") for i in range(n)]


def ids(drawn):
    return [int(draw.read().id) for draw in drawn]


def test_file_order_without_shuffle():
    stream = PromptStream([records(3)], seed=0, shuffle=False)
    assert (ids(stream.draw(2)), ids(stream.draw(5)), sum(stream.drawn)) == ([0, 1], [2, 0, 1, 2, 0], 7)


def test_order_depends_on_seed_and_epoch():
    one, other = PromptStream([records(50)], seed=1), PromptStream([records(50)], seed=2)
    first, second = ids(one.draw(50)), ids(one.draw(50))
    assert first != second
    assert first != ids(other.draw(50))
    assert first != list(range(50))


def test_order_is_pinned():
    """A checkpoint of today is resumed by the code of tomorrow: this order must not change."""
    assert ids(PromptStream([records(6)], seed=42).draw(12)) == [3, 2, 5, 4, 1, 0, 4, 0, 1, 2, 3, 5]


@given(n=st.integers(1, 12), seed=st.integers(0, 2**32), sizes=st.lists(st.integers(0, 9), max_size=6))
def test_any_way_of_taking_gives_the_same_stream_of_permutations(n, seed, sizes):
    stream = PromptStream([records(n)], seed)
    pieces = [i for size in sizes for i in ids(stream.draw(size))]
    whole = ids(PromptStream([records(n)], seed).draw(sum(sizes) + n))
    assert pieces == whole[: len(pieces)]
    for start in range(0, len(whole) - n + 1, n):
        assert sorted(whole[start : start + n]) == list(range(n))


@given(n=st.integers(1, 12), before=st.integers(0, 40), after=st.integers(0, 20))
def test_resumed_stream_equals_the_uninterrupted_one(n, before, after):
    uninterrupted = PromptStream([records(n)], seed=7)
    uninterrupted.draw(before)
    resumed = PromptStream([records(n)], seed=7)
    resumed.load_state_dict(uninterrupted.state_dict())
    assert ids(resumed.draw(after)) == ids(uninterrupted.draw(after))


def test_resume_on_other_data_is_an_error():
    state = PromptStream([records(5)], seed=0).state_dict()
    with pytest.raises(CheckpointError, match=r"made with 5 training records, but .* now holds 4"):
        PromptStream([records(4)], seed=0).load_state_dict(state)


@pytest.mark.parametrize(("parts", "weights"), [([], None), ([[]], None), ([records(1), []], [1, 1])])
def test_no_records(parts, weights):
    with pytest.raises(DataError, match="no records to draw prompts from"):
        PromptStream(parts, seed=0, weights=weights)


def test_parts_without_weights_are_one_list():
    whole = PromptStream([records(7)], seed=3)
    parts = PromptStream([records(7)[:2], [], records(7)[2:]], seed=3)
    assert ids(parts.draw(20)) == ids(whole.draw(20))


def mixture(weights, sizes, seed=5, shuffle=True):
    """Records of part k have ids k·100 and following."""
    parts = [[replace(r, id=str(100 * k + int(r.id))) for r in records(n)] for k, n in enumerate(sizes)]
    return PromptStream(parts, seed, shuffle, weights)


def test_a_mixture_by_hand():
    stream = mixture([3.0, 1.0], [2, 5], shuffle=False)
    # draw 1: lags 0.75, 0.25; draw 2: 1.5 - 1, 0.5 → the first of equals; draw 3: 2.25 - 2, 0.75; draw 4: 3 - 2, 1 - 1
    assert ids(stream.draw(8)) == [0, 1, 100, 0, 1, 0, 101, 1]


@given(
    weights=st.lists(st.floats(0.01, 100), min_size=2, max_size=5),
    n=st.integers(0, 300),
    shuffle=st.booleans(),
)
def test_every_part_gets_its_share_at_any_moment(weights, n, shuffle):
    stream = mixture(weights, [3 + k for k in range(len(weights))], shuffle=shuffle)
    parts = [i // 100 for i in ids(stream.draw(n))]
    for k, weight in enumerate(weights):
        assert abs(parts.count(k) - n * weight / sum(weights)) < len(weights)


def test_each_part_of_a_mixture_has_epochs_of_its_own():
    drawn = ids(mixture([1.0, 1.0], [4, 6]).draw(24))
    first, second = [i for i in drawn if i < 100], [i for i in drawn if i >= 100]
    assert [sorted(first[at : at + 4]) for at in (0, 4, 8)] == [[0, 1, 2, 3]] * 3
    assert [sorted(second[at : at + 6]) for at in (0, 6)] == [[100, 101, 102, 103, 104, 105]] * 2
    assert first[:4] != first[4:8] or first[4:8] != first[8:]


@given(before=st.integers(0, 40), after=st.integers(0, 20))
def test_a_mixture_resumes_and_peeks(before, after):
    uninterrupted, resumed = mixture([2.0, 1.0, 0.5], [3, 4, 5]), mixture([2.0, 1.0, 0.5], [3, 4, 5])
    uninterrupted.draw(before)
    resumed.load_state_dict(json.loads(json.dumps(uninterrupted.state_dict())))
    peeked = resumed.upcoming(after)
    assert ids(resumed.draw(after)) == ids(uninterrupted.draw(after)) == ids(peeked)


@given(each=st.integers(0, 5), world=st.integers(1, 5))
def test_shards_are_equal_and_together_are_everything(each, world):
    items = list(range(each * world))
    parts = [shard(items, rank, world) for rank in range(world)]
    assert [len(part) for part in parts] == [each] * world
    assert [item for part in parts for item in part] == items


def test_unequal_shards_are_an_error():
    with pytest.raises(ConfigError, match=r"16 prompts cannot be split equally over 3 processes.*a multiple of 3"):
        shard(range(16), rank=0, world=3)
