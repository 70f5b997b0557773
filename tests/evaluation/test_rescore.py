"""Samples that were written down are judged and measured again; what was asked must be what the protocol asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.evaluation.protocol import Protocol, as_protocol
from vlm_r1.evaluation.rescore import rescore_rows, rescored_protocol

ROW = {
    "record_id": "1",
    "source": "a.jsonl:1",
    "task": "rec",
    "problem": "the dog",
    "images": ["/a.png"],
    "image_sizes": [[100, 100]],
    "input_sizes": [[200, 200]],
    "box_format": "input_pixels",
    "template": "direct",
    "gold": [0, 0, 50, 50],
    "text": "[0, 0, 100, 50]",
    "answer": None,
    "reason": "no_box",
    "reward": 0.0,
    "parts": {},
    "metrics": {"iou": 0.0},
    "tokens": 5,
    "stop_reason": "stop",
}


def protocol(**changes: object) -> Protocol:
    return as_protocol({"name": "mine", "title": "Mine", "data": {"set": "s"}, **changes}, "")


def write(folder: Path, *rows: dict) -> Path:
    path = folder / "val.samples.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_the_text_is_judged_as_it_is_today(tmp_path: Path) -> None:
    (row,) = rescore_rows(write(tmp_path, ROW), protocol())
    assert (row["answer"], row["reason"]) == ([0.0, 0.0, 50.0, 25.0], None)
    assert row["metrics"]["iou"] == pytest.approx(0.5)
    assert row["source"] == "a.jsonl:1"


def test_no_samples_and_gold_answers_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no samples"):
        rescore_rows(write(tmp_path), protocol())
    with pytest.raises(DataError, match=r"val\.samples\.jsonl:2: cannot be judged again"):
        rescore_rows(write(tmp_path, ROW, {**ROW, "gold": "a dog"}), protocol())


def test_what_counts_is_new_and_what_was_asked_is_old(tmp_path: Path) -> None:
    path = write(tmp_path, ROW)
    assert rescored_protocol(path, protocol())[0] == protocol().model_dump(mode="json")
    asked = {**protocol(name="old", level="object").model_dump(mode="json"), "template": {"name": "r1"}}
    asked["data"] |= {"hash": "5f", "asked": 1}
    old = {"protocol": asked, "provenance": {"model": "m"}}
    (tmp_path / "val.json").write_text(json.dumps(old))
    resolved, provenance = rescored_protocol(path, protocol(template="r1"))
    assert (resolved["name"], resolved["level"], resolved["template"]) == ("mine", "expression", {"name": "r1"})
    assert (resolved["data"]["hash"], provenance) == ("5f", {"model": "m"})
    with pytest.raises(ConfigError, match=r"template: 'r1' was asked, the protocol says 'direct'"):
        rescored_protocol(path, protocol(template="direct"))
    with pytest.raises(ConfigError, match=r"sample: None was asked, the protocol says \{'n': 5, 'seed': None\}"):
        rescored_protocol(path, protocol(sample={"n": 5}))
    with pytest.raises(ConfigError, match=r"decoding\.max_completion_length: None was asked, the protocol says 9"):
        rescored_protocol(path, protocol(decoding={"max_completion_length": 9}))
