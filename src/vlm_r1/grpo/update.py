"""Updates the policy: from judged groups to gradients to optimizer steps."""

# pyright: standard

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from vlm_r1.config import Config
from vlm_r1.grpo.batch import LossBatch, kept_tokens, loss_batches
from vlm_r1.grpo.compared import advantages_of, compare
from vlm_r1.grpo.entropy import ALL_TOKENS, EntropyRange, top_entropies
from vlm_r1.grpo.loss import LossInput, LossOutput, get_loss, grpo_loss, loss_normalizer
from vlm_r1.grpo.parts import cut
from vlm_r1.grpo.perception import apart, both, perception_output
from vlm_r1.grpo.reference import Reference
from vlm_r1.policy.logprobs import TokenLogProbs
from vlm_r1.runtime.metrics import Metric, mean_of, ratio, total
from vlm_r1.runtime.phases import Phases
from vlm_r1.training.diagnosis import Suspect, find_cause
from vlm_r1.training.learner import Learner
from vlm_r1.types import Group, StopReason


def assign_advantages(groups: Sequence[Group], config: Config, learner: Learner) -> list[Group]:
    """Return the groups of this process with the advantages of their rollouts.

    Rewards of all processes are gathered, because the standard deviation of the batch is a global number.
    `compared.py` says what is compared.
    """
    by_process = learner.gather([compare(groups, config)])
    advantages_PG = advantages_of([numbers for process in by_process for numbers in process], config)
    first = sum(len(process) for process in by_process[: learner.accelerator.process_index])
    return [
        replace(group, rollouts=tuple(replace(r, advantage=a) for r, a in zip(group.rollouts, row, strict=True)))
        for group, row in zip(groups, advantages_PG[first : first + len(groups)].tolist(), strict=True)
    ]


def update_policy(
    groups: Sequence[Group],
    fallback_group: Group,
    learner: Learner,
    reference: Reference | None,
    phases: Phases,
    *,
    places: Sequence[int] | None = None,
) -> dict[str, Metric]:
    """Take an optimizer step on each part of the groups, `num_iterations` times; returns the metrics of the step.

    There are `steps_per_generation` parts, each with a normalizer of its own. The old log-probabilities are those
    before the first of these updates. For the first part they are those of its first pass, detached; the other parts
    have a pass without gradient for them (`_remember_old_logprobs`). Without KL and entropy bonus, a group whose
    advantages are all zero cannot change the gradient and is not computed. It still counts in the normalizer, and the
    same parameters get a gradient (`_zero_weight_probe`).

    Args:
        fallback_group: any group of this process, for the case that `groups` or a part of them is empty.
        phases: measures the seconds of "reference", "old", "policy" and "optimizer".
        places: of each group, its place among those of the step, over all processes; None: these are all.
    """
    grpo = learner.config.grpo
    own = cut(groups, range(len(groups)) if places is None else places, grpo.steps_per_generation)
    parts = [_part_of(part, fallback_group, learner) for part in own]
    batches = [batch for part in parts for batch in part.batches]
    norms: list[float] = []
    if reference is not None:
        with phases("reference"):
            for batch in batches:
                batch.ref_logprobs_NT = reference.logprobs_NT(batch.batch)
    if len(parts) > 1:
        with phases("old"):
            _remember_old_logprobs(parts[1:], learner)
    found: list[Mapping[str, torch.Tensor]] = []
    for part in parts * grpo.num_iterations:
        with phases("policy"):
            set_entropy_range(part.batches, part.left_out, learner)
        learner.seed_passes()  # a part has the same dropout in each pass, which would otherwise change ratios
        for batch in part.batches:
            with phases("policy"):
                scored, output = compute_loss(batch, learner, part.normalizer)
                learner.backward(output.loss)
                found.append(_found(scored, output))
        with phases("optimizer"):
            loss = total(torch.stack([one["loss"] for one in found[-len(part.batches) :]]).tolist())
            norms.append(learner.update(loss, partial(_diagnose, part, learner)))
    sums = _summed(found) | {"positions": sum(batch.positions for batch in batches) * grpo.num_iterations}
    _check_tokens(sums["tokens"], [group for part in parts for group in part.informative], learner.config)
    return _metrics(sums, norms, learner) | _sampler_metrics(found[: len(batches)])


