"""Where stop tokens may be: by hand, for completions of one segment and of several."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vlm_r1.sampling import SamplingParams
from vlm_r1.training.trust_tokens import token_problems
from vlm_r1.types import Completion, Segment, StopReason

STOP, IMAGE, CAP = 99, 77, 6
LEARNER: Any = SimpleNamespace(
    step=0, model=None, adapter=SimpleNamespace(banned_ids=lambda: (IMAGE,), stop_ids=lambda model: (STOP,))
)


def completion(reason: StopReason, *segments: tuple[str, list[int]]) -> Completion:
    """("sampled" or "given", ids) for each segment."""
    made = tuple(Segment(tuple(ids), (-1.0,) * len(ids) if kind == "sampled" else None) for kind, ids in segments)
    return Completion(made, "", reason)


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        pytest.param(completion(StopReason.STOP, ("sampled", [5, STOP])), None, id="stops"),
        pytest.param(completion(StopReason.LENGTH, ("sampled", [5] * CAP)), None, id="reaches the cap"),
        pytest.param(completion(StopReason.STOP, ("sampled", [5, 6])), "has stop tokens at []", id="says it stops"),
        pytest.param(completion(StopReason.LENGTH, ("sampled", [5])), "has stop tokens at []", id="ends for no reason"),
        pytest.param(completion(StopReason.STOP, ("sampled", [STOP, STOP])), "stop tokens at [0, 1]", id="goes on"),
        pytest.param(
            completion(StopReason.STOP, ("sampled", [5, STOP]), ("given", [7, 8]), ("sampled", [9, STOP])),
            None,
            id="two turns",
        ),
        pytest.param(
            completion(StopReason.STOP, ("sampled", [5]), ("given", [STOP, IMAGE]), ("sampled", [9, STOP])),
            None,
            id="given tokens may be anything",
        ),
        pytest.param(
            completion(StopReason.STOP, ("sampled", [STOP, 5]), ("given", [7]), ("sampled", [9, STOP])),
            "stop tokens at [0, 4]",
            id="a first turn that goes on",
        ),
        pytest.param(completion(StopReason.STOP, ("sampled", [IMAGE, STOP])), "placeholder tokens [77]", id="image"),
    ],
)
def test_by_hand(one: Completion, problem: str | None) -> None:
    found = list(token_problems([one], LEARNER, SamplingParams(CAP)))
    assert (problem is None) == (not found)
    assert problem is None or problem in found[0]
