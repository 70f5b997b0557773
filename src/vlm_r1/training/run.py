"""Opening a training run: what can be wrong is found before the model trains and before the run folder changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vlm_r1.config import Config
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
    """The parts of a run that `open_training` put together; the state that changes is in `learner` and `stream`."""

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
    def steps(self, title: str) -> Iterator[tuple[Iterator[Phases], Callable[[int, Mapping[str, float]], None]]]:
        """Evaluate before the first step; then `with run.steps(…) as (steps, show)` goes through those that are left.

        An item of `steps` is that step's timer; `finish_step` ends it. `show(1, numbers)` moves the progress bar.
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
        """Run `trust.check_sampled` or `trust.check_gold` if it is due; say what was found and how long it took.

        Args:
            phases: is told the seconds of "trust".
        """
        if is_due(self.learner.step + 1, not self.checked, self.config.training):
            with phases("trust"):
                found = check()
            self.display.say(f"{found} ({phases.seconds['trust']:.1f} s)")
        self.checked = True

    def reduce(self, metrics: dict[str, Metric], phases: Phases) -> dict[str, float]:
        """The step's metrics over all processes, with its times and the learning rate of its updates."""
        numbers = reduce_metrics(metrics | phases.metrics(metrics), self.learner.gather)
        return numbers | {"learning_rate": self.learner.learning_rate}

    def next_records(self) -> tuple[list[int], list[Record]]:
        """This process's share of the next `prompts_per_step` records; the images of those after are begun.

        Returns:
            How many records the run drew before each of them, over all processes, and the records.

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
        """Greedy evaluation on all held-out sets; see `evaluate_in_training`."""
        start = time.perf_counter()
        self.sampler.sync(self.learner.step)
        means = evaluate_in_training(
            moment, self.held_out, self.learner, self.env, self.sampler, self.folder, self.display
        )
        self.evaluation_s += time.perf_counter() - start
        return means

    def finish_step(self, numbers: dict[str, float], stage: str) -> None:
        """After an update: advance, evaluate and save where it is due, and log the step.

        The line of metrics is written before the checkpoint, so that a checkpoint never lacks a line.
        """
        training, learner = self.config.training, self.learner
        learner.end_step()
        if training.eval_steps and learner.step % training.eval_steps == 0 and learner.step < training.max_steps:
            numbers |= self.evaluate(f"step-{learner.step:06d}")
        if learner.accelerator.is_main_process:
            append_metrics(self.folder.metrics, {"step": learner.step, "stage": stage, **numbers})
        if training.report_to:
            learner.accelerator.log(numbers, step=learner.step)
        if training.save_steps and learner.step % training.save_steps == 0 and learner.step < training.max_steps:
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """Write a checkpoint of the finished step."""
        self.learner.save_checkpoint(self.folder, {"stream": self.stream.state_dict()})

    def finish(self) -> dict[str, Any]:
        """Save the last checkpoint and the final model, evaluate it, and write the summary, which is returned."""
        self.save_checkpoint()
        self.learner.save_model(self.folder)
        self.evaluate("after")
        summary: dict[str, Any] = {}
        if self.learner.accelerator.is_main_process:
            summary = write_summary(self.folder, self.config, {"evaluate": self.evaluation_s})
        self.learner.accelerator.end_training()
        return summary


def open_training(config: Config, *, resume: bool, temperature: float, display: Display | None = None) -> TrainingRun:
    """Check the folder, read and check all data, load the model, and take up the checkpoint to resume from, if any.

    Args:
        temperature: of the distribution that is trained.

    Raises:
        CheckpointError, DataError, ConfigError, ModelError: in this order, before anything is written.
    """
    get_sampler(config.sampling.engine)
    get_optimizer(config.training.optim)
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


def held_out_lines(records: Sources, held_out: Mapping[str, Sources]) -> list[str]:
    """A line for each held-out set, with the number of its records whose pictures are trained on."""
    lines = []
    for name, n_shared in shared_pictures(records, held_out).items():
        advice = " (split_by: image keeps them apart)" if n_shared else ""
        lines.append(
            f"held out     {name}: {len(held_out[name]):,} records, of which {n_shared:,} show pictures that are "
            f"trained on{advice}"
        )
    return lines


def load_checked_records(config: Config) -> tuple[Sources, dict[str, Sources]]:
    """Training records and held-out records by name, after lines, tasks, rewards and gold answers were looked at.

    All of them, or of very many an even sample (`CHECKED_LINES`).

    Raises:
        ConfigError: no training data, or an unknown task or reward.
        DataError: names the bad lines, the first 20 in full and the rest counted.
    """
    if not config.data.train:
        raise ConfigError("data.train is empty: name at least one JSONL file, e.g. --data.train.0.path=my.jsonl")
    records = load_sources(config.data.train)
    held_out = {name: load_sources([source]) for name, source in config.data.eval.items()}
    everything = [record for part in (records, *held_out.values()) for record in evenly(part)]
    check_rewards(config.rewards, everything)
    _check_each(everything, lambda record: get_task(record.task).gold(record))
    return records, held_out


def load_env(config: Config, sets: Sequence[Sequence[Record]]) -> Env:
    """Load tokenizer and image processor, and check the sets with them.

    No row may hold text that is the model's own token, and no prompt be longer than `max_prompt_length`.

    Raises:
        ConfigError: unknown template.
        ModelError: no usable checkpoint.
        DataError: names the records with such text or with too long prompts, the first 20 in full, the rest counted.
    """
    templates = make_templates(
        config.data.template, (source.template for source in config.sources), config.data.templates
    )
    env = Env(
        adapter_of(config.model),
        templates,
        config.rewards,
        config.reward_combination,
        config.data.max_prompt_length,
        config.data.dataloader_num_workers,
    )
    files = [part for records in sets if isinstance(records, Sources) for part in records.files]
    if problems := [problem for file in files for problem in find_control_tokens(file, env.adapter.own_tokens())]:
        raise DataError(summarise(problems))
    _check_each([record for records in sets for record in evenly(records)], env.check_length)
    return env


def _check_each(records: Sequence[Record], check: Callable[[Record], object]) -> None:
    """Collect the DataErrors of all records into one."""
    problems = []
    for record in records:
        try:
            check(record)
        except DataError as error:
            problems.append(Problem(record.source, str(error).removeprefix(f"{record.source}: ")))
    if problems:
        raise DataError(summarise(problems))
