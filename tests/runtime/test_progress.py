"""What a person sees, in a terminal and in a log file."""

from __future__ import annotations

import io
import re

import pytest

from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.terminal import Terminal


def shown(terminal: bool, width: int, enabled: bool = True) -> str:
    out = io.StringIO()
    display = Display(Terminal(file=out, force_terminal=terminal, width=width), enabled=enabled)
    display.say("hello", style="bold")
    with display.steps("GRPO", 20, done=5) as update:
        for _ in range(15):
            update(1, {"reward": 1.234, "accuracy": 0.5, "format": 1.0, "acc@0.5": 0.25})
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_shows_step_numbers_and_eta_on_one_line(width: int) -> None:
    last = [line for line in shown(terminal=True, width=width).splitlines() if "20/20" in line][-1].rstrip()
    assert "reward 1.23  accuracy 0.50  format 1.00  acc@0.5 0.25" in last
    assert "ETA" in last
    assert len(last) <= width
    assert "…" not in last


def test_a_log_file_gets_few_whole_lines() -> None:
    lines = shown(terminal=False, width=200).splitlines()
    assert lines[0] == "hello"
    assert lines[1].startswith("GRPO 6/20 reward 1.23 accuracy 0.50")
    assert lines[-1].startswith("GRPO 20/20")
    assert re.search(r"\d+s, ETA 0s$", lines[-1])
    assert len(lines) == 3


def test_other_processes_are_silent() -> None:
    assert shown(terminal=True, width=80, enabled=False) == ""
