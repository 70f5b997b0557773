"""The table of signs, and what they find."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vlm_r1.doctor import signs_answers, signs_hacking, signs_training
from vlm_r1.doctor.base import WINDOW, Finding, Seen, last_numbers, mean
from vlm_r1.doctor.read import read_seen

SIGNS: Mapping[str, Callable[[Seen], Iterator[Finding]]] = {
    "one-answer": signs_answers.one_answer,
    "no-spread-at-start": signs_training.no_spread_at_start,
    "dead-reward": signs_training.dead_reward,
    "no-signal": signs_training.no_signal,
    "parse-failures": signs_answers.parse_failures,
    "other-coordinates": signs_answers.other_coordinates,
    "truncated": signs_training.truncated,
    "length": signs_training.length,
    "entropy-collapse": signs_training.entropy_collapse,
    "kl-blow-up": signs_training.kl_blow_up,
    "sampler-drift": signs_training.sampler_drift,
    "held-out-falls": signs_hacking.held_out_falls,
    "more-boxes": signs_hacking.more_boxes,
    "recall-for-precision": signs_hacking.recall_for_precision,
    "longer-under-ap": signs_hacking.longer_under_ap,
}
"""Each sign, in the order in which findings are listed. `length` finds length-grows and length-collapses."""

NEAR_ZERO = 0.05


def examine(seen: Seen) -> list[Finding]:
    """Return what the signs find after the last step that is known, in the order of the table.

    A sign whose data are missing finds nothing.

    >>> from vlm_r1.doctor.base import Settings
    >>> examine(Seen(Settings()))
    []
    """
    return [finding for sign in SIGNS.values() for finding in sign(seen)]


def examine_run(folder: Path) -> list[Finding]:
    """Read a run folder and examine it; files that cannot be read are left out.

    Raises:
        CheckpointError: it is not a run folder.
    """
    return examine(read_seen(folder)[0])


def loss_note(seen: Seen) -> str:
    """Return a sentence if the loss is near 0 although groups have a signal, which is as it should be; else "".

    The advantages of a group have the mean 0, and before an update the ratios are 1, so the loss is about 0 whatever
    the model learns.
    """
    losses, uniform = last_numbers(seen, "loss"), last_numbers(seen, "groups/no_signal")
    if (
        not losses
        or not uniform
        or mean(uniform) >= signs_training.MOST_UNIFORM
        or abs(math.fsum(losses)) > NEAR_ZERO * WINDOW
    ):
        return ""
    return (
        f"A loss near 0 is normal here (mean of the last {WINDOW} steps: {mean(losses):+.4f}): the advantages of a "
        "group add up to 0. The reward says whether the model learns (docs/doctor.md#a-loss-near-0)."
    )
