"""Evaluates a policy on records; they are asked, parsed and scored by the same code as in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_r1.config.secrets import masked
from vlm_r1.evaluation.measures import summarize_judged
from vlm_r1.evaluation.metrics import Summary, summarize
from vlm_r1.evaluation.protocol import Decoding
from vlm_r1.evaluation.samples import as_sample, samples_path
from vlm_r1.rewards.base import TRAINED, TrainerState
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.groups import sample_groups
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.phases import Phases
from vlm_r1.runtime.text import json_text
from vlm_r1.sampling import Sampler, SamplingParams
from vlm_r1.types import Group, Record, Rollout


def answer_records(
    records: Sequence[Record],
    env: Env,
    sampler: Sampler,
    *,
    decoding: Decoding,
    batch_size: int,
    trainer_state: TrainerState = TRAINED,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Group]:
    """Answer every record; returns a group for each, in the order of the records.

    Args:
        decoding: how, how often, and the cap of an answer's length. Its seed and the record decide the draws.
        batch_size: number of prompts sampled at once; it changes only time and memory.
        trainer_state: how far training is; by default it is over.
        advance: called with the number of newly answered records, for a progress bar.
    """
    groups: list[Group] = []
    params = params_of(decoding)
    for start in range(0, len(records), batch_size):
        batch = records[start : start + batch_size]
        answered = sample_groups(
            batch,
            env,
            sampler,
            params,
            n=decoding.samples,
            run_seed=decoding.seed,
            phases=Phases(),
            trainer_state=trainer_state,
        )
        groups += [group.light() for group in answered]  # a held-out set's pixels would not fit into memory
        advance(len(batch))
    return groups


def params_of(decoding: Decoding, max_completion_length: int | None = None) -> SamplingParams:
    """Return how a sampler draws one answer.

    Args:
        max_completion_length: cap in tokens; None: that of the decoding.

    Raises:
        ValueError: neither names a cap.
    """
    cap = max_completion_length or decoding.max_completion_length
    if cap is None:
        raise ValueError("the decoding has no max_completion_length")
    return SamplingParams(cap, **decoding.model_dump(exclude={"samples", "seed", "max_completion_length"}))


def summarize_evaluation(groups: Sequence[Group], *, name: str, data: str, step: int, seed: int) -> dict[str, Any]:
    """Return the content of `eval/<name>.json` (docs/runs.md): means with intervals, format rate, parse failures.

    Several answers to a record count once, by their mean, and the intervals draw images; pass@k and majority@k are
    among the metrics then.
    """
    scores = [rollout.score for group in groups for rollout in group.rollouts]
    draws = len(groups[0].rollouts)
    summaries = _of_one_answer(groups, seed) if draws == 1 else _of_several(groups, seed)
    metrics = {name: {"mean": one.mean, "ci95": list(one.ci95), "n": one.n} for name, one in summaries.items()}
    formats = [value for score in scores if (value := score.parts.get("format")) is not None]
    return {
        "name": name,
        "data": masked(data),
        "task": groups[0].record.task,
        "step": step,
        "n": len(groups),
        **({"draws": draws} if draws > 1 else {}),
        "seed": seed,
        "metrics": metrics,
        "format_rate": sum(formats) / len(formats) if formats else None,
        "parse_failures": dict(Counter(score.reason for score in scores if score.reason)),
    }


def _of_one_answer(groups: Sequence[Group], seed: int) -> dict[str, Summary]:
    scores = [rollout.score for group in groups for rollout in group.rollouts]
    names = dict.fromkeys(name for score in scores for name in score.metrics)
    values = {name: [score.metrics[name] for score in scores if name in score.metrics] for name in names}
    return {name: summarize(own, seed=seed) for name, own in values.items()}


def _of_several(groups: Sequence[Group], seed: int) -> dict[str, Summary]:
    answers = [[as_sample(row, group.record.source) for row in sample_rows(group)] for group in groups]
    return summarize_judged(answers, seed=seed)


def write_evaluation(folder: Path, summary: Mapping[str, Any], groups: Sequence[Group]) -> None:
    """Write the files of an evaluation of these groups; see `write_result`."""
    write_result(folder, summary, (row for group in groups for row in sample_rows(group)))


def write_result(folder: Path, result: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write `<name>.json` and `<name>.samples.jsonl` into `folder`; a kill leaves no JSON file with other samples.

    Returns:
        The path of the JSON file.

    Raises:
        CheckpointError: they cannot be written; then those that were there are left as they were.
    """
    path = folder / f"{result['name']}.json"
    with replacing(path) as whole, replacing(samples_path(path)) as samples:
        with samples.open("w", encoding="utf-8") as file:
            file.writelines(f"{json_text(row)}\n" for row in rows)
        whole.write_text(json_text(result, indent=2) + "\n", encoding="utf-8")
        path.unlink(missing_ok=True)
    return path


def sample_rows(group: Group) -> list[dict[str, Any]]:
    """Return a line of `<name>.samples.jsonl` for each answer of a group; several have their number, `draw`."""
    several = len(group.rollouts) > 1
    return [_sample(group, rollout, {"draw": draw} if several else {}) for draw, rollout in enumerate(group.rollouts)]


def _sample(group: Group, rollout: Rollout, number: dict[str, int]) -> dict[str, Any]:
    record = group.record
    score = vars(rollout.score)
    columns = {key: value for key, value in record.columns.items() if _is_short(value)}
    return {
        "record_id": record.id,
        "source": record.source,
        **number,
        "task": record.task,
        "problem": record.problem,
        **({"context": record.context} if record.context else {}),
        "images": list(record.images),
        "image_sizes": [list(frame.original_wh) for frame in group.encoded.frames],
        "input_sizes": [list(frame.input_wh) for frame in group.encoded.frames],
        "box_format": group.encoded.box_format.value,
        "template": group.encoded.template,
        "reward_name": record.reward and masked(record.reward),
        "gold": record.answer,
        "text": rollout.completion.text,
        **{name: value for name, value in score.items() if name != "extra" or value},
        "tokens": rollout.completion.length,
        "stop_reason": rollout.completion.stop_reason.value,
        **({"columns": columns} if columns else {}),
    }


def _is_short(value: object) -> bool:
    """Whether a key of a record can name a subset."""
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _LONGEST_SUBSET)


_LONGEST_SUBSET = 100  # characters
