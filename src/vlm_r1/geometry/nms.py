"""OVDEval's NMS-AP: of several detections of one gold box, whatever their labels, only the best-scored is kept.

Average precision treats each category separately. A detector may claim every label at the same place: it is right once,
and labels that the gold lacks cost nothing. So OVDEval lets each gold box choose one of the detections that overlap it,
and drops the others before AP is computed.

This removes many labels at one place, all but one, and duplicates of a right box. It keeps boxes that overlap no gold
box; these still cost nothing if the gold lacks their label. So a reward also needs a factor for the number of boxes, as
odLength has.

The rule is that of OVDEval's program: IoU is strictly above the threshold; of equal scores the last in the list wins; a
detection that one gold box has chosen stays, even if it overlaps another. Source: Yao et al. 2023, arXiv 2308.13177.
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
    """Select the detections of one image that are kept.

    Args:
        boxes: predicted boxes, in the order written; labels do not matter.
        gold_boxes: gold boxes in the same coordinates.
        iou_threshold: a detection competes for a gold box if their IoU is greater than this.
        scores: a score for each detection; None: all are equal, so the last of several stays.

    Returns:
        Their indices in increasing order.

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
