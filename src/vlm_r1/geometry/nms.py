"""OVDEval's NMS-AP: of several detections of one gold box, whatever their labels, only the best-scored is kept.

Average precision looks at one category at a time, so a detector that claims every label at the same place is right
once and, where the gold lacks the other labels, pays nothing. OVDEval therefore lets each gold box choose one of the
detections that overlap it, and drops the others before AP is computed.

What it resists: many labels at one place, of which all but one go, and duplicates of a right box. What it does not:
boxes that overlap no gold box stay, and cost what AP lets them cost, which is nothing for labels that the gold lacks.
So as a reward it wants a length factor beside it, as odLength has.

The rule is that of OVDEval's program: IoU strictly above the threshold; of equal scores the last in the list; what one
gold box has chosen stays, also if it overlaps another. Source: Yao et al. 2023, arXiv 2308.13177.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlm_r1.geometry.boxes import iou
from vlm_r1.types import Box


def nms_filter(
    boxes: Sequence[Box],
    gold_boxes: Sequence[Box],
    iou_threshold: float = 0.5,
    scores: Sequence[float] | None = None,
) -> list[int]:
    """Which detections of one image are kept.

    Args:
        boxes: what was found, in the order written; labels play no part.
        gold_boxes: what is there, in the same coordinates.
        iou_threshold: a detection competes for a gold box if their IoU is greater than this.
        scores: of each detection; None: all equal, so the last of several stays.

    Returns:
        Indices, rising.

    >>> gold, elsewhere = (0, 0, 10, 10), (50, 50, 60, 60)
    >>> nms_filter([gold, elsewhere, gold, (0, 0, 10, 9)], [gold])
    [1, 3]
    """
    chosen: set[int] = set()
    close_to_some: set[int] = set()
    for gold in gold_boxes:
        close = [n for n, box in enumerate(boxes) if iou(box, gold) > iou_threshold]
        if close:
            chosen.add(close[-1] if scores is None else max(close, key=lambda n: (scores[n], n)))
            close_to_some.update(close)
    return [n for n in range(len(boxes)) if n in chosen or n not in close_to_some]
