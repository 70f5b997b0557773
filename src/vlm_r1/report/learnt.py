"""What a run has learnt, in sentences that are true of every run: also of one that learnt nothing or was not measured.

A sentence claims a change only if the 95 % interval of the paired difference leaves out 0 (`HeldOut.trend`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from vlm_r1.report.figures import number
from vlm_r1.report.held_out import MIN_PICTURES, Change, HeldOut, Moment
from vlm_r1.report.read import Estimate, Run, lookup
from vlm_r1.report.tables import claim, is_share, readable

_TREND = {1: "It learnt", -1: "It got worse", 0: "No clear change"}
_TOTAL = {"grpo": ("reward/mean", "The reward of its answers in training"), "sft": ("loss", "The loss in training")}


@dataclass(frozen=True)
class Learnt:
    """The top of a run's page: one sentence, then some that a newcomer can read; `others` are on further sets."""

    headline: str
    told: tuple[str, ...]
    others: tuple[str, ...] = ()


def learnt(run: Run, sets: Sequence[HeldOut], doubted: Collection[str] = ()) -> Learnt:
    """Return the sentences about a run.

    Args:
        sets: its held-out sets, from `held_out_sets`; the first one makes the headline.
        doubted: names of those whose better result a finding of the doctor calls into doubt; "" stands for all.
    """
    told = [_how(run), *(_measured(sets[0]) if sets else _unmeasured(run))]
    others = map(_other, sets[1:])
    in_doubt = bool(sets) and ("" in doubted or sets[0].dataset in doubted)
    first = headline(run, sets[0] if sets else None, in_doubt)
    return Learnt(first, tuple(filter(None, told)), tuple(filter(None, others)))


def headline(run: Run, first: HeldOut | None, in_doubt: bool = False) -> str:
    """Return what was learnt in one sentence, which does not say that it learnt if that is in doubt."""
    if first is None or not first.main:
        return "Nothing was measured on held-out records, so nobody can say from this page whether the model learnt."
    before, latest = first.before, first.latest
    if latest is None:
        return f"Before training, {_value(first, before)}; nothing has been measured since."
    now = f"{_when(run, latest)}{_value(first, latest.evaluation.metrics.get(first.main))}"
    if before is None:
        return f"{now[:1].upper()}{now[1:]}; nothing was measured before training, so there is nothing to compare."
    if first.change is None:
        return f"{now[:1].upper()}{now[1:]}, before training {_number(before.mean, first.main)}."
    if not first.change.unpaired and (_is_still(first.change) or _main_is_still(first.change)):
        start = "Nothing changed" if _is_still(first.change) else "No clear change"
        return f"{start}: {now}, as before training."
    start = "Too few records to tell" if first.change.pictures < MIN_PICTURES else _TREND[first.trend]
    if in_doubt and first.trend > 0:
        start = "A higher number, but see the findings"
    return f"{start}: {now}, before training {_number(before.mean, first.main)}."


def planned_steps(run: Run) -> int | None:
    """Return how many steps the run was to have, if this is known and can be a number of steps."""
    by_epochs = lookup(run.config, "training", "num_train_epochs") is not None
    planned = lookup(run.environment, "steps") if by_epochs else lookup(run.config, "training", "max_steps")
    return planned if isinstance(planned, int) and 0 < planned < 10**15 else None


def _value(held_out: HeldOut, estimate: Estimate | None) -> str:
    """The main metric as a clause, e.g. "the box is right (IoU above 0.5) in 63.5 % of the answers to 512 …"."""
    n = held_out.moments[-1].evaluation.n
    records = f"{n:,} held-out {'record' if n == 1 else 'records'}"
    value = _number(estimate.mean if estimate else math.nan, held_out.main)
    if is_share(held_out.main):
        return f"{claim(held_out.main)} in {value} of the answers to {records}"
    return f"{readable(held_out.main)} is {value} on {records}"


def _when(run: Run, latest: Moment) -> str:
    """Say after which step an evaluation was made if it is not the one after training."""
    if latest.name == "after":
        return ""
    planned = planned_steps(run)
    of = f" of {planned:,}" if planned is not None and latest.step < planned else ""
    return f"after step {latest.step:,}{of}, "


def _how(run: Run) -> str:
    """Say how the model was trained; "" before its first step."""
    done, kinds = len(run.metrics), {str(row.get("stage")) for row in run.metrics}
    steps = f"{done:,} step{'' if done == 1 else 's'}"
    planned = planned_steps(run)
    of = f" of {planned:,} planned" if planned is not None and done < planned else ""
    if kinds == {"grpo"}:
        G = lookup(run.config, "grpo", "num_generations")
        each = f", {G:,} to each question" if isinstance(G, int) and 1 < G < 10**6 else ""
        return (
            f"In {steps}{of}, the model wrote answers of its own{each}; rules gave each a reward, and training makes "
            "likelier what earns more. It was not shown the right answers."
        )
    if kinds == {"sft"}:
        return f"In {steps}{of}, the model was trained to write the right answers of its data (supervised training)."
    return f"The model was trained for {steps}{of}." if done else ""


