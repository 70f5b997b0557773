"""Checks of the input side: files, tokens, image features, frames, stop tokens."""

# pyright: standard

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlm_r1.conformance.base import Finding, few
from vlm_r1.conformance.context import QUESTIONS, Context
from vlm_r1.errors import ModelError
from vlm_r1.geometry.frames import from_original, to_original
from vlm_r1.models import Adapter
from vlm_r1.rollouts.env import Env, same_encoding
from vlm_r1.tasks.templates import make_templates
from vlm_r1.training.differences import MEAN_TOLERANCE
from vlm_r1.types import Box, BoxFormat, EncodedPrompt, ImageFrame, Record

GOLD: Box = (10.0, 12.0, 40.0, 36.0)
"""A box that lies within every generated picture, in its pixels."""


def loads(context: Context) -> Finding:
    """Load everything, and compare tokenizer and weights."""
    adapter, model = context.adapter, context.model
    if hasattr(model, "peft_config"):
        raise ModelError(
            f"{context.path}: holds LoRA adapters, not a model. Merge them first: vlm-r1 export RUN --to DIR"
        )
    given = context.adapter_name
    numbers: dict[str, float | str] = {
        "adapter": f"{type(adapter).__name__} {'as given' if given else f'for {adapter.config.model_type}'}",
        "model": type(model).__name__,
        "parameters": f"{context.parameters:,}",
        "type": f"{str(model.dtype).removeprefix('torch.')} on {context.device.type}",
        "attention": str(model.config._attn_implementation),
        "images": type(adapter.image_processor).__name__,
        "tokens": f"{type(adapter.tokenizer).__name__} of {len(adapter.tokenizer):,}",
    }
    problems: list[str] = []
    rows = len(model.get_input_embeddings().weight)
    if len(adapter.tokenizer) > rows:
        problems.append(
            f"the tokenizer has {len(adapter.tokenizer):,} tokens, the model embeds {rows:,}: they are not of the same "
            "checkpoint, or the embeddings were not resized when tokens were added"
        )
    if broken := [name for name, p in model.named_parameters() if not bool(p.isfinite().all())]:
        problems.append(f"weights that are not finite numbers: {few(broken)}: the files are damaged")
    return Finding(numbers, tuple(problems))


@torch.no_grad()
def encode(context: Context) -> Finding:
    """Compare placeholder tokens with the features of a real run of the vision tower, and with predicted lengths."""
    adapter, problems, numbers = context.adapter, [], {}
    for kind, prompt in context.prompts.items():
        images = context.images_of(kind)
        (features,) = adapter.image_features(context.model, [prompt])
        seen = [len(feature) for feature in features]
        placeholders = context.count_placeholders(prompt)
        numbers[kind] = f"{len(prompt.ids_L)} tokens, {placeholders} of images"
        if placeholders != sum(seen) or len(seen) != len(images):
            problems.append(
                f"{kind}: {placeholders} placeholder tokens for image features {seen}: encode must write as many as "
                "encode_images returns"
            )
        if len(images) == 1 and (said := adapter.image_tokens(*images[0].size)) != placeholders:
            problems.append(f"{kind}: image_tokens says {said}, encode wrote {placeholders}")
        if (length := context.prompt_length(kind)) != len(prompt.ids_L):
            problems.append(f"{kind}: prompt_length says {length}, encode made {len(prompt.ids_L)} tokens")
        if not same_encoding(prompt, context.encode_kind(kind)):
            problems.append(f"{kind}: encoded twice, it differs: encode must be a function of text and images")
    for kind, reason in context.refused.items():
        numbers[kind] = "refused"
        if kind != "no image":
            problems.append(f"{kind}: refused: {reason}")
    return Finding(numbers, tuple(problems))


def frames(context: Context) -> Finding:
    """Compare sizes with the pictures and the processor's tensors; write a box and read it back."""
    adapter, problems = context.adapter, []
    numbers: dict[str, float | str] = {"boxes": getattr(adapter.box_format, "value", repr(adapter.box_format))}
    if not isinstance(adapter.box_format, BoxFormat):
        return Finding(numbers, ("box_format must be a BoxFormat, e.g. BoxFormat.NORM_1000",))
    for kind, prompt in context.prompts.items():
        sizes = [image.size for image in context.images_of(kind)]
        if (said := [frame.original_wh for frame in prompt.frames]) != sizes:
            problems.append(f"{kind}: original_wh says {said} of images of {sizes} (width, height)")
        processed = _processed_sizes(adapter, prompt)
        for frame, wh in zip(prompt.frames, processed, strict=False):
            numbers[f"{frame.original_wh[0]}×{frame.original_wh[1]} seen as"] = (
                f"{frame.input_wh[0]}×{frame.input_wh[1]}"
            )
            if min(frame.input_wh) < 1 or (wh is not None and wh != frame.input_wh):
                problems.append(f"{kind}: input_wh {frame.input_wh} of an image whose pixels became {wh or 'some'}")
        problems += [f"{kind}: {problem}" for frame in prompt.frames if (problem := _round_trip(frame, adapter))]
    return Finding(numbers, tuple(dict.fromkeys(problems)))


