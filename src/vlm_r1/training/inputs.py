"""Hashes of what a run is made from: the rows of its data files and the files of its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlm_r1.config import Config
from vlm_r1.data.sources import Sources
from vlm_r1.runtime.model_hash import hash_model


def hash_inputs(config: Config, records: Sources, held_out: Mapping[str, Sources], model: Any) -> dict[str, str]:
    """Return a hash of each input by the option that names it, e.g. {"data.train.0.path": "5f…", "model.path": "…"}.

    Rows count with their order; pictures do not.

    Args:
        model: the config of the model; it knows the commit of a model of the Hub.

    Raises:
        DataError, ModelError: a file cannot be read.
    """
    found = {f"data.train.{place}.path": file.hash_rows() for place, file in enumerate(records.files)}
    found |= {f"data.eval.{name}.path": one_set.files[0].hash_rows() for name, one_set in held_out.items()}
    return {**found, "model.path": hash_model(config.model.path, model)}
