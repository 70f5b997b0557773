"""What a rehearsal is made from: a few of the user's records, evenly taken, and a tiny model that knows their words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_r1.config import Config
from vlm_r1.config.data import Allowed, DataSource
from vlm_r1.data.image_paths import image_paths
from vlm_r1.data.records import RecordFile
from vlm_r1.data.sources import Sources, evenly
from vlm_r1.errors import DataError
from vlm_r1.registry import as_plain_name
from vlm_r1.rewards.model import is_reward_model
from vlm_r1.tasks import get_task
from vlm_r1.tasks.templates import Templates, build_prompt, make_templates
from vlm_r1.testing import TinySize, write_tiny
from vlm_r1.types import Record

TRAIN_RECORDS = 24
HELD_OUT_RECORDS = 4

_READ_RECORDS = 1000
"""Records whose texts the tokenizer is made from, evenly taken."""

_VOCABULARY = 1000
"""Tokens of the tokenizer: of 400, as tests have, long instructions become twice as long."""


def write_records(config: Config, records: Sources, held_out: Mapping[str, Sources], folder: Path) -> dict[str, Any]:
    """Write a few evenly taken rows of each data file, each on the line that it has in its own file.

    So a message about a row names the line where the user finds it, and the ids of rows without one stay the same.

    Args:
        records, held_out: the checked records of the recipe.
        folder: a new folder.

    Returns:
        Values of the options of the sources, by dotted names, e.g. {"data.train.0.path": …}.

    Raises:
        DataError: a file has no row that can be rehearsed; or it has changed.
    """
    most = max(HELD_OUT_RECORDS, -(-TRAIN_RECORDS // len(records.files)))
    places = [(f"data.train.{n}", file, most, records) for n, file in enumerate(records.files)]
    places += [(f"data.eval.{name}", own.files[0], HELD_OUT_RECORDS, own) for name, own in held_out.items()]
    options: dict[str, Any] = {}
    for place, file, n_rows, sources in places:
        name = Path(file.source.path.rpartition(":")[2]).name
        path = folder / place.removeprefix("data.") / f"{as_plain_name(name).removesuffix('.jsonl')}.jsonl"
        _write_rows(path, file, _chosen(file, n_rows, sources))
        options |= {f"{place}.{key}": value for key, value in _as_written(file.source, config.allowed).items()}
        options |= {f"{place}.path": str(path)} | ({} if file.source.columns else {f"{place}.format": file.format})
    return options


def corpus(records: Sources, held_out: Mapping[str, Sources], templates: Templates) -> Iterator[str]:
    """Yield the texts of the records, as they are asked and answered, from which a tokenizer learns its tokens."""
    for one_set in (records, *held_out.values()):
        for record in evenly(one_set, _READ_RECORDS):
            yield from texts_of(record, templates)


def texts_of(record: Record, templates: Templates) -> Iterator[str]:
    """Yield the prompt, the messages before it, and the gold answer of a record."""
    yield build_prompt(get_task(record.task), record, templates.of(record)).text
    yield from (message["content"] for message in record.context)
    answer = record.answer if isinstance(record.answer, str) else json.dumps(record.answer, ensure_ascii=False)
    yield f"<think>{record.thought or ''}</think><answer>{answer}</answer>"


def templates_of(config: Config) -> Templates:
    """Return the templates of the recipe's records.

    Raises:
        ConfigError: a name is unknown.
    """
    return make_templates(config.data.template, [source.template for source in config.sources], config.data.templates)


def write_model(model_type: str, folder: Path, texts: Iterable[str], seed: int) -> Path:
    """Write a tiny random checkpoint of a family, with a tokenizer made from texts."""
    return write_tiny(model_type, folder, texts, seed, TinySize(vocab_size=_VOCABULARY))


def _chosen(file: RecordFile, most: int, sources: Sources) -> list[int]:
    """Return the indices of at most `most` evenly spaced records, without bad ones and those that a model judges."""
    usable: list[int] = []
    for index in _evenly(len(file), 4 * most):
        try:
            record = file[index]
        except DataError:
            continue
        if record.source not in sources.bad and not (record.reward and is_reward_model(record.reward)):
            usable.append(index)
    if not usable:
        raise DataError(f"{file.source.path}: no record can be rehearsed: all rows are bad, or name a reward model")
    return [usable[at] for at in _evenly(len(usable), most)]


def _evenly(total: int, most: int) -> list[int]:
    """Return at most `most` evenly spaced numbers from 0 to total - 1, both included."""
    return [int(at) for at in np.unique(np.linspace(0, total - 1, min(most, total)).round())]


def _write_rows(path: Path, file: RecordFile, indices: Sequence[int]) -> None:
    chosen, written = set(indices), 0
    path.parent.mkdir(parents=True)
    with path.open("wb") as out:
        for index, (row, number) in enumerate(file.rows()):
            if index in chosen:
                out.write(b"\n" * (number - 1 - written) + b" ".join(row.splitlines()).strip() + b"\n")
                written = number


def _as_written(source: DataSource, allowed: Allowed) -> dict[str, Any]:
    """Return the options of a source whose rows are already chosen and lie in another folder."""
    fields = DataSource.model_fields
    chosen = {key: fields[key].default for key in ("split_range", "split_by", "sampling_strategy")}
    return {**chosen, "image_root": image_paths(source, allowed).root}