def _measured(first: HeldOut) -> Iterator[str]:
    """Yield how sure the headline is, and how many answers became better and worse."""
    change = first.change
    if first.before is None or first.latest is None:
        return
    if change is None:
        yield "The answers of both evaluations are not on file, so nobody can say whether the difference is chance."
        return
    yield _certainty(first, change)
    yield _counts(change)


def _certainty(first: HeldOut, change: Change) -> str:
    if change.ci95 is None:
        return "No answer has this metric in both evaluations, so nobody can say whether the difference is chance."
    if _is_still(change):
        return "Every answer is as good as before training."
    if _main_is_still(change):
        return f"The {readable(first.main)} of every answer is as before training; other metrics of some are not."
    apart, interval = difference_text(change.difference, change.ci95, first.main)
    if change.pictures < MIN_PICTURES:
        return (
            f"The difference is {apart}, but {change.pictures} "
            f"{'picture is' if change.pictures == 1 else 'pictures are'} too few to tell it from chance."
        )
    sure = "chance does not explain it" if first.trend else "this interval contains 0: it may be chance"
    return f"The difference is {apart}, with 95 % confidence between {interval}: {sure}."


def _counts(change: Change) -> str:
    """E.g. "Of 512 answers, 327 are better than before, 73 are worse and 112 are as good"."""
    text = (
        f"Of {len(change.pairs):,} answers, {change.better:,} are better than before, {change.worse:,} worse, and "
        f"{change.same:,} as good."
    )
    left = f" {change.unpaired:,} answers of one evaluation are not in the other." if change.unpaired else ""
    return text + left


def _other(held_out: HeldOut) -> str:
    """Say the same of a further set, in one sentence."""
    name, latest, before = readable(held_out.dataset), held_out.latest, held_out.before
    if not held_out.main:
        return ""
    if latest is None:
        return f"On {name}: {_value(held_out, before)} before training; nothing has been measured since."
    now = f"On {name}: {_value(held_out, latest.evaluation.metrics.get(held_out.main))}"
    if before is None:
        return f"{now}; not measured before training."
    change = held_out.change
    sure = ""
    if change is not None and change.ci95 is not None and not _is_still(change):
        _, interval = difference_text(change.difference, change.ci95, held_out.main)
        may_be = "" if held_out.trend else ", which may be chance"
        sure = f" (difference between {interval}{may_be})" if change.pictures >= MIN_PICTURES else " (too few to tell)"
    return f"{now}, before training {_number(before.mean, held_out.main)}{sure}."


def _unmeasured(run: Run) -> Iterator[str]:
    """Yield how the run's own number went, and what to do to know more."""
    rows = [row for row in run.metrics if row.get("stage") == (run.metrics[-1].get("stage") if run.metrics else None)]
    key, name = _TOTAL.get(str(rows[-1].get("stage")) if rows else "", ("", ""))
    values = [float(row[key]) for row in rows if isinstance(row.get(key), int | float) and abs(float(row[key])) < 1e15]
    tenth = max(1, len(values) // 10)
    if len(values) > 1:
        first, last = (number(math.fsum(part) / tenth) for part in (values[:tenth], values[-tenth:]))
        over = f", means over {tenth:,} steps" if tenth > 1 else ""
        yield f"{name} went from {first} at the start to {last} at the end{over}; this is no test on unseen records."
    yield "Held-out sets in `data.eval` of the recipe are measured before and after training."


def difference_text(difference: float, ci95: tuple[float, float], metric: str) -> tuple[str, str]:
    """Return a difference and its interval as texts.

    >>> difference_text(0.39, (0.34, 0.441), "accuracy_iou50")
    ('+39.0 points', '+34.0 and +44.1 points')
    >>> difference_text(-0.0123, (-0.1, 0.05), "iou")
    ('−0.012', '−0.100 and +0.050')
    """
    scale, form, unit = (100, "+.1f", " points") if is_share(metric) else (1, "+.3f", "")
    low, high = (f"{scale * end:{form}}" for end in ci95)
    return f"{scale * difference:{form}}{unit}".replace("-", "−"), f"{low} and {high}{unit}".replace("-", "−")


def _is_still(change: Change) -> bool:
    """Return whether no answer is better or worse."""
    return not change.better and not change.worse


def _main_is_still(change: Change) -> bool:
    """Return whether the main metric of no answer changed."""
    return change.ci95 is not None and not change.n_changed


def _number(value: float, metric: str) -> str:
    return number(value, percent=is_share(metric), decimals=None if is_share(metric) else 3)
