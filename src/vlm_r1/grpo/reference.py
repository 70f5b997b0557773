"""The reference: the policy as it was at the start, which the KL term compares with."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from vlm_r1.config import Config
from vlm_r1.models import Adapter
from vlm_r1.policy.build import build_policy
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.training.learner import Learner


class Reference:
    """The policy as it was at the start; needed only if beta > 0. With LoRA it is the model without LoRA adapters.

    Attributes:
        frozen: a second copy of the model, in bfloat16 if passes compute in it; None with LoRA.
    """

    def __init__(self, config: Config, adapter: Adapter, learner: Learner):
        self._learner = learner
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

    @torch.no_grad()
    def logprobs_NT(self, batch: CompletionBatch) -> torch.Tensor:
        """Return the log-probabilities (N, T) of the completions under the reference, without dropout."""
        policy = self.frozen or self._learner.bare_policy
        training = policy.training
        policy.eval()
        off = nullcontext() if self.frozen is not None else self._learner.model.disable_adapter()
        with off, self._learner.accelerator.autocast():
            logprobs_NT = policy(batch).logprobs_NT
        policy.train(training)
        return logprobs_NT
