"""Look for signs that a run goes wrong, in any run folder: finished, going on, stopped or damaged.

  vlm-r1 doctor runs/rec            each finding with its numbers, the likely cause and what to change
  vlm-r1 doctor runs/rec --json     the same for programs

The exit status is 1 if something is found. docs/doctor.md has a section for each finding.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vlm_r1.cli.options import local_path

if TYPE_CHECKING:
    from vlm_r1.doctor import Seen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run folder and --json."""
    parser.add_argument("run", type=local_path, metavar="RUN", help="run folder, as vlm-r1 train, sft or demo write it")
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the findings and what was looked at; returns 1 if there are findings.

    Raises:
        CheckpointError: it is not a run folder.
    """
    from vlm_r1.doctor.examine import SIGNS, examine, loss_note
    from vlm_r1.doctor.read import read_seen
    from vlm_r1.runtime.terminal import Terminal
    from vlm_r1.runtime.text import json_text

    seen, problems = read_seen(args.run)
    found, looked_at = examine(seen), _looked_at(seen)
    if args.json:
        told = {"findings": [one.as_json() for one in found], "looked_at": looked_at, "not_read": problems}
        print(json_text(told, indent=2))
        return int(bool(found))
    console = Terminal(soft_wrap=True)
    for finding in found:
        about = f" ({finding.about})" if finding.about else ""
        console.print(f"{finding.name}{about}", style="yellow")
        for label, text in (
            ("seen", finding.evidence),
            ("likely", finding.cause),
            ("change", finding.change),
            ("more", finding.link),
        ):
            console.print(f"  {label:<7} {text}")
    for problem in problems:
        console.print(f"not read: {problem}", style="yellow")
    summary = f"{len(found)} found" if found else "nothing found"
    console.print(f"{summary}; {len(SIGNS)} signs looked at {looked_at}")
    if note := loss_note(seen):
        console.print(note)
    return int(bool(found))


def _looked_at(seen: Seen) -> str:
    """Say what there was to look at."""
    answers = sum(one.n for one in seen.answers.values())
    evaluations = sum(map(len, seen.held_out.values()))
    return (
        f"{_counted(len(seen.rows), 'step')}, {_counted(answers, 'completion')} of the first and last "
        f"{_counted(len(seen.answers), 'step')} with rollouts, and {_counted(evaluations, 'evaluation')}"
    )


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
