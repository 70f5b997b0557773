"""The state of a training run: policy, optimizers, schedules and step, on accelerate. Shared by GRPO and SFT."""

# pyright: standard

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from torch import nn

from vlm_r1.config import Config
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.evaluation.asking import write_asking
from vlm_r1.models import Adapter
from vlm_r1.models.parts import check_rates, size_by_part
from vlm_r1.models.precision import save_model, this_device
from vlm_r1.policy.build import build_policy, setup_of
from vlm_r1.policy.logprobs import CompletionBatch, MicroBatch, Policy, TokenLogProbs, micro_batches
from vlm_r1.runtime.checkpoint import checkpoint_path, list_checkpoints, new_folder, prune_checkpoints
from vlm_r1.runtime.history import write_history
from vlm_r1.runtime.manifest import EDITED, is_copy_of
from vlm_r1.runtime.metrics import Metric
from vlm_r1.runtime.run_folder import RunFolder, mark_saved
from vlm_r1.training.loss_scale import LossScale
from vlm_r1.training.optimizer import make_optimizers, make_schedulers, sum_gradients
from vlm_r1.training.processes import first_does, join_processes
from vlm_r1.training.state import (
    checkpoint_bytes,
    load_optimizers,
    set_schedules,
    why_not_usable,
    write_state,
    write_weights,
)
from vlm_r1.types import EncodedPrompt

T = TypeVar("T")

_NARROW = (torch.bfloat16, torch.float16)
"""Types of 16 bits: their numbers near 0.02 are 1e-4 or 1e-5 apart, so small updates are lost."""

_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)


