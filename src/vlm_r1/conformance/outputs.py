"""Checks of the output side: log-probabilities computed in three ways, sampled tokens, the effect of images."""

# pyright: standard

from __future__ import annotations

from typing import Any

import torch
from PIL import ImageOps
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vlm_r1.conformance.base import Finding
from vlm_r1.conformance.context import QUESTIONS, Context, weighted_sum
from vlm_r1.errors import ModelError
from vlm_r1.models.stock import stock_inputs, stock_processor
from vlm_r1.policy.head import tempered_logits
from vlm_r1.policy.logprobs import CompletionBatch
from vlm_r1.sampling import SamplingParams, greedy
from vlm_r1.training.differences import (
    BLANK_TOLERANCE,
    MEAN_TOLERANCE,
    difference,
    explained_by_rounding,
    image_effect,
)
from vlm_r1.training.witness import Witness

GRADIENT_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.05}
"""Largest relative difference of a gradient that rounding explains, by the type of the weights."""

COMPARED_GRADIENTS = 12
"""Number of parameters, spread over the model, whose gradients are compared. All would need much memory twice."""


def banned(context: Context) -> Finding:
    """Make the head prefer placeholder tokens by far, and sample completions."""
    adapter, model = context.adapter, context.model
    config: Any = adapter.config
    names = ("image_token_id", "image_token_index", "video_token_id")
    placeholders: set[int] = {getattr(config, name) for name in names if getattr(config, name, None) is not None}
    placeholders.add(adapter.tokenizer.convert_tokens_to_ids(adapter.placeholder))
    ids = torch.tensor(sorted(placeholders), device=context.device)

    def prefer(head: Any, arguments: Any, logits: Tensor) -> Tensor:
        return logits.index_fill(-1, ids, float(logits.max()) + 100)

    handle = model.get_output_embeddings().register_forward_hook(prefer)
    try:
        prompt, params = context.prompts["one image"], SamplingParams(8, temperature=5.0)
        (completions,) = context.sampler.sample([prompt], [list(range(16))], params)
    finally:
        handle.remove()
    tokens = [token for completion in completions for token in completion.ids_T]
    drawn = sorted(placeholders.intersection(tokens))
    numbers = {"banned": len(adapter.banned_ids()), "drawn": f"{len(drawn)} of them in {len(tokens)} tokens"}
    problem = f"tokens {drawn} stand for images and were drawn: return them from banned_ids"
    return Finding(numbers, (problem,) if drawn else ())


@torch.no_grad()
def positions(context: Context) -> Finding:
    """Compare rows, with the adapter's positions and features, with transformers' own forward."""
    policy = context.policy("rows")
    differs = difference(policy(context.batch), context.plain_logprobs(context.model, context.batch))
    problem = (
        f"log-probabilities differ from transformers' own by {differs}: positions(), encode_images() or "
        "vision_arguments() do not say what the model's forward makes of the same prompt"
    )
    agrees = explained_by_rounding(differs, policy.model.dtype)
    return Finding({"largest difference": differs.largest}, () if agrees else (problem,))


@torch.no_grad()
def processor(context: Context) -> Finding:
    """Compare with the checkpoint's own processor and the stock model, on the same chat and pictures."""
    try:
        own = stock_processor(context.adapter)
    except ModelError as error:
        return Finding(not_applicable=str(error))
    problems, rows = [], []
    for kind, prompt in context.prompts.items():
        inputs = stock_inputs(own, context.adapter, context.prompt(kind), context.images_of(kind))
        if (due := tuple(inputs["input_ids"][0].tolist())) != prompt.ids_L:
            problems.append(f"{kind}: encode made {len(prompt.ids_L)} tokens, the processor {len(due)} others")
        rows += [inputs]
    if problems:
        return Finding(problems=tuple(problems))
    policy = context.policy(context.layout[0])
    scored = policy(context.batch)
    stock = Witness(policy, rows, 1.0).side(context.batch, [])
    differs = difference(scored, stock.logprobs_NT)
    problem = (
        f"log-probabilities differ by {differs} from those of the stock model on its own processor's inputs: pixels, "
        "positions or types of tokens are not the same"
    )
    agrees = explained_by_rounding(differs, policy.model.dtype)
    return Finding({"largest difference": differs.largest}, () if agrees else (problem,))


def prefix(context: Context) -> Finding:
    """Compare layout packed with rows: log-probabilities and some gradients."""
    layout, reason = context.layout
    if layout == "rows":
        return Finding(not_applicable=reason)
    policy = context.policy("packed")
    chosen = _spread([p for p in policy.parameters() if p.requires_grad])
    packed, rows = policy(context.batch), policy(context.batch, "rows")
    differs = difference(packed, rows.logprobs_NT.detach())
    gradients = [_gradients(scored.logprobs_NT, chosen) for scored in (packed, rows)]
    apart = _apart(*gradients)
    numbers = {"largest difference": differs.largest, f"of {len(chosen)} gradients": apart}
    problems: list[str] = []
    if not explained_by_rounding(differs, policy.model.dtype):
        problems.append(
            f"log-probabilities in one row with the prompt once differ from those of plain rows by {differs}: use "
            "training.layout rows, and report this"
        )
    if not apart <= GRADIENT_TOLERANCE[context.model.dtype]:
        problems.append(f"gradients differ by {apart:.2g} of their size: use training.layout rows, and report this")
    return Finding(numbers, tuple(problems))


