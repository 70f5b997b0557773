"""What a run says when it starts, and keeps in `environment.json`: what trains, how, and on how many records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from vlm_r1.config import Config
from vlm_r1.data.sources import Sources
from vlm_r1.models.parts import PartSize
from vlm_r1.training.learner import Learner


def start_table(sizes: Sequence[PartSize], config: Config) -> Table:
    """One line for each part of the model: parameters, how many of them train, and at which learning rate."""
    training = config.training
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("part")
    for column in ("parameters", "of them train", "learning rate"):
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
    """The same as JSON, with the records of each file: `{"parameters": …, "precision": …, "records": …}`."""
    data = learner.config.data
    counts = [
        {"path": source.path, "records": len(part)} for source, part in zip(data.train, records.files, strict=True)
    ]
    held = {name: {"path": data.eval[name].path, "records": len(part)} for name, part in held_out.items()}
    precision, layout = learner.descriptions
    return {
        "parameters": {size.part: {"total": size.parameters, "trainable": size.trainable} for size in learner.sizes},
        "precision": precision,
        "layout": layout,
        "records": {"train": counts, "eval": held},
    }
