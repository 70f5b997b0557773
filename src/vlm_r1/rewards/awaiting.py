"""Awaits what async reward functions return, in an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Sequence
from traceback import FrameSummary
from typing import Any

from vlm_r1.rewards.guard import TimeUpError
from vlm_r1.rewards.kept_state import follow_gpu


class LeftError(Exception):
    """Carries an error that would end the event loop, such as SystemExit, out of it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(repr(error))
        self.error = error


def await_all(awaitables: Sequence[Awaitable[Any]]) -> list[Any]:
    """Await all together in a new thread, since a notebook's thread already has an event loop.

    Nobody waits for the thread when this function is interrupted.
    """
    tasks: list[asyncio.Task[Any]] = []
    ended, same_gpu = threading.Event(), follow_gpu()

    async def together() -> None:
        tasks.extend(asyncio.ensure_future(_passing_on(awaitable)) for awaitable in awaitables)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)

    def work() -> None:
        try:
            same_gpu()
            asyncio.run(together())
        finally:
            ended.set()

    threading.Thread(target=work, name="async reward", daemon=True).start()
    try:
        ended.wait()
    except TimeUpError as error:
        error.awaited = _waiting(tasks)
        raise
    failed = [task for task in tasks if not task.cancelled() and task.exception()]
    return [task.result() for task in (failed or tasks)]


async def _passing_on(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        raise LeftError(error) from error


def _waiting(tasks: Sequence[asyncio.Task[Any]]) -> list[FrameSummary]:
    """Return the lines at which the first task that has not ended waits, outermost first."""
    frames: list[FrameSummary] = []
    awaited: Any = next((task.get_coro() for task in tasks if not task.done()), None)
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        frames += traceback.extract_stack(frame, limit=1) if frame is not None else ()
        awaited = getattr(awaited, "cr_await", None)
    return frames
