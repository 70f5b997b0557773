"""Examples of a world → pictures and data files.

Every record has its own random stream, seeded by seed, split and number. So a longer data set starts with the shorter
one, and no two splits share a stream.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from vlm_r1.errors import DataError
from vlm_r1.synthetic.base import ALL_SHIFTS, Example, World, shifted
from vlm_r1.synthetic.rec import RecWorld
from vlm_r1.types import IMAGE_TOKEN, AnswerValue

DEFAULT_COUNTS = {"train": 8000, "warmup": 8000, "in_domain": 512, "out_of_domain": 512}
"""Number of lines of each file; `warmup` repeats the first records of `train`."""

DEMO_WORLD = RecWorld()

_NEW = ".new"
"""Folder inside that of a data set in which it is written, until it is complete."""


def write_dataset(
    folder: str | os.PathLike[str],
    world: World[Any],
    *,
    seed: int = 0,
    counts: Mapping[str, int] = DEFAULT_COUNTS,
    shifts: Sequence[str] = (ALL_SHIFTS,),
) -> dict[str, Path]:
    """Write pictures and data files; the same arguments give the same bytes.

    There are `images/<split>/000001.png` and `<split>.jsonl` for train and in_domain (both drawn from `world`) and for
    each shift out of domain. `warmup.jsonl` repeats the first training records with the thoughts and answers of a
    mediocre teacher. Each line describes its picture under the extra key "scene".

    Args:
        folder: created if missing. Files with these names, and the pictures of these splits, are replaced when all new
            ones are written; a kill just then leaves no JSONL file without its pictures.
        world: the distribution of training examples.
        seed: seed of the random streams.
        counts: number of lines of each file, by the keys of `DEFAULT_COUNTS`; `out_of_domain` counts for each shift.
        shifts: some of `SHIFTS` and `ALL_SHIFTS`; "sizes" is written to `out_of_domain_sizes.jsonl`, "all" to
            `out_of_domain.jsonl`.

    Returns:
        The JSONL files by name, e.g. {"train": …, "warmup": …, "in_domain": …, "out_of_domain": …}.

    Raises:
        DataError: there are more warm-up than training records, or the folder cannot be written.
        ConfigError: a shift is unknown, or the world's objects do not fit its images.
    """
    if counts["warmup"] > counts["train"]:
        raise DataError(
            f"{counts['warmup']} warm-up records of {counts['train']} training records; wanted at most as many"
        )
    folder, new = Path(folder), Path(folder) / _NEW
    out_of_domain = {_split_name(shift): shifted(world, shift) for shift in shifts}
    worlds = {"train": world, "in_domain": world, **out_of_domain}
    n_of = {**counts, **dict.fromkeys(out_of_domain, counts["out_of_domain"])}
    files = {name: folder / f"{name}.jsonl" for name in ("train", "warmup", "in_domain", *out_of_domain)}
    try:
        _remove(new)
        for split, split_world in worlds.items():
            (new / "images" / split).mkdir(parents=True)
            numbers = range(1, n_of[split] + 1)
            _write_lines(new / files[split].name, (_write_record(new, split, i, seed, split_world) for i in numbers))
        lines = (_warmup_line(i, seed, world) for i in range(1, counts["warmup"] + 1))
        _write_lines(new / files["warmup"].name, lines)
        _put_in_place(new, folder, list(worlds), list(files.values()))
    except OSError as error:
        raise DataError(
            f"{folder}: cannot write the data set: {error.strerror}. Choose a folder you may write"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return files


def _put_in_place(new: Path, folder: Path, splits: Sequence[str], files: Sequence[Path]) -> None:
    """Replace a data set by one that is complete. No JSONL file is there while pictures change."""
    for file in files:
        file.unlink(missing_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    for split in splits:
        old = folder / "images" / split
        if old.exists():
            os.replace(old, new / f"old-{split}")
        os.replace(new / "images" / split, old)
    for file in files:
        os.replace(new / file.name, file)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def write_rec_dataset(
    folder: str | os.PathLike[str],
    seed: int = 0,
    counts: Mapping[str, int] = DEFAULT_COUNTS,
    world: RecWorld = DEMO_WORLD,
) -> dict[str, Path]:
    """Write the data set of the demo; see `write_dataset`."""
    return write_dataset(folder, world, seed=seed, counts=counts)


def _split_name(shift: str) -> str:
    return "out_of_domain" if shift == ALL_SHIFTS else f"out_of_domain_{shift}"


def _draw(seed: int, split: str, number: int, world: World[Any]) -> Example:
    return world.draw(Random(f"{seed}/{split}/{number}"))


def _write_record(folder: Path, split: str, number: int, seed: int, world: World[Any]) -> dict[str, Any]:
    """Write the pictures and return the line."""
    example = _draw(seed, split, number, world)
    for picture, name in zip(example.pictures, _image_names(example, split, number), strict=True):
        picture.paint().save(folder / name, compress_level=1)
    return _line(example, split, number, example.answer)


def _warmup_line(number: int, seed: int, world: World[Any]) -> dict[str, Any]:
    """Make the line of a training record with the teacher's thought and answer instead of the gold answer."""
    example = _draw(seed, "train", number, world)
    rng = Random(f"{seed}/loose/{number}")
    answer = world.misjudge(rng, example)
    thought = world.think(rng, example, answer)
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return _line(example, "train", number, f"<think>{thought}</think><answer>{text}</answer>")


def _line(example: Example, split: str, number: int, value: AnswerValue) -> dict[str, Any]:
    names = _image_names(example, split, number)
    objects = [[{**t.kind._asdict(), "box": list(t.box)} for t in picture.things] for picture in example.pictures]
    one = len(names) == 1
    return {
        "id": number,
        "image": names[0] if one else names,
        "conversations": [
            {"from": "human", "value": IMAGE_TOKEN * len(names) + example.question},
            {"from": "gpt", "value": value},
        ],
        "scene": {"size": list(example.pictures[0].wh), **example.facts, "objects": objects[0] if one else objects},
    }


def _image_names(example: Example, split: str, number: int) -> list[str]:
    """Return `images/train/000001.png`, or `…_1.png` and `…_2.png` for two pictures."""
    stem, n = f"images/{split}/{number:06d}", len(example.pictures)
    return [f"{stem}.png"] if n == 1 else [f"{stem}_{i}.png" for i in range(1, n + 1)]


def _write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)
