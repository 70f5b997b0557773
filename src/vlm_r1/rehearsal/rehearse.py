"""A rehearsal from top to bottom: data, model, prompts, rewards, steps, checkpoint, resumption, report and export."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.config import Config
from vlm_r1.config.load import make_config, save_config
from vlm_r1.config.secrets import masked, refuse_masked
from vlm_r1.data.access import access_of
from vlm_r1.data.sources import Sources, evenly
from vlm_r1.errors import CheckpointError
from vlm_r1.export.model import export_run
from vlm_r1.grpo.trainer import check_objective, train
from vlm_r1.rehearsal.equality import check_equal, moved_weights
from vlm_r1.rehearsal.family import find_family
from vlm_r1.rehearsal.inputs import corpus, templates_of, write_model, write_records
from vlm_r1.rehearsal.recipe import SAVED_STEP, STEPS, Rehearsed, folder_of, rehearsed_recipe
from vlm_r1.rehearsal.stages import Outcome, Says, Stages
from vlm_r1.report.build import build_report
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.reward_check import judge_gold
from vlm_r1.runtime.checkpoint import checkpoint_path
from vlm_r1.runtime.lock import lock_output
from vlm_r1.runtime.manifest import check_manifest
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.run_folder import RunFolder
from vlm_r1.runtime.terminal import Terminal
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.data_lines import held_out_lines, reward_lines
from vlm_r1.training.new_run import Stage
from vlm_r1.training.run import load_checked_records, load_env
from vlm_r1.types import Record, Score

_MARK = "rehearsal.json"
"""File that says that a folder was made by a rehearsal, so that the next one may delete it."""

_ENCODED = 8


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal that came to its end.

    Attributes:
        folder: everything that it wrote.
        notes: lines about the data and the rewards that want a look, though nothing failed.
        recipe: what was smaller, and what was not rehearsed.
        page: the report.
    """

    folder: Path
    notes: list[str]
    recipe: Rehearsed
    page: Path


def rehearse(config: Config, stage: Stage, stages: Stages, *, family: str | None = None) -> Rehearsal:
    """Do everything that a run of the recipe does, with a tiny random model, in a folder of its own.

    Args:
        stages: times and tells the stages.
        family: the model type to take; None: that of the recipe's model.

    Raises:
        VlmR1Error: what a run would raise; the message starts with the stage. The run folder is never touched.
    """
    refuse_masked(config.model_dump(mode="json"), "")
    folder = folder_of(config)
    lock = lock_output(folder, "--output_dir")
    try:
        _make_folder(folder)
        return _rehearse(config, stage, stages, folder, family)
    finally:
        lock.release()


def _rehearse(config: Config, stage: Stage, stages: Stages, folder: Path, family: str | None) -> Rehearsal:
    with stages("data") as told:
        records, held_out = load_checked_records(config)
        options = write_records(config, records, held_out, folder / "data")
        told(_counts(records, held_out))
    notes = [*reward_lines(records)] if stage == "grpo" else []
    notes += [line for line in held_out_lines(records, held_out) if "which 0 show" not in line]
    with stages("model") as told:
        found, templates = find_family(config.model, family), templates_of(config)
        model = write_model(found.model_type, folder / "model", corpus(records, held_out, templates), config.seed)
        told(f"a tiny {found.model_type} of random weights, {found.found}; a tokenizer made from the data")
    options |= {"model.path": str(model), "output_dir": str(folder / "run")}
    rehearsed = rehearsed_recipe(config, stage, found.model_type, options)
    config = rehearsed.config
    save_config(config, folder / "recipe.yaml")
    with stages("prompts") as told:
        records, held_out = load_checked_records(config)
        env = load_env(config, [records, *held_out.values()])
        told(_prompts(evenly(records, _ENCODED), env))
    if stage == "grpo":
        with stages("rewards") as told:
            check_objective(config)
            scores = judge_gold([records, *held_out.values()], env, STEPS)
            means = {name: _mean(scores, name) for name in scores[0].parts} if scores else {}
            told(_gold(means, len(scores)))
            notes += _low(means)
    run = RunFolder(folder / "run")
    _train(config, stage, stages, run)
    _resume(config, stage, stages, run, folder / "resumed")
    with stages("report") as told:
        roots = (source.image_root for source in config.sources)
        page = build_report(run.path, access_of(config.data, roots), [source.task for source in config.sources])
        told(f"{page.stat().st_size / 1e3:,.0f} kB")
    with stages("export") as told:
        lines: list[str] = []
        export_run(run.path, folder / "export", allowed=_allowed(config), say=lines.append)
        told(lines[-1])
    return Rehearsal(folder, notes, rehearsed, page)


