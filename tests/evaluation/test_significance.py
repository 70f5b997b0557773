"""p values of paired differences: by hand, against a full enumeration and scipy, and how often they cry wolf."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import kstest, permutation_test

from vlm_r1.evaluation.significance import mcnemar_p, permutation_p


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [
        pytest.param(0, 0, 1.0, id="no flip"),
        pytest.param(1, 0, 1.0, id="one flip says nothing"),
        pytest.param(3, 3, 1.0, id="as many each way"),
        pytest.param(5, 0, 2 / 32, id="2 · 1 / 2⁵"),
        pytest.param(0, 5, 2 / 32, id="the other way"),
        pytest.param(8, 2, 2 * (1 + 10 + 45) / 1024, id="2 · (C(10,0) + C(10,1) + C(10,2)) / 2¹⁰"),
    ],
)
def test_mcnemar_by_hand(better: int, worse: int, expected: float) -> None:
    assert mcnemar_p(better, worse) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("differences", "clusters", "expected"),
    [
        pytest.param([], None, 1.0, id="nothing"),
        pytest.param([0.0, 0.0], None, 1.0, id="no difference"),
        pytest.param([0.5], None, 1.0, id="both signs are as far"),
        pytest.param([1, 1, 1], None, 2 / 8, id="2 of 2³"),
        pytest.param([1, 1, -1], None, 1.0, id="sums ±3, six of ±1: all are as far as 1"),
        pytest.param([0.5, 0.25, 0.0], None, 2 / 4, id="±0.75 of ±0.75, ±0.25; zeros have no sign"),
        pytest.param([1, 1, 1, 1], list("aabb"), 2 / 4, id="two clusters"),
        pytest.param([1, -1, 1], list("aab"), 1.0, id="a cluster that sums to zero has no sign"),
        pytest.param([0.1, 0.2, -0.3], None, 1.0, id="zero but for rounding"),
    ],
)
def test_permutation_by_hand(differences: list[float], clusters: list[str] | None, expected: float) -> None:
    assert permutation_p(differences, clusters_N=clusters) == pytest.approx(expected, abs=1e-12)


def slow_p(differences: list[float], clusters: list[int]) -> float:
    """All signs of all clusters, one after the other."""
    names = sorted(set(clusters))
    seen, as_far, ways = abs(sum(differences)), 0, 0
    for signs in product((1, -1), repeat=len(names)):
        sign = dict(zip(names, signs, strict=True))
        total = sum(sign[name] * value for name, value in zip(clusters, differences, strict=True))
        as_far += abs(total) >= seen - 1e-9
        ways += 1
    return as_far / ways


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_full_enumeration(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = int(generator.integers(1, 25))
    clusters = generator.integers(0, 9, n).tolist()
    differences = np.round(generator.normal(0.3, 1, n), int(generator.integers(0, 4))).tolist()  # with ties
    expected = slow_p(differences, clusters)
    assert permutation_p(differences, clusters_N=clusters) == pytest.approx(expected, abs=1e-12)
    drawn = permutation_p(differences, clusters_N=clusters, resamples=2**9 - 1, seed=seed)
    assert drawn == pytest.approx(expected, abs=0.1)  # 4 standard errors of √(p(1 − p) / 511)


def test_equals_scipy() -> None:
    first, other = np.random.default_rng(3).random((2, 10))
    expected = permutation_test(
        (first, other), lambda x, y, axis: np.mean(y - x, axis=axis), permutation_type="samples", vectorized=True
    )
    assert permutation_p(other - first) == pytest.approx(expected.pvalue, abs=1e-12)


def test_draws_agree_with_mcnemar() -> None:
    differences = [1] * 60 + [-1] * 40 + [0] * 300
    assert permutation_p(differences) == pytest.approx(mcnemar_p(60, 40), abs=0.01)  # 0.057 ± 4 · 0.0023


def test_no_p_is_zero_and_the_seed_decides() -> None:
    assert permutation_p([1.0] * 100) == 1 / 10_001
    values = np.random.default_rng(0).normal(0.1, 1, 200)
    assert permutation_p(values, seed=1) == permutation_p(values, seed=1) != permutation_p(values, seed=2)
    assert permutation_p(values) == permutation_p(-values), "two-sided"


def test_many_clusters_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 100)
    whole = permutation_p(values)
    monkeypatch.setattr("vlm_r1.evaluation.significance.SIGNS_AT_ONCE", 100 * 8)
    assert permutation_p(values) == pytest.approx(whole, abs=0.02)


TRIALS = 400


def test_without_a_difference_one_in_twenty_is_below_5_percent_though_answers_of_an_image_are_alike() -> None:
    # two models that are equally good, on 60 images with 1 to 6 questions; on each image one of them is at home
    generator = np.random.default_rng(1)
    found = {"clusters": list[float](), "pairs": list[float]()}
    for trial in range(TRIALS):
        image_N = np.repeat(np.arange(60), generator.integers(1, 7, 60))
        at_home_N = generator.normal(0, 1, 60)[image_N]
        differences_N = at_home_N + generator.normal(0, 0.5, image_N.size)
        found["clusters"].append(permutation_p(differences_N, clusters_N=image_N.tolist(), seed=trial, resamples=400))
        found["pairs"].append(permutation_p(differences_N, seed=trial, resamples=400))
    false_alarms = {name: sum(p < 0.05 for p in own) / TRIALS for name, own in found.items()}
    assert 0.02 <= false_alarms["clusters"] <= 0.085  # 0.05 ± 3 standard errors of 0.011
    assert false_alarms["pairs"] > 0.15, "the control: as if answers about one image were independent"
    assert kstest(found["clusters"], "uniform").pvalue > 0.001, "all p are as likely"


def test_without_a_difference_mcnemar_is_rarely_below_5_percent() -> None:
    generator = np.random.default_rng(2)
    better = generator.binomial(100, 0.5, TRIALS)
    false_alarms = np.mean([mcnemar_p(int(n), 100 - int(n)) < 0.05 for n in better])
    assert 0.01 <= false_alarms <= 0.065  # exactly 0.035, since flips are whole numbers


@pytest.mark.parametrize(
    ("differences", "clusters"),
    [pytest.param([1.0, float("nan")], None, id="not finite"), pytest.param([1.0], ["a", "b"], id="other lengths")],
)
def test_what_is_no_difference_is_refused(differences: list[float], clusters: list[str] | None) -> None:
    with pytest.raises(ValueError, match="wanted finite differences"):
        permutation_p(differences, clusters_N=clusters)
