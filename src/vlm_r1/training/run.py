"""Opens a training run. Mistakes are found before the model trains and before the run folder changes."""

# pyright: standard

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from vlm_r1.config import Config
from vlm_r1.config.secrets import refuse_masked
from vlm_r1.data.access import access_of
from vlm_r1.data.ahead import ImagesAhead
from vlm_r1.data.prompts import PromptStream, shard
from vlm_r1.data.rows import Problem, summarise
from vlm_r1.data.sources import Sources, evenly, load_sources, most_bad_records
from vlm_r1.data.tokens import find_control_tokens
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.evaluation.asking import recipe_notes
from vlm_r1.models import adapter_of
from vlm_r1.models.loading import trusted_code
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.reward_check import call_rewards
from vlm_r1.runtime.manifest import check_manifest
from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.run_folder import RunFolder, begin_run, continue_run
from vlm_r1.sampling.build import build_sampler, get_sampler
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import check_rewards
from vlm_r1.tasks.templates import make_templates
from vlm_r1.training.budget import with_steps
from vlm_r1.training.data_lines import held_out_lines, reward_lines, source_lines
from vlm_r1.training.drawing import Drawing
from vlm_r1.training.inputs import hash_inputs
from vlm_r1.training.learner import Learner
from vlm_r1.training.new_run import Resume, Stage, goes_on
from vlm_r1.training.offload import check_offload
from vlm_r1.training.optimizer import check_schedule, get_optimizer
from vlm_r1.training.overlong import leave_out_overlong
from vlm_r1.training.processes import all_do, first_does, join_processes
from vlm_r1.training.resume import check_budget, check_inputs, find_start, lock_run, stream_state
from vlm_r1.training.start import start_facts, start_table
from vlm_r1.training.steps import BAD_RECORDS, TrainingRun
from vlm_r1.training.stopping import StopRequest
from vlm_r1.training.tracking import check_trackers, doubled_steps, open_tracking
from vlm_r1.types import Record


def open_training(
    config: Config,
    *,
    stage: Stage,
    resume: Resume,
    display: Display | None = None,
    allow: Sequence[str] = (),
) -> TrainingRun:
    """Lock and check the run folder, read and check all data, load the model, and load the checkpoint of a resumed run.

    Args:
        stage: says who trains, and so the temperature of the distribution that is trained.
        resume: see `train`.
        allow: options that a resumed run may change, or beginnings of them.

    Raises:
        CheckpointError, DataError, ConfigError, ModelError: something is wrong with the folder, the data, the recipe or
            the model, checked in this order; nothing is written before.
    """
    refuse_masked(config.model_dump(mode="json"), "")
    check_engines(config)
    join_processes()
    with ExitStack() as stack:
        folder = lock_run(Path(config.output_dir))
        if folder.lock is not None:
            stack.push(folder.lock)
        resumed = first_does(lambda: goes_on(folder, resume))
        allow = allow if resumed or resume is False else ()
        run = _open(folder, config, allow, stage=stage, resume=resumed, display=display or Display())
        stack.pop_all()
    return run


