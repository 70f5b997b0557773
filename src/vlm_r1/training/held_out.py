"""Evaluations of a training run before, during and after it, over all its processes, and its summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_r1.config import Config
from vlm_r1.errors import DataError
from vlm_r1.evaluation.runner import answer_records, summarize_evaluation, write_evaluation
from vlm_r1.rewards.base import TrainerState
from vlm_r1.rollouts.env import Env
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.run_folder import RunFolder, write_json
from vlm_r1.sampling import Sampler
from vlm_r1.training.learner import Learner
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
        DataError: a record cannot be asked, and is not left out, for then the number would mean another set. All
            processes raise it.
    """
    learner = asker.learner
    means: dict[str, float] = {}
    for name, records in held_out.items():
        groups = _answer_in_parallel(records, f"{moment} {name}", asker)
        source = learner.config.data.eval[name].path
        summary = summarize_evaluation(
            groups, name=f"{moment}-{name}", data=source, step=learner.step, seed=learner.config.seed
        )
        if learner.accelerator.is_main_process:
            write_evaluation(run.evaluations, summary, groups)
        means |= {f"eval/{name}/{metric}": value["mean"] for metric, value in summary["metrics"].items()}
    return means


def write_summary(run: RunFolder, config: Config, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Write `summary.json` from the evaluations of the run folder.

    Args:
        seconds: by phase. "train" is added to them: the sum over the steps of metrics.jsonl, resumed ones included.

    Returns:
        What was written.
    """
    train_s = sum(float(row["time/step_s"]) for row in read_metrics(run.metrics))
    summary = {
        **{moment: {name: _brief(run, moment, name) for name in config.data.eval} for moment in ("before", "after")},
        "seconds": {k: round(v, 2) for k, v in {**seconds, "train": train_s}.items()},
        "seed": config.seed,
    }
    write_json(run.path / "summary.json", summary)
    return summary


def _answer_in_parallel(records: Sequence[Record], label: str, asker: Asker) -> list[Group]:
    """Let each process answer every world-size-th record; returns groups in the order of the records."""
    learner = asker.learner
    rank, world = learner.accelerator.process_index, learner.accelerator.num_processes
    answered = learner.gather([_answer(records[rank::world], label, asker)])
    if asked := max((one for one in answered if isinstance(one, int)), default=0):
        raise Stopped(asked)
    if problem := next((one for one in answered if isinstance(one, str)), None):
        raise DataError(problem)
    ranked = [one for one in answered if isinstance(one, list)]
    return [ranked[index % world][index // world] for index in range(len(records))]


def _answer(records: Sequence[Record], label: str, asker: Asker) -> list[Group] | int | str:
    """Answer the records of this process; returns the number of a signal if one came, or why one cannot be asked."""
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
                max_completion_length=config.sampling.max_completion_length,
                batch_size=config.training.eval_batch_size,
                trainer_state=TrainerState(learner.step, config.training.max_steps),
                advance=advance,
            )
    except Stopped as stopped:
        return stopped.number
    except DataError as error:
        return str(error)


def _brief(run: RunFolder, moment: str, name: str) -> dict[str, Any]:
    """Return the numbers of one evaluation that `summary.json` repeats."""
    path = run.evaluations / f"{moment}-{name}.json"
    evaluation = json.loads(path.read_text(encoding="utf-8"))
    metrics = evaluation["metrics"]
    brief: dict[str, Any] = {metric: value["mean"] for metric, value in metrics.items()}
    if "iou" in metrics:
        brief["mean_iou"] = brief.pop("iou")
    first = "accuracy_iou50" if "accuracy_iou50" in metrics else next(iter(metrics))
    return {**brief, "ci95": metrics[first]["ci95"], "n": evaluation["n"]}
