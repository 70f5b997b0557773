"""Samples of an evaluation, judged from constructed texts by the function that evaluations use."""

from __future__ import annotations

import itertools
import json

from vlm_r1.evaluation.samples import Sample
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import BoxFormat, ImageFrame, Record

_ids = itertools.count()

KINDS = {"template": "direct", "box_format": "original_pixels", "size": (640, 480), "input_size": None}


def sample(task, gold, text, *, image="a.jpg", **more):
    """A sample of an answer as a model writes it; `more` are fields of Sample, or of KINDS."""
    kinds = {name: more.pop(name, default) for name, default in KINDS.items()}
    sizes = (kinds["size"],), (kinds["input_size"] or kinds["size"],)
    record = Record(
        id=more.pop("record_id", f"r{next(_ids)}"),
        task=task,
        problem=more.pop("problem", "<image>the cat"),
        images=(image,),
        answer=gold,
        source=more.pop("source", "data.jsonl:1"),
        columns=more.pop("columns", {}),
    )
    frames = (ImageFrame(sizes[0][0], sizes[1][0]),)
    attempt = Attempt(text, record, frames, get_task(task), TEMPLATES[kinds["template"]], n_tokens=5)
    (score,) = judge([attempt], BoxFormat(kinds["box_format"]), {"accuracy": 1.0, "format": 1.0})
    fields = {
        "record_id": record.id,
        "source": record.source,
        "task": task,
        "problem": record.problem,
        "images": record.images,
        "image_sizes": sizes[0],
        "input_sizes": sizes[1],
        "box_format": kinds["box_format"],
        "template": kinds["template"],
        "gold": gold,
        "text": text,
        "answer": score.answer,
        "reason": score.reason,
        "metrics": score.metrics,
        "parts": score.parts,
        "tokens": 5,
        "stop_reason": "stop",
        "columns": record.columns,
    }
    return Sample(**{**fields, **more})


def objects(*items):
    """The text of labelled boxes, or None: objects(("cat", box), …)."""
    return json.dumps([{"bbox_2d": list(box), "label": label} for label, box in items]) if items else "None"


def gold_objects(*items):
    """A gold answer of labelled boxes."""
    return json.loads(objects(*items)) if items else "None"
