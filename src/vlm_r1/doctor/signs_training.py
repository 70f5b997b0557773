"""Signs in the metrics of the steps: rewards that teach nothing, lengths, entropy, KL, the sampler."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from vlm_r1.config.objective import LOSSES
from vlm_r1.doctor.base import (
    WINDOW,
    Finding,
    Seen,
    change_of,
    last_numbers,
    mean,
    numbers,
    percent,
)
from vlm_r1.tasks.judge import ACCURACY

PENALTIES = ("overlong", "repetition", "count_penalty")
"""Rewards that are 0 where nothing is wrong; a run that never earns a penalty is healthy."""

UNIFORM_GROUPS = 16
"""Groups from the start that all lack a signal. If a quarter of the groups had one, this would happen in 1 % of runs:
0.75 ** 16."""

MOST_UNIFORM = 0.8
"""Share of groups without signal. At 0.8 a step of 16 prompts learns from three. A run near its end often has half."""

MOST_TRUNCATED = 0.5
LONGER = 2.0
SHORTER = 0.5
SOME_TRUNCATED = 0.05

LOW_ENTROPY = 0.05
"""Nats a token, about the entropy of a token that is 99 % certain. Numbers and tags are certain; a thought is not."""

ENTROPY_LEFT = 0.2
"""Share of the entropy of the start. The demo keeps 0.8 of it, and learns."""

LARGE_KL = 1.0
"""Nats a token. At 1 the likelihood of a token differs from the start's by a factor of e on average."""

KL_JUMP = 10.0
NOTICEABLE_KL = 0.1

FAR_SAMPLER = 0.05
"""Nats a token. Rounding in bfloat16 makes 0.01 to 0.02 between two programs, in float32 less than 1e-5."""


def no_spread_at_start(seen: Seen) -> Iterator[Finding]:
    """From the first step on, in all groups, the completions earned the same."""
    uniform = numbers(seen.rows, "groups/no_signal")
    groups = len(uniform) * seen.settings.prompts
    if not uniform or min(uniform) < 1 or groups < UNIFORM_GROUPS:
        return
    rewards = numbers(seen.rows, "reward/mean")
    earned = f"; the mean reward is {mean(rewards):.3g}" if rewards else ""
    yield Finding(
        "no-spread-at-start",
        f"none of the first {groups} groups had rewards that differ{earned}",
        "the model never does what the reward asks for, or always does, so there is nothing to compare",
        "look at completions in the report; start from a model that sometimes succeeds (vlm-r1 sft), or choose "
        "records by vlm-r1 data rate",
        seen.step,
    )


def dead_reward(seen: Seen) -> Iterator[Finding]:
    """A component of the reward was 0 in all completions of the last steps, or the accuracy was full."""
    window = seen.rows[-WINDOW:]
    names = [
        key[8:-5] for key in (window[-1] if window else ()) if key.startswith("rewards/") and key.endswith("/mean")
    ]
    for name in names:
        means, spreads = (last_numbers(seen, f"rewards/{name}/{kind}") for kind in ("mean", "std"))
        if not means or any(spreads) or not seen.settings.weights.get(name, 1.0):
            continue
        plain = name.partition("(")[0]
        if not any(means) and plain not in PENALTIES:
            yield Finding(
                "dead-reward",
                f"{name} was 0 in every completion of the last {WINDOW} steps",
                "no completion does what this component asks for, or it cannot read what they write",
                "read completions in the report: fix the template, the box format or the reward; or remove it from "
                "rewards",
                seen.step,
                name,
            )
        elif min(means) >= 1 and (plain == ACCURACY or len(names) == 1):
            yield Finding(
                "dead-reward",
                f"{name} was full in every completion of the last {WINDOW} steps",
                "the records are too easy by now, or the reward is too kind: nothing is left to learn",
                "stop here, take harder records (vlm-r1 data rate), or a stricter reward such as "
                "iou_threshold(at=0.75)",
                seen.step,
                name,
            )


def no_signal(seen: Seen) -> Iterator[Finding]:
    """Most groups of the last steps had equal rewards. If all had from the start, `no_spread_at_start` says so."""
    uniform = last_numbers(seen, "groups/no_signal")
    if not uniform or mean(uniform) < MOST_UNIFORM or min(numbers(seen.rows, "groups/no_signal")) >= 1:
        return
    rewards = last_numbers(seen, "reward/mean")
    earned = f"; the mean reward is {mean(rewards):.3g}" if rewards else ""
    yield Finding(
        "no-signal",
        f"{percent(mean(uniform))} of the groups of the last {WINDOW} steps have equal rewards{earned}",
        "the records are too hard (a low reward) or too easy (a high one) for the model as it is",
        "choose records by vlm-r1 data rate; raise grpo.num_generations or sampling.temperature; or set "
        "grpo.dynamic_sampling_rounds",
        seen.step,
    )


