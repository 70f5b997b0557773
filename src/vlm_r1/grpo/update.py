"""Judged groups → gradient → optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.utils.rnn import pad_sequence

from vlm_r1.config import Config
from vlm_r1.grpo.advantage import group_advantages
from vlm_r1.grpo.loss import LossInput, get_loss, grpo_loss, loss_normalizer
from vlm_r1.grpo.reference import Reference
from vlm_r1.policy.logprobs import CompletionBatch
from vlm_r1.runtime.metrics import Metric, largest, mean_of, ratio
from vlm_r1.runtime.phases import Phases
from vlm_r1.training.learner import Learner
from vlm_r1.types import Group, StopReason


@dataclass
class Part:
    """A micro-batch as tensors, and what the first iteration found out about it."""

    batch: CompletionBatch
    positions: int
    advantages_N: torch.Tensor
    kept_N1: torch.Tensor
    sampled_logprobs_NT: torch.Tensor
    old_logprobs_NT: torch.Tensor | None = None
    ref_logprobs_NT: torch.Tensor | None = None


def assign_advantages(groups: Sequence[Group], config: Config, learner: Learner) -> list[Group]:
    """Give each rollout of this process its advantage.

    Rewards of all processes are gathered, since the batch's standard deviation is a global number.
    """
    own = [[math.nan if r.score.reward is None else r.score.reward for r in group.rollouts] for group in groups]
    by_process = learner.gather([own])
    rewards_PG = torch.tensor([rewards for part in by_process for rewards in part], dtype=torch.float64)
    advantages_PG = group_advantages(rewards_PG, config.grpo.scale_rewards, judged_PG=~rewards_PG.isnan())
    first = sum(len(part) for part in by_process[: learner.accelerator.process_index])
    return [
        replace(group, rollouts=tuple(replace(r, advantage=a) for r, a in zip(group.rollouts, row, strict=True)))
        for group, row in zip(groups, advantages_PG[first : first + len(groups)].tolist(), strict=True)
    ]


def update_policy(
    groups: Sequence[Group], spare: Group, learner: Learner, reference: Reference | None, phases: Phases
) -> dict[str, Metric]:
    """Take `num_iterations` optimizer steps on the groups; returns the metrics of the step.

    The old log-probabilities are the policy's own before the first update, detached: nothing is computed twice for
    them. With beta 0 a group whose advantages are all zero cannot change the gradient and is not computed; it still
    counts in the normalizer, and the same parameters get a gradient (`_stand_in`).

    Args:
        spare: any group of this process, for the case that it has none.
        phases: is told the seconds of "reference", "policy" and "optimizer".
    """
    config = learner.config
    teaching = [group for group in groups if _teaches(group, config)]
    parts = [*_parts(teaching, learner), *_parts(_stand_in(groups, teaching, spare), learner, weightless=True)]
    normalizer = _global_normalizer(groups, config, learner)
    norms: list[float] = []
    if reference is not None:
        with phases("reference"):
            for part in parts:
                part.ref_logprobs_NT = reference.logprobs_NT(part.batch)
    found: list[Mapping[str, torch.Tensor]] = []
    for _ in range(config.grpo.num_iterations):
        learner.seed_passes()  # the same dropout in each, or ratios would differ from 1 by it
        for part in parts:
            with phases("policy"):
                found.append(_backward(part, learner, normalizer))
        with phases("optimizer"):
            norms.append(learner.update())
    sums = _summed(found) | {"positions": sum(part.positions for part in parts) * config.grpo.num_iterations}
    _check_tokens(sums["tokens"], teaching, config)
    return _metrics(sums, norms, config) | _sampler_metrics(found[: len(parts)])


def _teaches(group: Group, config: Config) -> bool:
    """Whether the group can change the gradient."""
    return bool(config.grpo.beta) or any(rollout.advantage for rollout in group.rollouts)


def _stand_in(groups: Sequence[Group], teaching: Sequence[Group], spare: Group) -> list[Group]:
    """One completion that goes through the policy with weight 0 where those that teach are not enough, or nothing.

    The optimizer must see a gradient, be it zero, of all that would have been computed: with images, the vision part
    too. Else its momentum would stand still.
    """
    candidates = groups or [spare]
    with_images = [group for group in candidates if group.encoded.frames]
    if teaching and (not with_images or any(group.encoded.frames for group in teaching)):
        return []
    chosen = (with_images or candidates)[0]
    return [replace(chosen, rollouts=chosen.rollouts[:1])]


def _backward(part: Part, learner: Learner, normalizer: float) -> Mapping[str, torch.Tensor]:
    """Differentiate a part's share of the loss; what comes back stays on the device until the step is done."""
    grpo = learner.config.grpo
    scored = learner.policy(part.batch)
    old_logprobs_NT = part.old_logprobs_NT
    if old_logprobs_NT is None:
        old_logprobs_NT = part.old_logprobs_NT = scored.logprobs_NT.detach()
    mask_NT = scored.mask_NT & part.kept_N1
    given = LossInput(
        scored.logprobs_NT,
        old_logprobs_NT,
        part.ref_logprobs_NT,
        part.advantages_N.to(scored.logprobs_NT.dtype),
        mask_NT,
        epsilon=grpo.epsilon,
        epsilon_high=grpo.upper_epsilon,
    )
    output = grpo_loss(
        given,
        get_loss(grpo.loss_type),
        normalizer=normalizer,
        beta=grpo.beta,
        use_bias_correction_kl=grpo.use_bias_correction_kl,
    )
    learner.backward(output.loss)
    gaps_NT = (scored.logprobs_NT.detach() - part.sampled_logprobs_NT).abs() * mask_NT
    return {
        "loss": output.loss.detach(),
        "entropy_sum": scored.entropies_NT.sum(),
        "sampled_tokens": scored.mask_NT.sum(),
        "gap_sum": gaps_NT.sum(),
        "largest_gap": gaps_NT.max(),
        **output.sums,
    }


