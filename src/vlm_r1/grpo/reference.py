"""The frozen start of the policy, which the KL term compares with."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import torch

from vlm_r1.config import Config
from vlm_r1.models import Adapter, load_model
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.training.learner import Learner


class Reference:
    """The frozen start of the policy: under LoRA the model with its adapter off, else a second copy. Only for beta > 0.

    Where passes compute in bfloat16 the copy is held in that type.
    """

    def __init__(self, config: Config, adapter: Adapter, learner: Learner):
        self._learner = learner
        self._frozen: Policy | None = None
        if config.model.lora is None:
            dtype = torch.bfloat16 if learner.precision.autocast else learner.precision.dtype
            model = load_model(config.model, adapter, precision=replace(learner.precision, dtype=dtype))
            frozen = Policy(model.requires_grad_(False).eval(), adapter, config.sampling.temperature, learner.layout)
            self._frozen = frozen.to(learner.accelerator.device)

    @torch.no_grad()
    def logprobs_NT(self, batch: CompletionBatch) -> torch.Tensor:
        """Log-probabilities of the completions under the reference, without dropout."""
        policy = self._frozen or self._learner.accelerator.unwrap_model(self._learner.policy)
        training = policy.training
        policy.eval()
        off = nullcontext() if self._frozen is not None else self._learner.model.disable_adapter()
        with off, self._learner.accelerator.autocast():
            logprobs_NT = policy(batch).logprobs_NT
        policy.train(training)
        return logprobs_NT
