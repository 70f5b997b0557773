import pytest

from vlm_r1.rewards import REWARDS
from vlm_r1.rewards.combine import COMBINATIONS, gate, product, weighted_sum


@pytest.mark.parametrize(
    ("parts", "weights", "expected"),
    [
        pytest.param({"a": 0.5, "f": 1.0}, {"a": 1.0, "f": 1.0}, 1.5, id="plain_sum"),
        pytest.param({"a": 0.5, "f": 1.0}, {"a": 2.0, "f": 0.25}, 0.5 * 2 + 1 * 0.25, id="weighted"),
        pytest.param({"a": 0.5, "f": 1.0}, {"f": -1.0, "a": 0.0}, -1.0, id="zero_and_negative_weights"),
        pytest.param({}, {}, 0.0, id="no_parts"),
    ],
)
def test_weighted_sum(parts, weights, expected):
    assert weighted_sum(parts, weights) == expected


@pytest.mark.parametrize(
    ("parts", "weights", "expected"),
    [
        pytest.param({"a": 0.5, "f": 1.0}, {"a": 1.0, "f": 1.0}, 0.5, id="plain_product"),
        pytest.param({"a": 0.5, "f": 0.5}, {"a": 2.0, "f": 1.0}, (2 * 0.5) * (1 * 0.5), id="weights_scale"),
        pytest.param({"a": 0.5, "f": 0.0}, {"a": 1.0, "f": 1.0}, 0.0, id="one_part_without_merit"),
        pytest.param({"a": -0.5, "f": -1.0}, {"a": 1.0, "f": 1.0}, 0.0, id="two_penalties_make_no_reward"),
    ],
)
def test_product(parts, weights, expected):
    assert product(parts, weights) == expected


@pytest.mark.parametrize(
    ("format_part", "expected"),
    [pytest.param(1.0, 0.8 + 0.5, id="open"), pytest.param(0.0, 0.0, id="shut"), pytest.param(0.5, 0.25, id="half")],
)
def test_gate(format_part, expected):
    assert gate({"accuracy": 0.8, "format": format_part}, {"accuracy": 1.0, "format": 0.5}) == expected


LEFT_OUT = {"accuracy": None, "format": 1.0, "length": 0.5}
WEIGHTS = {"accuracy": 1.0, "format": 0.5, "length": 2.0}


@pytest.mark.parametrize(
    ("combine", "parts", "expected"),
    [
        pytest.param(weighted_sum, LEFT_OUT, 0.5 * 1.0 + 2.0 * 0.5, id="sum"),
        pytest.param(product, LEFT_OUT, (0.5 * 1.0) * (2.0 * 0.5), id="product"),
        pytest.param(gate, LEFT_OUT, 0.5 * 1.0 + 2.0 * 0.5, id="gate_open"),
        pytest.param(gate, LEFT_OUT | {"format": 0.5}, 0.5 * 0.5, id="gate_half_open"),
        pytest.param(gate, {"accuracy": 0.25, "format": None, "length": 0.5}, 0.25 + 2.0 * 0.5, id="gate_left_out"),
    ],
)
def test_a_part_that_was_left_out_takes_no_share(combine, parts, expected):
    assert combine(parts, WEIGHTS) == expected


def test_a_gate_needs_a_format():
    with pytest.raises(KeyError):
        gate({"accuracy": 1.0}, {"accuracy": 1.0})


@pytest.mark.parametrize("combine", COMBINATIONS.values())
@pytest.mark.parametrize("weights", [{}, {"a": 1.0, "b": 1.0}, {"b": 1.0}])
def test_parts_without_weights_are_our_bug(weights, combine):
    with pytest.raises(KeyError):
        combine({"a": 1.0}, weights)


def test_names_of_the_original_are_known():
    assert REWARDS["all_match"] is REWARDS["exact_match"]
    assert REWARDS["mcq"] is REWARDS["choice"]
    assert REWARDS["odLength"] is REWARDS["odlength"]
    assert "accuracy" not in REWARDS  # the routed part