@dataclass(frozen=True)
class _Part:
    """The groups of this process that one optimizer step learns from.

    Attributes:
        informative: those that can change the gradient.
        left_out: the others.
        batches: at least one, so that every process takes part in the update.
        normalizer: the count that the part's loss is divided by, over all processes.
    """

    informative: list[Group]
    left_out: list[Group]
    batches: list[LossBatch]
    normalizer: float


def _part_of(groups: Sequence[Group], fallback_group: Group, learner: Learner) -> _Part:
    informative = [group for group in groups if _can_change_the_gradient(group, learner.config)]
    left_out = [group for group in groups if not _can_change_the_gradient(group, learner.config)]
    probe = _zero_weight_probe(groups, informative, fallback_group)
    batches = [*loss_batches(informative, learner), *loss_batches(probe, learner, weightless=True)]
    return _Part(informative, left_out, batches, global_normalizer(groups, learner))


def _can_change_the_gradient(group: Group, config: Config) -> bool:
    """Return whether a rollout has an advantage, or a term is there that needs none."""
    grpo = config.grpo
    perceived = grpo.perception_coef and group.encoded.frames
    return bool(grpo.beta or grpo.entropy_coef or perceived or any(rollout.advantage for rollout in group.rollouts))


@torch.no_grad()
def _remember_old_logprobs(parts: Sequence[_Part], learner: Learner) -> None:
    """Compute the log-probabilities before the first update, with the dropout that the updates will have."""
    for part in parts:
        learner.seed_passes()
        for batch in part.batches:
            scored, _ = apart(learner.score(both(batch.batch, batch.blank)), batch.blank)
            batch.old_logprobs_NT = scored.logprobs_NT


def set_entropy_range(batches: Sequence[LossBatch], left_out: Sequence[Group], learner: Learner) -> None:
    """Tell the micro-batches of an update which tokens train by their entropy, if an option asks for it.

    A quantile is over all processes, so every micro-batch goes through the policy once more before, without gradient
    and with the dropout that it will have.

    Args:
        left_out: groups of this process that are in no micro-batch; their tokens count in the quantile.
    """
    grpo, found = learner.config.grpo, ALL_TOKENS
    if grpo.top_entropy_quantile < 1:
        learner.seed_passes()
        own = [_entropies(batch, learner) for batch in (*batches, *loss_batches(left_out, learner))]
        everyone = learner.gather([np.concatenate([np.zeros(0), *own])])
        found = top_entropies(np.concatenate(everyone), grpo.top_entropy_quantile)
    elif grpo.entropy_coef:  # then no group is left out
        found = EntropyRange(tokens=max(sum(learner.gather([sum(batch.tokens() for batch in batches)])), 1))
    for batch in batches:
        batch.entropy = found


@torch.no_grad()
def _entropies(batch: LossBatch, learner: Learner) -> np.ndarray:
    """Return the entropies of the tokens that are in the loss, in nats."""
    scored, _ = apart(learner.score(both(batch.batch, batch.blank)), batch.blank)
    return scored.entropies_NT[scored.mask_NT & batch.kept_N1].double().cpu().numpy()


def _diagnose(part: _Part, learner: Learner) -> str | None:
    return find_cause(learner.bare_policy, _suspects(part.batches, learner, part.normalizer))


def _zero_weight_probe(groups: Sequence[Group], informative: Sequence[Group], fallback_group: Group) -> list[Group]:
    """Return a completion to run with weight 0 if no informative group (or none with images) is left; otherwise [].

    So every trainable parameter gets a gradient, even if it is zero. Without a gradient the optimizer would skip the
    parameter, and its momentum would not decay.
    """
    candidates = groups or [fallback_group]
    with_images = [group for group in candidates if group.encoded.frames]
    if informative and (not with_images or any(group.encoded.frames for group in informative)):
        return []
    chosen = (with_images or candidates)[0]
    return [replace(chosen, rollouts=chosen.rollouts[:1])]


