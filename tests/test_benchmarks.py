"""What a benchmark says of its machine. (The benchmarks themselves are run by hand: docs/performance.md.)"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from benchmarks.machine import Seconds, Watch, busy_warning, medians, stopwatch
from benchmarks.soak import Look, count_lines, flatness


@pytest.mark.parametrize(
    ("load", "cores", "warns"),
    [
        pytest.param(0.0, 2, False, id="nobody"),
        pytest.param(2.0, 2, False, id="as many as cores"),
        pytest.param(2.01, 2, True, id="one now and then too many"),
        pytest.param(7.9, 8, False, id="much on many cores"),
        pytest.param(7.9, 2, True, id="much on few cores"),
    ],
)
def test_a_machine_busier_than_its_cores_is_named(load: float, cores: int, warns: bool) -> None:
    warning = busy_warning(load, cores, "at the start")
    assert (warning is not None) == warns
    if warning:
        assert f"load average {load:.1f} on {cores} cores at the start" in warning


@pytest.mark.parametrize(
    ("before", "after", "moments"),
    [
        pytest.param(1.0, 1.0, [], id="never"),
        pytest.param(9.0, 1.0, ["at the start"], id="at the start"),
        pytest.param(1.0, 9.0, ["at the end"], id="at the end"),
        pytest.param(9.0, 9.0, ["at the start", "at the end"], id="both"),
    ],
)
def test_both_ends_are_looked_at(before: float, after: float, moments: list[str], monkeypatch, capsys) -> None:
    loads = iter([before, after])
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (next(loads), 0.0, 0.0))
    with Watch() as machine:
        pass
    shown = capsys.readouterr().err
    assert [moment for moment in ("at the start", "at the end") if moment in shown] == moments
    assert "s wall-clock, " in shown
    assert "CPU seconds" in shown
    assert (machine.told["cores"], machine.told["load_average_before"], machine.told["load_average_after"]) == (
        4,
        before,
        after,
    )


def test_a_stopwatch_reads_both_clocks(monkeypatch) -> None:
    walls, cpus = iter([10.0, 13.0, 14.0]), iter([1.0, 1.5, 7.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(walls))
    monkeypatch.setattr(time, "process_time", lambda: next(cpus))
    passed = stopwatch()
    assert passed() == Seconds(wall=3.0, cpu=0.5)
    assert passed() == Seconds(wall=4.0, cpu=6.0), "more threads than one"


def test_medians_of_both_clocks() -> None:
    taken = {"a": [Seconds(1.0, 5.0), Seconds(2.0, 3.0), Seconds(9.0, 4.0)]}
    assert medians(taken) == {"a": Seconds(2.0, 4.0)}


def looks(rss_mb: Callable[[int], float], files: Callable[[int], int] = lambda step: 4) -> list[Look]:
    """A thousand steps, looked at after every tenth."""
    return [Look(step, step / 10, rss_mb(step), files(step), 3, 0) for step in range(10, 1001, 10)]


@pytest.mark.parametrize(
    ("seen", "flat"),
    [
        pytest.param(looks(lambda step: 500), True, id="flat"),
        pytest.param(looks(lambda step: 500 + (step % 50) / 10), True, id="up and down"),
        pytest.param(looks(lambda step: min(400 + step, 600)), True, id="a warm-up"),
        pytest.param(looks(lambda step: 500 + step / 20), False, id="50 kB a step"),
        pytest.param(looks(lambda step: 500, lambda step: 4 + step % 2), True, id="a file now and then"),
        pytest.param(looks(lambda step: 500, lambda step: 4 + step // 300), False, id="files that stay open"),
    ],
)
def test_growth_is_seen(seen, flat) -> None:
    assert flatness(seen)["flat"] == flat


def test_lines_of_a_growing_file_are_counted(tmp_path) -> None:
    file = tmp_path / "metrics.jsonl"
    count = count_lines(file)
    assert count() == 0
    file.write_text("1\n2\n3")
    assert count() == 2
    with file.open("a") as more:
        more.write("\n4\n")
    assert count() == 4
    file.write_text("1\n")
    assert count() == 1, "it was cut"
