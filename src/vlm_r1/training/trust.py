"""Checks that a run makes of itself before some updates: faults that would make training silently wrong are errors.

Two records with different images are checked. The policy's log-probabilities, and the gradients of a sum of them, must
equal those of an outside witness: the stock model of transformers computes one completion at a time, on inputs that the
checkpoint's own processor makes of the same chat and pictures (`models/stock.py`, `witness.py`). The policy's passes
run as in training, with gradient, checkpointing and autocast, but without dropout. Weights of at least 32 bits are also
checked without autocast: then only rounding in float32 is tolerated. In bfloat16 three times the noise is tolerated.
The noise is the difference of the stock model from itself with other last bits (`Witness.other_side`).
"""

# pyright: standard

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

import torch
from torch import Tensor

from vlm_r1.config.schema import TrainingSection
from vlm_r1.data.images import load_image
from vlm_r1.errors import ModelError
from vlm_r1.models.stock import Inputs, inputs_of, stock_inputs, stock_processor
from vlm_r1.policy.logprobs import CompletionBatch, Policy, TokenLogProbs
from vlm_r1.rollouts.env import Env
from vlm_r1.sampling import Sampler, SamplingParams
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.training.differences import (
    BLANK_TOLERANCE,
    Difference,
    difference,
    explained_by_rounding,
    image_effect,
)
from vlm_r1.training.learner import Learner
from vlm_r1.training.trust_tokens import token_problems
from vlm_r1.training.witness import (
    NOISE,
    TOLERANCES,
    Witness,
    compared_parameters,
    computing_dtype,
    gap,
    is_wide,
    policy_side,
    too_far,
    training_without_dropout,
)
from vlm_r1.types import Completion, EncodedPrompt, Group, Record, Segment, StopReason

CHECKED_TOKENS = 32
"""How many tokens of each completion are checked at most."""

CHECKED_COMPLETIONS = (2, 1)
"""How many completions of the first and of the second record are checked: two siblings, and a neighbour."""

LogProbs = Callable[[CompletionBatch], Tensor]
"""Log-probabilities (N, T) of completions."""


@dataclass(frozen=True)
class CheckedRecord:
    """A record that is checked, its encoded prompt, and completions of it."""

    record: Record
    encoded: EncodedPrompt
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class Report:
    """Findings for people, and problems, each of which starts with the place of its record."""

    found: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    def add(self, checked: Sequence[CheckedRecord], problem: str) -> None:
        """Add a problem of the first of these records."""
        self.problems.append(f"{checked[0].record.source}: {problem}")


def is_due(step: int, first: bool, section: TrainingSection) -> bool:
    """Return whether the checks run before this step: a process's first, a run's second, and every trust_check_steps.

    Args:
        step: number of the step, from 1.
        first: whether it is the first step of this process.
    """
    every = section.trust_check_steps
    return section.trust_checks and (first or step == 2 or (every > 0 and step % every == 0))


def check_sampled(
    groups: Sequence[Group],
    learner: Learner,
    env: Env,
    sampler: Sampler,
    params: SamplingParams,
    reference: LogProbs | None = None,
) -> str:
    """Check the completions that a step sampled, and the passes that will learn from them.

    The check also draws completions of its own, without top-p, top-k and min-p, as the policy's distribution has none
    of them. If the recipe uses such a filter, only these are compared with the policy, not the step's own.

    Args:
        reference: computes the reference's log-probabilities; before the first update they must equal the policy's.

    Returns:
        A line that says what was found.

    Raises:
        ModelError: the check failed on some process; names its record. All processes raise it.
    """
    checked = [CheckedRecord(g.record, g.encoded, tuple(r.completion for r in g.rollouts)) for g in groups]
    temperature = learner.config.sampling.temperature
    return _check(checked, learner, env, temperature, sampler=sampler, params=params, reference=reference)