def _train(config: Config, stage: Stage, stages: Stages, run: RunFolder) -> None:
    with stages("training") as told, (run.path.parent / "run.log").open("w", encoding="utf-8") as log:
        summary = _run(config, stage, log)
        rows = read_metrics(run.metrics)
        if (weights := moved_weights(Path(config.model.path), run.model))[0] == 0:
            raise CheckpointError(f"{run.path}: {STEPS} steps moved none of the {weights[1]} tensors of the model")
        told(f"{len(rows)} steps moved {weights[0]} of {weights[1]} tensors{_rewards(rows)}")
    if config.data.eval:
        told_sets = f"{len(config.data.eval)} held-out set{'s' * (len(config.data.eval) > 1)}"
        times = "before, between and after the steps" if config.training.eval_steps else "before and after the steps"
        outcome = Outcome("evaluation", "done", summary["seconds"]["evaluate"], f"{told_sets}, {times}")
    else:
        outcome = Outcome("evaluation", "none", 0.0, "the recipe has no data.eval, so nothing is measured")
    stages.add(outcome)
    with stages("checkpoint") as told:
        checkpoint = checkpoint_path(run.checkpoints, SAVED_STEP)
        check_manifest(checkpoint)
        told(f"of step {SAVED_STEP}, whole by its manifest")


def _resume(config: Config, stage: Stage, stages: Stages, run: RunFolder, target: Path) -> None:
    """Copy the run as a crash after the checkpoint leaves it, let it go on, and compare the two."""
    with stages("resume") as told, (run.path.parent / "resumed.log").open("w", encoding="utf-8") as log:
        last = checkpoint_path(run.checkpoints, STEPS).name
        shutil.copytree(
            run.path, target, ignore=shutil.ignore_patterns(last, "model", "after-*", "summary.json", ".lock")
        )
        resumed = make_config(config, {"output_dir": str(target)})
        _run(resumed, stage, log, resume=True)
        told(f"from step {SAVED_STEP}: {check_equal(run, RunFolder(target))}")


def _run(config: Config, stage: Stage, log: Any, resume: bool = False) -> dict[str, Any]:
    display = Display(Terminal(file=log, width=160))
    trainer: Callable[..., dict[str, Any]] = train if stage == "grpo" else train_sft
    return trainer(config, resume=resume, display=display)


def _make_folder(folder: Path) -> None:
    """Make the folder anew; what another rehearsal left in it is deleted, and nothing else ever is."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).is_file():
        raise CheckpointError(
            f"{folder}: a rehearsal would write here, but something else does lie here: move it, or choose another "
            "--output_dir"
        )
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARK).write_text(json.dumps({"made_by": "vlm-r1 train --rehearse"}) + "\n", encoding="utf-8")


def _counts(records: Sources, held_out: Mapping[str, Sources]) -> str:
    sets = [f"{len(records):,} records to train on", *(f"{len(one):,} in {name}" for name, one in held_out.items())]
    return f"{', '.join(sets)}; a few of each are taken, evenly"


def _prompts(records: Sequence[Record], env: Env) -> str:
    lengths = [len(env.encode(record).ids_L) for record in records]
    images = sum(len(record.images) for record in records)
    pictures = f"{images} picture{'s' * (images != 1)}"
    return f"{len(lengths)} encoded with {pictures}, {min(lengths):,} to {max(lengths):,} tokens of this tokenizer"


def _gold(means: Mapping[str, float | None], n: int) -> str:
    parts = ", ".join(f"{masked(name)} {'none' if mean is None else f'{mean:.3g}'}" for name, mean in means.items())
    return f"on {n} gold answers: {parts}"


def _low(means: Mapping[str, float | None]) -> list[str]:
    """Return a line for each component that no gold answer earns anything by."""
    return [
        f'the component "{masked(name)}" '
        + ("leaves out (None) all gold answers" if mean is None else f"gives gold answers {mean:.3g} on average")
        + ": can a model learn from it?"
        for name, mean in means.items()
        if mean is None or mean <= 0
    ]


def _mean(scores: Sequence[Score], name: str) -> float | None:
    values = [value for score in scores if (value := score.parts[name]) is not None]
    return math.fsum(values) / len(values) if values else None


def _rewards(rows: Sequence[Mapping[str, Any]]) -> str:
    rewards = [row["reward/mean"] for row in rows if "reward/mean" in row]
    return f"; mean reward {math.fsum(rewards) / len(rewards):.2g}" if rewards else ""


def _allowed(config: Config) -> dict[str, list[str]]:
    """Return the code that the recipe names itself, and which an export may therefore load."""
    named = {"adapter": [config.model.adapter], "template": [config.data.template]}
    for kind in ("task", "template"):
        named[kind] = [*named.get(kind, []), *(getattr(source, kind) for source in config.data.train)]
    return {kind: [name for name in names if name] for kind, names in named.items()}


__all__ = ["Rehearsal", "Says", "Stages", "rehearse"]
