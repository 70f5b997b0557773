"""Seconds by phase of a step, and what metrics say of them."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from vlm_r1.runtime.metrics import Metric


class Phases:
    """Adds up seconds by name: `with phases("sample"): …`; `seconds` holds the sums, e.g. {"sample": 0.31}."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextmanager
    def __call__(self, name: str) -> Generator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def metrics(self, counted: Mapping[str, Metric]) -> dict[str, Metric]:
        """Seconds of the slowest process by phase and of the step, and tokens per second of all processes.

        Args:
            counted: the step's metrics; `tokens/<phase>` among them makes a rate.
        """
        times = {f"time/{name}_s": Metric("max", seconds) for name, seconds in self.seconds.items()}
        rates = {
            f"tokens_per_s/{name}": Metric("sum", counted[f"tokens/{name}"].total / max(seconds, 1e-9))
            for name, seconds in self.seconds.items()
            if f"tokens/{name}" in counted
        }
        return {**times, "time/step_s": Metric("max", time.perf_counter() - self._start), **rates}
