"""k answers to one record: pass@k, and the answer of the majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from math import comb

from vlm_r1.evaluation.samples import Sample
from vlm_r1.parsing.normal_form import normalize_text

_RIGHT_OR_WRONG = ("accuracy", "all_right", "presence_accuracy")
"""Beginnings of the names of metrics that are 1 for a right answer and 0 for a wrong one."""

_VOTED = frozenset(("choice", "yes_no", "counting", "vqa", "document", "classification", "gui_defect", "math"))
"""Tasks whose answers can be equal. Boxes and points hardly ever are, so they have no majority."""


def over_draws(samples: Sequence[Sample], values: Sequence[Mapping[str, float]], k: int) -> dict[str, float]:
    """Return pass@k and majority@k of one record.

    Args:
        samples: its answers in the order of their draws, at least k.
        values: the metrics of each.
        k: the number of draws.
    """
    names = [name for name in values[0] if name.startswith(_RIGHT_OR_WRONG)]
    passed = {f"{name}_pass@{k}": pass_at(k, [own.get(name, 0.0) > 0 for own in values]) for name in names}
    if samples[0].task not in _VOTED:
        return passed
    winner = majority(samples[:k])
    names = [*names, *(name for name in samples[0].metrics if name not in names)]
    voted = {f"{name}_majority@{k}": 0.0 if winner is None else values[winner].get(name, 0.0) for name in names}
    return {**passed, **voted}


def pass_at(k: int, right_N: Sequence[bool]) -> float:
    """Estimate without bias how likely at least one of k answers is right, from N ≥ k answers.

    1 − C(N − right, k) / C(N, k). Source: Chen et al. 2021, arXiv 2107.03374, eq. 1.

    >>> pass_at(2, [True, False, False, False])  # 1 − 3 / 6
    0.5
    """
    return 1.0 - comb(len(right_N) - sum(right_N), k) / comb(len(right_N), k)


def majority(samples: Sequence[Sample]) -> int | None:
    """Return the index of the first answer that equals most others, of equally many the earlier; None: none was read.

    Texts are equal in their normal form, also formulas: 1/2 and 0.5 are two answers. What was not read has no vote.
    """
    votes: list[Hashable] = [None if sample.answer is None else _form(sample) for sample in samples]
    counts = Counter(vote for vote in votes if vote is not None)
    return votes.index(counts.most_common(1)[0][0]) if counts else None


def _form(sample: Sample) -> Hashable:
    answer = sample.answer
    return normalize_text(answer) if isinstance(answer, str) else repr(answer)
