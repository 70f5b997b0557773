"""The answers of a run as data for the page's script, which filters, orders and draws them.

There is a source for each held-out set, whose items are records with an answer at each moment, and one for the
training, whose items are groups. A source has parts; a part is inside the page, or in a file beside it if the page
would be large.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm_r1.data.image_paths import ImagePaths
from vlm_r1.errors import CheckpointError
from vlm_r1.evaluation.samples import Sample
from vlm_r1.parsing.json_values import is_number
from vlm_r1.report.answer_cards import THUMBNAIL_SIDE_PX, RowWriter, shown_place
from vlm_r1.report.answers import verdict
from vlm_r1.report.drawing import LABEL_LIMIT
from vlm_r1.report.excerpt import visible
from vlm_r1.report.groups import MAX_COMPLETIONS, Scale
from vlm_r1.report.held_out import HeldOut, Key, Moment, keyed, reading
from vlm_r1.report.images import checked_data_url
from vlm_r1.report.tables import readable
from vlm_r1.runtime.rollout_log import RolloutRow, read_rollouts

MAX_STEPS = 128  # steps of the training whose groups are items, evenly from the first to the last
MAX_MOMENTS = 8  # evaluations of a set whose answers are shown: the first, the last, and evenly between
MAX_RECORDS = 2000  # records of a held-out set that are items: those that changed most, in both directions
MAX_PICTURES = 1000  # pictures of a source; the boxes of other items stand on an empty canvas
PICTURE_BYTES = 1_500_000  # of the pictures of a source
STEPS_PER_PART = 16
_LARGEST = 1e12  # of a reward

Item = dict[str, Any]


@dataclass
class Source:
    """What one can look through: a held-out set, or the training.

    Attributes:
        name: for people.
        kind: "held" or "train".
        sides: whose answers the items hold: the moments of a held-out set, the numbers of completions.
        parts: the items, in parts.
        note: what is left out; "" if nothing is.
    """

    name: str
    kind: str
    sides: list[str]
    parts: list[list[Item]]
    note: str = ""


@dataclass
class Words:
    """Words that items point to by number."""

    numbers: dict[str, int] = field(default_factory=dict[str, int])

    def __call__(self, word: str) -> int:
        """Return the number of a word."""
        return self.numbers.setdefault(visible(word[:LABEL_LIMIT]), len(self.numbers))


@dataclass
class Explorer:
    """All sources, and the tasks and reasons that their items point to."""

    sources: list[Source]
    tasks: Words
    reasons: Words


def explore(
    sets: Sequence[HeldOut], rollouts: Mapping[int, Path], scale: Scale, images: ImagePaths, problems: list[str]
) -> Explorer:
    """Collect the items of all sources.

    Args:
        sets: of `held_out_sets`.
        rollouts: step → its Parquet file.
        scale: colours of rewards.
        images: where pictures may lie.
        problems: gets a sentence for each file that cannot be read; its answers are left out.
    """
    made = Explorer([], Words(), Words())
    writer = _Writer(made, images)
    for one in sets:
        source = _held_out(one, writer, problems)
        made.sources += [source] if source is not None else []
    made.sources += [_training(rollouts, scale, writer, problems)] if rollouts else []
    return made


@dataclass
class _Writer:
    """Makes items."""

    explorer: Explorer
    images: ImagePaths
    urls: dict[str, str | None] = field(default_factory=dict[str, str | None])

    def item(self, group: str, samples: Mapping[str, Sample], main: str) -> Item:
        """Return an item without its picture; see `RowWriter.row` for its short keys.

        Beside them "j" is its task, and each answer has its verdict "f", its reward "r", and its side "s".
        """
        row = RowWriter(main, {}, {group: 0}, {}, 1).row(group, samples, None)
        row["j"] = self.explorer.tasks(next(iter(samples.values())).task)
        for answer, sample in zip(row["a"], samples.values(), strict=True):
            answer.pop("v", None)
            answer |= {"f": self.explorer.reasons(verdict(sample, main)), "r": _reward(sample)}
        return {key: value for key, value in row.items() if key not in ("k", "l", "z")}

    def add_pictures(self, items: Sequence[tuple[Item, Sample]]) -> None:
        """Give pictures to the first items: `MAX_PICTURES` different ones of `PICTURE_BYTES` in all, at most."""
        self.urls.clear()
        left = PICTURE_BYTES
        for item, sample in items:
            if not sample.images:
                continue
            name = sample.images[shown_place(sample)]
            if name not in self.urls and len(self.urls) < MAX_PICTURES and left > 0:
                self.urls[name] = checked_data_url(name, THUMBNAIL_SIDE_PX, self.images)[0]
            if (url := self.urls.get(name)) and left > 0:
                item["u"] = url
                left -= len(url)


def evenly(things: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` things: the first, the last, and evenly between.

    >>> evenly(range(10), 4), evenly("ab", 5)
    ([0, 3, 6, 9], ['a', 'b'])
    """
    if len(things) <= count:
        return list(things)
    return [things[round(place * (len(things) - 1) / (count - 1))] for place in range(count)]


