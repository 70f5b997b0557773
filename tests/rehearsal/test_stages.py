"""Stages are timed and told, and an error names its stage."""

from __future__ import annotations

import pytest

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.rehearsal.stages import Outcome, Stages


def test_outcomes_are_told_at_once() -> None:
    heard: list[Outcome] = []
    begun: list[str] = []
    stages = Stages(heard.append, begun.append)
    with stages("data") as told:
        told("two files")
        told("four records")
    assert begun == ["data"]
    assert [(one.name, one.state, one.told) for one in heard] == [("data", "done", "two files; four records")]
    assert heard[0].seconds >= 0
    stages.add(Outcome("evaluation", "none", 0.0, "nothing"))
    assert stages.outcomes == heard


def test_an_error_keeps_its_kind_and_names_the_stage() -> None:
    stages = Stages(lambda outcome: None)
    with pytest.raises(DataError, match=r"^rehearsal, stage data: a\.jsonl:3: no box$"), stages("data"):
        raise DataError("a.jsonl:3: no box")
    with pytest.raises(ZeroDivisionError, match=r"^division by zero$"), stages("model"):
        assert 1 / 0
    assert [(one.name, one.state) for one in stages.outcomes] == [("data", "failed"), ("model", "failed")]
    assert not issubclass(DataError, ConfigError)
