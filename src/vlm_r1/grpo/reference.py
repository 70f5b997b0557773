"""The reference, which the KL term compares with: the policy as it was at the start, or a mixture that follows it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from vlm_r1.config import Config
from vlm_r1.errors import ConfigError
from vlm_r1.models import Adapter
from vlm_r1.policy.build import build_policy
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.training.learner import Learner
from vlm_r1.training.state import load_weights

_FILE = "reference"
"""Name of the weights in a checkpoint's `state/`."""


class Reference:
    """The policy as it was at the start; needed only if beta > 0. With LoRA it is the model without LoRA adapters.

    With `grpo.sync_ref_model` it is moved towards the policy (`mix`), and then it belongs to the checkpoint.

    Attributes:
        frozen: a second copy of the model, in bfloat16 if passes compute in it; None with LoRA.

    Args:
        config: the recipe, with its steps resolved.
        checkpoint: the checkpoint that the run goes on from.

    Raises:
        ConfigError: the reference would never be moved.
        CheckpointError: the checkpoint's reference cannot be read.
    """

    def __init__(self, config: Config, adapter: Adapter, learner: Learner, checkpoint: Path | None = None):
        check_sync(config)
        self._learner = learner
        self._grpo = config.grpo
        self.frozen: Policy | None = None
        if config.model.lora is None:
            frozen = build_policy(
                config.model,
                adapter,
                learner.setup.of_frozen_copy(),
                temperature=config.sampling.temperature,
                repetition_penalty=config.sampling.repetition_penalty,
                device=learner.accelerator.device,
            )
            self.frozen = frozen.requires_grad_(False).eval()
            if checkpoint is not None and load_weights(checkpoint / "state", _FILE, self.frozen.model):
                self._learner.beside[_FILE] = self.frozen.model

    def mix(self, step: int) -> None:
        """Move the reference towards the policy if that is due after this step (`mix_weights`)."""
        if self._grpo.sync_ref_model and self.frozen is not None and step % self._grpo.ref_model_sync_steps == 0:
            mix_weights(self.frozen.model, self._learner.model, self._grpo.ref_model_mixup_alpha)
            self._learner.beside[_FILE] = self.frozen.model

    @torch.no_grad()
    def logprobs_NT(self, batch: CompletionBatch) -> torch.Tensor:
        """Return the log-probabilities (N, T) of the completions under the reference, without dropout."""
        policy = self.frozen or self._learner.bare_policy
        training = policy.training
        policy.eval()
        off = nullcontext() if self.frozen is not None else self._learner.model.disable_adapter()
        with off, self._learner.autocast():
            logprobs_NT = policy(batch).logprobs_NT
        policy.train(training)
        return logprobs_NT


def check_sync(config: Config) -> None:
    """Check that a reference that shall move does so at least once.

    Raises:
        ConfigError: it does not. (With epochs that are not yet resolved nothing is known.)
    """
    every, steps = config.grpo.ref_model_sync_steps, config.training.max_steps
    resolved = config.training.num_train_epochs is None or config.training.changes("max_steps")
    if config.grpo.sync_ref_model and resolved and every > steps:
        raise ConfigError(
            f"grpo.sync_ref_model has no effect: ref_model_sync_steps is {every}, but the run has {steps} steps. Lower "
            "ref_model_sync_steps"
        )


@torch.no_grad()
def mix_weights(reference: nn.Module, policy: nn.Module, alpha: float) -> None:
    """Mix what trains of the policy into a reference, in place: θ_ref ← α θ + (1 − α) θ_ref (TR-DPO, arXiv 2404.09656).

    It is computed in float32 or wider, and rounded once to the type of the reference. In bfloat16 that rounding is at
    most 2⁻⁹ of a weight; it does not pile up, since each mixture keeps the share 1 − α of the one before.

    Args:
        reference: a model like the policy.
        policy: parameters without gradient are equal in both and stay as they are.
        alpha: α, 0 to 1.
    """
    targets = dict(reference.named_parameters())
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad:
            wide = torch.promote_types(targets[name].dtype, torch.float32)
            mixed = targets[name].to(wide, copy=True).mul_(1.0 - alpha).add_(parameter.to(wide), alpha=alpha)
            targets[name].copy_(mixed)
