"""What a run has written beside its checkpoints: each checkpoint keeps the hashes, so that damage shows on resume.

Training needs none of these files again but `config.yaml`; the summary and the report need the others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from vlm_r1.errors import CheckpointError
from vlm_r1.parsing.json_values import is_list
from vlm_r1.runtime.run_folder import RunFolder, read_json

FILE = "state/history.json"

_SHOWN = 5
_REWRITTEN = ("saved", "changes")
"""Entries of `environment.json` that change while a run goes on."""


def write_history(checkpoint: Path, run: RunFolder, before: Path | None) -> None:
    """Write size and hash of the run's files so far: `{"eval/before-held.json": [9, "5f…"], …}`.

    Metrics grow later: their hash is that of the lines so far.

    Args:
        checkpoint: the new checkpoint, a folder that has `state/`.
        before: the last checkpoint. Its hashes of rollouts and evaluations, which do not change, are taken over.

    Raises:
        OSError, CheckpointError: a file cannot be read, or the history cannot be written.
    """
    known = {} if before is None else read_history(before)
    entries = {path.name: _entry(path, run) for path in (run.config, run.environment, run.metrics)}
    for path in [*sorted(run.rollouts.glob("step-*.parquet")), *sorted(run.evaluations.glob("*.json*"))]:
        name = path.relative_to(run.path).as_posix()
        entries[name] = known.get(name) or _entry(path, run)
    (checkpoint / FILE).write_text(json.dumps(entries), encoding="utf-8")


def read_history(checkpoint: Path) -> dict[str, tuple[int, str]]:
    """Return size and hash by file, relative to the run folder; a checkpoint of an older version has none.

    Raises:
        CheckpointError: it cannot be read.
    """
    path = checkpoint / FILE
    entries = read_json(path).items() if path.exists() else ()
    return {name: (entry[0], entry[1]) for name, entry in entries if is_list(entry) and len(entry) == 2}


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
    for name, (size, digest) in read_history(checkpoint).items():
        path = run.path / name
        try:
            now = (size, _hash(path, size)) if path == run.metrics else _entry(path, run)
        except (OSError, CheckpointError):
            now = None
        if now != (size, digest):
            yield name


def _entry(path: Path, run: RunFolder) -> tuple[int, str]:
    if path == run.config:  # a run that was moved may be told so
        text = re.sub(rb"^output_dir: .*$", b"", path.read_bytes(), flags=re.MULTILINE)
        return len(text), _new_hash(text).hexdigest()
    if path == run.environment:
        lasting = {key: value for key, value in read_json(path).items() if key not in _REWRITTEN}
        text = json.dumps(lasting, sort_keys=True).encode()
        return len(text), _new_hash(text).hexdigest()
    size = path.stat().st_size
    return size, _hash(path, size)


def _hash(path: Path, size: int) -> str:
    """Hash the first bytes of a file."""
    total = _new_hash()
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(size, 1 << 20))):
            total.update(chunk)
            size -= len(chunk)
    return total.hexdigest()


def _new_hash(data: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=16)
