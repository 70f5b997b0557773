"""How the original's evaluations read an answer.

For one box there are two scripts, and neither reads as the reward does. `test_rec_r1.py` measures models that were
trained with thinking, and `test_rec_baseline.py` the untrained model and those trained by SFT. Both scale the box to
the image on disk, and count an answer if its IoU is greater than 0.5. For detection no script was published; what its
rewards read is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from vlm_r1.official.boxes import BOX
from vlm_r1.official.detection import fenced_items
from vlm_r1.official.texts import in_tags
from vlm_r1.parsing.json_values import is_list, is_number, is_object
from vlm_r1.types import Box

NOTHING: Box = (0.0, 0.0, 0.0, 0.0)
"""The box of an answer in which none is found."""

_NUMBER = r"\s*(-?(?:\d+(?:\.\d+)?|\.\d+))\s*"
_ANY_BOX = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}]")


def box_of_r1(text: str) -> Box:
    """Return the last four bracketed integers between the first `{` and the last `}` of the first answer.

    Raises:
        ValueError, OverflowError: a number has more digits than Python converts; the original stops with an error.

    >>> box_of_r1('<answer>{"a": [1, 2, 3, 4], "b": [5, 6, 7, 8]}</answer>'), box_of_r1("<answer>[1, 2, 3, 4]</answer>")
    ((5.0, 6.0, 7.0, 8.0), (0.0, 0.0, 0.0, 0.0))
    """
    answer = next(iter(in_tags(text)), "")
    start, end = answer.find("{"), answer.rfind("}")
    found = list(BOX.finditer(answer, start, end)) if 0 <= start < end else []
    return _corners(map(int, found[-1].groups())) if found else NOTHING


def box_of_baseline(text: str) -> Box:
    """Return the first four bracketed numbers of the text, wherever they stand.

    >>> box_of_baseline("<think>[1, 2.5, 3, 4]</think><answer>[5, 6, 7, 8]</answer>"), box_of_baseline("[1, 2, 3]")
    ((1.0, 2.5, 3.0, 4.0), (0.0, 0.0, 0.0, 0.0))
    """
    found = _ANY_BOX.search(text)
    return _corners(map(float, found.groups())) if found else NOTHING


def objects_of(text: str) -> Iterator[tuple[str, Box]]:
    """Yield label and box of each item of the last fenced JSON of the last answer; broken items are dropped.

    A box whose corners are swapped overlaps nothing in the original, so it is yielded without area.

    >>> items = '[{"bbox_2d": [9, 1, 5, 7], "label": "cat"}, {"label": "dog"}]'
    >>> list(objects_of(f"<answer>```json\\n{items}\\n```</answer>"))
    [('cat', (9.0, 1.0, 9.0, 1.0))]
    """
    answers = in_tags(text)
    for item in (fenced_items(answers[-1].strip(), -1) or []) if answers else []:
        numbers = item.get("bbox_2d") if is_object(item) else None
        label = item.get("label") if is_object(item) else None
        if is_list(numbers) and len(numbers) >= 4 and all(map(is_number, numbers[:4])) and isinstance(label, str):
            x1, y1, x2, y2 = map(float, numbers[:4])
            yield label, (x1, y1, x2, y2) if x1 <= x2 and y1 <= y2 else (x1, y1, x1, y1)


def _corners(numbers: Iterable[float]) -> Box:
    x1, y1, x2, y2 = map(float, numbers)
    return x1, y1, x2, y2
