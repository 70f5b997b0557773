"""A hash of the files of a model: whether two folders hold the same weights, tokenizer and settings."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from vlm_r1.errors import ModelError
from vlm_r1.runtime.manifest import FILE, hash_file

_OF_MODELS = (".json", ".jinja", ".safetensors", ".bin", ".model", ".txt")
_WHOLE_BYTES = 1 << 26
_EVERY_BYTES = 1 << 22
_SAMPLE_BYTES = 1 << 16


def hash_model(path: str, model: Any, with_code: bool = False) -> str:
    """Hash the files of a model's folder, or return the commit of a model of the Hub ("" if it is unknown).

    Files of up to 64 MiB count whole, larger ones by their size and 64 KiB in every 4 MiB: 2 % of their bytes.

    Args:
        with_code: whether Python files count too, since they run.

    Raises:
        ModelError: a file cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        return str(getattr(model, "_commit_hash", None) or "")
    total = hashlib.blake2b(digest_size=32)
    try:
        for file in sorted(folder.iterdir()):
            if file.suffix in (*_OF_MODELS, *([".py"] if with_code else [])) and file.name != FILE and file.is_file():
                total.update(f"{file.name} {file.stat().st_size} {_hash_sampled(file)}\n".encode())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}. Wanted the folder of a model") from error
    return total.hexdigest()


def _hash_sampled(path: Path) -> str:
    size = path.stat().st_size
    if size <= _WHOLE_BYTES:
        return hash_file(path)
    total = hashlib.blake2b(digest_size=32)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for start in (*range(0, size, _EVERY_BYTES), size - _SAMPLE_BYTES):
            total.update(os.pread(descriptor, _SAMPLE_BYTES, start))
    finally:
        os.close(descriptor)
    return total.hexdigest()
