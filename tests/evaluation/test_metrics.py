"""Bootstrap intervals: by hand, against Wilson's, and in simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from vlm_r1.evaluation.metrics import MOST_DRAWN, Summary, bootstrap_ci, ratio_ci, summarize


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


@pytest.mark.parametrize("n", [2, 7, 500])
def test_equals_scipy(n):
    values = np.random.default_rng(n).random(n)
    expected = bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert bootstrap_ci(values, seed=5, resamples=2000) == pytest.approx((expected.low, expected.high), abs=1e-12)


# ---- clusters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [300, 3 * MOST_DRAWN], ids=["drawn one by one", "drawn in pools"])
def test_clusters_of_one_are_plain(n):
    values = np.random.default_rng(4).random(n)
    assert bootstrap_ci(values, clusters_N=[f"{i}.jpg" for i in range(n)]) == bootstrap_ci(values)


def test_two_clusters_by_hand():
    # drawn twice each: a a → 0/3, b b → 2/2, and twice as often a b or b a → 2/5
    values, clusters = [0.0, 1.0, 0.0, 1.0, 0.0], ["a", "b", "a", "b", "a"]
    assert bootstrap_ci(values, clusters_N=clusters) == (0.0, 1.0)
    assert bootstrap_ci(values, clusters_N=clusters, level=0.4) == (0.4, 0.4)


def test_a_cluster_is_drawn_whole():
    # whatever is drawn, half of each image is right
    assert bootstrap_ci([0.0, 1.0] * 50, clusters_N=[i // 2 for i in range(100)]) == (0.5, 0.5)
    low, high = bootstrap_ci([0.0, 1.0] * 50)
    assert low < 0.45 < 0.55 < high


def test_one_cluster_has_no_width():
    assert bootstrap_ci([0.0, 1.0, 1.0, 1.0], clusters_N=["a"] * 4) == (0.75, 0.75)


@pytest.mark.parametrize("images", [150, 2 * MOST_DRAWN], ids=["drawn one by one", "drawn in pools"])
def test_covers_the_truth_with_clusters_where_the_plain_interval_does_not(images):
    # each image is easy or hard: its 1 to 9 answers are right with probability 0.9 or 0.3, 0.6 on the whole
    generator, trials = np.random.default_rng(0), 200
    hits = {"clustered": 0, "plain": 0}
    for trial in range(trials):
        sizes = generator.integers(1, 10, images)
        easy = np.repeat(generator.random(images) < 0.5, sizes)
        right = (generator.random(easy.size) < np.where(easy, 0.9, 0.3)).astype(float)
        clusters = np.repeat(np.arange(images), sizes).tolist()
        for name, of in (("clustered", clusters), ("plain", None)):
            low, high = bootstrap_ci(right, clusters_N=of, seed=trial, resamples=400)
            hits[name] += low <= 0.6 <= high
    assert 0.90 <= hits["clustered"] / trials <= 0.99  # 0.95 ± 3 standard errors of 0.015
    assert hits["plain"] / trials < 0.85


def test_pools_are_as_wide_as_clusters(monkeypatch):
    generator = np.random.default_rng(6)
    below = generator.integers(1, 6, MOST_DRAWN + 1).astype(float)
    above = below * generator.beta(0.5, 0.5, below.size)
    pooled = ratio_ci(above, below)
    monkeypatch.setattr("vlm_r1.evaluation.metrics.MOST_DRAWN", below.size)
    drawn = ratio_ci(above, below)
    assert drawn != pooled
    assert pooled == pytest.approx(drawn, abs=0.05 * (drawn[1] - drawn[0]))


def test_an_outlier_among_many_is_a_pool_of_its_own():
    values = np.zeros(10_000)
    values[123] = 1e6  # the mean is 100 times how often it is drawn, Poisson with mean 1: 0 to 3
    assert bootstrap_ci(values) == (0.0, 300.0)


@pytest.mark.parametrize(
    ("above", "below"),
    [
        pytest.param([], [], id="none"),
        pytest.param([1.0], [0.0], id="nothing below"),
        pytest.param([1.0, 1.0], [2.0, -1.0], id="negative"),
        pytest.param([1.0, 1.0], [1.0], id="other lengths"),
        pytest.param([1.0], [math.inf], id="infinite"),
    ],
)
def test_what_is_no_ratio_is_refused(above, below):
    with pytest.raises(ValueError, match=r"defined|finite"):
        ratio_ci(above, below)


def test_sets_without_anything_below_have_no_ratio():
    # a a → 1/1, a b → 1/1; b b has nothing below and is left out
    assert ratio_ci([1.0, 0.0], [1.0, 0.0]) == (1.0, 1.0)


def test_summary_of_clusters():
    values, clusters = [0.0, 1.0, 1.0, 0.0, 1.0], list("aabbc")
    assert summarize(values, clusters_N=clusters) == Summary(0.6, bootstrap_ci(values, clusters_N=clusters), 5)
