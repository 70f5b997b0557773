"""Tables of Parquet, of saved data sets and of the Hugging Face Hub → a JSONL file and its images, made once.

The readers of JSONL then read all of them: by offsets, on demand, in several processes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from vlm_r1.errors import DataError, install_line
from vlm_r1.files import open_regular, read_text
from vlm_r1.pretrained.reach import hub_trouble, is_hub_name
from vlm_r1.registry import quoted

HUB = "hub:"
"""Prefix that marks the name of a data set on the Hub, e.g. "hub:leonardPKU/clevr_cogen_a_train:train"."""

_BATCH_ROWS = 1
"""Number of rows, with their images, that are in memory at once: a table of 10 kB can hold rows of 200 MB each. More at
once save 20 µs a row."""

_NO_TABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    NotImplementedError,
    MemoryError,
    RecursionError,
)
"""Exceptions of Arrow on damaged files, and on values that Python lacks, such as a date in the year 6,000,000."""

_GROWTH = 1000
_LEAST_BOUND_BYTES = 1 << 28
"""The rows of a table are written as at most so many times its size, or so many bytes: repeated values take no space in
a table, so a file of 10 kB can hold rows for any disk."""

_STATE = "state.json"
_SAVED = ("dataset_info.json", _STATE)
_SAVED_SPLITS = "dataset_dict.json"


def cache_folder() -> Path:
    """Return the absolute folder for rows and images: `$XDG_CACHE_HOME/vlm-r1`, by default `~/.cache/vlm-r1`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "vlm-r1"


def images_folder(cache: Path | None = None) -> Path:
    """Return the absolute folder of the pictures that rows embed, in `cache` or in `cache_folder()`."""
    return (cache or cache_folder()).absolute() / "images"


def local_rows(path: str, cache: Path | None = None) -> str:
    """Return the path of the JSONL file made from a table; for other files, the path itself.

    A table is converted on first use, and again when its file has changed (size or time). Embedded images
    (`{"bytes", "path"}` or bytes) are written to `images/` of the cache. Their name is a hash of their content, so an
    image that many rows share is stored once. Some values have no form in JSON: NaN and infinity become null, dates
    and decimals become text.

    Args:
        path: a `.parquet` file, a folder that `Dataset.save_to_disk` wrote, `hub:owner/name[:split]` (split train by
            default), or anything else.
        cache: folder for rows and images; None: `cache_folder()`.

    Raises:
        DataError: the table or the cache cannot be read or written, or the package `datasets` is missing; the message
            does not name the path.
    """
    cache = cache or cache_folder()
    is_folder = os.path.isdir(path) and any(
        os.path.isfile(os.path.join(path, name)) for name in (*_SAVED, _SAVED_SPLITS)
    )
    try:
        if path.startswith(HUB):
            return _convert_dataset(_load_from_hub(path.removeprefix(HUB)), cache)
        if is_folder:
            return _convert_dataset(_load_from_disk(path), cache)
        if path.endswith(".parquet"):
            return _convert([path], _parquet_batches(path), cache)
    except _NO_TABLE as error:
        raise DataError(f"cannot read the data set: {error or type(error).__name__}") from error
    return path


def _load_from_hub(name: str) -> Any:
    repository, _, split = name.partition(":")
    datasets = _datasets()
    if is_hub_name(repository) and (trouble := hub_trouble()):
        raise DataError(f"{trouble}. If the cache of this machine has the data set, set HF_HUB_OFFLINE=1")
    try:
        return datasets.load_dataset(repository, split=split or "train", keep_in_memory=False)
    except Exception as error:  # the hub, the network and each builder have errors of their own
        raise DataError(f"cannot be loaded: {error}. Check its name, the split, and that you are logged in") from error


def _load_from_disk(path: str) -> Any:
    if os.path.isfile(os.path.join(path, _SAVED_SPLITS)):
        splits = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
        raise DataError(
            f"the folder holds several splits; name one of them: {', '.join(f'{path}/{s}' for s in splits)}"
        )
    for folder, _, files in os.walk(path):
        for name in files:
            open_regular(os.path.join(folder, name)).close()
    datasets = _datasets()
    try:
        _check_names(json.loads(read_text(os.path.join(path, _STATE))))
        return datasets.load_from_disk(path)
    except DataError:
        raise
    except Exception as error:  # settings of other kinds raise anything
        raise DataError(f"cannot be loaded: {type(error).__name__}: {error}. Save the data set again") from error


