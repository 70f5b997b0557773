"""Display of progress: bars with an ETA in a terminal, occasional plain lines in a log file."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.cells import cell_len, set_cell_size
from rich.console import RenderableType
from rich.progress import Progress, Task
from rich.text import Text

from vlm_r1.runtime.terminal import Terminal
from vlm_r1.runtime.text import visible

T = TypeVar("T")

Show = Callable[[int, Sequence[str]], None]
"""`show(n, pieces)` moves a bar by n, and shows pieces such as "reward 1.21" behind it."""

_SECONDS_BETWEEN_LINES = 15.0
_BAR = 20  # columns of a bar where there is room
_SHORT_BAR = 4


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
            yield lambda n: update(n, ())

    @contextmanager
    def steps(self, label: str, total: int, done: int = 0) -> Generator[Show]:
        """Yield a function that moves the bar and shows pieces of text behind it; see `Show`."""
        if not self.enabled:
            yield lambda n, pieces: None
        elif self.console.is_terminal:
            with self.progress() as progress:
                task = progress.add_task(label, total=total, completed=done)
                yield lambda n, pieces: progress.update(task, advance=n, pieces=tuple(pieces))
        else:
            yield _LineWriter(self.console, label, total, done)

    def progress(self, transient: bool = False) -> Progress:
        """Make the bars; transient ones vanish when they are done."""
        return _Lines(console=self.console, transient=transient)


def track(items: Iterable[T], label: str, total: int) -> Iterable[T]:
    """Yield the items, with a bar on standard error while they last if that is a terminal."""
    display = Display(Terminal(stderr=True))
    if not display.console.is_terminal:
        yield from items
        return
    with display.progress(transient=True) as progress:
        task = progress.add_task(label, total=total)
        for item in items:
            yield item
            progress.advance(task)


class _Lines(Progress):
    """One line for each task: `GRPO 5/12 ━━── 0:18 ETA 0:25  reward 0.07`."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Write the lines anew, for the present width."""
        for task in self.tasks:
            yield _line(task, self.console.width)


def _line(task: Task, width: int) -> Text:
    """Write a task in one line. Step, bar and ETA always stand there; the pieces behind them shrink first."""
    total = max(int(task.total or 0), 1)
    count = f" {int(task.completed)}/{int(task.total or 0)} "
    times = f" {clock(task.elapsed)} ETA {clock(task.time_remaining)}"
    room = width - len(count) - len(times)
    label = _cut(visible(task.description), room - _SHORT_BAR)
    room -= cell_len(label)
    pieces: Sequence[str] = task.fields.get("pieces", ())
    numbers = fitting([visible(piece) for piece in pieces], room - _SHORT_BAR - 2)
    bar = max(min(_BAR, room - (cell_len(numbers) + 2 if numbers else 0)), 1)
    full = min(int(bar * task.completed / total), bar)
    return Text.assemble(
        label,
        count,
        ("━" * full, "bar.complete"),
        ("─" * (bar - full), "bar.back"),
        times,
        (f"  {numbers}" if numbers else "", "cyan"),
        no_wrap=True,
        overflow="crop",
    )


def fitting(pieces: Sequence[str], columns: int) -> str:
    """Join pieces of text; while they are too wide, the longest but the first is left out, and the first one at last.

    >>> [fitting(["reward 0.50", "= iou 0.25 + format 0.25", "acc 0.1"], columns) for columns in (60, 30, 12, 8)]
    ['reward 0.50 = iou 0.25 + format 0.25  acc 0.1', 'reward 0.50  acc 0.1', 'reward 0.50', '']
    """
    kept = list(pieces)
    while len(kept) > 1 and cell_len(_joined(kept)) > columns:
        longest = max(map(cell_len, kept[1:]))
        kept.pop(next(i for i, piece in enumerate(kept) if i and cell_len(piece) == longest))
    text = _joined(kept)
    return text if cell_len(text) <= columns else ""


def _cut(text: str, columns: int) -> str:
    return text if cell_len(text) <= columns else f"{set_cell_size(text, max(columns - 1, 0))}…"


def _joined(pieces: Sequence[str]) -> str:
    """Put two spaces between pieces, one before "= …", which belongs to the piece before it."""
    return "".join(piece if not i else f"{'' if piece[0] == '=' else ' '} {piece}" for i, piece in enumerate(pieces))


def clock(seconds: float | None) -> str:
    """Write a time as 0:05 or 1:02:03; -:-- if it is not known.

    >>> clock(5.4), clock(3723), clock(None)
    ('0:05', '1:02:03', '-:--')
    """
    if seconds is None or not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


class _LineWriter:
    """Progress in a file: prints a line at the start, every 15 seconds, and at the end."""

    def __init__(self, console: Terminal, label: str, total: int, done: int):
        self._console, self._label, self._total = console, label, total
        self._done = self._first = done
        self._start = time.monotonic()
        self._last = self._start - _SECONDS_BETWEEN_LINES

    def __call__(self, n: int, pieces: Sequence[str]) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES and self._done < self._total:
            return
        self._last = now
        elapsed = now - self._start
        eta = elapsed / max(self._done - self._first, 1) * (self._total - self._done)
        line = f"{self._label} {self._done}/{self._total} {clock(elapsed)} ETA {clock(eta)}"
        self._console.print(f"{line}  {_joined(pieces)}".rstrip(), soft_wrap=True)
