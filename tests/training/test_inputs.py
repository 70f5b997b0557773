"""What a run is made from is hashed by the option that names it."""

from __future__ import annotations

from vlm_r1.config.schema import DataSource
from vlm_r1.data.sources import load_sources
from vlm_r1.training.inputs import hash_inputs


def test_each_input_has_its_hash(recipe, rec_files) -> None:
    from vlm_r1.config import load_config

    config = load_config(recipe())
    train, held_out = (load_sources([DataSource(path=str(rec_files[name]))]) for name in ("train", "in_domain"))
    found = hash_inputs(config, train, {"val": held_out}, None)
    assert list(found) == ["data.train.0.path", "data.eval.val.path", "model.path"]
    assert len(set(found.values())) == 3
    swapped = hash_inputs(config, held_out, {"val": train}, None)
    assert swapped["data.train.0.path"] == found["data.eval.val.path"]
