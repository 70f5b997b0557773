"""The model card lists what the doctor finds up to the step of the weights, in words without effect."""

from __future__ import annotations

from vlm_r1.export.model_card import findings_section
from vlm_r1.runtime.metrics_log import append_metrics


def test_the_findings_at_the_step_of_the_weights(tmp_path):
    for step in range(1, 13):
        row = {"rewards/<img src=x>`/mean": 0.0, "rewards/<img src=x>`/std": 0.0}
        append_metrics(tmp_path / "metrics.jsonl", {"step": step, "stage": "grpo", **row})
    title, text = findings_section(tmp_path, 12)
    assert title == "## Findings of the doctor"
    assert "* **dead-reward** (\\<img src=x\\>\\`): \\<img src=x\\>\\` was 0 in every completion of the last 10" in text
    assert findings_section(tmp_path, 9) == [], "at step 9 there was nothing to find"