def stop(context: Context) -> Finding:
    """Compare stop tokens with the vocabulary, a gold answer, and the chat template's end of an answer."""
    adapter, model = context.adapter, context.model
    ids, rows = adapter.stop_ids(model), len(model.get_input_embeddings().weight)
    named = getattr(model.generation_config, "eos_token_id", None) is not None
    numbers: dict[str, float | str] = {
        "tokens": " ".join(adapter.tokenizer.convert_ids_to_tokens(list(ids))),
        "named by": "generation_config.json" if named else "the tokenizer: generation_config.json names none",
    }
    problems = [f"stop token {token}, but there are {rows:,} embeddings" for token in ids if not 0 <= token < rows]
    if both := set(ids) & set(adapter.banned_ids()):
        problems.append(f"stop tokens {sorted(both)} are banned: no completion could end")
    end = adapter.turn_end
    numbers["template ends answers with"] = repr(end)
    token = adapter.tokenizer.added_tokens_decoder.get(adapter.tokenizer.convert_tokens_to_ids(end))
    if token is not None and token.special and end not in adapter.tokenizer.convert_ids_to_tokens(list(ids)):
        problems.append(
            f"the chat template ends an answer with {end}, which is no stop token: completions would run on; name it "
            "in eos_token_id of generation_config.json"
        )
    prompt = context.prompts["one image"]
    record = Record("1", "rec", QUESTIONS["one image"], ("picture 0",), list(GOLD), source="here")
    gold = Env(adapter, make_templates("r1"), {"accuracy": 1.0}).gold_ids(record, prompt, adapter.answer_end(model))
    if gold[-1] not in ids or any(token in ids for token in gold[:-1]):
        problems.append(f"a gold answer {gold} has stop tokens, of {ids}, within it or none at its end")
    return Finding(numbers, tuple(problems))


@torch.no_grad()
def neighbours(context: Context) -> Finding:
    """Compare each picture's features with those in a batch, and in a prompt with another order of pictures."""
    adapter, model, pictures = context.adapter, context.model, context.pictures
    alone = [context.encode("<image>Describe it.", [picture]) for picture in pictures]
    expected = [adapter.image_features(model, [prompt])[0][0] for prompt in alone]
    together = [own[0] for own in adapter.image_features(model, alone[::-1])[::-1]]
    numbers: dict[str, float | str] = {"in a batch": max(map(_relative, together, expected))}
    if "several images" in context.prompts:
        turned = context.encode(QUESTIONS["several images"], [*pictures[1:], pictures[0]])
        given = context.prompts["several images"]
        first, *others = adapter.image_features(model, [given])[0]
        *others_turned, first_turned = adapter.image_features(model, [turned])[0]
        numbers["in another order"] = max(map(_relative, [*others_turned, first_turned], [*others, first]))
        if turned.frames != (*given.frames[1:], given.frames[0]):
            numbers["in another order"] = float("inf")
    problems = [
        f"an image's features {way} are others, by {largest:.2g} of their size: encode() must not let one image change "
        "how another is seen, and encode_images() must return them in the order of prompts and images"
        for way, largest in numbers.items()
        if not float(largest) <= MEAN_TOLERANCE[model.dtype]
    ]
    return Finding(numbers, tuple(problems))


def _processed_sizes(adapter: Adapter, prompt: EncodedPrompt) -> Sequence[tuple[int, int] | None]:
    """Return (width, height) of the images in the processor's tensors; None if tensors or adapter do not know it."""
    if not adapter.knows_family:
        return [None] * len(prompt.frames)
    if "image_grid_thw" in prompt.vision:
        patch = adapter.image_processor.patch_size
        return [(int(w) * patch, int(h) * patch) for _, h, w in prompt.vision["image_grid_thw"].tolist()]
    pixels = prompt.vision.get("pixel_values")
    padded = "image_sizes" in prompt.vision
    if pixels is not None and pixels.ndim == 4 and len(pixels) == len(prompt.frames) and not padded:
        return [(pixels.shape[3], pixels.shape[2])] * len(prompt.frames)
    return [None] * len(prompt.frames)


def _round_trip(frame: ImageFrame, adapter: Adapter) -> str:
    """Return how a box changes when it is written and read in the family's coordinates; "" if it does not."""
    written = from_original(GOLD, frame, adapter.box_format)
    back = to_original(written, frame, adapter.box_format)
    if all(abs(a - b) < 1e-6 for a, b in zip(GOLD, back, strict=True)):
        return ""
    return f"the box {GOLD} is written as {written} and read as {back}"


def _relative(features: Tensor, expected: Tensor) -> float:
    """Return the mean difference over the mean size; infinity if shapes differ."""
    if features.shape != expected.shape:
        return float("inf")
    return float((features - expected).abs().mean() / expected.abs().mean())
