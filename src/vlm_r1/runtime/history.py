"""What a run has written beside its checkpoints: each checkpoint keeps the hashes, so that damage shows on resume.

Training needs none of these files again but `config.yaml`; the summary and the report need the others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlm_r1.errors import CheckpointError
from vlm_r1.files import read_bytes
from vlm_r1.parsing.json_values import is_list
from vlm_r1.registry import quoted
from vlm_r1.runtime.rollout_log import list_rollouts
from vlm_r1.runtime.run_folder import RunFolder, read_json

FILE = "state/history.json"

_SHOWN = 5
_REWRITTEN = ("saved", "changes", "steps")
"""Entries of `environment.json` that change while a run goes on."""


def write_history(checkpoint: Path, run: RunFolder, before: Path | None) -> None:
    """Write size in bytes and hash of the run's files so far: `{"eval/before-held.json": [9, "5f…"], …}`.

    Metrics grow later: their size is the number of lines so far, and their hash that of these lines. The evaluation in
    the last one does not count, since a run that was stopped before it adds it on resuming.

    Args:
        checkpoint: the new checkpoint, a folder that has `state/`.
        before: the last checkpoint. Its hashes of rollouts and evaluations, which do not change, are taken over.

    Raises:
        OSError, CheckpointError: a file cannot be read, or the history cannot be written.
    """
    known = {} if before is None else read_history(before)
    entries = {path.name: _entry(path, run) for path in (run.config, run.environment, run.metrics)}
    for path in [*list_rollouts(run.rollouts).values(), *sorted(run.evaluations.glob("*.json*"))]:
        name = path.relative_to(run.path).as_posix()
        entries[name] = known.get(name) or _entry(path, run)
    (checkpoint / FILE).write_text(json.dumps(entries), encoding="utf-8")


def read_history(checkpoint: Path) -> dict[str, tuple[int, str]]:
    """Return size and hash by file, relative to the run folder; a checkpoint of an older version has none.

    Raises:
        CheckpointError: it cannot be read, or an entry is not a size and a hash of a file in the run folder.
    """
    path = checkpoint / FILE
    entries = read_json(path) if path.exists() else {}
    for name, entry in entries.items():
        pair = entry if is_list(entry) else []
        if [type(value) for value in pair] != [int, str] or Path(name).is_absolute() or ".." in Path(name).parts:
            raise CheckpointError(
                f"{path}: {quoted(name)} is {quoted(entry)}; wanted a file of the run with its size and hash. Restore "
                "the checkpoint, or delete it to resume from the one before"
            )
    return {name: (entry[0], entry[1]) for name, entry in entries.items()}


def find_changes(checkpoint: Path, run: RunFolder) -> list[str]:
    """Return the files that are not what they were when the checkpoint was saved, `config.yaml` among them."""
    return list(_changes(checkpoint, run))


def tell_changes(changed: list[str], run: RunFolder) -> list[str]:
    """Return a line for people for each of the first of these files, and the number of the others."""
    lines = [
        f"{name} {'is not what the run wrote' if (run.path / name).exists() else 'is missing'}; training does not need "
        "it, but the report shows what is there"
        for name in changed[:_SHOWN]
    ]
    return [*lines, *([f"… and {len(changed) - _SHOWN} more files"] if len(changed) > _SHOWN else [])]


def _changes(checkpoint: Path, run: RunFolder) -> Iterator[str]:
    for name, before in read_history(checkpoint).items():
        path = run.path / name
        try:
            now = _lines(path, before[0]) if path == run.metrics else _entry(path, run)
        except (OSError, CheckpointError):
            now = None
        if now != before:
            yield name


def _entry(path: Path, run: RunFolder) -> tuple[int, str]:
    content = read_bytes(path)
    if path == run.metrics:
        return _lines(path, len(content.splitlines()))
    if path == run.config:  # a run that was moved may be told so
        content = re.sub(rb"^output_dir: .*$", b"", content, flags=re.MULTILINE)
    if path == run.environment:
        content = _canonical({key: value for key, value in read_json(path).items() if key not in _REWRITTEN})
    return len(content), _hash(content)


def _lines(metrics: Path, n: int) -> tuple[int, str]:
    """Return the number and the hash of the first lines."""
    *lines, last = [b"", *read_bytes(metrics).splitlines()[:n]]
    try:
        row: dict[str, Any] = json.loads(last) if last else {}
        last = _canonical({key: value for key, value in row.items() if not key.startswith("eval/")})
    except (ValueError, AttributeError, RecursionError):  # torn: its bytes count
        pass
    return len(lines), _hash(b"\n".join([*lines, last]))


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
