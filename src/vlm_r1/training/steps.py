"""The steps of a run and what surrounds them: evaluations, checkpoints, metrics, signals. Shared by the trainers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from vlm_r1.config import Config
from vlm_r1.data.folding import MAX_LISTED
from vlm_r1.errors import CallbackError, CheckpointError, VlmR1Error
from vlm_r1.rollouts.env import Env
from vlm_r1.runtime.checkpoint import checkpoint_step
from vlm_r1.runtime.metrics import Metric, reduce_metrics
from vlm_r1.runtime.metrics_log import MetricsRow, append_metrics, read_metrics, truncate_after
from vlm_r1.runtime.phases import Phases
from vlm_r1.runtime.progress import Display, Show
from vlm_r1.runtime.run_folder import RunFolder
from vlm_r1.runtime.text import writable
from vlm_r1.sampling import Sampler
from vlm_r1.tasks import get_task
from vlm_r1.training.callbacks import Callback, StepEnd, call_callbacks
from vlm_r1.training.drawing import Drawing
from vlm_r1.training.findings import Findings
from vlm_r1.training.held_out import Asker, evaluate_in_training, is_evaluated, read_means, write_summary
from vlm_r1.training.learner import Learner
from vlm_r1.training.new_run import Stage
from vlm_r1.training.processes import all_do, as_agreed, first_does
from vlm_r1.training.resume import Start
from vlm_r1.training.stopping import Stopped, StopRequest, command_to_resume, name_of
from vlm_r1.training.tracking import Tracking
from vlm_r1.training.trust import is_due
from vlm_r1.types import Group, Record

T = TypeVar("T")

BAD_RECORDS = "bad_records.jsonl"
"""File of the run folder that names the records that were skipped."""


@dataclass
class TrainingRun:
    """Everything that `open_training` has opened for a run. Only `learner` and `drawing` hold state of the training."""

    config: Config
    learner: Learner
    env: Env
    sampler: Sampler
    drawing: Drawing
    held_out: Mapping[str, Sequence[Record]]
    folder: RunFolder
    display: Display
    stop: StopRequest
    start: Start
    inputs: Mapping[str, str]
    stage: Stage
    tracking: Tracking = field(default_factory=Tracking)
    callbacks: Sequence[Callback] = ()
    evaluation_s: float = 0.0
    checked: bool = False
    saved_step: int = 0
    findings: Findings | None = None
    n_bad: int = 0
    state: dict[str, Any] = field(default_factory=dict[str, Any])  # of the data, after the last finished step
    saved_s: float = field(default_factory=time.monotonic)

    @contextmanager
    def steps(self) -> Generator[tuple[Iterator[Phases], Show]]:
        """Evaluate before the first step, then iterate: `with run.steps() as (steps, show): for phases in steps: …`.

        `phases` is the timer of a step. `finish_step` ends the step. `show(1, pieces)` moves the progress bar.

        Raises:
            Stopped: a signal came. The steps so far are saved; an evaluation that was cut short is made on resuming.
        """
        with self.closed_on_error(), self.stop.watching():
            if self.learner.step == 0:
                self.tracking.log_evaluation("before", self.evaluate("before"), 0)
            elif missing := self._missing_row():
                means = self.evaluate(self._moment())
                self._log({**missing, **means}, again=True)
                self.tracking.log_evaluation(self._moment(), means, self.learner.step)
            with self.display.steps(self.stage.upper(), self.config.training.max_steps, done=self.learner.step) as show:
                yield self._each_step(), show

    @contextmanager
    def closed_on_error(self) -> Generator[None]:
        """Release the lock of the run folder and end its trackers if the block fails."""
        with ExitStack() as stack:
            stack.callback(self.tracking.finish, failed=True)
            if self.folder.lock is not None:
                stack.push(self.folder.lock)
            yield
            stack.pop_all()

    def _each_step(self) -> Iterator[Phases]:
        self.saved_s = time.monotonic()
        self.state = self.drawing.state_dict()
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

        Records whose picture or line cannot be read are skipped, after a checkpoint of the last finished step.

        Returns:
            For each record how many the run drew before it, over all processes; and the records.

        Raises:
            DataError: too many records are bad. All processes raise it.
        """
        n, step = self.config.training.prompts_per_step, self.learner.step + 1
        looked_at = is_due(step, not self.checked, self.config.training)
        found = self.drawing.next(n, step, partial(self._prepare, looked_at=looked_at), self._skip)
        if self.learner.accelerator.is_main_process and len(self.drawing.bad) > self.n_bad:
            self.drawing.write_bad(self.folder.path / BAD_RECORDS)
        self.n_bad = len(self.drawing.bad)
        self.env.start(self.drawing.upcoming(n))
        return found

    def _prepare(self, record: Record, looked_at: bool) -> None:
        """Encode a record, and read its pictures once more if a trust check will look at them."""
        get_task(record.task).gold(record)
        encoded = self.env.encode(record)
        if looked_at:
            encoded.load_images()

    def _skip(self, lines: Sequence[str]) -> None:
        if self.learner.step:
            self.save_checkpoint()
        for line in lines[:MAX_LISTED]:
            self.display.say(f"step {self.learner.step + 1}: bad record {line}", "yellow")
        if len(lines) > MAX_LISTED:
            self.display.say(f"… and {len(lines) - MAX_LISTED} more: {BAD_RECORDS} in the run folder has all")

    def do_together(self, work: Callable[[], T]) -> T:
        """Do this process's part of a step before its update; if it fails in some process, save the steps before it.

        Raises:
            VlmR1Error: what `work` raised in one of the processes. All raise it.
        """
        try:
            return all_do(work)
        except VlmR1Error:
            if self.learner.step:
                self._save_at_the_end()
            raise

    def evaluate(self, moment: str) -> dict[str, float]:
        """Evaluate on all held-out sets; see `evaluate_in_training`."""
        start = time.perf_counter()
        self.sampler.sync(self.learner.step)
        asker = Asker(self.learner, self.env, self.sampler, self.display, self.stop)
        try:
            return evaluate_in_training(moment, self.held_out, asker, self.folder)
        except Stopped as stopped:
            raise self._stopped(stopped.number) from None
        finally:
            self.evaluation_s += time.perf_counter() - start

    def finish_step(self, numbers: dict[str, float], groups: Sequence[Group] = ()) -> None:
        """End a step after its update: advance, evaluate, log, call callbacks, and save if that is due or it stops.

        The line of metrics is written before the checkpoint, so every checkpoint has its lines.

        Args:
            groups: of all processes, without pixels, for the callbacks.

        Raises:
            Stopped: a signal came to some process, or a callback asked. All processes raise it, after a checkpoint.
                After the last step it is left to `finish`.
            VlmR1Error: the evaluation or a callback failed. All processes raise it, after a checkpoint.
        """
        learner, ended = self.learner, None
        learner.end_step()
        self.state = self.drawing.state_dict()
        if self.drawing.bad:
            numbers["data/bad_records"] = len(self.drawing.bad)
        if self.drawing.n_overlong:
            numbers["data/overlong_prompts"] = self.drawing.n_overlong
        try:
            if self._evaluation_is_due():
                numbers |= self.evaluate(self._moment())
        except (Stopped, VlmR1Error) as error:  # the evaluation is made on resuming
            ended = error
        row: dict[str, Any] = {"step": learner.step, "stage": self.stage, **numbers}
        self._log(row)
        if learner.accelerator.is_main_process:
            self._findings(learner.step - 1).after_step(row, groups)
        stops, failed = self._call_back(numbers, groups)
        told = learner.gather([(self.stop.asked, self._save_is_due(), stops, failed)])
        _, save_is_due, stops, failed = told[0]  # the first process has the clock and the callbacks
        if failed is not None:
            ended = as_agreed(failed)
        goes_on = learner.step < self.config.training.max_steps
        asked = max(number for number, *_ in told) if goes_on else 0
        stops = bool(asked) or (stops and goes_on)
        if ended or stops or save_is_due:
            self.save_checkpoint()
        if ended or stops:
            stopped = ended or self._stopped(asked)
            if stops and not asked:
                self.display.say(f"{stopped}")
            raise stopped

    def _call_back(self, numbers: Mapping[str, float], groups: Sequence[Group]) -> tuple[bool, CallbackError | None]:
        """Call the callbacks, in the first process; returns whether one asked for a stop, and what one raised."""
        learner = self.learner
        if not (self.callbacks and learner.accelerator.is_main_process):
            return False, None
        total = self.config.training.max_steps
        shown = MappingProxyType(dict(numbers))
        end = StepEnd(learner.step, total, shown, tuple(groups), learner.model, self.folder.path)
        try:
            call_callbacks(self.callbacks, end)
        except CallbackError as error:
            return False, error
        finally:
            learner.drop_gradients()
        return end.is_stopped, None

    def _log(self, row: dict[str, Any], again: bool = False) -> None:
        """Write the line of a step, in the place of the one that is there if it is written again."""
        if self.learner.accelerator.is_main_process:
            self.folder.check_in_place()
            if again:
                truncate_after(self.folder.metrics, self.learner.step - 1)
            append_metrics(self.folder.metrics, row)
        numbers = {writable(key): value for key, value in row.items() if not isinstance(value, str) and key != "step"}
        self.tracking.log(numbers, self.learner.step)

    def _findings(self, step: int) -> Findings:
        """Return what is examined while the run trains, which reads the run folder of a resumed run once."""
        if self.findings is None:
            self.findings = Findings(self.folder.path, self.display, step)
        return self.findings

    def _moment(self) -> str:
        return f"step-{self.learner.step:06d}"

    def _evaluation_is_due(self) -> bool:
        training, step = self.config.training, self.learner.step
        return bool(training.eval_steps) and step % training.eval_steps == 0 and step < training.max_steps

    def _missing_row(self) -> MetricsRow | None:
        """Return the row of the last step if its evaluation was cut short, so that it has none of its numbers."""
        if not self.held_out or not self._evaluation_is_due():
            return None
        row: MetricsRow | None = None
        if self.learner.accelerator.is_main_process:
            last = read_metrics(self.folder.metrics)[-1]
            row = None if any(name.startswith("eval/") for name in last) else last
        return self.learner.gather([row])[0]

    def _save_is_due(self) -> bool:
        training, step = self.config.training, self.learner.step
        if step == training.max_steps or self.learner.skipped_in_a_row:
            return False  # `finish` saves; after a skipped update there is nothing new, or the weights may be ruined
        if training.save_steps is None:
            return time.monotonic() - self.saved_s >= 60 * training.save_minutes
        return training.save_steps > 0 and step % training.save_steps == 0

    def _stopped(self, number: int) -> Stopped:
        """Return the exception that ends the run, with its line and the command that continues it."""
        self.stop.agreed = True
        accelerator, step = self.learner.accelerator, self.learner.step
        recipe, here = self.folder.path / "config.yaml", int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        command = command_to_resume(self.stage, recipe, accelerator.num_processes, here)
        why = name_of(number) if number else "a callback asked"
        at = f"stopped at step {step} of {self.config.training.max_steps} ({why})"
        return Stopped(number, f"{at}; go on with: {command}", self.config if accelerator.is_main_process else None)

    def save_checkpoint(self) -> None:
        """Write a checkpoint of the finished step, unless there is one.

        Raises:
            CheckpointError: it cannot be written, unless the recipe says to go on (`training.on_save_failure`).
        """
        if self.saved_step != self.learner.step:
            self._write_checkpoint({**(self.state or self.drawing.state_dict()), "inputs": dict(self.inputs)})
        self.saved_s = time.monotonic()

    def _save_at_the_end(self) -> None:
        """Write a checkpoint before an error ends the run; if it cannot be written, that is said beside the error."""
        try:
            self.save_checkpoint()
        except CheckpointError as error:
            self.display.say(f"{error}", "yellow")

    def _write_checkpoint(self, state: Mapping[str, Any]) -> None:
        first_does(self.folder.check_in_place)
        try:
            self.learner.save_checkpoint(self.folder, state, self.start.damaged)
        except CheckpointError as error:
            if self.config.training.on_save_failure == "stop":
                raise
            self.display.say(f"{error}. The run goes on without this checkpoint", "yellow")
        else:
            self.saved_step = self.learner.step
            later = (path for path in self.start.damaged if checkpoint_step(path) > self.learner.step)
            self.start = replace(self.start, damaged=tuple(later))

    def finish(self) -> dict[str, Any]:
        """Save the last checkpoint and the final model, evaluate it, and write the summary; returns the summary.

        What a run that was stopped here has already written is not written again.

        Raises:
            Stopped: a signal came during the evaluation, which is made on resuming.
        """
        with self.closed_on_error():
            with self.stop.watching():
                self.save_checkpoint()
                self.learner.save_model(self.folder)
                step, sets = self.learner.step, self.config.data.eval
                if not first_does(lambda: is_evaluated(self.folder, "after", step, sets)):
                    self.evaluate("after")
            summary: dict[str, Any] = {}
            if self.tracking.trackers:
                self.tracking.log_evaluation("after", read_means(self.folder, "after", sets), step)
            if self.learner.accelerator.is_main_process:
                found = self._findings(self.learner.step).at_the_end()
                summary = write_summary(self.folder, self.config, {"evaluate": self.evaluation_s}, found)
            self.tracking.finish()
        if self.folder.lock is not None:
            self.folder.lock.release()
        return summary
