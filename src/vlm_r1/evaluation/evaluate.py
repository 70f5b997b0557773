"""Evaluates a model by a protocol: asks, keeps every answer as it comes, measures, and writes the result.

The answers are those of `runner.answer_records`, the numbers those of `measures.measure`. What an evaluation was
interrupted at is not lost: the same command goes on (`answers.AnswerLog`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from vlm_r1.errors import DataError
from vlm_r1.evaluation.answers import AnswerLog, Row
from vlm_r1.evaluation.measures import measure
from vlm_r1.evaluation.protocol import Protocol, Subset
from vlm_r1.evaluation.runner import sample_rows
from vlm_r1.evaluation.samples import as_sample
from vlm_r1.rewards.base import TRAINED, TrainerState
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.groups import sample_groups
from vlm_r1.rollouts.remote import RemoteModel
from vlm_r1.runtime.phases import Phases
from vlm_r1.runtime.run_folder import environment
from vlm_r1.sampling import Sampler, SamplingParams
from vlm_r1.tasks import main_metric
from vlm_r1.tasks.templates import Template
from vlm_r1.types import Record

Answers = list[tuple[int, list[Row]]]
"""Numbers of records, and the rows of the answers to each."""

Ask = Callable[[Sequence[Record], Sequence[int]], Iterator[Answers]]
"""Answers the records of these numbers; yields the answers as they come, in any order."""

LOOKED_AT = 100
"""After so many answers, none of which has the asked form, something is wrong with how the model is asked."""


@dataclass(frozen=True)
class Share:
    """The part of the records that this process answers: those whose number is rank modulo world.

    Attributes:
        rank, world: number of this process, from 0, and of all.
        wait: returns when all processes have come there.
    """

    rank: int = 0
    world: int = 1
    wait: Callable[[], None] = lambda: None


def choose_records(records: Sequence[Record], subset: Subset | None) -> Sequence[Record]:
    """Return the records that a protocol samples: the first n, after a shuffle if it has a seed.

    The shuffle is Python's, of the records in the order of the file: `random.Random(seed).shuffle(records)`.

    >>> choose_records(["a", "b", "c", "d"], Subset(n=3, seed=42))
    ['c', 'b', 'd']
    """
    if subset is None:
        return records
    order = list(range(len(records)))  # the order of a shuffle depends on the number of records alone
    if subset.seed is not None:
        random.Random(subset.seed).shuffle(order)
    return [records[index] for index in order[: subset.n]]


def resolve_protocol(
    protocol: Protocol,
    template: Template | None,
    max_completion_length: int,
    records: Sequence[Record],
    data_hash: str,
    *,
    system_prompt: str | None = None,
) -> dict[str, Any]:
    """Return the protocol with everything that it leaves open, as JSON: it goes into the result.

    Args:
        template: with which all records are asked; None: each record names its own.
        max_completion_length: cap in tokens of an answer.
        records: those that are asked.
        data_hash: of the rows of the data.
        system_prompt: the system message of records whose rows have none; None: none.
    """
    content = protocol.model_dump(mode="json")
    content["decoding"]["max_completion_length"] = max_completion_length
    content["template"] = None if template is None else {**asdict(template), "thinking": template.thinking.value}
    content["system_prompt"] = system_prompt or None
    content["task"] = protocol.task or records[0].task
    content["data"] |= {"asked": len(records), "hash": data_hash}
    return content


def ask_model(
    env: Env,
    sampler: Sampler,
    protocol: Protocol,
    params: SamplingParams,
    *,
    batch_size: int,
    state: TrainerState = TRAINED,
) -> Ask:
    """Return a function that asks a model in this process, `batch_size` prompts at once.

    Args:
        params: of `protocol.decoding`, with the cap of the answers' length.
        state: how far the model's training is; rewards may use it.
    """
    decoding = protocol.decoding

    def ask(records: Sequence[Record], places: Sequence[int]) -> Iterator[Answers]:
        for start in range(0, len(places), batch_size):
            batch = places[start : start + batch_size]
            groups = sample_groups(
                [records[place] for place in batch],
                env,
                sampler,
                params,
                n=decoding.samples,
                run_seed=decoding.seed,
                phases=Phases(),
                trainer_state=state,
            )
            yield [(place, sample_rows(group)) for place, group in zip(batch, groups, strict=True)]

    return ask


def ask_endpoint(remote: RemoteModel) -> Ask:
    """Return a function that asks a model on a server."""

    def ask(records: Sequence[Record], places: Sequence[int]) -> Iterator[Answers]:
        for place, group in remote.answer(records, places):
            yield [(place, sample_rows(group))]

    return ask


def answer_all(
    records: Sequence[Record],
    ask: Ask,
    log: AnswerLog,
    share: Share,
    advance: Callable[[int, Sequence[str]], None],
) -> list[Row] | None:
    """Answer what no process has answered yet, and wait for the others; returns all rows in the order of the records.

    Args:
        advance: called with the number of newly answered records of this process and the running mean of their
            task's main metric, e.g. "accuracy_iou50 0.25".

    Returns:
        The rows, in the first process; None in the others.

    Raises:
        DataError, CheckpointError: see `AnswerLog`; what was answered before is kept.
    """
    done = log.read()
    share.wait()  # nobody writes before all have read
    log.mend(share.rank)
    means = _RunningMean()
    for rows in done.values():
        means.add(rows)
    mine = range(share.rank, len(records), share.world)
    missing = [place for place in mine if place not in done]
    del done  # it is read again at the end, with the answers of all
    advance(len(mine) - len(missing), means.pieces())
    for answers in ask(records, missing):
        log.append(share.rank, answers)
        for _, rows in answers:
            means.add(rows)
        advance(len(answers), means.pieces())
    share.wait()
    if share.rank:
        return None
    found = log.read()
    if lost := [place for place in range(len(records)) if place not in found]:
        first = records[lost[0]].source
        raise DataError(f"{len(lost)} records have no answer, the first one {first}; give the command again")
    return [row for place in range(len(records)) for row in found[place]]


def make_result(
    rows: Sequence[Row],
    protocol: Protocol,
    resolved: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
    *,
    name: str,
    data: str,
    seed: int,
) -> dict[str, Any]:
    """Measure rows of samples; returns the content of `NAME.json` (docs/evaluation.md).

    Args:
        resolved: from `resolve_protocol`.
        provenance: model, hashes, versions, command; see `make_provenance`.
        seed: of the bootstrap.
    """
    samples = [as_sample(row, f"{name}.samples.jsonl:{number}") for number, row in enumerate(rows, start=1)]
    return {
        "name": name,
        "data": data,
        "task": samples[0].task if len({sample.task for sample in samples}) == 1 else "several",
        "step": 0,
        "n": len({sample.source or sample.record_id for sample in samples}),
        "seed": seed,
        **measure(samples, protocol, seed=seed),
        "protocol": resolved,
        "provenance": dict(provenance),
    }


def make_provenance(model: str, model_hash: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a result comes from: model, weights, how it was asked, versions, command, date.

    Args:
        model: folder, hub name, or the server's name of the model.
        model_hash: from `hash_model`; "" if it is not known, as for a server.
        asked: what depends on the model: box format, pixel limits, adapter, dtype.
    """
    facts = environment()
    return {
        "model": model,
        "model_hash": model_hash,
        "asked": dict(asked),
        "versions": {"python": facts["python"], **facts["packages"]},
        "commit": facts["commit"],
        "platform": facts["platform"],
        "command": facts["command"],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def form_doubt(rows: Sequence[Row], template: str, trained_with: str | None) -> str | None:
    """Return a sentence if no answer of the first hundred has the form that the template asks for; else None.

    Args:
        trained_with: the template with which the model was trained; None: not known.
    """
    first = rows[:LOOKED_AT]
    if not first or any(row["parts"].get("format") for row in first):
        return None
    was = f"it was trained with {trained_with}" if trained_with else "nothing says how it was trained"
    return (
        f"none of the first {len(first)} answers has the form that template {template} asks for, so the model was "
        f"probably not asked so in training ({was}): try --template, or look at the texts in the samples"
    )


class _RunningMean:
    """The mean of the main metric of the first answer's task over the answers so far."""

    def __init__(self) -> None:
        self._total, self._n, self._name = 0.0, 0, ""

    def add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            metrics: Mapping[str, float] = row["metrics"]
            self._name = self._name or main_metric(metrics, [row["task"]])
            if self._name in metrics:
                self._total += metrics[self._name]
                self._n += 1

    def pieces(self) -> list[str]:
        return [f"{self._name} {self._total / self._n:.2f}"] if self._n else []
