"""Evaluations of a training run before, during and after it, over all its processes, and its summary."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.config import Config
from vlm_r1.data.sources import Sources
from vlm_r1.doctor.base import Finding
from vlm_r1.errors import CheckpointError, VlmR1Error
from vlm_r1.evaluation.protocol import Decoding
from vlm_r1.evaluation.runner import answer_records, summarize_evaluation, write_evaluation
from vlm_r1.evaluation.samples import samples_path
from vlm_r1.files import read_bytes
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.rewards.base import TrainerState
from vlm_r1.rollouts.env import Env
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.run_folder import RunFolder, read_json, write_json
from vlm_r1.sampling import Sampler
from vlm_r1.training.learner import Learner
from vlm_r1.training.processes import as_agreed
from vlm_r1.training.stopping import Stopped, StopRequest
from vlm_r1.types import Group, Record


@dataclass(frozen=True)
class Asker:
    """What the evaluations of a run need to answer records."""

    learner: Learner
    env: Env
    sampler: Sampler
    display: Display
    stop: StopRequest


def evaluate_in_training(
    moment: str, held_out: Mapping[str, Sequence[Record]], asker: Asker, run: RunFolder
) -> dict[str, float]:
    """Evaluate on every held-out set and write `eval/<moment>-<set>.json`.

    Args:
        moment: "before", "after" or "step-000050".

    Returns:
        Means for the step's metrics, e.g. {"eval/in_domain/accuracy_iou50": 0.61}; the same on all processes.

    Raises:
        Stopped: a signal came to some process. All processes raise it.
        VlmR1Error: a record cannot be asked or judged, and is not left out, for then the number would mean another set.
            All processes raise it.
    """
    learner = asker.learner
    means: dict[str, float] = {}
    for name, records in held_out.items():
        groups = _answer_in_parallel(records, f"{moment} {name}", asker)
        source = learner.config.data.eval[name].path
        summary = summarize_evaluation(
            groups, name=f"{moment}-{name}", data=source, step=learner.step, seed=learner.config.seed
        )
        if isinstance(records, Sources) and records.n_overlong:
            summary["overlong_prompts"] = records.n_overlong
        if learner.accelerator.is_main_process:
            run.check_in_place()
            write_evaluation(run.evaluations, summary, groups)
        means |= {f"eval/{name}/{metric}": value["mean"] for metric, value in summary["metrics"].items()}
    return means


def write_summary(
    run: RunFolder, config: Config, seconds: Mapping[str, float], findings: Sequence[Finding]
) -> dict[str, Any]:
    """Write `summary.json` from the evaluations of the run folder.

    Args:
        seconds: by phase. "train" is added to them: the sum over the steps of metrics.jsonl, resumed ones included.
        findings: of the doctor, at the end.

    Returns:
        What was written.
    """
    train_s = sum(float(row["time/step_s"]) for row in read_metrics(run.metrics))
    summary = {
        **{moment: {name: _brief(run, moment, name) for name in config.data.eval} for moment in ("before", "after")},
        "seconds": {k: round(v, 2) for k, v in {**seconds, "train": train_s}.items()},
        "seed": config.seed,
        "findings": [finding.as_json() for finding in findings],
    }
    write_json(run.path / "summary.json", summary)
    return summary


def decoding_of(config: Config) -> Decoding:
    """Return how held-out records are answered: once, greedily; or several times, drawn as in training.

    A penalty for repetition belongs to the policy, so the greedy answer has it too.

    The seed of a draw is of the run's seed, the record and the number of the draw. So each evaluation of a run has the
    same, whatever the step and the number of processes.
    """
    sampling, draws = config.sampling, config.training.num_generations_eval
    if draws == 1:
        kept = {"max_completion_length", "repetition_penalty"}
        return Decoding(**sampling.model_dump(include=kept))
    return Decoding(**sampling.model_dump(exclude={"engine"}), samples=draws, seed=config.seed)


def _answer_in_parallel(records: Sequence[Record], label: str, asker: Asker) -> list[Group]:
    """Let each process answer every world-size-th record; returns groups in the order of the records."""
    learner = asker.learner
    rank, world = learner.accelerator.process_index, learner.accelerator.num_processes
    answered = learner.gather([_answer(records[rank::world], label, asker)])
    if asked := max((one for one in answered if isinstance(one, int)), default=0):
        raise Stopped(asked)
    for process, one in enumerate(answered):
        if isinstance(one, VlmR1Error):
            raise as_agreed(one, process if world > 1 else None)
    ranked = [one for one in answered if isinstance(one, list)]
    return [ranked[index % world][index // world] for index in range(len(records))]


def _answer(records: Sequence[Record], label: str, asker: Asker) -> list[Group] | int | VlmR1Error:
    """Answer the records of this process; returns the number of a signal if one came, or the error if one fails."""
    config, learner = asker.learner.config, asker.learner

    def advance(n: int) -> None:
        shown(n)
        if asker.stop.asked:
            raise Stopped(asker.stop.asked)

    try:
        with asker.display.bar(label, len(records)) as shown, learner.autocast_for_sampling():
            return answer_records(
                records,
                asker.env,
                asker.sampler,
                decoding=decoding_of(config),
                batch_size=config.training.eval_batch_size,
                trainer_state=TrainerState(learner.step, config.training.max_steps),
                advance=advance,
            )
    except Stopped as stopped:
        return stopped.number
    except VlmR1Error as error:
        return error


def _brief(run: RunFolder, moment: str, name: str) -> dict[str, Any]:
    """Return the numbers of one evaluation that `summary.json` repeats."""
    evaluation = read_evaluation(run, f"{moment}-{name}")
    metrics = evaluation["metrics"]
    brief: dict[str, Any] = {metric: value["mean"] for metric, value in metrics.items()}
    if "iou" in metrics:
        brief["mean_iou"] = brief.pop("iou")
    first = "accuracy_iou50" if "accuracy_iou50" in metrics else next(iter(metrics))
    left_out = {key: evaluation[key] for key in ("overlong_prompts",) if key in evaluation}
    return {**brief, "ci95": metrics[first]["ci95"], "n": evaluation["n"], **left_out}


def read_evaluation(run: RunFolder, name: str) -> dict[str, Any]:
    """Read `eval/<name>.json` of a run, and check that it is whole, with all samples of its records.

    Raises:
        CheckpointError: one of its two files is missing, torn, or not as `write_evaluation` writes it.
    """
    path = run.evaluations / f"{name}.json"
    try:
        evaluation = read_json(path)
        metrics = evaluation.get("metrics")
        if not (
            isinstance(evaluation.get("n"), int) and is_object(metrics) and all(map(_is_estimate, metrics.values()))
        ):
            raise CheckpointError(f"{path}: is not an evaluation as docs/runs.md describes it")
        draws = evaluation.get("draws", 1)
        _check_samples(samples_path(path), evaluation["n"] * (draws if isinstance(draws, int) else 1))
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}. The run needs this evaluation for its summary and report: restore it from a copy, or start a "
            "new run. A held-out set that is left out of the recipe (--allow data.eval) is not needed"
        ) from error
    return evaluation


def read_means(run: RunFolder, moment: str, sets: Collection[str]) -> dict[str, float]:
    """Return the means of an evaluation that is on file, as `evaluate_in_training` returned them."""
    metrics = {name: read_evaluation(run, f"{moment}-{name}")["metrics"] for name in sets}
    return {f"eval/{name}/{metric}": value["mean"] for name, one in metrics.items() for metric, value in one.items()}


def is_evaluated(run: RunFolder, moment: str, step: int, sets: Collection[str]) -> bool:
    """Return whether all held-out sets were evaluated at this moment and step, completely."""
    try:
        return all(read_evaluation(run, f"{moment}-{name}").get("step") == step for name in sets)
    except CheckpointError:
        return False


def _check_samples(path: Path, n: int) -> None:
    try:
        lines = read_bytes(path).split(b"\n")
        found = [json.loads(line) for line in lines[:-1]]
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if lines[-1] or len(found) != n:
        raise CheckpointError(f"{path}: has {len(found)} whole lines, but {n} answers were judged")


def _is_estimate(value: Any) -> bool:
    interval = value.get("ci95") if is_object(value) else None
    numbers = [value.get("mean"), *interval] if is_object(value) and is_list(interval) else []
    return len(numbers) == 1 + 2 and all(isinstance(number, int | float) for number in numbers)