def check_gold(records: Sequence[Record], batch: CompletionBatch, learner: Learner, env: Env) -> str:
    """Do the same checks for supervised training, where nothing is sampled.

    Args:
        records: the records of the batch.

    Raises:
        ModelError: the check failed on some process. All processes raise it.
    """
    checked = [
        CheckedRecord(record, encoded, tuple(_gold_completion(ids_T) for ids_T in own))
        for record, encoded, own in zip(records, batch.prompts, batch.ids_P_G_T, strict=True)
    ]
    return _check(checked, learner, env, 1.0)


def _gold_completion(ids_T: Sequence[int]) -> Completion:
    """Make a gold answer a sampled completion; its log-probabilities are not used."""
    return Completion.sampled(ids_T, (0.0,) * len(ids_T), "", StopReason.STOP)


def _check(
    checked: Sequence[CheckedRecord],
    learner: Learner,
    env: Env,
    temperature: float,
    *,
    sampler: Sampler | None = None,
    params: SamplingParams | None = None,
    reference: LogProbs | None = None,
) -> str:
    report = Report()
    for one in checked:
        for problem in token_problems(one.completions, learner, params):
            report.add([one], problem)
    two = _two(checked)
    inputs = [] if report.problems else _inputs(two, learner, env, report)
    if not report.problems:
        witness = Witness(learner.bare_policy, inputs, temperature, params.repetition_penalty if params else 1.0)
        _check_passes(two, witness, learner, report, sampler=sampler, params=params, reference=reference)
    if everyone := [problem for own in learner.gather([report.problems]) for problem in own]:
        raise ModelError(
            f"trust check failed on {everyone[0]}. Nothing was learnt from it; training.trust_checks=false goes on "
            "regardless"
        )
    return "trust checks: " + ", ".join(report.found)


def _two(checked: Sequence[CheckedRecord]) -> list[CheckedRecord]:
    """Choose the first record with images (else the first), one with other images (else the next), and completions."""
    first = next((one for one in checked if one.encoded.frames), checked[0])
    others = [one for one in checked if one is not first]
    different = [one for one in others if one.encoded.frames and one.record.images != first.record.images]
    chosen = zip([first, *(different or others)[:1]], CHECKED_COMPLETIONS, strict=False)
    return [replace(one, completions=tuple(map(_shortened, one.completions[:n]))) for one, n in chosen]


def _shortened(completion: Completion) -> Completion:
    """Return the first `CHECKED_TOKENS` tokens of a completion, in their segments."""
    left, kept = CHECKED_TOKENS, list[Segment]()
    for segment in completion.segments:
        ids_T, logprobs_T = segment.ids_T[:left], segment.logprobs_T and segment.logprobs_T[:left]
        kept += [Segment(ids_T, logprobs_T)] if ids_T else []
        left -= len(ids_T)
    return replace(completion, segments=tuple(kept))


def _check_passes(
    checked: list[CheckedRecord],
    witness: Witness,
    learner: Learner,
    report: Report,
    *,
    sampler: Sampler | None,
    params: SamplingParams | None,
    reference: LogProbs | None,
) -> None:
    """Compare passes twice: as exactly as the weights allow, and as training computes."""
    policy, autocast, exactly = witness.policy, learner.autocast, is_wide(witness.policy)
    best = nullcontext if exactly else autocast
    rounds = exactly and learner.setup.precision.autocast is not None  # then a prompt's own features are rounded
    drawn = [replace(one, encoded=replace(one.encoded, features=None)) for one in checked] if rounds else checked
    seeds: list[int] = []
    if sampler is not None and params is not None:
        with best():
            drawn, seeds = _draw(drawn, sampler, _uncut(params))
    with training_without_dropout(policy):
        with best():
            _compare(drawn, witness, report)
            if seeds and not report.problems:
                _compare_sampler(drawn, witness, report, "drawn anew")
            if seeds and type(sampler) is HFSampler:
                _draw_again(drawn, seeds, witness, report)
        with autocast():
            if rounds:
                _compare(checked, witness, report)
            if params is not None and _uncut(params) == params:
                _compare_sampler(checked, witness, report, "sampler")
            _look_without_images(checked, policy, report)
            if reference is not None and learner.step == 0:
                _compare_reference(checked, witness, report, reference)


