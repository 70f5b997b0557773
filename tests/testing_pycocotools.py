"""pycocotools on the content of COCO's files."""

from __future__ import annotations

import contextlib
import copy
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def pycocotools_stats(truth, results):
    """The twelve statistics of results (a list, as in a file of results) against a ground truth (an object)."""
    with contextlib.redirect_stdout(io.StringIO()):
        gold, found = COCO(), COCO()
        gold.dataset = copy.deepcopy(truth)
        gold.createIndex()
        if results:
            found = gold.loadRes(copy.deepcopy(results))
        else:  # loadRes looks at the first one
            found.dataset = {**copy.deepcopy(truth), "annotations": []}
            found.createIndex()
        evaluation = COCOeval(gold, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()
