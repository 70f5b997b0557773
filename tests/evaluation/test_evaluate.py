"""Which records are asked, what is kept, and what is said when no answer has the asked form."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from vlm_r1.errors import DataError
from vlm_r1.evaluation.answers import AnswerLog
from vlm_r1.evaluation.evaluate import Answers, Share, answer_all, choose_records, form_doubt, resolve_protocol
from vlm_r1.evaluation.protocol import Subset, as_protocol
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import Record

RECORDS = [Record(str(n), "rec", "the dog", (), [0, 0, 1, 1], source=f"a.jsonl:{n}") for n in range(20)]


def row(place: int) -> dict[str, Any]:
    return {"task": "rec", "text": f"answer {place}", "metrics": {"iou": place / 20}, "parts": {"format": 0.0}}


def answers(records: Sequence[Record], places: Sequence[int]) -> Iterator[Answers]:
    """Three at once, the last first, as a server with many requests may answer."""
    for start in range(0, len(places), 3):
        yield [(place, [row(place)]) for place in reversed(places[start : start + 3])]


def no_answers(records: Sequence[Record], places: Sequence[int]) -> Iterator[Answers]:
    assert not places, "these were answered before"
    return iter(())


def test_a_subset_is_that_of_pythons_shuffle_of_the_records() -> None:
    shuffled = list(RECORDS)
    random.seed(42)
    random.shuffle(shuffled)  # as the original's script does it
    assert choose_records(RECORDS, Subset(n=7, seed=42)) == shuffled[:7]
    assert choose_records(RECORDS, Subset(n=7)) == RECORDS[:7]
    assert choose_records(RECORDS, Subset(n=70, seed=42)) == shuffled
    assert choose_records(RECORDS, None) == RECORDS


def test_rows_are_in_the_order_of_the_records_and_are_asked_once(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, "val", {"model": "a"})
    shown: list[tuple[int, list[str]]] = []

    def advance(n: int, pieces: Sequence[str]) -> None:
        shown.append((n, [*pieces]))

    expected = [row(place) for place in range(20)]
    assert answer_all(RECORDS, answers, log, Share(), advance) == expected
    assert sum(n for n, _ in shown) == 20
    assert shown[0][1] == []
    assert shown[-1][1] == ["iou 0.47"], "the mean of 0, 0.05, …, 0.95 is 0.475"
    assert answer_all(RECORDS, no_answers, log, Share(), advance) == expected


def test_each_process_answers_its_share(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, "val", {"model": "a"})
    asked: list[list[int]] = []

    def noted(records: Sequence[Record], places: Sequence[int]) -> Iterator[Answers]:
        asked.append(list(places))
        yield from answers(records, places)

    assert answer_all(RECORDS, noted, log, Share(1, 2), lambda n, numbers: None) is None
    assert answer_all(RECORDS, noted, log, Share(0, 2), lambda n, numbers: None) == [row(n) for n in range(20)]
    assert asked == [list(range(1, 20, 2)), list(range(0, 20, 2))]


def test_records_without_an_answer_are_no_zeros(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, "val", {"model": "a"})

    def some(records: Sequence[Record], places: Sequence[int]) -> Iterator[Answers]:
        yield [(place, [row(place)]) for place in places if place not in (3, 5)]

    with pytest.raises(DataError, match=r"2 records have no answer, the first one a\.jsonl:3"):
        answer_all(RECORDS, some, log, Share(), lambda n, numbers: None)


def test_the_resolved_protocol_leaves_nothing_open() -> None:
    protocol = as_protocol({"name": "a", "title": "A", "data": {"set": "s"}}, "")
    content = resolve_protocol(protocol, TEMPLATES["r1"], 99, RECORDS, "5f")
    assert (content["task"], content["decoding"]["max_completion_length"]) == ("rec", 99)
    assert content["data"] | {"asked": 20, "hash": "5f"} == content["data"]
    assert content["template"]["instruction"] == TEMPLATES["r1"].instruction
    assert content["template"]["thinking"] == "required"


@pytest.mark.parametrize(
    ("forms", "said"),
    [
        ([0.0] * 120, "first 100 answers"),
        ([0.0] * 3, "first 3 answers"),
        ([0.0, 1.0], None),
        ([], None),
        ([None], "1 "),
    ],
)
def test_a_wrong_form_is_said(forms, said) -> None:
    told = form_doubt([{"parts": {"format": form}} for form in forms], "r1", "mine")
    assert (told is None) is (said is None)
    assert told is None or (said in told and "trained with mine" in told)


def test_an_answer_after_the_first_hundred_does_not_help() -> None:
    assert form_doubt([{"parts": {"format": float(n == 100)}} for n in range(120)], "r1", None)
