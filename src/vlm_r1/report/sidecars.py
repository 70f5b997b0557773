"""The data of a page's script: in the page while they are few, else in script files beside it.

A page that is opened from the disk may not read other files, but it may load scripts. So a file beside it is a script
that adds a text of JSON to a table; the page reads that text as JSON, and never runs it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2.utils import htmlsafe_json_dumps

from vlm_r1.errors import CheckpointError
from vlm_r1.report.explorer import Explorer
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.text import writable

INLINE_BYTES = 6_000_000
"""The data of a page up to here are inside it. Of larger data the first parts are inside, the others beside it."""

_OURS = re.compile(r"part-\d+-\d+-[0-9a-f]{16}\.js")


@dataclass(frozen=True)
class PageData:
    """What a page's script reads.

    Attributes:
        index: the sources, tasks and reasons; each part has its number of items, and a file or the id of an element.
        inline: (id, JSON in which markup is escaped) of the parts inside the page.
        files: name → content of the files beside it.
    """

    index: Mapping[str, Any]
    inline: tuple[tuple[str, Any], ...]
    files: Mapping[str, str]


def page_data(explorer: Explorer, folder: str, inline_bytes: int = INLINE_BYTES) -> PageData:
    """Lay out the parts of all sources.

    Args:
        folder: name of the folder beside the page for the files.
        inline_bytes: size of the parts that stay inside the page.
    """
    inline: list[tuple[str, Any]] = []
    files: dict[str, str] = {}
    sources: list[dict[str, Any]] = []
    left = inline_bytes
    for number, source in enumerate(explorer.sources):
        parts: list[dict[str, Any]] = []
        for place, items in enumerate(source.parts):
            data = htmlsafe_json_dumps(writable(items), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            left -= len(data.encode())
            name = f"part-{number}-{place}"
            where = {"id": name}
            if left >= 0:
                inline.append((name, data))
            else:
                file = f"{name}-{hashlib.sha256(data.encode()).hexdigest()[:16]}.js"
                files[file] = f"(self.vlmR1Parts ??= {{}})[{json.dumps(name)}] = {json.dumps(str(data))};\n"
                where["file"] = f"{folder}/{file}"
            parts.append({**where, "n": len(items)})
        named = {"name": source.name, "kind": source.kind, "sides": source.sides, "note": source.note}
        sources.append({**named, "parts": parts})
    index = {"sources": sources, "tasks": list(explorer.tasks.numbers), "reasons": list(explorer.reasons.numbers)}
    return PageData(index, tuple(inline), files)


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files beside a page, before the page: their names hold their hashes, so an older page keeps its own.

    Raises:
        CheckpointError: one cannot be written, or the folder is a link.
    """
    if not files:
        return
    if folder.is_symlink():
        raise CheckpointError(
            f"{folder}: is a link; wanted a folder. Remove it: the data of the page are written there"
        )
    for name, content in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")


def remove_others(folder: Path, kept: Mapping[str, str]) -> None:
    """Remove the files of earlier pages, after the page has been written; others' files stay."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in _ours(folder):
        if path.name not in kept:
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def is_ours(name: str) -> bool:
    """Return whether a file beside a page has a name that `page_data` gives."""
    return _OURS.fullmatch(name) is not None


def _ours(folder: Path) -> Sequence[Path]:
    return [path for path in sorted(folder.iterdir()) if is_ours(path.name)]
