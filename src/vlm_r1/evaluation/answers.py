"""The answers of an evaluation on the disk while it goes on: an interrupted evaluation continues where it was.

`NAME.answers-0.jsonl`, a file for each process, has a line that says what is asked and of whom, then a line for each
record. A killed process leaves an incomplete last line at most, which is dropped. The end of the evaluation removes the
files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.errors import CheckpointError, DataError
from vlm_r1.evaluation.protocol import differences
from vlm_r1.files import read_text
from vlm_r1.parsing.json_values import is_object
from vlm_r1.runtime.text import json_text

Row = dict[str, Any]


@dataclass(frozen=True)
class AnswerLog:
    """The files of answers of one evaluation.

    Attributes:
        folder, name: of the result.
        header: everything that the answers depend on: protocol, data, weights, how the model is asked.
    """

    folder: Path
    name: str
    header: Mapping[str, Any]

    @property
    def paths(self) -> list[Path]:
        """The files that are there."""
        return sorted(self.folder.glob(f"{self.name}.answers-*.jsonl"))

    def path_of(self, rank: int) -> Path:
        """Return the file of one process."""
        return self.folder / f"{self.name}.answers-{rank}.jsonl"

    def read(self) -> dict[int, list[Row]]:
        """Return the answers so far: number of the record → a row for each of its answers.

        Raises:
            DataError: a file was begun with another model, data or protocol, or is damaged.
        """
        found: dict[int, list[Row]] = {}
        for path in self.paths:
            found |= dict(self._read(path))
        return found

    def append(self, rank: int, answers: Sequence[tuple[int, Sequence[Row]]]) -> None:
        """Write answers to the file of a process.

        Raises:
            CheckpointError: it cannot be written.
        """
        path = self.path_of(rank)
        lines = [json_text({"place": place, "samples": list(rows)}) for place, rows in answers]
        try:
            if not path.exists() or not path.stat().st_size:
                lines.insert(0, json_text({"header": self.header}))
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CheckpointError(
                f"{path}: cannot be written: {error.strerror}. Give the same command again when there is space: what "
                "was answered is kept"
            ) from error

    def mend(self, rank: int) -> None:
        """Cut off the incomplete last line of a process's file, so that what is appended begins a line.

        Raises:
            CheckpointError: it cannot be written.
        """
        path = self.path_of(rank)
        if not path.exists():
            return
        try:
            with path.open("rb+") as file:
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written: {error.strerror}. Wanted a writable file") from error

    def remove(self) -> None:
        """Remove the files, when the result is written."""
        for path in self.paths:
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> Iterator[tuple[int, list[Row]]]:
        try:
            lines = read_text(path).split("\n")[:-1]
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read: {error}. {self._remedy(path)}") from error
        for number, line in enumerate(lines, start=1):
            row = _object(line)
            if number == 1 and row is not None and "header" in row:
                self._check_header(path, row["header"])
            elif row is None or not isinstance(row.get("place"), int) or not isinstance(row.get("samples"), list):
                raise DataError(f"{path}:{number}: is damaged: {line:.80}. {self._remedy(path)}")
            else:
                yield row["place"], row["samples"]

    def _check_header(self, path: Path, header: Any) -> None:
        now = json.loads(json_text(self.header))
        if changed := list(differences(header, now)):
            raise DataError(
                f"{path}: these answers were given to another question; then and now:\n  "
                + "\n  ".join(changed[:10])
                + f"\n{self._remedy(path)}"
            )

    def _remedy(self, path: Path) -> str:
        return f"To ask anew, choose another --name or --out, or delete {path.name}"


def _object(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if is_object(row) else None
