"""The doctor's findings on the page of a run, and no praise beside an alarm."""

from __future__ import annotations

import json

from vlm_r1.doctor.base import Finding
from vlm_r1.report.build import build_report
from vlm_r1.report.findings import unpraised
from vlm_r1.report.tables import Comparison

HOSTILE = "<script>alert(1)</script>"


def n_praised(page):
    return len([element for element in page if element.tag == "td" and element.has_class("up")])


def row(dataset, better):
    return Comparison(dataset, "accuracy", "64", None, None, "+12.5 points", better)


def doubting(about):
    return Finding("one-answer", "", "", "", 3, about, doubts=True)


def test_no_praise_beside_an_alarm():
    rows = [row("in domain", True), row("in domain", False), row("other", True)]
    assert [one.better for one in unpraised(rows, [doubting("in_domain")])] == [None, False, True]
    assert [one.better for one in unpraised(rows, [doubting("")])] == [None, False, None]
    assert unpraised(rows, [Finding("truncated", "", "", "", 3)]) == rows == unpraised(rows, [])


def test_findings_stand_at_the_top_and_their_words_are_harmless(grpo_run, parse):
    clean = build_report(grpo_run)
    assert 'id="findings"' not in clean.read_text(encoding="utf-8")
    praised = n_praised(parse(clean))
    (path,) = (grpo_run / "eval").glob("after-in_domain.json")
    sample = {
        "source": "x:1",
        "task": "rec",
        "problem": "p",
        "text": HOSTILE,
        "stop_reason": "stop",
        "gold": [1, 2, 3, 4],
    }
    sample |= {"metrics": {"iou": 0.0}, "parts": {"accuracy": 0.0}, "tokens": 3, "images": [], "answer": [1, 2, 3, 4]}
    sample |= {"image_sizes": [], "input_sizes": []}
    lines = [json.dumps({**sample, "record_id": str(n)}) for n in range(64)]
    path.with_suffix(".samples.jsonl").write_text("\n".join(lines), encoding="utf-8")
    page = parse(build_report(grpo_run))
    (section,) = [e for e in page if e.attributes.get("id") == "findings"]
    assert f'64 of 64 answers are "{HOSTILE}", of which 0 are right' in " ".join(section.text.split())
    assert "alert(1)" not in [e.text for e in page if e.tag == "script"]
    order = [e.attributes["id"] for e in page if e.tag == "section"]
    assert order.index("findings") < order.index("held-out")
    # both sets have gains; the one that is doubted is not green any more, and the other is
    assert 0 < n_praised(page) < praised
