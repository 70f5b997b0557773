"""The reward functions of the original VLM-R1, defects included, for comparison with it.

They are a new implementation of its behaviour. Only `vlm-r1 score --official` and protocols whose reading is official
use them. `OFFICIAL` has a line for each name. docs/parity.md says where our rewards differ, and why. How its
evaluations read is in `official.evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from vlm_r1.official.answers import all_match, default, mcq, numeric, yes_no
from vlm_r1.official.boxes import rec_iou
from vlm_r1.official.detection import od_ap, weighted_sum
from vlm_r1.official.format import has_tags, has_tags_and_box, has_tags_and_object, has_think_before_answer
from vlm_r1.official.gold import Gold
from vlm_r1.official.mathematics import same_mathematics
from vlm_r1.official.repetition import repetition
from vlm_r1.types import AnswerValue

OfficialReward = Callable[[str, Gold], float | None]
"""(completion, gold answer) → reward; None where the original has none, or stops with an error."""

OFFICIAL: Mapping[str, OfficialReward] = {
    # the rewards of the model families for referring expression comprehension
    "rec_iou/qwen2.5-vl": partial(rec_iou, resized=True),
    "rec_iou/raw_pixels": partial(rec_iou, resized=False),
    "rec_format/qwen": has_tags_and_object,
    "rec_format/internvl": has_tags_and_box,
    "rec_format/glm": has_think_before_answer,
    # the rewards for all other tasks
    "format": has_tags,
    "repetition": repetition,
    # values of accu_reward_method
    "default": default,
    "mcq": mcq,
    "yes_no": yes_no,
    "numeric": numeric,
    "math": same_mathematics,
    "all_match": all_match,
    "weighted_sum": weighted_sum,
    "od_ap": partial(od_ap, threshold_50=False, by_length=False),
    "od_ap50": partial(od_ap, threshold_50=True, by_length=False),
    "od_length": partial(od_ap, threshold_50=False, by_length=True),
    "odLength": partial(od_ap, threshold_50=False, by_length=True),
}


def official_score(
    name: str,
    completion: str,
    solution: AnswerValue,
    image_size: Sequence[int] | None = None,
    model_input_size: Sequence[int] | None = None,
) -> float | None:
    """Compute the reward that the original gives.

    Args:
        name: a name in `OFFICIAL`.
        completion: any text; the time is limited.
        solution: the gold answer as in the data: a text with or without answer tags, a number, or a list of boxes.
        image_size, model_input_size: (width, height) in pixels on disk and after the processor's resize.

    Returns:
        The reward, or None where the original returns none or stops with an error.

    Raises:
        KeyError: there is no reward of that name.

    >>> official_score("yes_no", "<answer>I know it</answer>", "no")  # the "no" in "know"
    1.0
    """
    return OFFICIAL[name](completion, Gold(solution, image_size, model_input_size))