def _inputs(checked: Sequence[CheckedRecord], learner: Learner, env: Env, report: Report) -> list[Inputs]:
    """Return the inputs that the checkpoint's own processor makes of the records; its tokens must be ours."""
    try:
        processor = stock_processor(learner.adapter)
    except ModelError as error:
        report.found.append(f"tokens and pixels are the adapter's ({error})")
        return [inputs_of(one.encoded, learner.adapter, learner.model) for one in checked]
    found: list[Inputs] = []
    for one in checked:
        prompt, _ = env.ask(one.record)
        found.append(
            stock_inputs(processor, env.adapter, prompt, [load_image(path, env.access) for path in prompt.images])
        )
        own, due = list(one.encoded.ids_L), found[-1]["input_ids"][0].tolist()
        if own != due:
            place = next(n for n in count() if own[n : n + 1] != due[n : n + 1])
            report.add(
                [one],
                f"the prompt has {len(own)} tokens, but the checkpoint's own processor makes {len(due)} of the same "
                f"chat; from place {place} on, {own[place : place + 3]} is not {due[place : place + 3]}",
            )
    report.found.append("tokens = processor's")
    return found


def _draw(
    checked: list[CheckedRecord], sampler: Sampler, params: SamplingParams
) -> tuple[list[CheckedRecord], list[int]]:
    """Draw short completions of the records; returns the records with them, and the seed of each completion."""
    numbers, n = count(), max(CHECKED_COMPLETIONS)
    seeds_P_G = [[next(numbers) for _ in range(n)] for _ in checked]
    short = replace(params, max_completion_length=min(params.max_completion_length, CHECKED_TOKENS))
    drawn_P_G = sampler.sample([one.encoded for one in checked], seeds_P_G, short)
    kept = list(zip(checked, drawn_P_G, seeds_P_G, CHECKED_COMPLETIONS, strict=False))
    seeds = [seed for _, _, own, n in kept for seed in own[:n]]
    return [replace(one, completions=tuple(own[:n])) for one, own, _, n in kept], seeds


def _compare(checked: Sequence[CheckedRecord], witness: Witness, report: Report) -> None:
    """Compare log-probabilities and gradients of the policy with those of the witness."""
    batch, parameters = _batch(checked), compared_parameters(witness.policy)
    dtype, layout = computing_dtype(witness.policy), witness.policy.layout
    own, scored = policy_side(witness.policy, batch, parameters)
    stock = witness.side(batch, parameters)
    apart = gap(scored, own, stock)
    kind = str(dtype).removeprefix("torch.")
    report.found.append(
        f"{layout} = transformers in {kind} to {apart.logprobs.largest:.1g}, its gradients to {apart.gradients:.1g}"
    )
    if not bool(own.logprobs_NT.isfinite().all() or stock.logprobs_NT.isfinite().all()):
        report.found.append("neither is finite")  # the update counts and skips such steps
    elif too_far(apart.logprobs, dtype, lambda: _noise(batch, witness, scored)):
        report.add(checked, _explain(batch, witness, stock.logprobs_NT, apart.logprobs))
    elif not apart.gradients <= TOLERANCES[dtype].gradients:
        noise = gap(scored, witness.other_side(batch, parameters), stock).gradients
        if not apart.gradients <= NOISE * noise:
            report.add(
                checked,
                f"log-probabilities equal those of the stock model, but gradients differ by {apart.gradients:.2g} of "
                f"their size in {kind}: the backward pass of layout {layout} is wrong; report this",
            )


def _noise(batch: CompletionBatch, witness: Witness, scored: TokenLogProbs) -> Difference:
    return gap(scored, witness.side(batch, []), witness.other_side(batch, [])).logprobs


