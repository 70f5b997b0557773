"""The part of the trust checks that looks at tokens alone: placeholders, stop tokens, and whose weights drew them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlm_r1.sampling import SamplingParams
from vlm_r1.training.learner import Learner
from vlm_r1.types import Completion, StopReason


def token_problems(completions: Sequence[Completion], learner: Learner, params: SamplingParams | None) -> Iterator[str]:
    """Find sampled placeholders, stale weights, and completions that do not end as they say (gold answers stop)."""
    banned, stop_ids = set(learner.adapter.banned_ids()), set(learner.adapter.stop_ids(learner.model))
    sampled = [segment for one in completions for segment in one.segments if segment.logprobs_T is not None]
    if drawn := sorted({token for segment in sampled for token in segment.ids_T if token in banned}):
        yield f"placeholder tokens {drawn} were sampled: they stand for images; the sampler must ban them"
    if params is not None and (stale := {one.version for one in completions} - {learner.step}):
        yield (
            f"completions were sampled with the weights after step {min(stale)}, but the policy has taken "
            f"{learner.step}: the sampler was not given the new weights (Sampler.sync)"
        )
    for completion in completions:
        length, stopped = len(completion.ids_T), completion.stop_reason is StopReason.STOP
        stops = [place for place, token in enumerate(completion.ids_T) if token in stop_ids]
        longest = length if params is None or not all(completion.sampled_T) else params.max_completion_length
        if stops != _due_stops(completion, stops, stopped) or not (stopped or length == longest):
            yield (
                f"a completion of {length} tokens says that it ended by {completion.stop_reason.value}, but has stop "
                f"tokens at {stops}: wanted one, at its end, which is learnt with it, or else {longest} tokens and none"
            )


def _due_stops(completion: Completion, stops: Sequence[int], stopped: bool) -> list[int]:
    """Return where stop tokens belong, of those that there are: at the ends of sampled segments, and in given ones.

    The last segment must end with one if the completion stopped.
    """
    due, end = [n for n in stops if not completion.sampled_T[n]], 0
    for segment in completion.segments:
        end += len(segment.ids_T)
        is_last = segment is completion.segments[-1]
        if segment.logprobs_T is not None and (stopped if is_last else end - 1 in stops):
            due.append(end - 1)
    return sorted(due)