def _check_names(state: Any) -> None:
    """Check that the files which the state of a saved data set names lie in its folder, where all files are regular.

    Raises:
        DataError: one has another name.
    """
    listed = [entries for key, entries in state.items() if key.endswith("_files")]
    names = [entry["filename"] for entries in listed for entry in entries or ()]
    if odd := [name for name in names if not isinstance(name, str) or os.path.basename(name) != name]:
        raise DataError(f"{_STATE} names the file {quoted(odd[0])}; wanted names of files in the folder itself")


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"the package datasets is needed ({error}): {install_line('hub')}") from error
    return datasets


def _convert_dataset(dataset: Any, cache: Path) -> str:
    files = [file["filename"] for file in dataset.cache_files]
    batches = (table.to_pylist() for table in dataset.with_format("arrow").iter(batch_size=_BATCH_ROWS))
    return _convert(files, batches, cache)


def _parquet_batches(path: str) -> Iterator[list[dict[str, Any]]]:
    from pyarrow.parquet import ParquetFile

    with open_regular(path) as file, ParquetFile(cast(Any, file)) as table:
        for batch in table.iter_batches(batch_size=_BATCH_ROWS):
            yield batch.to_pylist()


def _convert(files: list[str], batches: Iterable[list[dict[str, Any]]], cache: Path) -> str:
    """Write the rows of these files as JSONL, unless that was done before; returns its path."""
    states = [(os.path.abspath(file), os.path.getsize(file), os.stat(file).st_mtime_ns) for file in files]
    images = images_folder(cache)
    name = hashlib.blake2b(repr((states, str(images))).encode(), digest_size=16).hexdigest()  # rows hold their paths
    target = cache / "rows" / f"{name}.jsonl"
    if target.exists():
        return str(target)
    most_bytes = max(_GROWTH * sum(size for _, size, _ in states), _LEAST_BOUND_BYTES)
    with _replacing(target) as lines:
        for row in (row for batch in batches for row in batch):
            lines.write(json.dumps(_plain(row, images), ensure_ascii=False).encode() + b"\n")
            if lines.tell() > most_bytes:
                raise DataError(
                    f"its rows take more than {most_bytes:,} bytes, far more than the table; it is not unpacked. If "
                    "you trust it, write its rows as JSONL"
                )
        lines.flush()
        os.fsync(lines.fileno())  # otherwise rows lost in a power cut would go unnoticed
    return str(target)


def _plain(value: Any, images: Path) -> Any:
    """Turn a value into JSON, with paths instead of embedded images."""
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return store_image(value, "", images)
        case {"bytes": bytes() as content, "path": path}:
            return store_image(content, _suffix(path), images)
        case {"bytes": None, "path": path}:
            return path
        case {**items}:
            return {str(key): _plain(item, images) for key, item in items.items()}
        case [*items]:
            return [_plain(item, images) for item in items]
        case _:
            return str(value)


def _suffix(path: Any) -> str:
    """The end of a file's name, if it is an ordinary one."""
    suffix = os.path.splitext(path)[1] if isinstance(path, str) else ""
    return suffix if re.fullmatch(r"\.\w{1,8}", suffix, re.ASCII) else ""


def store_image(content: bytes, suffix: str, images: Path) -> str:
    """Store a picture in a file named by its content, unless it is there already; returns the path."""
    name = hashlib.blake2b(content, digest_size=16).hexdigest() + suffix
    path = images / name[:2] / name  # folders of a million files are slow
    if not path.exists() or path.stat().st_size != len(content):
        with _replacing(path) as file:
            file.write(content)
    return str(path)


@contextmanager
def _replacing(path: Path) -> Generator[IO[bytes]]:
    """Open a file that atomically becomes `path` if the block succeeds; several processes may write the same path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            yield file
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
