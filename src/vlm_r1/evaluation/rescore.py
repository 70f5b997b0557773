"""Measures the samples of an evaluation again, by another protocol, without the model and without the images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.evaluation.answers import Row
from vlm_r1.evaluation.asking import find_templates
from vlm_r1.evaluation.protocol import Protocol
from vlm_r1.evaluation.samples import as_sample, read_samples, result_path
from vlm_r1.parsing.json_values import is_object
from vlm_r1.rollouts.remote import REFUSED
from vlm_r1.runtime.run_folder import read_json
from vlm_r1.scoring.rows import check_row, judge_rows
from vlm_r1.scoring.settings import Scoring
from vlm_r1.tasks.templates import own_templates
from vlm_r1.types import StopReason

_MEASURED = (
    "several",
    "reading",
    "level",
    "thresholds",
    "inclusive",
    "confidence",
    "metrics",
    "aspects",
    "subsets_by",
)
"""Keys of a protocol that decide what answers count for; the others decide what is asked."""

_ROWS_AT_ONCE = 1000


def rescore_rows(path: Path, protocol: Protocol) -> list[Row]:
    """Read the samples of a file and judge each text again, as it would be judged today.

    Raises:
        DataError: the file cannot be read, or holds no samples.
    """
    scoring = Scoring(
        task=protocol.task,
        weights={"accuracy": 1.0, "format": 1.0},
        own_templates=own_templates(find_templates(path)[0]),
    )
    rows: list[Row] = []
    for chunk in _chunks([dict(sample.row) for sample in read_samples(path)]):
        sources = [f"{path}:{len(rows) + number}" for number in range(1, len(chunk) + 1)]
        for source, row in zip(sources, chunk, strict=True):
            check_row(source, row, scoring)
        for source, row, score in zip(
            sources, chunk, judge_rows(list(zip(sources, chunk, strict=True)), scoring), strict=True
        ):
            if isinstance(score, str):
                raise DataError(f"{source}: cannot be judged again: {score}")
            judged = {key: value for key, value in vars(score).items() if key != "extra"}
            if row["stop_reason"] == StopReason.REFUSED.value:  # nothing in its text says so
                judged["reason"] = REFUSED
            rows.append({**row, **judged})
            as_sample(rows[-1], source)
    if not rows:
        raise DataError(f"{path}: holds no samples; wanted the .samples.jsonl of an evaluation")
    return rows


def rescored_protocol(path: Path, protocol: Protocol) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return the resolved protocol of a new measurement of old answers, and where these answers come from.

    What was asked is that of the old result beside the samples; what counts is that of the new protocol.

    Raises:
        ConfigError: the new protocol asks something else than what was asked; names the keys.
        CheckpointError: the old result is damaged.
    """
    new = protocol.model_dump(mode="json")
    beside = result_path(path)
    old = read_json(beside) if beside.exists() and beside != path else {}
    asked = old.get("protocol")
    if not is_object(asked):
        return new, old.get("provenance") or {}
    if different := list(_asked_otherwise(asked, protocol)):
        raise ConfigError(
            f"{path}: protocol {protocol.name} asks something else than was asked:\n  "
            + "\n  ".join(different)
            + f"\nAsk the model anew: vlm-r1 eval MODEL DATA --protocol {protocol.name}"
        )
    measured = {key: new[key] for key in (*_MEASURED, "name", "title")}
    data = {**asked.get("data", {}), **{key: value for key, value in new["data"].items() if value is not None}}
    return {**asked, **measured, "data": data}, old.get("provenance") or {}


def _asked_otherwise(asked: Mapping[str, Any], protocol: Protocol) -> Iterator[str]:
    template = asked.get("template")
    pairs = {
        "task": (asked.get("task"), protocol.task),
        "template": (template.get("name") if is_object(template) else None, protocol.template),
        "sample": (asked.get("sample"), protocol.sample and protocol.sample.model_dump(mode="json")),
    }
    old, new = asked.get("decoding"), protocol.decoding.model_dump(mode="json")
    pairs |= {f"decoding.{key}": (old.get(key) if is_object(old) else None, value) for key, value in new.items()}
    for key, (then, now) in pairs.items():
        if now is not None and then != now:
            yield f"{key}: {then!r} was asked, the protocol says {now!r}"


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]
