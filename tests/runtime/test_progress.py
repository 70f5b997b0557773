"""What a person sees, in a terminal and in a log file."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len

from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.terminal import Terminal

PIECES = ["reward 1.23", "= accuracy 0.50 + format 0.73", "accuracy@0.5 0.25"]


def shown(terminal: bool, width: int, enabled: bool = True, label: str = "GRPO", pieces=PIECES) -> str:
    out = io.StringIO()
    display = Display(Terminal(file=out, force_terminal=terminal, width=width), enabled=enabled)
    display.say("hello", style="bold")
    with display.steps(label, 20, done=5) as update:
        for _ in range(15):
            update(1, pieces)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())


def last_line(width: int, **kinds) -> str:
    return [line for line in shown(terminal=True, width=width, **kinds).splitlines() if "20/20" in line][-1].rstrip()


@pytest.mark.parametrize(
    ("width", "numbers"),
    [
        (140, "reward 1.23 = accuracy 0.50 + format 0.73  accuracy@0.5 0.25"),
        (96, "reward 1.23 = accuracy 0.50 + format 0.73  accuracy@0.5 0.25"),
        (80, "reward 1.23  accuracy@0.5 0.25"),
        (60, "reward 1.23"),
        (46, "reward 1.23"),
        (40, ""),
        (32, ""),
    ],
)
def test_step_bar_and_eta_stand_at_every_width_and_the_numbers_shrink_first(width: int, numbers: str) -> None:
    last = last_line(width)
    found = re.fullmatch(r"GRPO 20/20 (━+) \d+:\d\d ETA 0:00(  (.*))?", last)
    assert found, last
    assert (found[3] or "") == numbers
    assert 4 <= len(found[1]) <= 20
    assert len(last) <= width


@pytest.mark.parametrize(
    ("label", "kept"), [("before a_set_with_a_long_name", "before a_"), ("前のデータ集合の評価を行う", "前の")]
)
def test_a_long_label_shrinks_and_never_the_eta(label: str, kept: str) -> None:
    last = last_line(40, label=label)
    assert re.search(r"… 20/20 ━{4} \d+:\d\d ETA 0:00$", last), last
    assert last.startswith(kept)
    assert cell_len(last) <= 40


def test_a_bar_is_as_long_as_what_is_done() -> None:
    out = io.StringIO()
    display = Display(Terminal(file=out, force_terminal=True, width=60))
    with display.steps("GRPO", 4) as update:
        update(1, ())
        display.say("now")  # a line above the bar, which is drawn again
    assert f"{'━' * 5}{'─' * 15}" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())


def test_a_log_file_gets_few_whole_lines() -> None:
    lines = shown(terminal=False, width=30).splitlines()
    assert lines[0] == "hello"
    assert lines[1] == "GRPO 6/20 0:00 ETA 0:00  reward 1.23 = accuracy 0.50 + format 0.73  accuracy@0.5 0.25"
    assert lines[-1].startswith("GRPO 20/20 0:00 ETA 0:00  reward")
    assert len(lines) == 3


def test_other_processes_are_silent() -> None:
    assert shown(terminal=True, width=80, enabled=False) == ""


def test_pieces_cannot_act_on_the_terminal() -> None:
    assert "\x07" not in shown(terminal=True, width=80, pieces=["reward \x07[bold]1.0"])
