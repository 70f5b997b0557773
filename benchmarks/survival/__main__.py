"""Attack training runs and print what became of them (docs/reliability.md).

  python -m benchmarks.survival                                    everything: hours
  python -m benchmarks.survival moments random --json kills.json   some suites
  python -m benchmarks.survival damage --every 10                  every tenth trial

A run is a real `vlm-r1 train` or `sft` on a tiny model. The exit status is 1 if a trial had an outcome that no run may
have: a silent difference, a traceback, or a hang.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import Watch
from benchmarks.survival import syscalls
from benchmarks.survival.damage import SAVED
from benchmarks.survival.nursery import Nursery
from benchmarks.survival.suites import SUITES
from benchmarks.survival.trials import GOOD, Ground, Result
from vlm_r1.runtime.run_folder import environment


def main() -> int:
    """Run the suites; print a line for each bad outcome and a table in the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: all")
    parser.add_argument("--every", type=int, default=1, help="take only every so many trials of a suite")
    parser.add_argument("--json", type=Path, help="where to write all outcomes")
    args = parser.parse_args()
    if unknown := set(args.suites) - SUITES.keys():
        parser.error(f"unknown suite {sorted(unknown)[0]!r}; known: {', '.join(SUITES)}")
    if not syscalls.is_offered():
        parser.error("this needs Linux on x86-64 with seccomp's user notification")
    results: dict[str, list[Result]] = {}
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    with tempfile.TemporaryDirectory() as folder, Nursery() as nursery, Watch() as machine:
        ground = Ground(nursery, Path(folder).resolve())
        for name in args.suites or SUITES:
            results[name] = run_suite(ground, name, args.every)
            print(f"{name}: {_counts(results[name])}", file=sys.stderr)
    print(table(results))
    if "damage" in results:
        print("\n" + table(by_file(results["damage"]), "file"))
    if args.json:
        outcomes = {name: [asdict(result) for result in own] for name, own in results.items()}
        about = {"date": date, "command": sys.argv[1:], "environment": environment(), "machine": machine.told}
        args.json.write_text(json.dumps({**about, "results": outcomes}, indent=1) + "\n", encoding="utf-8")
    return int(any(result.outcome not in GOOD for own in results.values() for result in own))


def run_suite(ground: Ground, name: str, every: int = 1) -> list[Result]:
    """Run every so many trials of a suite; bad outcomes are printed at once."""
    results: list[Result] = []
    for trial in SUITES[name](ground)[::every]:
        results.append(trial())
        if results[-1].outcome not in GOOD:
            print(f"{results[-1].subject}: {results[-1].attack}: {results[-1].outcome}\n{results[-1].note}\n")
    return results


def by_file(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Group damages by the kind of the file: the newest checkpoint, an older one, metrics, …"""
    found: dict[str, list[Result]] = {}
    for result in results:
        file = result.attack.split(":")[0]
        kind = next((name for name, pattern in KINDS.items() if re.match(pattern, file)), file)
        found.setdefault(kind, []).append(result)
    return found


KINDS = {
    "newest checkpoint: weights": rf"checkpoints/{SAVED}/\w+\.safetensors$",
    "newest checkpoint: `state/`": rf"checkpoints/{SAVED}/state/",
    "newest checkpoint: `manifest.json`": rf"checkpoints/{SAVED}/manifest\.json$",
    "newest checkpoint: other files": rf"checkpoints/{SAVED}/",
    "older checkpoint": r"checkpoints/",
    "rollouts of saved steps": r"rollouts/step-00000[1-4]\.",
    "rollouts of later steps": r"rollouts/",
    "evaluations": r"eval/",
}


def table(results: Mapping[str, Sequence[Result]], head: str = "suite") -> str:
    """Return a table in Markdown, a row for each name.

    >>> print(table({"calls": [Result("grpo", "kill before call 1", "equal"), Result("sft", "kill", "differs")]}))
    | suite | trials | equal | equal, older checkpoint | equal, damage named | clear error | forbidden |
    |---|---|---|---|---|---|---|
    | calls | 2 | 1 | 0 | 0 | 0 | 1 |
    """
    rows: list[list[Any]] = [[head, "trials", *GOOD, "forbidden"], ["---"] * (3 + len(GOOD))]
    for name, own in results.items():
        counts = [sum(result.outcome == good for result in own) for good in GOOD]
        rows.append([name, len(own), *counts, len(own) - sum(counts)])
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines).replace("| --- ", "|---").replace("--- |", "---|")


def _counts(results: Sequence[Result]) -> str:
    return ", ".join(f"{n} {outcome}" for outcome, n in Counter(result.outcome for result in results).most_common())


if __name__ == "__main__":
    sys.exit(main())