class Learner:
    """Owns the state of training: policy, optimizers, schedules and step. A checkpoint holds all of it.

    Attributes:
        policy: the root module, wrapped by accelerate; call it for log-probabilities.
        sizes: how many parameters each part has, and how many of them train.
        setup: types, attention and layout of its passes.
        descriptions: two lines for people about the setup, with its reasons.
        beside: further models whose weights belong to a checkpoint, by name: a reference that changes.
        step: number of finished steps.
        skipped_in_a_row: number of last updates that were skipped because their gradient was not finite.
        loss_scale: the factor of the loss; None unless passes compute in float16.
    """

    def __init__(
        self,
        config: Config,
        adapter: Adapter,
        checkpoint: Path | None,
        *,
        temperature: float,
        repetition_penalty: float = 1.0,
    ):
        self.config = config
        self.adapter = adapter
        training = config.training
        self.setup = setup_of(config, adapter)
        self.accelerator = make_accelerator(config)
        seed_step(config.seed, 0, 0)
        policy = build_policy(
            config.model,
            adapter,
            self.setup,
            temperature=temperature,
            repetition_penalty=repetition_penalty,
            weights=checkpoint,
        )
        _check_that_updates_count(policy.model)
        self.sizes = size_by_part(policy.model, adapter)
        check_rates(training.learning_rates, self.sizes)
        self.descriptions = self.setup.describe(policy.to(self.accelerator.device))
        optimizers = make_optimizers(policy.model, training, adapter)
        schedulers = make_schedulers(optimizers, training)
        # evaluation_mode: without DistributedDataParallel, which would hold all gradients twice (`sum_gradients`)
        self.policy = self.accelerator.prepare_model(policy, evaluation_mode=True)
        self.optimizers = [self.accelerator.prepare_optimizer(optimizer) for optimizer in optimizers]
        self.schedulers = [self.accelerator.prepare_scheduler(scheduler) for scheduler in schedulers]
        self.beside: dict[str, nn.Module] = {}
        self.step = 0
        self.skipped_in_a_row = 0
        self.loss_scale = LossScale() if self.setup.precision.autocast is torch.float16 else None

    @property
    def bare_policy(self) -> Policy:
        """The policy without wrappers, for sampling, and for passes in types other than the recipe's."""
        return self.accelerator.unwrap_model(self.policy)

    @property
    def model(self) -> Any:
        """The transformers (or peft) model inside all wrappers, for sampling and saving."""
        return self.bare_policy.model

    def score(self, batch: CompletionBatch, *, entropy_gradient: bool = False) -> TokenLogProbs:
        """The policy's log-probabilities, as training computes them, with gradient; that of entropies if asked."""
        with self.autocast():
            return self.policy(batch, entropy_gradient=entropy_gradient)

    def micro_batches(self, batch: CompletionBatch, copies: int = 1) -> list[MicroBatch]:
        """Cut this process's batch by `max_tokens_per_micro_batch`.

        Args:
            copies: how often one pass computes each completion; the cut leaves room for all of them.
        """
        return micro_batches(batch, self.config.training.max_tokens_per_micro_batch // copies, self.setup.layout)

    def with_features(self, prompts: Sequence[EncodedPrompt]) -> list[EncodedPrompt]:
        """See `Adapter.with_features`."""
        return self.adapter.with_features(self.model, prompts)

    def begin_step(self) -> None:
        """Start a step: seed its passes and switch to training mode."""
        self.seed_passes()
        self.policy.train()

    def seed_passes(self) -> None:
        """Seed the dropout of this step's passes, so that a checkpoint need not hold random state."""
        seed_step(self.config.seed, self.step + 1, self.accelerator.process_index)

    def backward(self, loss: torch.Tensor) -> None:
        """Differentiate a micro-batch's share of the global loss.

        Raises:
            ModelError: no trainable parameter was used: the language model is frozen and there is no image.
        """
        if not loss.requires_grad:
            raise ModelError(
                "these prompts have no image, and only the vision part trains, so nothing is learnt: leave such "
                "records out, or take language out of model.freeze"
            )
        self.accelerator.backward(loss if self.loss_scale is None else self.loss_scale.scaled(loss))

    def autocast(self) -> torch.autocast:
        """Return the recipe's autocast for a pass: rounded weights are not kept, since they would need memory."""
        return self.setup.precision.passes_on(self.accelerator.device.type, keep_weights=False)

    def autocast_for_sampling(self) -> torch.autocast:
        """Return the recipe's autocast; weights are rounded once for all tokens, not in each pass as in training."""
        return self.setup.precision.passes_on(self.accelerator.device.type, keep_weights=True)

    def update(self, loss: float, diagnose: Callable[[], str | None] = lambda: None) -> float:
        """Sum the gradients of all processes, clip and apply the sum.

        If the loss of some process or the norm is not finite, the update is skipped, by all processes. If a scale of
        the loss explains it, the scale is lowered, and the update does not count towards `max_skipped_steps`.

        Args:
            loss: of this process's micro-batches.
            diagnose: says why loss or gradient are not finite (`diagnosis.find_cause`).

        Returns:
            The norm of the gradient before clipping; NaN if a loss is not finite.

        Raises:
            ModelError: `max_skipped_steps` updates in a row were skipped, or the update made weights that are not
                finite. All processes raise it.
        """
        sum_gradients(self.policy.parameters(), self.accelerator)
        if self.loss_scale is not None:
            self.loss_scale.unscale(self.policy.parameters())
        norm = float(self.accelerator.clip_grad_norm_(self.policy.parameters(), self.config.training.max_grad_norm))  # type: ignore[arg-type]
        losses_finite = all(self.gather([bool(np.isfinite(loss))]))
        if not losses_finite:
            norm = float("nan")
        finite = bool(np.isfinite(norm))
        scaled_too_far = self.loss_scale is not None and losses_finite and self.loss_scale.adapt(finite)
        if not scaled_too_far:
            self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        for optimizer in self.optimizers:
            if finite:
                optimizer.step()
            optimizer.zero_grad()
        self.policy.zero_grad()  # an optimizer on the CPU knows only its copies
        if finite:
            self._check_weights(norm)
        if self.skipped_in_a_row >= self.config.training.max_skipped_steps:
            causes = [cause for cause in self.gather([diagnose()]) if cause is not None]
            raise ModelError(
                f"step {self.step + 1}: loss or gradient was not finite in {self.skipped_in_a_row} updates in a row. "
                + (causes[0] if causes else "Each completion by itself is finite: lower training.learning_rate")
            )
        return norm

    def update_metrics(self, norms: Sequence[float]) -> dict[str, Metric]:
        """Return the metrics of a step's updates from the norms of their gradients; `loss_scale` is the next one's."""
        metrics = {
            "grad_norm": Metric("max", max(norms)),
            "steps/skipped": Metric("max", float(any(norm != norm or norm == float("inf") for norm in norms))),
        }
        return metrics if self.loss_scale is None else metrics | {"loss_scale": Metric("max", self.loss_scale.scale)}

    def _check_weights(self, norm: float) -> None:
        """Stop at weights that are not finite, before a checkpoint is made of them."""
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        if bool(nn.utils.get_total_norm([p.detach() for _, p in trained], norm_type=float("inf")).isfinite()):
            return
        broken = next(name for name, p in trained if not bool(p.isfinite().all()))
        raise ModelError(
            f"step {self.step + 1}: the update made weights that are not finite, first {broken} (gradient norm "
            f"{norm:.2g}, learning rate {self.learning_rate:.2g}). Go on from the last checkpoint with a lower "
            "training.learning_rate"
        )

    def drop_gradients(self) -> None:
        """Forget the gradients that somebody else's code may have left."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def end_step(self) -> None:
        """Advance the schedules and the step."""
        with warnings.catch_warnings():  # torch warns if the very first update was skipped
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            for scheduler in self.schedulers:
                scheduler.step()
        self.step += 1

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next update; of the language model if that trains."""
        return float(self.schedulers[0].get_last_lr()[0])

    def save_checkpoint(self, run: RunFolder, state: Mapping[str, Any], damaged: Sequence[Path] = ()) -> None:
        """Write a Hugging Face folder that also has `state/`, completely or not at all; keep only the newest few.

        A checkpoint of this step that is there and whole stays as it is.

        Args:
            state: the trainer's own state, as JSON: the position in the data.
            damaged: checkpoints that could not be resumed from; they are deleted when there is a later one.

        Raises:
            CheckpointError: it cannot be written, on any process.
        """
        own = {"step": self.step, "skipped_in_a_row": self.skipped_in_a_row, **state}
        if self.loss_scale is not None:
            own["loss_scale"] = self.loss_scale.state_dict()
        first_does(partial(self._write_checkpoint, run, own, damaged))

    def _write_checkpoint(self, run: RunFolder, own: Mapping[str, Any], damaged: Sequence[Path]) -> None:
        target, before = checkpoint_path(run.checkpoints, self.step), list_checkpoints(run.checkpoints)
        if target not in before or why_not_usable(target) is not None:
            needed = checkpoint_bytes(self.model, self.optimizers, self.config.model.lora is not None)
            needed += sum(p.nbytes for model in self.beside.values() for p in model.parameters())
            whole = [path for path in before if path != target and path not in damaged]
            with new_folder(target, step=self.step, needed_bytes=needed) as folder:
                write_state(folder / "state", self.optimizers, own)
                write_weights(folder / "state", self.beside)
                write_history(folder, run, whole[-1] if whole else None)
                self._write_model(folder)
        if not before:
            mark_saved(run)
        limit = self.config.training.save_total_limit
        prune_checkpoints(run.checkpoints, limit, self.step, [path for path in damaged if path != target])

    def load_checkpoint(self, checkpoint: Path, state: Mapping[str, Any]) -> None:
        """Load optimizers, schedules and step, but not weights, which `__init__` loaded.

        Args:
            state: from `read_state`.

        Raises:
            CheckpointError: files are missing or damaged, or are not of this recipe.
        """
        load_optimizers(checkpoint / "state", self.optimizers)
        set_schedules(self.schedulers, state["step"])
        self.step, self.skipped_in_a_row = state["step"], state["skipped_in_a_row"]
        if self.loss_scale is not None:
            self.loss_scale.load_state_dict(state.get("loss_scale"))

    def save_model(self, run: RunFolder) -> None:
        """Write the final model as an ordinary Hugging Face folder, unless it is there already, the same and whole.

        Raises:
            CheckpointError: it cannot be written, on any process.
        """
        first_does(partial(self._write_final, run))

    def _write_final(self, run: RunFolder) -> None:
        checkpoint = checkpoint_path(run.checkpoints, self.step)
        if run.model.is_dir() and is_copy_of(run.model, checkpoint):
            return
        needed = checkpoint_bytes(self.model, (), self.config.model.lora is not None)
        with new_folder(run.model, step=self.step, needed_bytes=needed, edited=EDITED) as folder:
            self._write_model(folder)

    def gather(self, items: list[T]) -> list[T]:
        """Return the items of all processes, in the order of their ranks."""
        return gather_object(items)

    def _write_model(self, folder: Path) -> None:
        save_model(self.model, folder)
        self.adapter.save(folder)
        write_asking(folder, self.config, self.adapter.box_format)


def make_accelerator(config: Config) -> Accelerator:
    """Make the `Accelerator` for the processes that `join_processes` joined.

    It leaves passes as they are: autocast and the scale of the loss are the learner's.

    Raises:
        ConfigError: the launcher's kind of parallelism is not supported.
    """
    join_processes()
    accelerator = Accelerator(
        cpu=this_device().type == "cpu",
        mixed_precision="no",
        step_scheduler_with_optimizer=False,
    )
    if accelerator.distributed_type not in _SUPPORTED:
        raise ConfigError(
            f"accelerate was launched with {accelerator.distributed_type.value}, which shards weights, but sampling "
            "with transformers needs them whole on each process: launch with plain multi-GPU or multi-CPU"
        )
    return accelerator


def _check_that_updates_count(model: torch.nn.Module) -> None:
    """Refuse weights that train in 16 bits: of 414,784 in bfloat16, five steps of 1e-6 moved 4,437.

    Raises:
        ConfigError: there are such weights.
    """
    narrow = [name for name, p in model.named_parameters() if p.requires_grad and p.dtype in _NARROW]
    if narrow:
        raise ConfigError(
            f"model.dtype: {narrow[0]} and {len(narrow) - 1} other parameters would train in 16 bits, where a step of "
            "1e-6 is lost: use model.dtype=auto or float32. training.mixed_precision bf16 or fp16 makes the passes "
            "compute in 16 bits, and model.lora leaves the weights in it"
        )


def seed_step(run_seed: int, step: int, rank: int) -> None:
    """Seed torch's global generator (dropout, new adapters) from the run, the step and the process."""
    entropy = np.random.SeedSequence([run_seed, step, rank]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(entropy) % (1 << 63))
