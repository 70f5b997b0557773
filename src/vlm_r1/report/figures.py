"""Layout of line charts: the positions of ticks, lines and dots in an inline SVG, which the template draws."""

# pyright: standard

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_POINTS = 400  # points drawn per line; longer series are averaged in bins, so that the page stays small
MAX_BANDS = 80  # number of hover zones per chart


@dataclass(frozen=True)
class Series:
    """One line; a NaN in `ys` leaves a gap. `colour` is an index into the page's palette."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: int


@dataclass(frozen=True)
class Dot:
    """One measured value, with its 95 % interval if that is known."""

    x: float
    y: float
    ci95: tuple[float, float] | None
    label: str
    colour: int


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """Paths in SVG units: `faint` for the measured values, `bold` for their running mean ("" if there is none)."""

    label: str
    colour: int
    faint: str
    bold: str
    last: str


@dataclass(frozen=True)
class Mark:
    """A dot in SVG units with the ends of its interval bar."""

    x: float
    y: float
    low: float
    high: float
    colour: int
    title: str


@dataclass(frozen=True)
class Band:
    """A hover zone that begins at `x` and is `width` wide, with the values at its middle."""

    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Figure:
    """A chart in SVG units; the plot is the rectangle from (left, top) to (right, bottom) of the drawing."""

    title: str
    y_label: str
    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...]
    keys: tuple[tuple[str, int], ...]  # legend of the dots: label, colour
    trails: tuple[tuple[str, int], ...]  # paths that join the dots of one label: path, colour
    bands: tuple[Band, ...]
    window: int  # steps in the running mean


@dataclass(frozen=True)
class _Plot:
    """The map from (step, value) to SVG units."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    left: float
    top: float
    right: float
    bottom: float

    def x(self, step: float) -> float:
        return round(self.left + (step - self.x_low) / (self.x_high - self.x_low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Convert a value; outliers are clipped to the edge of the plot."""
        inside = min(max(value, self.y_low), self.y_high)
        return round(self.bottom - (inside - self.y_low) / (self.y_high - self.y_low) * (self.bottom - self.top), 1)

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """SVG path data through the points; a value that is not finite lifts the pen."""
        words, pen_up = [], True
        for step, value in points:
            if math.isfinite(value):
                words.append(f"{'M' if pen_up else 'L'}{self.x(step):g} {self.y(value):g}")
            pen_up = not math.isfinite(value)
        return "".join(words)


def draw(
    title: str,
    y_label: str,
    series: Sequence[Series],
    dots: Sequence[Dot] = (),
    *,
    width: float = 560,
    height: float = 280,
    percent: bool = False,
) -> Figure | None:
    """Lay out a chart over training steps; returns None if there is no finite value.

    Args:
        title: title of the chart.
        y_label: the quantity with its unit.
        series: lines, drawn faint as measured and bold as a running mean over about a twelfth of the run.
        dots: single measurements with intervals, e.g. evaluations.
        width, height: size of the drawing in SVG units.
        percent: write values as percentages.
    """
    series = [_downsampled(s) for s in series if any(map(math.isfinite, s.ys))]
    dots = [dot for dot in dots if math.isfinite(dot.y)]
    if not series and not dots:
        return None
    longest = max((len(s.xs) for s in series), default=0)
    window = longest // 12 | 1 if longest >= 24 else 1  # odd
    means = [running_mean(s.ys, window) for s in series]
    y_ticks = nice_ticks(*_range(series, means, dots), 5)
    y_names = _tick_names(y_ticks, percent)
    left = 30.0 + 6.3 * max(map(len, y_names))
    plot = _Plot(*_steps(series, dots), y_ticks[0], y_ticks[-1], left, 12.0, width - 12, height - 38)
    keys = tuple(dict.fromkeys((dot.label, dot.colour) for dot in dots))
    return Figure(
        title=title,
        y_label=y_label,
        width=width,
        height=height,
        left=plot.left,
        top=plot.top,
        right=plot.right,
        bottom=plot.bottom,
        x_ticks=tuple(Tick(plot.x(step), f"{step:,.0f}") for step in _step_ticks(plot, 6 if width > 450 else 4)),
        y_ticks=tuple(Tick(plot.y(y), name) for y, name in zip(y_ticks, y_names, strict=True)),
        lines=tuple(_line(plot, s, mean, window, percent) for s, mean in zip(series, means, strict=True)),
        marks=tuple(_mark(plot, dot, percent) for dot in dots),
        keys=keys,
        trails=tuple((plot.path([(d.x, d.y) for d in dots if (d.label, d.colour) == key]), key[1]) for key in keys),
        bands=_bands(plot, series, percent),
        window=window,
    )


def running_mean(ys: Sequence[float], window: int) -> list[float]:
    """Centred mean of the finite values in a window (cut at the ends); NaN if the window has none.

    >>> running_mean([1, 2, 6, float("nan")], 3)
    [1.5, 3.0, 4.0, 6.0]
    """
    half = window // 2
    return [_mean(ys[max(0, i - half) : i + half + 1]) for i in range(len(ys))]


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Choose about `count` (at least two) round values, the first ≤ `low` and the last ≥ `high`.

    >>> nice_ticks(0.03, 0.87, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> nice_ticks(2, 2, 4), nice_ticks(0, 0, 2)  # no range: from 0, or from 0 to 1
    ([0.0, 0.5, 1.0, 1.5, 2.0], [0.0, 0.5, 1.0])
    """
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = min(0.0, low), max(0.0, high)
    if high - low < 1e-200:
        high = low + 1
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


def number(value: float, percent: bool = False, decimals: int | None = None) -> str:
    r"""Format a number with two or three significant digits, or with `decimals`; "–" if it is not finite.

    >>> [number(1.2345), number(-0.0123), number(0.0000123), number(12345.6), number(float("nan"))]
    ['1.23', '−0.012', '1.2e−05', '12,346', '–']
    >>> number(0.613, percent=True)
    '61.3\xa0%'
    """
    if not math.isfinite(value):
        return "–"
    if percent:
        text = f"{100 * value:.{1 if decimals is None else decimals}f}\xa0%"
    elif abs(value) >= 1e7 or (decimals is None and 0 < abs(value) < 0.1):
        text = f"{value:.2g}"
    elif decimals is not None:
        text = f"{value:,.{decimals}f}"
    else:
        digits = 2 - math.floor(math.log10(abs(value))) if value else 0
        text = f"{value:,.{max(digits, 0)}f}"
    return text.replace("-", "−")


def _range(series: Sequence[Series], means: Sequence[Sequence[float]], dots: Sequence[Dot]) -> tuple[float, float]:
    """The range of bold and the middle 98 % of faint values, so that spikes do not flatten it; from 0 if near."""
    values = [y for mean in means for y in mean if math.isfinite(y)] + [dot.y for dot in dots]
    values += [end for dot in dots if dot.ci95 for end in dot.ci95 if abs(end) < 1e300]
    for s in series:
        finite = sorted(y for y in s.ys if math.isfinite(y))
        cut = len(finite) // 100
        values += [finite[cut], finite[-1 - cut]]
    low, high = min(values), max(values)
    return (0.0 if 0 < low < high / 2 else low), high


def _tick_names(ticks: Sequence[float], percent: bool) -> list[str]:
    """Format ticks with enough decimals to distinguish them; tiny and huge ones in the shortest form."""
    shown = [100 * y for y in ticks] if percent else ticks
    unit = "\xa0%" if percent else ""
    if not 0.01 <= max(map(abs, shown)) < 1e7:
        return [f"{y:g}{unit}".replace("-", "−") for y in shown]
    step = shown[1] - shown[0]
    digits = max(0, -math.floor(math.log10(step)))
    if abs(step * 10**digits - round(step * 10**digits)) > 1e-6:
        digits += 1
    return [f"{y:,.{min(digits, 6)}f}{unit}".replace("-", "−") for y in shown]


def _steps(series: Sequence[Series], dots: Sequence[Dot]) -> tuple[float, float]:
    """First and last step; the first is 0 rather than 1, since evaluations before training are at 0."""
    xs = [x for s in series for x in s.xs] + [dot.x for dot in dots]
    low = 0.0 if min(xs) <= 1 else min(xs)
    return low, max(*xs, low + 1)


def _step_ticks(plot: _Plot, count: int) -> list[float]:
    ticks = nice_ticks(plot.x_low, plot.x_high, count)
    return [step for step in ticks if plot.x_low <= step <= plot.x_high and step == int(step)]


def _downsampled(s: Series) -> Series:
    """Reduce a series to at most MAX_POINTS points, each the mean of a bin."""
    size = -(-len(s.xs) // MAX_POINTS)
    if size <= 1:
        return s
    starts = range(0, len(s.xs), size)
    xs, ys = ([_mean(values[i : i + size]) for i in starts] for values in (s.xs, s.ys))
    return Series(s.label, xs, ys, s.colour)


def _mean(values: Sequence[float]) -> float:
    """Mean of the finite values; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _line(plot: _Plot, s: Series, mean: Sequence[float], window: int, percent: bool) -> Line:
    last = next(y for y in reversed(mean) if math.isfinite(y))
    faint = plot.path(zip(s.xs, s.ys, strict=True)) if window > 1 else ""
    return Line(s.label, s.colour, faint, plot.path(zip(s.xs, mean, strict=True)), number(last, percent))


def _mark(plot: _Plot, dot: Dot, percent: bool) -> Mark:
    low, high = dot.ci95 or (dot.y, dot.y)
    interval = f" (95 %: {number(low, percent)} to {number(high, percent)})" if dot.ci95 else ""
    title = f"{dot.label}, step {dot.x:g}: {number(dot.y, percent)}{interval}"
    return Mark(plot.x(dot.x), plot.y(dot.y), plot.y(low), plot.y(high), dot.colour, title)


def _bands(plot: _Plot, series: Sequence[Series], percent: bool) -> tuple[Band, ...]:
    """Make hover zones over the points of the first line, with the values of all lines at the same steps."""
    if not series:
        return ()
    steps = series[0].xs[:: -(-len(series[0].xs) // MAX_BANDS)]
    values = [(s.label, dict(zip(s.xs, s.ys, strict=True))) for s in series]
    width = round((plot.right - plot.left) / len(steps), 1)
    bands: list[Band] = []
    for step in steps:
        texts = [f"{label} {number(ys[step], percent)}" for label, ys in values if step in ys]
        bands.append(Band(round(plot.x(step) - width / 2, 1), width, f"step {step:g}: " + ", ".join(texts)))
    return tuple(bands)