def _summed(found: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, float]:
    """Sums over parts and iterations, fetched from the device at once for each name."""
    return {name: math.fsum(torch.stack([values[name] for values in found]).tolist()) for name in found[0]}


def _sampler_metrics(first: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, Metric]:
    """How far the policy, before its update, is from the log-probabilities that the tokens were sampled with.

    The names are TRL's. Far is what is not explained by rounding: another model, other weights, another temperature, or
    a distribution that top-p, top-k or min-p cut.
    """
    sums, largest_gap = _summed(first), float(torch.stack([values["largest_gap"] for values in first]).max())
    metrics = {
        "sampling/sampling_logp_difference/mean": ratio(sums["gap_sum"], sums["tokens"]),
        "sampling/sampling_logp_difference/max": largest(largest_gap),
    }
    return metrics if sums["tokens"] else {}


def _check_tokens(counted: float, teaching: Sequence[Group], config: Config) -> None:
    """Every token of a completion counts, its stop token too.

    Raises:
        RuntimeError: the loss left some out, which is a bug.
    """
    completions = [rollout.completion for group in teaching for rollout in group.rollouts]
    sampled = sum(len(c.ids_T) for c in completions if _is_kept(c.stop_reason, config)) * config.grpo.num_iterations
    if counted != sampled:
        raise RuntimeError(
            f"the loss counted {counted:.0f} tokens of {sampled}: some were left out; please report this"
        )


