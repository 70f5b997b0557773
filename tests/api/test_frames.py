"""Rows become frames; metrics of a result become rows."""

from __future__ import annotations

import pandas as pd

from vlm_r1.api.frames import estimates, frame


def test_columns_are_in_the_order_of_their_first_use() -> None:
    found = frame([{"step": 1, "loss": 0.5}, {"step": 2, "eval": 0.25}])
    assert list(found.columns) == ["step", "loss", "eval"]
    assert found.step.tolist() == [1, 2]
    assert pd.isna(found.loss[1])
    assert frame([]).empty


def test_estimates() -> None:
    metrics = {"iou": {"mean": 0.5, "ci95": [0.4, 0.6], "n": 7}}
    assert list(estimates(metrics)) == [{"metric": "iou", "mean": 0.5, "low": 0.4, "high": 0.6, "n": 7}]
    assert not list(estimates({}))
