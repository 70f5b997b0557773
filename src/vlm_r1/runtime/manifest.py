"""`manifest.json`: size and hash of every file of a folder, so that damage is noticed before the folder is used."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vlm_r1.errors import CheckpointError
from vlm_r1.files import read_bytes
from vlm_r1.parsing.json_values import is_object

FILE = "manifest.json"

EDITED = ("README.md", "vlm_r1.json")
"""Files that no manifest names: the texts of an export that people edit."""

_CHUNK_BYTES = 1 << 24
_THREADS = 8


def hash_file(path: Path) -> str:
    """Hash all bytes of a file: BLAKE2b (256 bits, hexadecimal) of the BLAKE2b hashes of its chunks of 16 MiB.

    Each thread takes a chunk, at about 1 GB/s on a core.

    Raises:
        OSError: the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        starts = range(0, os.fstat(descriptor).st_size, _CHUNK_BYTES)

        def digest(start: int) -> bytes:
            return hashlib.blake2b(os.pread(descriptor, _CHUNK_BYTES, start), digest_size=32).digest()

        with ThreadPoolExecutor(_THREADS) as pool:
            return hashlib.blake2b(b"".join(pool.map(digest, starts)), digest_size=32).hexdigest()
    finally:
        os.close(descriptor)


def write_manifest(folder: Path, facts: Mapping[str, Any], edited: Collection[str] = ()) -> None:
    """Write `manifest.json` for all files in a folder and below.

    It is an object of the facts and of `"files": {"a/b": {"size_bytes": 9, "blake2b": "5f…"}}`.

    Args:
        edited: names of files that people may change, so they are left out.

    Raises:
        OSError: a file cannot be read, or the manifest cannot be written.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (FILE, *edited))
    entries = {
        path.relative_to(folder).as_posix(): {"size_bytes": path.stat().st_size, "blake2b": hash_file(path)}
        for path in files
    }
    text = json.dumps({**facts, "files": entries}, indent=1, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8", errors="surrogateescape")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the content of `manifest.json`, or None if there is none: an older version wrote the folder.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        found = json.loads(read_bytes(folder / FILE).decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / FILE}: cannot be read: {error}") from error
    if not is_object(found) or not is_object(found.get("files")) or not all(map(is_object, found["files"].values())):
        raise CheckpointError(f'{folder / FILE}: wanted a JSON object with "files" by name')
    return found


def find_damage(folder: Path) -> str | None:
    """Compare a folder with its manifest; returns which file differs and how, or None if all are whole.

    Files that the manifest does not name are left alone, and a folder without a manifest has no damage that shows.
    """
    try:
        manifest = read_manifest(folder)
    except CheckpointError as error:
        return str(error).removeprefix(f"{folder}{os.sep}")
    if manifest is None:
        return None
    entries: dict[str, Any] = manifest["files"]
    if not entries:
        return f"{FILE} names no file"
    return next(
        (f"{name} {wrong}" for name, entry in entries.items() if (wrong := _damage(folder / name, entry))), None
    )


def check_manifest(folder: Path) -> None:
    """Refuse a folder whose files are not those that were written with it.

    Raises:
        CheckpointError: a file is missing or differs; the message names it.
    """
    if damage := find_damage(folder):
        raise CheckpointError(
            f"{folder}: {damage}. Restore the folder, or, if it was changed on purpose, delete its {FILE} to use it"
        )


def is_copy_of(folder: Path, other: Path) -> bool:
    """Return whether all files of a folder are whole, and are among those of another folder, by both manifests."""
    try:
        own, others = read_manifest(folder), read_manifest(other)
    except CheckpointError:
        return False
    if own is None or others is None or not own["files"]:
        return False
    return own["files"].items() <= others["files"].items() and find_damage(folder) is None


def _damage(path: Path, entry: Mapping[str, Any]) -> str | None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "is not a file"
        if status.st_size != entry.get("size_bytes"):
            return f"has {status.st_size:,} bytes, but was written with {entry.get('size_bytes')}"
        return None if hash_file(path) == entry.get("blake2b") else f"has other bytes than were written (see {FILE})"
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        return f"cannot be read: {error}"