def _open(
    folder: RunFolder,
    config: Config,
    allow: Sequence[str],
    *,
    stage: Stage,
    resume: bool,
    display: Display,
) -> TrainingRun:
    start = first_does(lambda: find_start(folder, config, resume, allow, stage))
    trusted = config.model.trust_remote_code
    note = first_does(lambda: trusted_code(config.model, start.checkpoint) if trusted else "")
    env, records, held_out = _open_data(config, resume)
    first_does(lambda: check_manifest(Path(config.model.path)))
    inputs = first_does(lambda: hash_inputs(config, records, held_out, env.adapter.config))
    start = first_does(lambda: check_inputs(start, inputs, allow, folder))
    recipe, config = config, with_steps(config, len(records))
    check_schedule(config.training)
    start = first_does(lambda: check_budget(start, config, folder))
    called = all_do(lambda: call_rewards([records, *held_out.values()], env, config.training.max_steps))
    weights = [source.weight for source in config.data.train if source.weight is not None]
    stream = PromptStream(records.files, config.seed, config.data.shuffle, weights or None)
    temperature, penalty = distribution_of(config, stage)
    learner = Learner(config, env.adapter, start.checkpoint, temperature=temperature, repetition_penalty=penalty)
    rank, world = learner.accelerator.process_index, learner.accelerator.num_processes
    shard(range(config.training.prompts_per_step), 0, world)
    most_bad = most_bad_records(config.data.max_bad_records, len(stream))
    drawing = Drawing(stream, most_bad, rank, world, learner.gather, {}, config.data.filter_overlong_prompts)
    if start.checkpoint is not None:
        drawing.load_state_dict({**start.state, "stream": stream_state(start, stream.state_dict()["records"])})
        learner.load_checkpoint(start.checkpoint, start.state)
    tracking = open_tracking(recipe, folder, resumed=resume)
    facts = {"stage": stage, **start_facts(learner, records, held_out)}
    first_does(
        lambda: (
            continue_run(folder, recipe, start.step, facts, start.changes)
            if resume
            else begin_run(folder, recipe, facts)
        )
    )
    sampler = build_sampler(learner.bare_policy, config.sampling)
    display.enabled = learner.accelerator.is_main_process
    stop = StopRequest(_peers(learner), tells=display.enabled)
    run = TrainingRun(config, learner, env, sampler, drawing, held_out, folder, display, stop, start, inputs, stage)
    run.tracking = tracking
    notes = [*([note] if note else ()), *recipe_notes(config), *(reward_lines(records) if stage == "grpo" else ())]
    notes += doubled_steps(tracking, start.step) if start.changes else []
    of_data = [*source_lines(records), *held_out_lines(records, held_out)] if display.enabled else []
    _introduce(run, len(records), notes, [*of_data, *called], recipe.training.num_train_epochs)
    run.n_bad = len(drawing.bad)
    if display.enabled and resume:
        drawing.write_bad(run.folder.path / BAD_RECORDS)
    return run


def distribution_of(config: Config, stage: Stage) -> tuple[float, float]:
    """Return temperature and repetition penalty of the distribution that is trained; SFT trains the model's own."""
    return (config.sampling.temperature, config.sampling.repetition_penalty) if stage == "grpo" else (1.0, 1.0)


def _open_data(config: Config, resume: bool) -> tuple[Env, Sources, dict[str, Sources]]:
    """Load and check all data; returns what asks and judges, training records, and held-out records by name."""
    records, held_out = all_do(lambda: load_checked_records(config, config.data.max_bad_records if resume else 0))
    env = all_do(lambda: load_env(config, [records, *held_out.values()]))
    return env, *all_do(lambda: leave_out_overlong(config, env, records, held_out))


def _introduce(
    run: TrainingRun, records: int, notes: Sequence[str], lines: Sequence[str], epochs: float | None
) -> None:
    """Display what a run is about to do, with what changed since it was interrupted.

    Args:
        records: how many there are to train on.
        notes: lines that warn.
        lines: about data and rewards.
    """
    folder, config, learner, start, say = run.folder, run.config, run.learner, run.start, run.display.say
    if folder.lock is not None and not folder.lock.exclusive:
        say(_NO_LOCKS, "yellow")
    for line in (*start.said, *(f"changed: {change}" for change in start.changes)):
        say(line)
    if start.changes:
        say(f"the learning rate goes on at {learner.learning_rate:g}")
    for line in notes:
        say(line, "yellow")
    of_epochs = f"; {epochs:g} epochs are {config.training.max_steps:,} steps" if epochs else ""
    for line in (f"{records:,} records{of_epochs}", *lines):
        say(line)
    say(start_table(learner.sizes, config))
    for line in learner.descriptions:
        say(line)


