"""Reduction over processes, by hand."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.runtime.metrics import Metric, mean_of, ratio, reduce_metrics


def reduce_parts(*parts):
    return reduce_metrics(parts[0], lambda own: [*own, *parts[1:]])


def test_by_hand() -> None:
    one = {
        "reward": mean_of([1.0, 2.0]),
        "entropy": ratio(3.0, 4),
        "tokens": Metric("sum", 10),
        "norm": Metric("max", 2.0),
    }
    two = {
        "reward": mean_of([6.0]),
        "entropy": ratio(1.0, 4),
        "tokens": Metric("sum", 5),
        "norm": Metric("max", 7.0),
        "new": Metric("sum", 1),
    }
    numbers = reduce_parts(one, two)
    assert numbers.pop("reward/std") == statistics.stdev([1, 2, 6])
    assert numbers == {"reward/mean": 3.0, "entropy": 4 / 8, "tokens": 15, "norm": 7.0, "new": 1}


def test_a_mean_of_nothing_is_left_out_and_one_value_has_no_spread() -> None:
    assert reduce_parts({"a": mean_of([]), "b": ratio(0.0, 0)}) == {}
    assert reduce_parts({"a": mean_of([4.0])}) == {"a/mean": 4.0, "a/std": 0.0}


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.integers(0, 30))
def test_how_values_are_split_over_processes_does_not_matter(values: list[float], cut: int) -> None:
    whole = reduce_parts({"x": mean_of(values)})
    split = reduce_parts({"x": mean_of(values[:cut])}, {"x": mean_of(values[cut:])})
    assert abs(whole["x/mean"] - split["x/mean"]) < 1e-9
    assert abs(whole["x/std"] - split["x/std"]) < 1e-3
    assert abs(whole["x/std"] - statistics.stdev(values)) < 1e-3