def _parts(groups: Sequence[Group], learner: Learner, weightless: bool = False) -> Iterator[Part]:
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    kept_N = [not weightless and _is_kept(rollout.completion.stop_reason, learner.config) for rollout in rollouts]
    batch = CompletionBatch([g.encoded for g in groups], [[r.completion.ids_T for r in g.rollouts] for g in groups])
    device = learner.accelerator.device
    for micro in learner.micro_batches(batch):
        advantages = [rollouts[n].advantage for n in micro.rows_N]
        sampled = [torch.tensor(rollouts[n].completion.logprobs_T) for n in micro.rows_N]
        yield Part(
            micro.batch,
            micro.positions,
            torch.tensor(advantages, dtype=torch.float64, device=device),
            torch.tensor([[kept_N[n]] for n in micro.rows_N], device=device),
            pad_sequence(sampled, batch_first=True).to(device),
        )


def _is_kept(stop_reason: StopReason, config: Config) -> bool:
    return not (config.grpo.mask_truncated_completions and stop_reason is StopReason.LENGTH)


def _global_normalizer(groups: Sequence[Group], config: Config, learner: Learner) -> float:
    """The count that the loss of the whole step is divided by, over all processes."""
    completions = [rollout.completion for group in groups for rollout in group.rollouts]
    tokens = sum(len(c.ids_T) for c in completions if _is_kept(c.stop_reason, config))
    counts = learner.gather([(len(completions), tokens)])
    return loss_normalizer(
        get_loss(config.grpo.loss_type),
        completions=sum(count for count, _ in counts),
        tokens=sum(tokens for _, tokens in counts),
        max_completion_length=config.sampling.max_completion_length,
    )


def _metrics(sums: Mapping[str, float], norms: Sequence[float], config: Config) -> dict[str, Metric]:
    tokens = sums["tokens"]
    metrics = {
        "loss": Metric("sum", sums["loss"] / config.grpo.num_iterations),
        "entropy": ratio(sums["entropy_sum"], sums["sampled_tokens"]),
        "tokens/policy": Metric("sum", sums["positions"]),
        "clip_ratio/low": ratio(sums["clipped_low"], tokens),
        "clip_ratio/high": ratio(sums["clipped_high"], tokens),
        "grad_norm": Metric("max", max(norms)),
        "steps/skipped": Metric("max", float(any(norm != norm or norm == float("inf") for norm in norms))),
    }
    if config.grpo.beta:
        metrics["kl"] = ratio(sums["kl_sum"], tokens)
    return {name: metric for name, metric in metrics.items() if metric.reduction != "mean" or metric.count}


def _with_left_out(name: str, values: Sequence[float | None]) -> dict[str, Metric]:
    """Mean and spread of the values there are, and how many there are not."""
    present = [value for value in values if value is not None]
    left_out = len(values) - len(present)
    return {name: mean_of(present)} | ({f"{name}/left_out": Metric("sum", left_out)} if left_out else {})


def rollout_metrics(groups: Sequence[Group]) -> dict[str, Metric]:
    """Rewards by part, the task's own numbers, lengths and parse failures of the sampled completions."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    scores = [rollout.score for rollout in rollouts]
    metrics = _with_left_out("reward", [score.reward for score in scores])
    for part in dict.fromkeys(name for score in scores for name in score.parts):
        metrics |= _with_left_out(f"rewards/{part}", [score.parts[part] for score in scores if part in score.parts])
    for metric in dict.fromkeys(name for score in scores for name in score.metrics):
        values = [score.metrics[metric] for score in scores if metric in score.metrics]
        metrics[f"metrics/{metric}/mean"] = ratio(sum(values), len(values))
    lengths = [len(rollout.completion.ids_T) for rollout in rollouts]
    truncated = [rollout.completion.stop_reason is StopReason.LENGTH for rollout in rollouts]
    metrics["completions/mean_length"] = ratio(sum(lengths), len(lengths))
    metrics["completions/truncated"] = ratio(sum(truncated), len(truncated))
    for score in scores:
        if score.reason:
            key = f"parse_failures/{score.reason}"
            metrics[key] = metrics.get(key, Metric("sum", 0.0)) + Metric("sum", 1.0)
    return metrics
