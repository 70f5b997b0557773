"""Display of progress: bars with an ETA in a terminal, occasional plain lines in a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TypeVar

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vlm_r1.runtime.terminal import Terminal
from vlm_r1.runtime.text import visible

T = TypeVar("T")

_SECONDS_BETWEEN_LINES = 15.0
_WIDE_COLUMNS = 110  # narrower terminals show the numbers without a bar


class _LastingTerminal(Terminal):
    """A console that falls silent when nobody reads it any more (`| head`), where rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Let the run go on to its end."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes its buffer there at the end


class Display:
    """Progress on a console; only the first process prints."""

    def __init__(self, console: Terminal | None = None, enabled: bool = True):
        self.console = console or _LastingTerminal()
        self.enabled = enabled

    def say(self, text: RenderableType, style: str = "") -> None:
        """Print one line as it is, which the terminal wraps, so that paths stay whole; or a table.

        Args:
            style: e.g. "yellow".
        """
        if self.enabled:
            self.console.print(text, style=style, soft_wrap=isinstance(text, str))

    @contextmanager
    def bar(self, label: str, total: int) -> Generator[Callable[[int], None]]:
        """Yield a function `advance(n)`, which moves the bar by n."""
        with self.steps(label, total) as update:
            yield lambda n: update(n, {})

    @contextmanager
    def steps(self, label: str, total: int, done: int = 0) -> Generator[Callable[[int, Mapping[str, float]], None]]:
        """Yield a function `update(n, numbers)`, which moves the bar by n and shows numbers, e.g. {"reward": 1.2}."""
        if not self.enabled:
            yield lambda n, numbers: None
        elif self.console.is_terminal:
            with self.progress() as progress:
                task = progress.add_task(visible(label), total=total, completed=done, numbers="")
                yield lambda n, numbers: progress.update(task, advance=n, numbers=visible(_format(numbers)))
        else:
            yield _LineWriter(self.console, label, total, done)

    def progress(self, transient: bool = False) -> Progress:
        """Make the bars; transient ones vanish when they are done."""
        wide = self.console.width >= _WIDE_COLUMNS
        columns = (
            TextColumn("{task.description}", markup=False),
            *((BarColumn(bar_width=20),) if wide else ()),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", style="cyan", markup=False),
            *((TimeElapsedColumn(),) if wide else ()),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=self.console, transient=transient)


def track(items: Iterable[T], label: str, total: int) -> Iterable[T]:
    """Yield the items, with a bar on standard error while they last if that is a terminal."""
    display = Display(Terminal(stderr=True))
    if not display.console.is_terminal:
        yield from items
        return
    with display.progress(transient=True) as progress:
        task = progress.add_task(visible(label), total=total, numbers="")
        for item in items:
            yield item
            progress.advance(task)


class _LineWriter:
    """Progress in a file: prints a line at the start, every 15 seconds, and at the end."""

    def __init__(self, console: Terminal, label: str, total: int, done: int):
        self._console, self._label, self._total = console, label, total
        self._done = self._first = done
        self._start = time.monotonic()
        self._last = self._start - _SECONDS_BETWEEN_LINES

    def __call__(self, n: int, numbers: Mapping[str, float]) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES and self._done < self._total:
            return
        self._last = now
        elapsed = now - self._start
        eta = elapsed / max(self._done - self._first, 1) * (self._total - self._done)
        line = f"{self._label} {self._done}/{self._total} {_format(numbers)} {elapsed:.0f}s, ETA {eta:.0f}s"
        self._console.print(" ".join(line.split()))


def _format(numbers: Mapping[str, float]) -> str:
    """Format numbers with two decimals, e.g. "reward 1.21  accuracy 0.35"."""
    return "  ".join(f"{name} {value:.2f}" for name, value in numbers.items())
