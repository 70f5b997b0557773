"""Every file of a stopped run × every kind of damage, then --resume."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.survival.compare import but_for_checkpoints
from benchmarks.survival.kills import at_moment
from benchmarks.survival.subjects import LAST, Subject
from benchmarks.survival.trials import EQUAL, ERROR, OLDER, TOLD, USER_ERROR, Ground, Result, Run, forbidden, tail


def truncate(path: Path) -> None:
    """Keep the first half."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip_byte(path: Path) -> None:
    """Flip all bits of the byte in the middle."""
    _flip(path, 0.5, 0xFF)


def flip_bit(path: Path) -> None:
    """Flip a low bit near the end."""
    _flip(path, 0.95, 0x01)


def zero_end(path: Path) -> None:
    """Turn the last third into zeros, as a file system may after a power cut."""
    data = path.read_bytes()
    path.write_bytes(data[: 2 * len(data) // 3] + bytes(len(data) - 2 * len(data) // 3))


def delete(path: Path) -> None:
    """Delete it."""
    path.unlink()


def empty(path: Path) -> None:
    """Leave no byte."""
    path.write_bytes(b"")


def make_folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


def append(path: Path) -> None:
    """Add some bytes that are no text."""
    with path.open("ab") as file:
        file.write(b"\xff\x00{[")


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    "cut in half": truncate,
    "byte flipped": flip_byte,
    "bit flipped": flip_bit,
    "end of zeros": zero_end,
    "deleted": delete,
    "emptied": empty,
    "a folder instead": make_folder,
    "bytes added": append,
}

SAVED = "step-000004"
"""The newest checkpoint of the stopped run."""


def stopped_run(ground: Ground, subject: Subject, moment: str) -> tuple[Path, list[str]]:
    """Make a run that was killed at a named moment; returns its folder, and the system calls of its resumption."""
    run = Run(ground, subject, f"stopped-{subject.name}-{moment.replace(' ', '-')}")
    ended = run.start(**at_moment(moment))
    assert ended.statuses == [-9], ended.output
    resumed = Run(ground, subject, "resumed", template=run.folder)
    ended = resumed.start(list_calls=True)
    assert ended.statuses == [0], ended.output
    resumed.remove()
    return run.folder, ended.calls


def files_of(folder: Path) -> list[str]:
    """Relative paths of all files."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def damage(ground: Ground, subject: Subject, stopped: Path, file: str, kind: str) -> Result:
    """Damage a file of a copy of the stopped run in one of `DAMAGES`, resume it by its own config.yaml, and compare."""
    run = Run(ground, subject, "attacked", template=stopped)
    DAMAGES[kind](run.folder / file)
    return _resume(run, file, f"{file}: {kind}")


def _flip(path: Path, where: float, mask: int) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[int(where * len(data))] ^= mask
    path.write_bytes(data)


def _resume(run: Run, file: str, attack: str) -> Result:
    name = run.subject.name
    ended = run.start(
        arguments=[run.subject.command, str(run.folder / "config.yaml"), "--resume", f"--output_dir={run.folder}"]
    )
    if wrong := forbidden(ended):
        return Result(name, attack, wrong, tail(ended.output))
    if set(ended.statuses) == {USER_ERROR}:
        told = any(part in ended.output for part in (Path(file).name, *_checkpoint_of(file)))
        return Result(name, attack, ERROR if told else "error that does not name the file", tail(ended.output))
    if any(ended.statuses):
        return Result(name, attack, f"ends with {ended.statuses}", tail(ended.output))
    outcome, note = _outcome(file, run.compare(), ended.output)
    shutil.rmtree(run.folder)
    return Result(name, attack, outcome, note)


def _outcome(file: str, different: list[str], output: str) -> tuple[str, str]:
    """Judge a resumption that ended well, by what differs in the end and what was said."""
    told = "\n".join(line for line in output.splitlines() if file in line or SAVED in line)
    if f"{SAVED} is damaged" in output:  # its steps are trained again, and other checkpoints are kept
        different = but_for_checkpoints(different, LAST)
        return ("differs", "\n".join(different)) if different else (OLDER, told)
    if not different:
        return EQUAL, told
    if all(re.match(rf"{re.escape(file)}/?:", line) for line in different) and told:
        return TOLD, told
    return "differs silently", "\n".join([*different, tail(output)])


def _checkpoint_of(file: str) -> list[str]:
    return [part for part in Path(file).parts if part.startswith("step-")]
