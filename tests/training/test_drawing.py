"""Bad records are replaced alike on any number of processes, and counted once."""

from __future__ import annotations

from threading import Barrier, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.data.prompts import PromptStream
from vlm_r1.errors import DataError, DataFileError, OverlongError
from vlm_r1.training.drawing import Drawing
from vlm_r1.types import Record


def records(n: int) -> list[Record]:
    return [
        Record(id=str(i), task="vqa", problem="?", images=(), answer="yes", source=f"a.jsonl:{i}") for i in range(n)
    ]


class Together:
    """Gathers over threads, one for each process."""

    def __init__(self, world: int) -> None:
        self.items: list[list] = [[] for _ in range(world)]
        self.barrier = Barrier(world, timeout=30)

    def gather_of(self, rank: int):
        def gather(items: list) -> list:
            self.items[rank] = items
            self.barrier.wait()
            everything = [item for own in self.items for item in own]
            self.barrier.wait()
            return everything

        return gather


def draw(
    world: int,
    bad: set[int],
    *,
    n: int = 4,
    steps: int = 3,
    size: int = 13,
    most: int = 99,
    long: set[int] | None = None,
):
    """Return the ids of each step, and the sources of bad records, as all processes see them."""

    def prepare(record: Record) -> None:
        if int(record.id) in bad:
            raise DataError(f"{record.id}.png: image not found")
        if int(record.id) in (long or ()):
            raise OverlongError("the prompt has 9 tokens")

    together, drawings, taken = Together(world), [], [[[] for _ in range(world)] for _ in range(steps)]
    for rank in range(world):
        stream = PromptStream([records(size)], seed=1)
        drawings.append(Drawing(stream, most, rank, world, together.gather_of(rank), {}, long is not None))

    def run(rank: int) -> None:
        for step in range(steps):
            numbers, own = drawings[rank].next(n, step + 1, prepare, lambda lines: None)
            taken[step][rank] = list(zip(numbers, (record.id for record in own), strict=True))

    threads = [Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(drawing.state_dict() == drawings[0].state_dict() for drawing in drawings)
    return [[one for own in step for one in own] for step in taken], list(drawings[0].bad)


@given(bad=st.sets(st.integers(0, 12), max_size=6))
def test_the_number_of_processes_does_not_matter(bad: set[int]) -> None:
    one, counted = draw(1, bad)
    assert draw(2, bad) == (one, counted)
    assert draw(4, bad) == (one, counted)
    ids = [int(name) for step in one for _, name in step]
    assert not bad & set(ids)
    assert len(ids) == 12
    assert {int(source.partition(":")[2]) for source in counted} <= bad
    assert len(set(counted)) == len(counted), "each is counted once, in all epochs"


def test_the_place_of_a_bad_record_is_filled_and_the_others_stay() -> None:
    good, _ = draw(1, set(), steps=1)
    second = int(good[0][1][1])
    replaced, counted = draw(1, {second}, steps=1)
    assert counted == [f"a.jsonl:{second}"]
    assert [replaced[0][k] for k in (0, 2, 3)] == [good[0][k] for k in (0, 2, 3)]
    assert replaced[0][1][0] == 4, "the fifth draw"


def alone(most: int) -> Drawing:
    return Drawing(PromptStream([records(6)], seed=1), most, 0, 1, lambda items: items, {})


def refuse(record: Record) -> None:
    raise DataError("image not found")


def test_it_ends_when_too_many_or_all_are_bad() -> None:
    with pytest.raises(DataError, match="That makes 2 bad records, more than 1"):
        alone(1).next(2, 1, refuse, lambda lines: None)
    with pytest.raises(DataError, match="no record can be used any more"):
        alone(6).next(2, 1, refuse, lambda lines: None)


def test_lines_are_told_before_they_are_counted() -> None:
    drawing, told = alone(1), []
    with pytest.raises(DataError):
        drawing.next(2, 1, refuse, lambda lines: told.append((list(lines), dict(drawing.bad))))
    ((lines, counted),) = told
    assert len(lines) == 2
    assert counted == {}


def test_a_lost_file_is_no_bad_record() -> None:
    def lost(record: Record) -> None:
        raise DataFileError("a.jsonl: can no longer be read")

    with pytest.raises(DataFileError):
        alone(6).next(2, 1, lost, lambda lines: None)


@given(long=st.sets(st.integers(0, 12), max_size=6), bad=st.sets(st.integers(0, 12), max_size=3))
def test_records_that_are_too_long_are_skipped_alike_and_count_apart(long: set[int], bad: set[int]) -> None:
    """The same records are drawn as if the long ones were bad, but only the bad ones count as bad."""
    whole, skipped = draw(1, bad | long)
    for world in (1, 2, 4):
        taken, counted = draw(world, bad, long=long)
        assert taken == whole
        assert counted == [source for source in skipped if int(source.partition(":")[2]) in bad]


def too_long(record: Record) -> None:
    if record.id in "024":
        raise OverlongError("the prompt has 9 tokens")


def test_long_records_have_no_limit_and_are_counted_whenever_they_are_drawn() -> None:
    drawing = Drawing(PromptStream([records(6)], seed=1, shuffle=False), 0, 0, 1, lambda items: items, {}, True)
    told: list[str] = []
    taken = [record.id for _ in range(4) for record in drawing.next(3, 1, too_long, told.extend)[1]]
    assert taken == ["3", "1", "5"] * 4  # 0 1 2, then 3 and 4, then 5: six draws a step
    assert (drawing.n_overlong, drawing.bad, told) == (12, {}, [])
    assert drawing.state_dict() == {
        "stream": {"drawn": [24], "records": [6]},
        "bad_records": [],
        "overlong_prompts": 12,
    }
    again = Drawing(PromptStream([records(6)], seed=1, shuffle=False), 0, 0, 1, lambda items: items, {}, True)
    again.load_state_dict(drawing.state_dict())
    assert again.state_dict() == drawing.state_dict()
    assert again.next(3, 5, too_long, told.extend)[0] == [27, 25, 29]


def test_without_the_filter_a_long_record_is_bad() -> None:
    with pytest.raises(DataError, match="That makes 2 bad records, more than 1"):
        Drawing(PromptStream([records(6)], seed=1, shuffle=False), 1, 0, 1, lambda items: items, {}).next(
            3, 1, too_long, lambda lines: None
        )


def test_it_ends_when_all_are_too_long() -> None:
    def refuse_all(record: Record) -> None:
        raise OverlongError(f"{record.source}: record {record.id}: the prompt has 9 tokens")

    drawing = Drawing(PromptStream([records(6)], seed=1), 0, 0, 1, lambda items: items, {}, True)
    with pytest.raises(DataError, match=r"no record can be used any more: (?s:.*)the prompt has 9 tokens"):
        drawing.next(2, 1, refuse_all, lambda lines: None)
