import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vlm_r1.report.figures import MAX_BANDS, MAX_POINTS, Dot, Series, draw, nice_ticks, running_mean

numbers = st.floats(min_value=-1e6, max_value=1e6)


def test_a_line_stands_where_its_numbers_say():
    figure = draw("t", "y", [Series("a", [0, 5, 10], [0.0, 2.0, 1.0], 3)], width=400.9, height=200)
    assert figure is not None
    # ticks 0.0 … 2.0 have three characters: left = 30 + 6.3 · 3 = 48.9; right = 400.9 − 12; top = 12; bottom = 200 − 38
    assert (figure.left, figure.right, figure.top, figure.bottom) == (48.9, 388.9, 12, 162)
    # step 5 is half way: (48.9 + 388.9) / 2 = 218.9; value 1 of 0 to 2 is half way: (12 + 162) / 2 = 87
    assert figure.lines[0].bold == "M48.9 162L218.9 12L388.9 87"
    assert figure.lines[0].faint == ""
    assert (figure.lines[0].last, figure.lines[0].colour) == ("1.00", 3)
    assert [(tick.at, tick.label) for tick in figure.y_ticks][::4] == [(162, "0.0"), (12, "2.0")]


def test_a_gap_in_the_numbers_is_a_gap_in_the_line():
    figure = draw("t", "y", [Series("a", [0, 1, 2, 3], [0.0, math.nan, 1.0, 1.0], 0)])
    assert figure is not None
    assert figure.lines[0].bold.count("M") == 2
    assert figure.lines[0].bold.count("L") == 1


def test_an_interval_and_the_trail_of_its_set():
    dots = [Dot(0, 0.25, (0.2, 0.3), "held out", 1), Dot(10, 0.5, None, "held out", 1)]
    figure = draw("t", "y", [], dots, percent=True)
    assert figure is not None
    first, second = figure.marks
    assert first.low > first.y > first.high  # SVG's y runs down
    assert second.low == second.y == second.high
    assert first.title == "held out, step 0: 25.0\xa0% (95 %: 20.0\xa0% to 30.0\xa0%)"
    assert figure.trails == ((f"M{first.x:g} {first.y:g}L{second.x:g} {second.y:g}", 1),)


def test_one_spike_does_not_flatten_the_chart():
    ys = [1.0] * 399 + [1000.0]
    figure = draw("t", "y", [Series("a", list(range(400)), ys, 0)])
    assert figure is not None
    # window 400 // 12 | 1 = 33, so the bold line ends at (16 · 1 + 1000) / 17 = 59.8, and the chart near it
    assert figure.y_ticks[-1].label == "60"


@pytest.mark.parametrize(
    "ys", [pytest.param([], id="no steps"), pytest.param([math.nan, math.inf], id="nothing finite")]
)
def test_nothing_to_draw_is_no_figure(ys: list[float]):
    assert draw("t", "y", [Series("a", list(range(len(ys))), ys, 0)]) is None


def test_a_hundred_thousand_steps_stay_small():
    n = 100_000
    figure = draw("t", "y", [Series("a", list(range(n)), [math.sin(i / 9000) for i in range(n)], 0)])
    assert figure is not None
    assert figure.lines[0].bold.count("L") + 1 <= MAX_POINTS
    assert len(figure.bands) <= MAX_BANDS


@given(st.lists(numbers, min_size=1, max_size=60), st.booleans())
@example([5e-324], True)
@example([0.0, -5e-324], False)
@example([0.0, 3e38], True)
def test_everything_drawn_is_inside_the_plot(ys: list[float], percent: bool):
    figure = draw("t", "y", [Series("a", list(range(1, len(ys) + 1)), ys, 0)], percent=percent)
    assert figure is not None
    words = (figure.lines[0].bold + figure.lines[0].faint).replace("M", " ").replace("L", " ").split()
    assert all(figure.left <= float(x) <= figure.right for x in words[::2])
    assert all(figure.top <= float(y) <= figure.bottom for y in words[1::2])
    assert all(figure.top <= tick.at <= figure.bottom for tick in figure.y_ticks)


@given(numbers, numbers, st.integers(2, 8))
def test_ticks_cover_the_range_in_even_steps(a: float, b: float, count: int):
    low, high = min(a, b), max(a, b)
    ticks = nice_ticks(low, high, count)
    slack = 1e-6 * (ticks[1] - ticks[0])
    assert 2 <= len(ticks) <= count + 3
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert ticks == sorted(set(ticks))


@given(st.lists(numbers, max_size=30), st.integers(0, 5))
def test_a_running_mean_stays_between_its_numbers(ys: list[float], half: int):
    means = running_mean(ys, 2 * half + 1)
    assert len(means) == len(ys)
    assert all(min(ys) - 1e-6 <= mean <= max(ys) + 1e-6 for mean in means)