def compute_loss(batch: LossBatch, learner: Learner, normalizer: float) -> tuple[TokenLogProbs, LossOutput]:
    """Score a micro-batch and compute its share of the loss; remember the old log-probabilities in the batch.

    Args:
        normalizer: from `global_normalizer`.
    """
    grpo = learner.config.grpo
    computed = learner.score(both(batch.batch, batch.blank), entropy_gradient=bool(grpo.entropy_coef))
    scored, blank = apart(computed, batch.blank)
    old_logprobs_NT = scored.logprobs_NT.detach() if batch.old_logprobs_NT is None else batch.old_logprobs_NT
    batch.old_logprobs_NT = old_logprobs_NT
    given = LossInput(
        scored.logprobs_NT,
        old_logprobs_NT,
        batch.ref_logprobs_NT,
        batch.advantages_N.to(scored.logprobs_NT.dtype),
        scored.mask_NT & batch.kept_N1,
        epsilon=grpo.epsilon,
        epsilon_high=grpo.upper_epsilon,
        sampled_logprobs_NT=batch.sampled_logprobs_NT,
        group_tokens_N=batch.group_tokens_N,
        entropies_NT=scored.entropies_NT,
        entropy_threshold=batch.entropy.threshold,
        options=grpo,
    )
    loss = get_loss(grpo.loss_type)
    output = grpo_loss(
        given,
        loss,
        normalizer=normalizer,
        beta=grpo.beta,
        use_bias_correction_kl=grpo.use_bias_correction_kl,
        entropy_normalizer=batch.entropy.tokens,
    )
    if batch.blank is None or blank is None:
        return scored, output
    rows_N = torch.tensor(batch.blank.rows_N, device=given.mask_NT.device)
    term = perception_output(
        scored.logprobs_NT[rows_N],
        blank.logprobs_NT,
        given.mask_NT[rows_N],
        loss,
        grpo,
        normalizer=normalizer,
        group_tokens_N=batch.group_tokens_N[rows_N],
    )
    return scored, replace(output, loss=output.loss + term.loss, sums={**output.sums, **term.sums})


def _suspects(batches: Sequence[LossBatch], learner: Learner, normalizer: float) -> Iterator[Suspect]:
    """Yield each completion of an update by itself, to find out why its loss is not finite."""
    for one in (batch.one(n) for batch in batches for n in range(len(batch.labels_N))):

        def compute(one: LossBatch = one) -> tuple[TokenLogProbs, torch.Tensor]:
            learner.seed_passes()
            scored, output = compute_loss(one, learner, normalizer)
            return scored, output.loss

        advantages_N = one.advantages_N.to(one.sampled_logprobs_NT.dtype)
        given = {
            f"its advantage {float(one.advantages_N[0]):g} is no finite number of the loss: look at its rewards": (
                advantages_N
            ),
            "a log-probability that it was sampled with is not finite": one.sampled_logprobs_NT,
        }
        if one.ref_logprobs_NT is not None:
            given["a log-probability of the reference is not finite"] = one.ref_logprobs_NT
        pieces_T = [learner.adapter.decode([token]) for token in one.batch.ids_P_G_T[0][0]]
        yield Suspect(one.labels_N[0], pieces_T, compute, given)


def _found(scored: TokenLogProbs, output: LossOutput) -> Mapping[str, torch.Tensor]:
    """Collect the numbers of a micro-batch; they stay on the device until the step is done."""
    assert output.largest_sampler_gap is not None  # the log-probabilities were given
    return {
        "loss": output.loss.detach(),
        "entropy_sum": scored.entropies_NT.detach().sum(),
        "sampled_tokens": scored.mask_NT.sum(),
        **output.sums,
        "largest_gap": output.largest_sampler_gap,
    }


def _summed(found: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, float]:
    """Sum over micro-batches and iterations; each name is fetched from the device once."""
    names = dict.fromkeys(name for values in found for name in values)
    return {name: total(torch.stack([v[name] for v in found if name in v]).tolist()) for name in names}