@torch.no_grad()
def sampler(context: Context) -> Finding:
    """Compare the log-probabilities that tokens were drawn with and the policy's."""
    prompts = list(context.prompts.values())
    seeds_P_G = [[10 * p, 10 * p + 1] for p in range(len(prompts))]
    sampled = context.sampler.sample(prompts, seeds_P_G, SamplingParams(12))
    policy = context.policy(context.layout[0])
    batch = CompletionBatch.of_groups(prompts, sampled)
    scored = policy(batch)
    differs = difference(scored, batch.sampled_logprobs_NT(scored.logprobs_NT.device))
    problem = (
        f"the sampler's log-probabilities differ from the policy's by {differs}: decoding token by token does not "
        "continue the prompt as one pass does; look at positions()"
    )
    agrees = explained_by_rounding(differs, policy.model.dtype)
    return Finding({"largest difference": differs.largest}, () if agrees else (problem,))


@torch.no_grad()
def generate(context: Context) -> Finding:
    """Compare greedy decoding with transformers' generate, and score generate's tokens with the policy."""
    prompts = list(context.prompts.values())
    sampled = context.sampler.sample(prompts, [[0]] * len(prompts), greedy(12))
    ids_P_T, logprobs_P_T = zip(*(_generate(context, prompt) for prompt in prompts), strict=True)
    policy = context.policy(context.layout[0])
    scored = policy(CompletionBatch(prompts, [[ids_T] for ids_T in ids_P_T]))
    differs = difference(scored, pad_sequence(list(logprobs_P_T), batch_first=True).to(scored.logprobs_NT))
    equal = sum(ids_T == own[0].ids_T for ids_T, own in zip(ids_P_T, sampled, strict=True))
    problems: list[str] = []
    if not explained_by_rounding(differs, policy.model.dtype):
        problems.append(f"log-probabilities of generate's tokens differ from the policy's by {differs}")
    if (
        equal < len(prompts) and MEAN_TOLERANCE[context.model.dtype] < 1e-3
    ):  # in half precision, near ties fall either way
        problems.append(f"greedy completions equal generate's for {equal} of {len(prompts)} prompts")
    numbers = {"equal completions": f"{equal} of {len(prompts)}", "largest difference": differs.largest}
    return Finding(numbers, tuple(problems))


@torch.no_grad()
def images(context: Context) -> Finding:
    """Check that blank images of the same size, and the negative of a picture, change log-probabilities."""
    policy, prompt = context.policy("rows"), context.prompts["one image"]
    batch = context.one_group
    scored, blank = policy(batch), context.adapter.blank(prompt)
    negative = context.encode(QUESTIONS["one image"], [ImageOps.invert(context.pictures[0])])
    moved = {
        "blank moves by": image_effect(scored, policy, batch, blank),
        "negative moves by": image_effect(scored, policy, batch, negative),
    }
    problems: list[str] = []
    if blank.ids_L != prompt.ids_L or blank.frames != prompt.frames:
        problems.append("blank() changes tokens or frames: it may change pixels only")
    if not min(moved.values()) > BLANK_TOLERANCE:
        problems.append(
            "log-probabilities stay the same with other pixels: the model does not see its images. Is the projector "
            "untrained or zero, or does vision_arguments() drop the features?"
        )
    return Finding(moved, tuple(problems))


def _generate(context: Context, prompt: Any) -> tuple[tuple[int, ...], Tensor]:
    """Return transformers' greedy tokens up to the stop token and their log-probabilities, without any filter."""
    model, adapter = context.model, context.adapter
    stop_ids = adapter.stop_ids(model)
    out = model.generate(
        **context.plain_inputs(model, prompt),
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=12,
        eos_token_id=list(stop_ids),
        pad_token_id=adapter.pad_id,
        suppress_tokens=list(adapter.banned_ids()),
        return_dict_in_generate=True,
        output_logits=True,
    )
    ids_T = out.sequences[0, len(prompt.ids_L) :]
    logits_TV = tempered_logits(torch.cat(out.logits), 1.0, adapter.banned_ids())
    return tuple(ids_T.tolist()), logits_TV.log_softmax(-1).gather(1, ids_T[:, None])[:, 0]


def _spread(parameters: list[Tensor]) -> list[Tensor]:
    """Choose some parameters evenly, the first and the last included."""
    places = torch.linspace(0, len(parameters) - 1, COMPARED_GRADIENTS).round().int().unique().tolist()
    return [parameters[place] for place in places]


def _gradients(logprobs_NT: Tensor, parameters: list[Tensor]) -> list[Tensor | None]:
    return list(torch.autograd.grad(weighted_sum(logprobs_NT), parameters, allow_unused=True))


def _apart(ours: list[Tensor | None], expected: list[Tensor | None]) -> float:
    """Return the largest relative difference of gradients; tiny ones are relative to 1/1000 of the largest norm."""
    pairs = [(a, b) for a, b in zip(ours, expected, strict=True) if a is not None or b is not None]
    if any(a is None or b is None for a, b in pairs):
        return float("inf")
    norms = [float(b.norm()) for _, b in pairs if b is not None]
    floor = max(norms) / 1000
    return max(float((a - b).norm()) / max(n, floor) for (a, b), n in zip(pairs, norms, strict=True))  # type: ignore[operator]
