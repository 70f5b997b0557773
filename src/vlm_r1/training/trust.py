"""Checks of a run on itself, before its first update: what would make training silently wrong is an error.

They cost a few forward passes over one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from vlm_r1.errors import ModelError
from vlm_r1.policy.logprobs import CompletionBatch, Policy, TokenLogProbs
from vlm_r1.sampling import Sampler, SamplingParams
from vlm_r1.training.learner import Learner
from vlm_r1.types import Completion, EncodedPrompt, Group

MEAN_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.01}
"""Largest mean difference of log-probabilities that rounding explains, by the type that computes; a single token may
differ 20 times as much. (Measured: 1e-6 in float32 on small models; bfloat16 has 3 digits.)"""

BLANK_TOLERANCE = 1e-6
"""A model that does not see its image gives the same numbers without it, to the last bit."""


def check_sampled(groups: Sequence[Group], learner: Learner, sampler: Sampler, params: SamplingParams) -> str:
    """Check the first group with images (or the first): its placeholders, its images, layout and sampler.

    Where top-p, top-k or min-p cut the distribution that is sampled from, two completions are drawn without, since
    the policy's is uncut.

    Returns:
        A line that says what was found.

    Raises:
        ModelError: on all processes, if any of them fails.
    """
    group = next((group for group in groups if group.encoded.frames), groups[0])
    completions = [rollout.completion for rollout in group.rollouts]
    uncut = replace(params, top_p=1.0, top_k=0, min_p=0.0)
    if uncut != params and not _placeholders(completions, learner):
        with learner.autocast_for_sampling():
            (completions,) = sampler.sample([group.encoded], [[0, 1]], uncut)
    batch = CompletionBatch([group.encoded], [[completion.ids_T for completion in completions]])
    return _check(batch, learner, group.record.source, completions)


def check_gold(batch: CompletionBatch, learner: Learner, source: str) -> str:
    """The same for supervised training, where nothing is sampled: on the first prompt with images (or the first).

    Raises:
        ModelError: on all processes, if any of them fails.
    """
    p = next((p for p, prompt in enumerate(batch.prompts) if prompt.frames), 0)
    return _check(CompletionBatch([batch.prompts[p]], [batch.ids_P_G_T[p]]), learner, source, [])


def _check(batch: CompletionBatch, learner: Learner, source: str, completions: Sequence[Completion]) -> str:
    policy: Policy = learner.accelerator.unwrap_model(learner.policy)
    training = policy.training
    policy.eval()
    found: list[str] = []
    problems = _placeholders(completions, learner)
    if not problems:
        with torch.no_grad(), learner.accelerator.autocast():
            found, problems = _findings(batch, policy, completions)
    policy.train(training)
    everyone = [problem for part in learner.gather([problems]) for problem in part]
    if everyone:
        raise ModelError(
            f"trust check failed on {source}: {everyone[0]}. Nothing was trained; training.trust_checks=false goes on "
            "regardless"
        )
    return "trust checks: " + ", ".join(found)


def _findings(batch: CompletionBatch, policy: Policy, completions: Sequence[Completion]) -> tuple[list[str], list[str]]:
    """(what was found, what is wrong)."""
    found, problems = [], []
    scored, dtype = policy(batch), _computing_dtype(policy)
    (prompt,) = batch.prompts
    if policy.layout == "packed":
        pair = CompletionBatch([prompt], [batch.ids_P_G_T[0][:2]])
        differs = difference(policy(pair), policy(pair, layout="rows").logprobs_NT)
        found.append(f"packed = rows to {differs.largest:.1g}")
        if not explained_by_rounding(differs, dtype):
            problems.append(
                f"log-probabilities in layout packed differ from those of plain rows by {differs}: this model or its "
                "attention kernel does not keep completions apart; set training.layout=rows and report this"
            )
    if completions:
        differs = difference(scored, sampled_logprobs(completions, scored.logprobs_NT))
        found.append(f"sampler = policy to {differs.largest:.1g}")
        if not explained_by_rounding(differs, dtype):
            problems.append(
                f"the sampler's log-probabilities differ from the policy's by {differs}: they are not the same model, "
                "temperature, prompt or image size"
            )
    if prompt.frames:
        moved = image_effect(scored, policy, batch, policy.adapter.blank(prompt))
        found.append(f"blank images move log-probabilities by {moved:.2g}")
        if moved <= BLANK_TOLERANCE:
            problems.append(
                "log-probabilities stay the same when the images are blank: the model does not see them. Is its "
                "projector untrained or zero, or does the chat template drop images?"
            )
    return found, problems


def _placeholders(completions: Sequence[Completion], learner: Learner) -> list[str]:
    banned = set(learner.adapter.banned_ids())
    sampled = sorted({token for completion in completions for token in completion.ids_T if token in banned})
    return [f"placeholder tokens {sampled} were sampled: they stand for images; the sampler must ban them"] * bool(
        sampled
    )


class Difference(NamedTuple):
    """Mean and largest absolute difference of log-probabilities, in nats, over tokens."""

    mean: float
    largest: float

    def __str__(self) -> str:
        return f"{self.mean:.2g} a token (at most {self.largest:.2g})"


def difference(scored: TokenLogProbs, other_NT: torch.Tensor) -> Difference:
    """Of the policy's log-probabilities from others of the same tokens; what stands on padding does not count."""
    differences = (scored.logprobs_NT - other_NT).detach().abs()[scored.mask_NT]
    return Difference(float(differences.mean()), float(differences.max()))


def explained_by_rounding(differs: Difference, dtype: torch.dtype) -> bool:
    """Whether two ways to compute the same may differ so much in the type that computes (`MEAN_TOLERANCE`)."""
    tolerance = MEAN_TOLERANCE[dtype]
    return differs.mean <= tolerance and differs.largest <= 20 * tolerance  # NaN is not explained


def _computing_dtype(policy: Policy) -> torch.dtype:
    weight = policy.adapter.unwrap(policy.model).get_output_embeddings().weight
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def sampled_logprobs(completions: Sequence[Completion], like_NT: torch.Tensor) -> torch.Tensor:
    """The sampler's log-probabilities in the shape of the policy's."""
    padded_NT = torch.zeros_like(like_NT)
    for row_T, completion in zip(padded_NT, completions, strict=True):
        row_T[: len(completion.logprobs_T)] = torch.tensor(completion.logprobs_T)
    return padded_NT


def image_effect(scored: TokenLogProbs, policy: Policy, batch: CompletionBatch, other: EncodedPrompt) -> float:
    """Largest change of the log-probabilities of the batch's one prompt when it has other pixels.

    At most `BLANK_TOLERANCE` means: none.
    """
    return difference(scored, policy(CompletionBatch([other], batch.ids_P_G_T)).logprobs_NT).largest
