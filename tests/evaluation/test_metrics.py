"""Bootstrap intervals: by hand, against Wilson's, and in simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vlm_r1.evaluation.metrics import Summary, bootstrap_ci, summarize


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - half, centre + half


def test_two_values_by_hand():
    # sets of two from {0, 1}: mean 0 with probability 1/4, 0.5 with 1/2, 1 with 1/4
    assert bootstrap_ci([0.0, 1.0]) == (0.0, 1.0)
    assert bootstrap_ci([0.0, 1.0], level=0.4) == (0.5, 0.5)  # 30 % to 70 % lies within the middle half


@pytest.mark.parametrize(
    ("successes", "n"),
    [
        pytest.param(50, 100, id="half of 100"),
        pytest.param(312, 512, id="61 % of 512"),
        pytest.param(180, 2000, id="9 % of 2000"),
    ],
)
def test_close_to_wilson(successes, n):
    expected = wilson(successes, n)
    assert bootstrap_ci([1.0] * successes + [0.0] * (n - successes)) == pytest.approx(expected, abs=0.01)


def test_covers_the_truth_as_often_as_it_says():
    generator, truth, n, trials = np.random.default_rng(0), 0.6, 200, 400
    hits = 0
    for trial in range(trials):
        low, high = bootstrap_ci(generator.random(n) < truth, seed=trial, resamples=400)
        hits += low <= truth <= high
    assert 0.92 <= hits / trials <= 0.97  # 0.95 ± 3 standard errors of 0.011, a little less for the percentile's bias


def test_a_lower_level_is_narrower_and_covers_less():
    values = np.random.default_rng(1).random(300)
    wide, narrow = bootstrap_ci(values), bootstrap_ci(values, level=0.5)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]


def test_deterministic_and_seeded():
    values = np.random.default_rng(2).random(100).tolist()
    assert bootstrap_ci(values) == bootstrap_ci(values)
    assert bootstrap_ci(values, seed=1) != bootstrap_ci(values, seed=0)


def test_large_sets_drawn_in_parts_give_all_resamples():
    values = np.random.default_rng(3).random(9000)  # 4,000,000 / 9,000 = 444 sets at once: 444 + 444 + 112
    half = 1.96 * values.std() / math.sqrt(9000)
    low, high = bootstrap_ci(values, resamples=1000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 5)


def test_one_value_has_no_width():
    assert summarize([0.25]) == Summary(mean=0.25, ci95=(0.25, 0.25), n=1)


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf]], ids=["none", "nan", "infinite"])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        summarize(values)


def test_summary():
    summary = summarize([0.0, 1.0, 1.0, 0.0])
    assert (summary.mean, summary.n) == (0.5, 4)
    assert summary.ci95 == bootstrap_ci([0.0, 1.0, 1.0, 0.0])
