"""Opens a training run. Mistakes are found before the model trains and before the run folder changes."""

# pyright: standard

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vlm_r1.config import Config
from vlm_r1.config.secrets import refuse_masked
from vlm_r1.data.prompts import PromptStream, shard
from vlm_r1.data.rows import Problem, summarise
from vlm_r1.data.sources import Sources, evenly, load_sources, shared_pictures
from vlm_r1.data.tokens import find_control_tokens
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.models import adapter_of
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.reward_check import call_rewards
from vlm_r1.runtime.checkpoint import checkpoint_step
from vlm_r1.runtime.metrics import Metric, reduce_metrics
from vlm_r1.runtime.metrics_log import append_metrics
from vlm_r1.runtime.phases import Phases
from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.run_folder import RunFolder, check_run_folder, open_run_folder
from vlm_r1.runtime.text import writable
from vlm_r1.sampling import Sampler
from vlm_r1.sampling.build import build_sampler, get_sampler
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import check_rewards
from vlm_r1.tasks.templates import make_templates
from vlm_r1.training.held_out import evaluate_in_training, write_summary
from vlm_r1.training.learner import Learner
from vlm_r1.training.optimizer import get_optimizer
from vlm_r1.training.start import start_facts, start_table
from vlm_r1.training.trust import is_due
from vlm_r1.types import Record

T = TypeVar("T")


@dataclass
class TrainingRun:
    """Everything that `open_training` has opened for a run. Only `learner` and `stream` hold state of the training."""

    config: Config
    learner: Learner
    env: Env
    sampler: Sampler
    stream: PromptStream
    held_out: Mapping[str, Sequence[Record]]
    folder: RunFolder
    display: Display
    evaluation_s: float = 0.0
    checked: bool = False

    @contextmanager
    def steps(self, title: str) -> Generator[tuple[Iterator[Phases], Callable[[int, Mapping[str, float]], None]]]:
        """Evaluate before the first step, then iterate: `with run.steps(…) as (steps, show): for phases in steps: …`.

        `phases` is the timer of a step. `finish_step` ends the step. `show(1, numbers)` moves the progress bar.
        """
        if self.learner.step == 0:
            self.evaluate("before")
        with self.display.steps(title, self.config.training.max_steps, done=self.learner.step) as show:
            yield self._each_step(), show

    def _each_step(self) -> Iterator[Phases]:
        while self.learner.step < self.config.training.max_steps:
            phases = Phases()
            self.learner.begin_step()
            yield phases

    def check_trust(self, check: Callable[[], str], phases: Phases) -> None:
        """Run `trust.check_sampled` or `trust.check_gold` if it is due; display the result and its seconds.

        Args:
            phases: measures the seconds of "trust".
        """
        if is_due(self.learner.step + 1, not self.checked, self.config.training):
            with phases("trust"):
                found = check()
            self.display.say(f"{found} ({phases.seconds['trust']:.1f} s)")
        self.checked = True

    def reduce(self, metrics: dict[str, Metric], phases: Phases) -> dict[str, float]:
        """Return the step's metrics over all processes, with its times and the learning rate of its updates."""
        numbers = reduce_metrics(metrics | phases.metrics(metrics), self.learner.gather)
        return numbers | {"learning_rate": self.learner.learning_rate}

    def next_records(self) -> tuple[list[int], list[Record]]:
        """Take this process's share of the next `prompts_per_step` records; start to decode images of the step after.

        Returns:
            For each record how many the run drew before it, over all processes; and the records.

        Raises:
            DataError: one of the records of this or of the next step is bad.
        """
        n, first = self.config.training.prompts_per_step, sum(self.stream.drawn)
        draws, records = self._share(range(first, first + n)), self._share(self.stream.take(n))
        self.env.start(self._share(self.stream.peek(n)))
        return draws, records

    def _share(self, items: Sequence[T]) -> list[T]:
        accelerator = self.learner.accelerator
        return list(shard(items, accelerator.process_index, accelerator.num_processes))

    def evaluate(self, moment: str) -> dict[str, float]:
        """Evaluate on all held-out sets; see `evaluate_in_training`."""
        start = time.perf_counter()
        self.sampler.sync(self.learner.step)
        means = evaluate_in_training(
            moment,
            self.held_out,
            learner=self.learner,
            env=self.env,
            sampler=self.sampler,
            run=self.folder,
            display=self.display,
        )
        self.evaluation_s += time.perf_counter() - start
        return means

    def finish_step(self, numbers: dict[str, float], stage: str) -> None:
        """End a step after its update: advance, evaluate and save if it is due, and log it.

        The line of metrics is written before the checkpoint, so every checkpoint has its lines.
        """
        training, learner = self.config.training, self.learner
        learner.end_step()
        if training.eval_steps and learner.step % training.eval_steps == 0 and learner.step < training.max_steps:
            numbers |= self.evaluate(f"step-{learner.step:06d}")
        if learner.accelerator.is_main_process:
            append_metrics(self.folder.metrics, {"step": learner.step, "stage": stage, **numbers})
        if training.report_to:
            learner.accelerator.log({writable(name): value for name, value in numbers.items()}, step=learner.step)
        if training.save_steps and learner.step % training.save_steps == 0 and learner.step < training.max_steps:
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """Write a checkpoint of the finished step."""
        self.learner.save_checkpoint(self.folder, {"stream": self.stream.state_dict()})

    def finish(self) -> dict[str, Any]:
        """Save the last checkpoint and the final model, evaluate it, and write the summary; returns the summary."""
        self.save_checkpoint()
        self.learner.save_model(self.folder)
        self.evaluate("after")
        summary: dict[str, Any] = {}
        if self.learner.accelerator.is_main_process:
            summary = write_summary(self.folder, self.config, {"evaluate": self.evaluation_s})
        self.learner.accelerator.end_training()
        return summary


