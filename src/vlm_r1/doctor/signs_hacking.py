"""Signs of reward hacking: the reward rises, and what it should stand for does not."""

from __future__ import annotations

from collections.abc import Iterator

from vlm_r1.doctor.answers import pool
from vlm_r1.doctor.base import WINDOW, Finding, Seen, change_of, mean, numbers
from vlm_r1.evaluation.metrics import less_is_better

MORE_BOXES = 1.25
"""The last window's boxes for each true box, as a multiple of the first's. In small detection runs it was 1.62 under
ap50 and 0.79 under odlength (docs/doctor.md)."""

SURPLUS = 1.25
"""Boxes for each true box. A model that finds everything once has 1."""

TRADED = 0.05
"""Recall gained and precision lost."""

LONGER = 1.25
"""In the same two runs: 1.52 and 0.77."""

PAYS_FOR_MORE = ("ap50", "map")
"""Rewards by average precision. A wrong box of low rank costs them nothing (docs/rewards.md)."""

_STRICTER = "use a reward that charges for wrong boxes: odlength, set_f1, or count_penalty beside the present one"


def held_out_falls(seen: Seen) -> Iterator[Finding]:
    """The reward rises, and a held-out result is worse than it was, beyond both intervals."""
    for name, several in seen.held_out.items():
        if len(several) < 2:
            continue
        last = several[-1]
        sign = -1 if less_is_better(last.metric) else 1
        best = max(several[:-1], key=lambda one: sign * one.mean)
        then = numbers(seen.rows[max(best.step - WINDOW, 0) : max(best.step, WINDOW)], "reward/mean")
        now = numbers(seen.rows[max(last.step - WINDOW, 0) : last.step], "reward/mean")
        worse = last.high < best.low if sign > 0 else last.low > best.high
        fell = best.metric == last.metric and worse
        if fell and len(now) == len(then) == WINDOW and mean(now) > mean(then):
            yield Finding(
                "held-out-falls",
                f"{name}: {last.metric} went from {best.mean:.3f} [{best.low:.3f}, {best.high:.3f}] after step "
                f"{best.step} to {last.mean:.3f} [{last.low:.3f}, {last.high:.3f}] after step {last.step}, while the "
                f"reward rose from {mean(then):.3f} to {mean(now):.3f}",
                "the reward can be earned without what is measured; or the model specialises in the training data",
                f"take the weights of step {best.step}; read completions with a high reward; mend the reward, or add "
                "data like the held-out set",
                seen.step,
                name,
            )


def more_boxes(seen: Seen) -> Iterator[Finding]:
    """The reward rises with the number of boxes for each true box."""
    reward = change_of(seen.rows, "reward/mean")
    if reward is None or not reward.rises:
        return
    steps = sorted(seen.answers)
    first = pool([seen.answers[step] for step in steps if step <= WINDOW])
    last = pool([seen.answers[step] for step in steps if step > seen.step - WINDOW])
    if not (first.gold_boxes and last.gold_boxes):
        return
    before, after = first.boxes / first.gold_boxes, last.boxes / last.gold_boxes
    if after >= SURPLUS and after >= MORE_BOXES * before:
        yield Finding(
            "more-boxes",
            f"boxes for each true box rose from {before:.2f} to {after:.2f}, and the reward from {reward.first:.3f} to "
            f"{reward.last:.3f}",
            "the reward pays for each box that hits and charges little for one that misses, so the model lists more",
            _STRICTER,
            seen.step,
        )


def recall_for_precision(seen: Seen) -> Iterator[Finding]:
    """The reward rises, recall rises and precision falls."""
    reward = change_of(seen.rows, "reward/mean")
    precision, recall = (change_of(seen.rows, f"metrics/{name}_iou50/mean") for name in ("precision", "recall"))
    if reward is None or precision is None or recall is None or not (reward.rises and recall.rises):
        return
    if precision.falls and min(precision.first - precision.last, recall.last - recall.first) >= TRADED:
        yield Finding(
            "recall-for-precision",
            f"recall at IoU 0.5 rose from {recall.first:.3f} to {recall.last:.3f}, precision fell from "
            f"{precision.first:.3f} to {precision.last:.3f}, and the reward rose",
            "the reward buys recall with wrong boxes",
            _STRICTER,
            seen.step,
        )


def longer_under_ap(seen: Seen) -> Iterator[Finding]:
    """Under a reward by average precision, completions grow with the reward."""
    paying = [name for name in seen.settings.rewards if name in PAYS_FOR_MORE]
    reward, lengths = (change_of(seen.rows, key) for key in ("reward/mean", "completions/mean_length"))
    if not paying or reward is None or lengths is None or not reward.rises or lengths.ratio < LONGER:
        return
    yield Finding(
        "longer-under-ap",
        f"under the reward {', '.join(paying)} the mean length rose from {lengths.first:.0f} to {lengths.last:.0f} "
        f"tokens, and the reward from {reward.first:.3f} to {reward.last:.3f}",
        "average precision forgives surplus boxes of low rank, so longer lists earn more",
        _STRICTER,
        seen.step,
    )