def _sampler_metrics(first: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, Metric]:
    """Measure how far the policy, before its update, is from the log-probabilities that the sampler drew with.

    The names are TRL's. A gap larger than rounding has a cause: another model, other weights, another temperature, or a
    distribution that top-p, top-k or min-p cut.
    """
    sums, largest_gap = _summed(first), float(torch.stack([values["largest_gap"] for values in first]).max())
    metrics = {
        "sampling/sampling_logp_difference/mean": ratio(sums["sampler_gap_sum"], sums["tokens"]),
        "sampling/sampling_logp_difference/max": Metric("max", largest_gap),
    }
    return metrics if sums["tokens"] else {}


def _check_tokens(counted: float, informative: Sequence[Group], config: Config) -> None:
    """Check that every sampled token of a completion counted, its stop token too.

    Raises:
        RuntimeError: the loss left some out, which is a bug.
    """
    sampled = sum(kept_tokens(group, config) for group in informative) * config.grpo.num_iterations
    if counted != sampled:
        raise RuntimeError(
            f"the loss counted {counted:.0f} tokens of {sampled}: some were left out; please report this"
        )


def global_normalizer(groups: Sequence[Group], learner: Learner) -> float:
    """Return the count that the loss of the whole step is divided by, over all processes."""
    config = learner.config
    tokens = sum(kept_tokens(group, config) for group in groups)
    counts = learner.gather([(sum(len(group.rollouts) for group in groups), tokens, len(groups))])
    completions, tokens, groups_of_all = (sum(column) for column in zip(*counts, strict=True))
    return loss_normalizer(
        get_loss(config.grpo.loss_type), completions, tokens, config.sampling.max_completion_length, groups_of_all
    )


def _metrics(sums: Mapping[str, float], norms: Sequence[float], learner: Learner) -> dict[str, Metric]:
    tokens, config = sums["tokens"], learner.config
    metrics = {
        "loss": Metric("sum", sums["loss"] / len(norms)),
        "entropy": ratio(sums["entropy_sum"], sums["sampled_tokens"]),
        "tokens/policy": Metric("sum", sums["positions"]),
        "clip_ratio/low": ratio(sums["clipped_low"], tokens),
        "clip_ratio/high": ratio(sums["clipped_high"], tokens),
        **learner.update_metrics(norms),
    }
    if config.grpo.beta:
        metrics["kl"] = ratio(sums["kl_sum"], tokens)
    extra = {"policy_weight": "weight_sum", "off_policy_masked": "off_policy"}
    metrics |= {name: ratio(sums[of], tokens) for name, of in extra.items() if of in sums}
    if config.grpo.perception_coef:
        metrics["perception_kl"] = ratio(sums.get("perception_kl_sum", 0.0), sums.get("perception_tokens", 0.0))
    return {name: metric for name, metric in metrics.items() if metric.reduction != "mean" or metric.count}


def _with_left_out(name: str, values: Sequence[float | None]) -> dict[str, Metric]:
    """Return mean and spread of the values that are not None, and how many are None."""
    present = [value for value in values if value is not None]
    left_out = len(values) - len(present)
    return {name: mean_of(present)} | ({f"{name}/left_out": Metric("sum", left_out)} if left_out else {})


def rollout_metrics(groups: Sequence[Group]) -> dict[str, Metric]:
    """Compute the metrics of sampled completions: components of the reward, the task's metrics, lengths, failures."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    scores = [rollout.score for rollout in rollouts]
    metrics = _with_left_out("reward", [score.reward for score in scores])
    for name in dict.fromkeys(name for score in scores for name in score.parts):
        metrics |= _with_left_out(f"rewards/{name}", [score.parts[name] for score in scores if name in score.parts])
    for metric in dict.fromkeys(name for score in scores for name in score.metrics):
        values = [score.metrics[metric] for score in scores if metric in score.metrics]
        metrics[f"metrics/{metric}/mean"] = ratio(sum(values), len(values))
    lengths = [sum(rollout.completion.sampled_T) for rollout in rollouts]
    truncated = [rollout.completion.stop_reason is StopReason.LENGTH for rollout in rollouts]
    metrics["completions/mean_length"] = ratio(sum(lengths), len(lengths))
    metrics["completions/truncated"] = ratio(sum(truncated), len(truncated))
    for score in scores:
        if score.reason:
            key = f"parse_failures/{score.reason}"
            metrics[key] = metrics.get(key, Metric("sum", 0.0)) + Metric("sum", 1.0)
    return metrics
