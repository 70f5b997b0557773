"""The held-out records that a run's page draws at its top, before and after, at fixed quantiles of the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlm_r1.data.image_paths import ImagePaths
from vlm_r1.report.answer_cards import Card, card
from vlm_r1.report.answers import at_quantiles, by_quality, judged
from vlm_r1.report.drawing import LABEL_LIMIT
from vlm_r1.report.excerpt import visible
from vlm_r1.report.held_out import Change, HeldOut
from vlm_r1.report.tables import readable

CHANGES = {"best": "most improved", "worst": "most spoiled"}
"""Names of the ends of an order by change."""

_FIRST = ("best", "85 %", "50 %", "25 %", "5 %", "worst")  # places of the first set, in order
_FURTHER = ("best", "50 %", "worst")  # of the sets after it


@dataclass(frozen=True)
class ShownSet:
    """The cards of a set, and what they are."""

    name: str
    note: str
    cards: tuple[Card, ...]

    @property
    def has_boxes(self) -> bool:
        """True if a box is drawn."""
        return any(card.has_boxes for card in self.cards)


def shown_sets(sets: Sequence[HeldOut], images: ImagePaths) -> tuple[ShownSet, ...]:
    """Return the sets that have answers on file; the first one has more cards than the others.

    Args:
        images: where pictures may lie.
    """
    shown = [_shown_set(one, images, is_first=place == 0) for place, one in enumerate(sets)]
    return tuple(one for one in shown if one.cards)


def latest_name(sets: Sequence[HeldOut]) -> str:
    """Return the name of the latest evaluation of the first set: "after", or "step 60" of a run that has not ended."""
    latest = sets[0].latest if sets else None
    return latest.name if latest is not None else "after"


def _shown_set(one: HeldOut, images: ImagePaths, *, is_first: bool) -> ShownSet:
    name = readable(visible(one.dataset[:LABEL_LIMIT]))
    if one.change is None:
        return _single(one, name, images, is_first=is_first)
    change, names = one.change, (one.moments[0].name, one.moments[-1].name)
    cards: list[Card] = []
    for place, which in _chosen(change.order, is_first=is_first).items():
        pair = change.pairs[which]
        cards.append(
            card(
                _ends(change).get(place, place),
                dict(zip(names, (pair.first, pair.other), strict=True)),
                one.main,
                images,
            )
        )
    note = (
        f"{change.better:,} of {len(change.pairs):,} better, {change.worse:,} worse, from {names[0]} to {names[1]}. "
        "Nobody chose the pictures: they stand at fixed places in the order of the change. The one at 85 % improved at "
        "least as much as 85 of 100 records. "
        f"Better means that the {readable(one.main)} rises, or stays while the mean of all metrics rises."
    )
    return ShownSet(name, note, tuple(cards))


def _ends(change: Change) -> dict[str, str]:
    """Return names of the ends of an order by change that are true if nothing improved, or nothing became worse."""
    best, worst = CHANGES["best"], CHANGES["worst"]
    if not change.better:
        best = "unchanged" if change.same else "least spoiled"
    if not change.worse:
        worst = "unchanged" if change.same else "least improved"
    return {"best": best, "worst": worst}


def _single(one: HeldOut, name: str, images: ImagePaths, *, is_first: bool) -> ShownSet:
    """Return cards of the latest evaluation that is on file, where there is nothing to compare."""
    moment = next((moment for moment in reversed(one.moments) if moment.path is not None), None)
    samples = list(moment.samples()) if moment is not None else []
    if moment is None or not samples:
        return ShownSet(name, "", ())
    order = by_quality(judged(samples, one.main))
    chosen = _chosen(order, is_first=is_first)
    cards = [card(place, {moment.name: samples[which]}, one.main, images) for place, which in chosen.items()]
    note = (
        f"Answers {moment.name if moment.name.startswith('step') else moment.name + ' training'}, at fixed places in "
        f"the order of all {len(samples):,}. Nobody chose them. "
        "The one at 85 % is at least as good as 85 of 100 answers."
    )
    return ShownSet(name, note, tuple(cards))


def _chosen(order: Sequence[int], *, is_first: bool) -> dict[str, int]:
    found = at_quantiles(order)
    return {name: place for name, place in found.items() if name in (_FIRST if is_first else _FURTHER)}
