"""What a benchmark says of its machine: whether it was too busy to measure, and CPU seconds beside wall-clock.

Others' work takes wall-clock from a benchmark, and by shared caches some CPU time too. CPU seconds far from wall-clock
times threads mean that the benchmark waited, for others or for a disk.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Seconds(NamedTuple):
    """How long something took: on the clock, and on the processors, all threads of the process together."""

    wall: float
    cpu: float


def stopwatch() -> Callable[[], Seconds]:
    """Start; each call of what is returned says how much has passed since."""
    wall, cpu = time.perf_counter(), time.process_time()
    return lambda: Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def median_of(taken: Sequence[Seconds]) -> Seconds:
    """The median on the clock, and the median on the processors.

    >>> median_of([Seconds(1, 5), Seconds(2, 3), Seconds(9, 4)])
    Seconds(wall=2, cpu=4)
    """
    return Seconds(*(statistics.median(column) for column in zip(*taken, strict=True)))


def medians(taken: Mapping[str, Sequence[Seconds]]) -> dict[str, Seconds]:
    """`median_of` each by name."""
    return {name: median_of(each) for name, each in taken.items()}


def busy_warning(load: float, cores: int, moment: str) -> str | None:
    """What is to be said if more processes wanted to run than there are cores.

    Args:
        load: average of the last minute, as `os.getloadavg` gives it.
        moment: "at the start" or "at the end", where the benchmark's own threads count too.

    >>> busy_warning(2.0, 2, "at the start")
    >>> print(busy_warning(3.5, 2, "at the start"))
    warning: load average 3.5 on 2 cores at the start: others use this machine, so its seconds mean little
    """
    if load <= cores:
        return None
    return (
        f"warning: load average {load:.1f} on {cores} cores {moment}: others use this machine, so its seconds mean "
        "little"
    )


class Watch:
    """`with Watch() as machine: …`: warns on standard error before and after if the machine is too busy.

    In the end it prints the seconds there. CPU seconds count this process and those it started and waited for; not
    those of `benchmarks.measure.fresh_processes`, which have another parent.

    Attributes:
        told: for the result's JSON: wall_s, cpu_s, cores, and load averages of a minute before and after.
    """

    def __init__(self) -> None:
        self.told: dict[str, Any] = {"cores": os.cpu_count() or 1}

    def __enter__(self) -> Watch:
        self._look("before", "at the start")
        self._began = (time.perf_counter(), _cpu_seconds())
        return self

    def __exit__(self, *_: object) -> None:
        now = (time.perf_counter(), _cpu_seconds())
        self.told["wall_s"], self.told["cpu_s"] = (end - start for start, end in zip(self._began, now, strict=True))
        print(f"{self.told['wall_s']:.1f} s wall-clock, {self.told['cpu_s']:.1f} CPU seconds", file=sys.stderr)
        self._look("after", "at the end")

    def _look(self, key: str, moment: str) -> None:
        load = self.told[f"load_average_{key}"] = os.getloadavg()[0]
        if warning := busy_warning(load, self.told["cores"], moment):
            print(warning, file=sys.stderr)


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])
