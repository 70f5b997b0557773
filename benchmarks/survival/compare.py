"""What must be equal between an uninterrupted run and one that was attacked: every file, but for clocks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_r1.runtime.metrics_log import read_metrics

_ONLY_THERE = re.compile(r"(^report\.html|^\.lock|(^|/)manifest\.json|/history\.json)$")
"""Files of which only the name is compared: the report shows seconds, the lock names its last owner, and the others are
hashes of files that show seconds or are compared themselves."""


def contents(folder: Path) -> dict[str, Any]:
    """Return every file of a run folder, hidden ones and empty folders too: relative path → what must be equal."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            found[name] = _content(path, name)
        elif not any(path.iterdir()):
            found[f"{name}/"] = "an empty folder"
    return found


def differences(whole: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return what differs, a line for each file: one run has it alone, or both have it and it differs."""
    lines = [f"{name}: only in the uninterrupted run" for name in sorted(whole.keys() - other.keys())]
    lines += [f"{name}: only in the attacked run" for name in sorted(other.keys() - whole.keys())]
    return lines + [f"{name}: differs" for name in sorted(whole.keys() & other.keys()) if whole[name] != other[name]]


def but_for_checkpoints(lines: Iterable[str], last: str) -> list[str]:
    """Leave out the differences of checkpoints other than the last: a run that saves more often keeps others.

    >>> but_for_checkpoints(["checkpoints/step-000005/a: differs", "checkpoints/step-000006/a: differs"], "step-000006")
    ['checkpoints/step-000006/a: differs']
    """
    return [line for line in lines if not line.startswith("checkpoints/") or f"/{last}/" in line]


def _content(path: Path, name: str) -> Any:
    if _ONLY_THERE.search(name):
        return path.stat().st_size > 0
    if name == "metrics.jsonl":
        return [{k: str(v) for k, v in row.items() if not k.startswith(_CLOCKS)} for row in read_metrics(path)]
    if path.suffix == ".parquet":
        return _rows(path)
    if name in ("summary.json", "environment.json"):
        return _without(path, "seconds", "command", "commit", "changes")
    if name == "config.yaml":
        return re.sub(r"^output_dir: .*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _without(path: Path, *keys: str) -> Any:
    text = path.read_bytes()
    try:
        return {key: value for key, value in json.loads(text).items() if key not in keys}
    except ValueError:
        return text


def _rows(path: Path) -> Any:
    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"


_CLOCKS = ("time/", "tokens_per_s/")
