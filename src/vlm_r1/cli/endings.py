"""How a command ends other than by success: errors, signals, and other processes that are gone. One line each."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_r1.errors import CheckpointError, VlmR1Error
from vlm_r1.runtime.text import visible
from vlm_r1.training.stopping import FAILED, SIGNALS, Stopped, n_launched

if TYPE_CHECKING:
    from vlm_r1.config import Config

_LOSSES = ("DistBackendError", "DistNetworkError", "DistStoreError", "DistError")
"""Names of torch's errors of communication; gloo's are plain RuntimeErrors with its name in their text."""


def tell_failure(error: VlmR1Error, status: int) -> int:
    """Print an error that the user can mend; the launcher of several processes repeats it at its end.

    An error that all processes raise is told by the first; before they are joined, by the first of each machine, since
    all read the same recipe and files.

    Returns:
        The exit status.
    """
    from vlm_r1.config.secrets import masked  # pydantic takes as long to import as the help of a command

    alike = error.agreed or not _is_joined()
    place = f"process {error.process}: " if error.process is not None else "" if alike else _process()
    line = visible(masked(f"{place}{type(error).__name__}: {error}"))
    tells = not alike or int(os.environ.get("RANK" if error.agreed else "LOCAL_RANK", "0")) == 0
    if tells:
        print(line, file=sys.stderr)
    leave_to_launcher(line if tells else "it has the error of the first process")
    return status


def leave(status: int) -> int:
    """Return the exit status of the program, and note it where threads of rewards may outlive the program."""
    if guard := sys.modules.get("vlm_r1.rewards.guard"):
        guard.note_status(status)
    return status


def tell_stop(stop: Stopped) -> int:
    """Print the line of a stop, then write the report of the run, if there is one; returns the exit status.

    From here on any signal ends the process at once.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if int(os.environ.get("RANK", "0")) == 0:
        print(stop, file=sys.stderr, flush=True)
        leave_to_launcher(str(stop))
    if stop.run is not None:
        _write_report(stop.run)
    return stop.exit_status


def is_loss_of_others(error: Exception) -> bool:
    """Return whether this process of several could not reach the others, which have ended or hang."""
    return n_launched() > 1 and (type(error).__name__ in _LOSSES or "gloo" in str(error))


def tell_loss(error: Exception) -> int:
    """Print one line about the loss of other processes; returns the exit status."""
    reason = str(error).partition("\n")[0]
    print(
        f"{_process()}another process of this run has ended or does not answer; see its message. ({reason:.200})",
        file=sys.stderr,
    )
    return FAILED


def masked_traceback(error: BaseException) -> str:
    """Return the traceback of an error without the secrets in its messages and lines."""
    from vlm_r1.config.secrets import masked, without_values

    lines = without_values("".join(traceback.format_exception(error))).splitlines(keepends=True)
    return "".join(map(masked, lines))


def _is_joined() -> bool:
    """Return whether the processes of this run are joined, so that one may fail alone."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _process() -> str:
    return f"process {os.environ.get('RANK', '?')}: " if n_launched() > 1 else ""


def leave_to_launcher(message: str) -> None:
    """Write a message where torchrun looks for it (as its own `record` does), to be printed at its end."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path is None:
        return
    written = {"message": message, "extraInfo": {"timestamp": str(int(time.time())), "py_callstack": message}}
    Path(path).write_text(json.dumps({"message": written}), encoding="utf-8")


def _write_report(config: Config) -> None:
    from vlm_r1.cli.console import write_report

    try:
        write_report(config)
    except CheckpointError as error:
        print(f"no report: {error}", file=sys.stderr)
