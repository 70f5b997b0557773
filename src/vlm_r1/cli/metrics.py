"""Measure detections of any tool: COCO's statistics, the same after OVDEval's NMS, and GP and GR, as one JSON object.

  vlm-r1 metrics --truth instances_val.json --predictions results.json

--truth is a COCO ground truth with images, annotations and categories. --predictions is a list of {"image_id",
"category_id", "bbox": [x, y, width, height], "score"}, as pycocotools loads it. The object has the twelve statistics in
pycocotools' order (ap, ap50, …, ar_large), then nms_ap, nms_ap50, …, then gp and gr. −1 means that there was nothing to
measure. An unknown id, a missing score or a broken box is an error that names its place (docs/evaluation.md).
"""

from __future__ import annotations

import argparse
import sys

from vlm_r1.cli.options import local_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare both files."""
    parser.add_argument(
        "--truth", type=local_path, required=True, metavar="FILE", help="the gold boxes, a COCO ground truth"
    )
    parser.add_argument(
        "--predictions", type=local_path, required=True, metavar="FILE", help="the detections, COCO results"
    )


def run(args: argparse.Namespace) -> int:
    """Read both files, and print the numbers; notes about the files go to standard error."""
    from vlm_r1.evaluation.coco_results import read_results, read_truth
    from vlm_r1.evaluation.set_statistics import set_statistics
    from vlm_r1.runtime.text import json_text

    truth = read_truth(args.truth)
    detections, notes = read_results(args.predictions, truth)
    for note in (*truth.notes, *notes):
        print(f"note: {note}", file=sys.stderr)
    print(json_text(set_statistics(detections, truth.truth), indent=2))
    return 0