def open_training(config: Config, *, resume: bool, temperature: float, display: Display | None = None) -> TrainingRun:
    """Check the run folder, read and check all data, load the model, and load the checkpoint of a resumed run.

    Args:
        temperature: temperature of the distribution that is trained.

    Raises:
        CheckpointError, DataError, ConfigError, ModelError: something is wrong with the folder, the data, the recipe or
            the model, checked in this order; nothing is written before.
    """
    refuse_masked(config.model_dump(mode="json"), "")
    check_engines(config)
    checkpoint = check_run_folder(config, resume)
    records, held_out = load_checked_records(config)
    env = load_env(config, [records, *held_out.values()])
    called = call_rewards([records, *held_out.values()], env, config.training.max_steps)
    weights = [source.weight for source in config.data.train if source.weight is not None]
    stream = PromptStream(records.files, config.seed, config.data.shuffle, weights or None)
    learner = Learner(config, env.adapter, checkpoint, temperature=temperature)
    shard(range(config.training.prompts_per_step), 0, learner.accelerator.num_processes)
    if checkpoint is not None:
        stream.load_state_dict(learner.load_checkpoint(checkpoint)["stream"])
    learner.accelerator.wait_for_everyone()
    if learner.accelerator.is_main_process:
        resume_step = checkpoint_step(checkpoint) if checkpoint is not None else 0 if resume else None
        open_run_folder(config, resume_step, start_facts(learner, records, held_out))
    learner.accelerator.wait_for_everyone()
    sampler = build_sampler(learner.bare_policy, config.sampling)
    shown = display or Display()
    shown.enabled = learner.accelerator.is_main_process
    shown.say(f"{len(records):,} records")
    if shown.enabled:
        for line in held_out_lines(records, held_out):
            shown.say(line)
    for sentence in called:
        shown.say(sentence)
    shown.say(start_table(learner.sizes, config))
    for line in learner.descriptions:
        shown.say(line)
    return TrainingRun(config, learner, env, sampler, stream, held_out, RunFolder(Path(config.output_dir)), shown)


def check_engines(config: Config) -> None:
    """Import the sampler and the optimizer that the recipe names.

    Raises:
        ConfigError: a name cannot be imported.
    """
    get_sampler(config.sampling.engine)
    get_optimizer(config.training.optim)


def held_out_lines(records: Sources, held_out: Mapping[str, Sources]) -> list[str]:
    """Return a line for each held-out set, with the number of its records whose pictures are trained on."""
    lines: list[str] = []
    for name, n_shared in shared_pictures(records, held_out).items():
        advice = " (split_by: image keeps them apart)" if n_shared else ""
        lines.append(
            f"held out     {name}: {len(held_out[name]):,} records, of which {n_shared:,} show pictures that are "
            f"trained on{advice}"
        )
    return lines


def load_checked_records(config: Config) -> tuple[Sources, dict[str, Sources]]:
    """Load training records, and held-out records by name, and check lines, tasks, rewards and gold answers.

    All records are checked, or an even sample of a large file (`CHECKED_LINES`).

    Raises:
        ConfigError: there is no training data, or a task or reward is unknown.
        DataError: lines are bad; names the first 20 and counts the rest.
    """
    if not config.data.train:
        raise ConfigError("data.train is empty: name at least one JSONL file, e.g. --data.train.0.path=my.jsonl")
    records = load_sources(config.data.train, config.data)
    held_out = {name: load_sources([source], config.data) for name, source in config.data.eval.items()}
    everything = [record for one_set in (records, *held_out.values()) for record in evenly(one_set)]
    check_rewards(config.rewards, everything)
    _check_each(everything, lambda record: get_task(record.task).gold(record))
    return records, held_out


def load_env(config: Config, sets: Sequence[Sequence[Record]]) -> Env:
    """Load tokenizer and image processor, and check the sets with them.

    No row may hold text that is a control token of the model. No prompt may be longer than `max_prompt_length`.

    Raises:
        ConfigError: a template is unknown.
        ModelError: there is no usable checkpoint.
        DataError: records have such text or too long prompts; names the first 20 and counts the rest.
    """
    templates = make_templates(
        config.data.template, (source.template for source in config.sources), config.data.templates
    )
    env = Env(
        adapter_of(config.model),
        templates,
        config.rewards,
        combination=config.reward_combination,
        max_prompt_length=config.data.max_prompt_length,
        image_workers=config.data.dataloader_num_workers,
    )
    files = [file for records in sets if isinstance(records, Sources) for file in records.files]
    if problems := [problem for file in files for problem in find_control_tokens(file, env.adapter.own_tokens())]:
        raise DataError(summarise(problems))
    _check_each([record for records in sets for record in evenly(records)], env.check_length)
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