def truncated(seen: Seen) -> Iterator[Finding]:
    """Most completions are cut off."""
    cut = last_numbers(seen, "completions/truncated")
    if cut and mean(cut) >= MOST_TRUNCATED:
        yield Finding(
            "truncated",
            f"{percent(mean(cut))} of the completions of the last {WINDOW} steps end at the limit of "
            f"{seen.settings.max_completion_length:,} tokens",
            "answers come last, so a completion that is cut off earns nothing for a right thought; or the model never "
            "writes its stop token",
            "raise sampling.max_completion_length, or ask for shorter thoughts; a random or base model needs "
            "vlm-r1 sft first",
            seen.step,
        )


def length(seen: Seen) -> Iterator[Finding]:
    """Completions grow or collapse."""
    lengths, reward = (change_of(seen.rows, key) for key in ("completions/mean_length", "reward/mean"))
    if lengths is None:
        return
    cut = last_numbers(seen, "completions/truncated") or [0.0]
    cut_at_first = numbers(seen.rows[:WINDOW], "completions/truncated") or [0.0]
    known = LOSSES.get(seen.settings.loss_type)
    means = {
        "completion": "which divides by each completion's length, so that a long wrong answer costs little",
        "tokens": "which divides by all tokens of the step, so that long completions weigh more",
        "group": "which divides by the tokens of each group, so that long completions weigh more",
        "constant": "which divides by a constant, so that length itself is not favoured",
        "sum": "which adds up the tokens, so that long completions weigh more",
    }
    how = f"grpo.loss_type is {seen.settings.loss_type}" + (f", {means[known.mean]}" if known else "")
    change = f"the mean length went from {lengths.first:.0f} to {lengths.last:.0f} tokens"
    no_better = reward is not None and not reward.rises
    if lengths.ratio >= LONGER and (no_better or mean(cut) >= SOME_TRUNCATED):
        yield Finding(
            "length-grows",
            f"{change}, {percent(mean(cut))} are cut off" + ("; the reward did not rise" if no_better else ""),
            how,
            "loss_type dr_grpo favours no length; the reward overlong costs length near the limit",
            seen.step,
        )
    if lengths.ratio <= SHORTER and mean(cut_at_first) < MOST_TRUNCATED:
        yield Finding(
            "length-collapses",
            change,
            f"short answers earn as much as long ones, so the thought goes; {how}",
            "if the thought matters, give format its weight and use a template that asks for one; otherwise nothing is "
            "wrong",
            seen.step,
        )


def entropy_collapse(seen: Seen) -> Iterator[Finding]:
    """The model has become certain of every token."""
    entropy = change_of(seen.rows, "entropy")
    is_grpo = bool(seen.rows) and seen.rows[-1].get("stage") != "sft"
    if is_grpo and entropy is not None and entropy.last < LOW_ENTROPY and entropy.ratio < ENTROPY_LEFT:
        yield Finding(
            "entropy-collapse",
            f"the entropy fell from {entropy.first:.3g} to {entropy.last:.3g} nats a token",
            "the completions of a group are almost the same, so there is little left to compare",
            "lower the learning rate, raise grpo.epsilon_high (0.28) or set a small grpo.entropy_coef; go back to an "
            "earlier checkpoint",
            seen.step,
        )


def kl_blow_up(seen: Seen) -> Iterator[Finding]:
    """The policy is far from the reference."""
    kl = last_numbers(seen, "kl")
    if not kl:
        return
    now, before = median(kl), numbers(seen.rows[-3 * WINDOW : -WINDOW], "kl")
    usual = median(before) if len(before) == 2 * WINDOW else None
    jumped = usual is not None and now >= NOTICEABLE_KL and now >= KL_JUMP * usual
    if now >= LARGE_KL or jumped:
        yield Finding(
            "kl-blow-up",
            f"the KL to the reference is {now:.3g} nats a token" + (f", before it was {usual:.3g}" if usual else ""),
            "updates are too large, or one bad batch moved the policy far away",
            "lower the learning rate, raise grpo.beta, and go on from a checkpoint before the jump",
            seen.step,
        )


def sampler_drift(seen: Seen) -> Iterator[Finding]:
    """Tokens are drawn from another distribution than the one that trains."""
    gap = last_numbers(seen, "sampling/sampling_logp_difference/mean")
    if gap and not seen.settings.cuts and mean(gap) >= FAR_SAMPLER:
        yield Finding(
            "sampler-drift",
            f"the sampler's log-probabilities differ from the policy's by {mean(gap):.3g} nats a token",
            "the sampler has other weights, another precision or another temperature than the policy, or dropout is on",
            "run vlm-r1 check-model; set model.lora.lora_dropout to 0; see docs/trust_checks.md",
            seen.step,
        )