_NO_LOCKS = "this file system cannot lock files, so nothing keeps a second run out of the run folder: start none there"


def _peers(learner: Learner) -> dict[int, int]:
    """Return the process ids of the other processes on this machine, by rank."""
    everyone = learner.gather([(socket.gethostname(), os.getpid())])
    own = learner.accelerator.process_index
    return {rank: pid for rank, (host, pid) in enumerate(everyone) if rank != own and host == everyone[own][0]}


def check_engines(config: Config) -> None:
    """Import the sampler and the optimizer that the recipe names, and find its trackers.

    Raises:
        ConfigError: a name cannot be imported, or cannot be used on this machine; or a tracker is not installed.
    """
    get_sampler(config.sampling.engine)
    get_optimizer(config.training.optim).check()
    check_offload(config.training)
    check_trackers(config)


def load_checked_records(config: Config, max_bad_records: float = 0) -> tuple[Sources, dict[str, Sources]]:
    """Load training records, and held-out records by name, and check lines, tasks, rewards and gold answers.

    All records are checked, or an even sample of a large file (`CHECKED_LINES`).

    Args:
        max_bad_records: training records that may be bad. A run that is resumed skips them when they are drawn, as it
            did before.

    Raises:
        ConfigError: there is no training data, or a task or reward is unknown.
        DataError: lines are bad; names the first 20 and counts the rest.
    """
    if not config.data.train:
        raise ConfigError("data.train is empty: name at least one JSONL file, e.g. --data.train.0.path=my.jsonl")
    seed, sources = config.seed, config.data.train_sources
    records = load_sources(sources, config.allowed, max_bad_records=max_bad_records, seed=seed)
    held_out = {
        name: load_sources([source], config.allowed, seed=seed) for name, source in config.data.eval_sources.items()
    }
    everything = [record for one_set in (records, *held_out.values()) for record in evenly(one_set)]
    check_rewards(config.rewards, everything)
    _check_each(everything, lambda record: get_task(record.task).gold(record))
    return records, held_out


def load_env(config: Config, sets: Sequence[Sequence[Record]]) -> Env:
    """Load tokenizer and image processor, and check the sets with them.

    No row may hold text that is a control token of the model. No prompt may be longer than `max_prompt_length`, unless
    the recipe leaves out such records (`leave_out_overlong`). The chat template must write system messages and earlier
    turns.

    Raises:
        ConfigError: a template is unknown, or the chat template ignores a switch.
        ModelError: there is no usable checkpoint, or its chat template leaves a message out.
        DataError: records have such text or too long prompts; names the first 20 and counts the rest.
    """
    templates = make_templates(
        config.data.template, (source.template for source in config.sources), config.data.templates
    )
    access = access_of(config.data, (source.image_root for source in config.sources))
    env = Env(
        adapter_of(config.model, chat_template_kwargs=config.data.chat_template_kwargs),
        templates,
        config.rewards,
        combination=config.reward_combination,
        reward_timeout_s=config.reward_timeout_s,
        max_prompt_length=config.data.max_prompt_length,
        images=ImagesAhead(config.data.dataloader_num_workers, access),
    )
    files = [file for records in sets if isinstance(records, Sources) for file in records.files]
    if problems := [problem for file in files for problem in find_control_tokens(file, env.adapter.own_tokens())]:
        raise DataError(summarise(problems))
    checked = [record for records in sets for record in evenly(records)]
    env.check_context(checked)
    if not config.data.filter_overlong_prompts:
        _check_each(checked, env.check_length)
    return env


def _check_each(records: Sequence[Record], check: Callable[[Record], object]) -> None:
    """Check all records and raise one DataError for all that fail."""
    problems: list[Problem] = []
    for record in records:
        try:
            check(record)
        except DataError as error:
            problems.append(Problem(record.source, str(error).removeprefix(f"{record.source}: ")))
    if problems:
        raise DataError(summarise(problems))
