"""The facts that a run shows at its start and keeps in `environment.json`: parameters, precision and records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from vlm_r1.config import Config
from vlm_r1.config.data import DataSource
from vlm_r1.config.secrets import masked
from vlm_r1.data.records import RecordFile
from vlm_r1.data.sources import Sources
from vlm_r1.models.parts import PartSize
from vlm_r1.training.learner import Learner


def start_table(sizes: Sequence[PartSize], config: Config) -> Table:
    """Return a table with a line for each part of the model: parameters, trainable ones, and their learning rate."""
    training = config.training
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("part")
    for column in ("parameters", "trainable", "learning rate"):
        table.add_column(column, justify="right")
    for size in sizes:
        rate = training.learning_rates.get(size.part, training.learning_rate)
        trains = [f"{size.trainable:,}", f"{rate:g}"] if size.trainable else ["–", "frozen"]
        table.add_row(size.part, f"{size.parameters:,}", *trains)
    total, trainable = (sum(getattr(size, name) for size in sizes) for name in ("parameters", "trainable"))
    table.add_section()
    table.add_row("together", f"{total:,}", f"{trainable:,} ({100 * trainable / total:.3g} %)", "")
    return table


def start_facts(learner: Learner, records: Sources, held_out: Mapping[str, Sources]) -> dict[str, Any]:
    """Return the same as JSON, with the records of each file: `{"parameters": …, "precision": …, "records": …}`."""
    data = learner.config.data
    counts = [_count(source, [file]) for source, file in zip(data.train, records.files, strict=True)]
    held = {name: _count(data.eval[name], one_set.files) for name, one_set in held_out.items()}
    precision, layout = learner.descriptions
    return {
        "parameters": {size.part: {"total": size.parameters, "trainable": size.trainable} for size in learner.sizes},
        "precision": precision,
        "layout": layout,
        "processes": learner.accelerator.num_processes,
        "steps": learner.config.training.max_steps,
        "records": {"train": counts, "eval": held},
    }


def _count(source: DataSource, files: Sequence[RecordFile]) -> dict[str, Any]:
    """Return the facts about one source: its path and its records; and of how many, if some are left out."""
    found: dict[str, Any] = {"path": masked(source.path), "records": sum(map(len, files))}
    if any(file.is_partial for file in files):
        found |= {"of": sum(file.n_found for file in files)}
    if source.sampling_strategy != "all":
        found |= {"sampling_strategy": source.sampling_strategy}
    if overlong := sum(file.n_overlong for file in files):
        found |= {"overlong_prompts": overlong}
    return found