def _held_out(one: HeldOut, writer: _Writer, problems: list[str]) -> Source | None:
    moments: list[Moment] = evenly([moment for moment in one.moments if moment.path is not None], MAX_MOMENTS)
    if not moments:
        return None
    last = reading(moments[-1], problems, lambda key: True)
    wanted, left = _most_changed(one, last)
    order = {key: place for place, key in enumerate(wanted)}
    by_moment = {moment.name: reading(moment, problems, order.__contains__) for moment in moments[:-1]}
    by_moment[moments[-1].name] = last
    made: list[tuple[Item, Sample]] = []
    for key in wanted:
        samples = {name: found[key] for name, found in by_moment.items() if key in found}
        item = writer.item(one.dataset, samples, one.main)
        for answer, name in zip(item["a"], samples, strict=True):
            answer["s"] = list(by_moment).index(name)
        made.append((item, next(reversed(samples.values()))))
    writer.add_pictures([made[place] for place in _from_both_ends(len(made))])
    notes = [f"{left:,} records that changed least are left out." if left else ""]
    notes += [f"{len(moments)} of {len(one.moments)} evaluations are shown." if len(moments) < len(one.moments) else ""]
    name = f"held out: {readable(visible(one.dataset[:LABEL_LIMIT]))}"
    return Source(name, "held", list(by_moment), [[item for item, _ in made]], " ".join(filter(None, notes)))


def _most_changed(one: HeldOut, last: Mapping[Key, Sample]) -> tuple[list[Key], int]:
    """Return the keys of the records to show, the most improved first, and how many are left out."""
    if one.change is None:
        keys = list(last)
    else:
        paired = [key for key, _ in keyed(pair.first for pair in one.change.pairs)]
        keys = [key for key in (paired[place] for place in one.change.order) if key in last]
    left = max(0, len(keys) - MAX_RECORDS)
    return [*keys[: MAX_RECORDS // 2], *keys[MAX_RECORDS // 2 + left :]], left


def _from_both_ends(n: int) -> Iterator[int]:
    """Yield 0, n − 1, 1, n − 2, …: of an order by change, the greatest changes in both directions first.

    >>> list(_from_both_ends(5))
    [0, 4, 1, 3, 2]
    """
    for place in range((n + 1) // 2):
        yield from dict.fromkeys((place, n - 1 - place))


def _training(rollouts: Mapping[int, Path], scale: Scale, writer: _Writer, problems: list[str]) -> Source:
    steps: list[int] = evenly(sorted(rollouts), MAX_STEPS)
    by_step: list[list[tuple[Item, Sample]]] = []
    n_sides, left = 0, 0
    for step in steps:
        by_step.append([])
        for _, group in itertools.groupby(_rows(rollouts[step], problems), key=lambda row: row.group):
            rows = list(group)
            left += len(rows[MAX_COMPLETIONS:])
            rows = rows[:MAX_COMPLETIONS]
            n_sides = max(n_sides, *(row.completion + 1 for row in rows))
            by_step[-1].append((_group(step, rows, scale, writer), _sample(rows[0])))
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*by_step))
    writer.add_pictures([made for made in in_turn if made is not None])
    starts = range(0, len(steps), STEPS_PER_PART)
    parts = [[item for step in by_step[start : start + STEPS_PER_PART] for item, _ in step] for start in starts]
    skipped = len(rollouts) - len(steps)
    notes = [f"Groups of {len(steps):,} of the {len(rollouts):,} steps on file, evenly spread." if skipped else ""]
    notes += [f"{left:,} completions of large groups are left out." if left else ""]
    sides = [f"#{number + 1}" for number in range(min(n_sides, 10_000))]
    return Source("training", "train", sides, parts, " ".join(filter(None, notes)))


def _rows(path: Path, problems: list[str]) -> list[RolloutRow]:
    """Return the completions of a step; none, and a problem, if the file is damaged."""
    try:
        return read_rollouts(path)
    except CheckpointError as error:
        problems.append(f"Answers: {error}")
        return []


def _group(step: int, rows: Sequence[RolloutRow], scale: Scale, writer: _Writer) -> Item:
    samples = {f"#{row.completion + 1}": _sample(row) for row in rows}
    main = next((name for row in rows for name in row.metrics), "")
    item = writer.item("training", samples, main)
    for answer, row in zip(item["a"], rows, strict=True):
        answer |= {"s": row.completion, "e": scale.colour(row.reward)}
    return item | {"s": step}


def _sample(row: RolloutRow) -> Sample:
    """Return a completion as a sample: they hold the same."""
    return Sample(
        record_id=row.record_id,
        source=row.source,
        task=row.task,
        problem=row.problem,
        images=row.images,
        image_sizes=row.image_sizes,
        input_sizes=row.input_sizes,
        box_format=row.box_format,
        template=row.template,
        gold=row.gold,
        text=row.text,
        answer=row.answer,
        reason=row.reason,
        metrics=row.metrics,
        parts=row.parts,
        tokens=row.tokens,
        stop_reason=row.stop_reason,
        context=row.context,
        row={"reward": row.reward},
    )


def _reward(sample: Sample) -> float | None:
    """Return the reward of an answer, to two decimals; None if it has none."""
    value: Any = sample.row.get("reward")
    return round(float(value), 2) if is_number(value) and abs(value) < _LARGEST else None
