"""Losses of random batches, by ours and by TRL's own code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from trl import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from vlm_r1.config.objective import GrpoSection
from vlm_r1.grpo.loss import LOSSES, LossInput, LossOutput, grpo_loss, loss_normalizer

MAX_COMPLETION_LENGTH = 10
G = 4

Batch = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]
"""Log-probabilities of the policy, of the old policy, of the reference; advantages; mask."""


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def limit(loss_type: str, epsilon_high: float) -> float:
    """`epsilon_high` of a recipe whose ratios end at 1 + `epsilon_high`: cispo's is the cap itself, as TRL's."""
    return 1 + epsilon_high if loss_type == "cispo" else epsilon_high


def group_size(batch: Batch) -> int:
    """Batches of these tests are groups of four; smaller ones are one group."""
    return G if len(batch[4]) % G == 0 else len(batch[4])


def group_tokens(batch: Batch) -> Tensor:
    """Tokens of the group of each completion."""
    size = group_size(batch)
    return batch[4].view(-1, size * batch[4].shape[1]).sum(1).repeat_interleave(size)


def normalizer_of(batch: Batch, loss_type: str) -> float:
    mask_NT = batch[4]
    groups = len(mask_NT) // group_size(batch)
    return loss_normalizer(LOSSES[loss_type], len(mask_NT), int(mask_NT.sum()), MAX_COMPLETION_LENGTH, groups)


def loss_of(
    batch: Batch,
    loss_type: str,
    *,
    epsilon: float = 0.2,
    epsilon_high: float = 0.3,
    beta: float = 0.0,
    normalizer: float | None = None,
    corrected: bool = False,
    entropy_normalizer: float = 1.0,
    options: Mapping[str, Any] = {},
    **given: Any,
) -> LossOutput:
    """Loss of a batch, normalised as the whole of it.

    Args:
        options: of `GrpoSection`.
        given: further fields of `LossInput`.
    """
    section = GrpoSection(loss_type="nowhere:LOSS", num_iterations=2, **options)
    fields = {"group_tokens_N": group_tokens(batch), "options": section} | given
    whole = LossInput(*batch, epsilon=epsilon, epsilon_high=limit(loss_type, epsilon_high), **fields)
    return grpo_loss(
        whole,
        LOSSES[loss_type],
        normalizer=normalizer_of(batch, loss_type) if normalizer is None else normalizer,
        beta=beta,
        use_bias_correction_kl=corrected,
        entropy_normalizer=entropy_normalizer,
    )


def random_batch(seed: int = 0, n: int = 24, t: int = 7, spread: float = 0.4) -> Batch:
    """Ragged completions with ratios on both sides of both clips, one of them fully masked, padding that is not 0."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    logprobs_NT = -normal(n, t).abs() - 0.5
    lengths_N = torch.randint(1, t + 1, (n,), generator=generator)
    lengths_N[-1] = 0
    mask_NT = torch.arange(t) < lengths_N[:, None]
    old_NT, ref_NT = logprobs_NT + spread * normal(n, t), logprobs_NT + spread * normal(n, t)
    return logprobs_NT.requires_grad_(), old_NT, ref_NT, normal(n), mask_NT


def random_entropies(batch: Batch, seed: int = 0) -> Tensor:
    """Entropies with gradient; float32 holds them exactly, since TRL rounds them to it before it compares."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch[4].shape, generator=generator).double().requires_grad_()


@contextmanager
def numbers_in_float64() -> Iterator[None]:
    """TRL makes tensors of options, which torch makes float32 by default: 1.05 would differ in the eighth digit."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def trl_loss(
    batch: Batch,
    loss_type: str,
    *,
    epsilon: float = 0.2,
    epsilon_high: float = 0.3,
    beta: float = 0.0,
    corrected: bool = False,
    entropies_NT: Tensor | None = None,
    sampled_NT: Tensor | None = None,
    options: Mapping[str, Any] = {},
) -> tuple[Tensor, dict[str, float]]:
    """`GRPOTrainer._compute_loss` on given log-probabilities; `self` holds just the attributes that it reads.

    bnpo is a mean over the local batch, so it is called on each group.
    """
    if loss_type == "bnpo" and len(batch[4]) > group_size(batch):
        parts = [tuple(x[n : n + G] for x in batch) for n in range(0, len(batch[4]), G)]
        keywords = {"epsilon": epsilon, "epsilon_high": epsilon_high, "beta": beta, "corrected": corrected}
        losses = [trl_loss(part, loss_type, **keywords, options=options)[0] for part in parts]  # type: ignore[arg-type]
        return torch.stack(losses).mean(), {}
    logprobs_NT, old_NT, ref_NT, advantages_N, mask_NT = batch
    entropies_NT = torch.zeros_like(logprobs_NT) if entropies_NT is None else entropies_NT
    names = [name for name in vars(GRPOConfig) if name.startswith(("sapo_", "vespo_"))]
    defaults = {name: getattr(GRPOConfig, name) for name in names} | {
        "delta": None,
        "use_bias_correction_kl": corrected,
    }
    accelerator = SimpleNamespace(
        num_processes=1,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
        pad_across_processes=lambda x, dim, pad_index: x,
    )
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs_NT, entropies_NT, None),
        _metrics={"eval": defaultdict(list)},
        _entropy_bonus_enabled=bool(options.get("entropy_coef")),
        accelerator=accelerator,
        args=SimpleNamespace(**defaults | {name: value for name, value in options.items() if name in defaults}),
        aux_loss_enabled=False,
        beta=beta,
        entropy_coef=options.get("entropy_coef", 0.0),
        use_adaptive_entropy=False,
        epsilon_low=epsilon,
        epsilon_high=limit(loss_type, epsilon_high),
        get_gamma_weights=GRPOTrainer.get_gamma_weights,
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask,
        get_high_entropy_mask=lambda *given: GRPOTrainer.get_high_entropy_mask(
            SimpleNamespace(accelerator=accelerator),
            *given,  # type: ignore[arg-type]
        ),
        importance_sampling_level="sequence" if loss_type in ("gspo", "luspo") else "token",
        loss_type="grpo" if loss_type == "gspo" else loss_type,
        max_completion_length=MAX_COMPLETION_LENGTH,
        model=SimpleNamespace(training=False),
        off_policy_mask_threshold=options.get("off_policy_mask_threshold"),
        top_entropy_quantile=options.get("top_entropy_quantile", 1.0),
        use_vllm=False,
    )
    ids_NT = torch.zeros_like(mask_NT, dtype=torch.long)
    inputs = {
        "prompt_ids": ids_NT[:, :1],
        "prompt_mask": ids_NT[:, :1],
        "completion_ids": ids_NT,
        "completion_mask": mask_NT.long(),
        "advantages": advantages_N,
        "old_per_token_logps": old_NT,
        "ref_per_token_logps": ref_NT,
        "num_items_in_batch": mask_NT.sum(),
    }
    inputs |= {} if sampled_NT is None else {"sampling_per_token_logps": sampled_NT}
    with numbers_in_float64():
        loss = GRPOTrainer._compute_loss(trainer, None, inputs)  # type: ignore[arg-type]
    return loss, {name: values[0] for name, values in trainer._metrics["eval"].items()}