def _noise_of_decoding(batch: CompletionBatch, witness: Witness, scored: TokenLogProbs) -> Difference:
    """Noise of decoding token by token; it is larger for layers with a running state than for attention."""
    return difference(scored._replace(logprobs_NT=witness.side(batch, []).logprobs_NT), witness.decoded(batch))


def _explain(batch: CompletionBatch, witness: Witness, stock_NT: Tensor, differs: Difference) -> str:
    policy = witness.policy
    if policy.layout == "packed":
        rows = policy(batch, layout="rows")
        if not too_far(difference(rows, stock_NT), computing_dtype(policy), lambda: _noise(batch, witness, rows)):
            return (
                f"log-probabilities in layout packed differ from those of plain rows by {differs}: this model or its "
                "attention kernel does not keep completions apart; set training.layout=rows and report this"
            )
    return (
        f"log-probabilities differ by {differs} from those of the stock model of transformers, called on its own "
        f"processor's inputs at temperature {witness.temperature:g}: positions, images, types of tokens or temperature "
        "are not the same (`vlm-r1 check-model` looks at the adapter)"
    )


@torch.no_grad()
def _compare_sampler(checked: Sequence[CheckedRecord], witness: Witness, report: Report, label: str) -> None:
    batch = _batch(checked)
    scored = witness.policy(batch)
    differs = difference(scored, batch.sampled_logprobs_NT(scored.logprobs_NT.device))
    report.found.append(f"{label} = policy to {differs.largest:.1g}")
    if not bool(scored.logprobs_NT.isfinite().all()):
        return
    dtype = computing_dtype(witness.policy)
    if all(too_far(differs, dtype, partial(noise, batch, witness, scored)) for noise in (_noise, _noise_of_decoding)):
        report.add(
            checked,
            f"the sampler's log-probabilities differ from the policy's by {differs}: they are not the same model, "
            "weights, temperature, prompt or image size",
        )


@torch.no_grad()
def _compare_reference(checked: Sequence[CheckedRecord], witness: Witness, report: Report, reference: LogProbs) -> None:
    """Compare before any update. The reference's weights may be rounded if passes compute in bfloat16."""
    batch = _batch(checked)
    differs = difference(witness.policy(batch), reference(batch))
    report.found.append(f"reference = policy to {differs.largest:.1g}")
    if not explained_by_rounding(differs, computing_dtype(witness.policy)):
        report.add(
            checked,
            f"the reference's log-probabilities differ from the policy's by {differs} before anything was learnt: they "
            "are not the same weights or temperature",
        )


def _draw_again(checked: Sequence[CheckedRecord], seeds: Sequence[int], witness: Witness, report: Report) -> None:
    outside = witness.outside_shares(_batch(checked), seeds)
    if outside > TOLERANCES[computing_dtype(witness.policy)].draws:
        report.add(
            checked,
            f"sampled tokens are not what their random numbers draw from the distribution at temperature "
            f"{witness.temperature:g}: a number lies {outside:.2g} outside its token's share",
        )


@torch.no_grad()
def _look_without_images(checked: Sequence[CheckedRecord], policy: Policy, report: Report) -> None:
    first = checked[0]
    if not first.encoded.frames:
        return
    batch = _batch([first])
    moved = image_effect(policy(batch), policy, batch, policy.adapter.blank(first.encoded))
    report.found.append(f"blank images move log-probabilities by {moved:.2g}")
    if moved <= BLANK_TOLERANCE:  # NaN is not
        report.add(
            [first],
            "log-probabilities stay the same when the images are blank: the model does not see them. Is its projector "
            "untrained or zero, or does the chat template drop images?",
        )


def _batch(checked: Sequence[CheckedRecord]) -> CompletionBatch:
    return CompletionBatch.of_groups([one.encoded for one in checked], [one.completions for one in checked])


def _uncut(params: SamplingParams) -> SamplingParams:
    return replace(params, top_p=1.0, top_k=0, min_p=0.0)
