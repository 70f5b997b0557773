"""Groups to measure: the checkpoint of benchmarks/scenes.py, prompts with noise for images, random completions.

All prompts are equally long, so that no side of a comparison has to pad. Nothing is sampled or rewarded: the seconds of
a pass depend on the shapes alone.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, PreTrainedModel

from benchmarks.scenes import Sizes, write_inputs
from vlm_r1.models import load_adapter
from vlm_r1.models.adapter import Adapter
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.types import IMAGE_TOKEN, EncodedPrompt, Prompt

QUESTION = "Please provide the bounding box of the red circle on the left of the largest square."
"""As long as a question of referring expressions is."""


def image_tokens(text: str) -> int:
    """An argument of a command line: as many tokens as a picture can have."""
    try:
        _ = sizes_of(int(text), 1, 1, 1, 1).image_wh
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return int(text)


def sizes_of(image_tokens: int, completion_tokens: int, generations: int, prompts: int, threads: int) -> Sizes:
    """Sizes of a single pass: one micro-batch, no steps."""
    return Sizes(
        image_tokens=image_tokens,
        completion_tokens=completion_tokens,
        generations=generations,
        prompts=prompts,
        rows_per_micro_batch=prompts * generations,
        steps=0,
        beta=0.0,
        threads=threads,
    )


def write_checkpoint(folder: Path) -> None:
    """Write the small random Qwen2.5-VL of benchmarks/scenes.py as `folder/model`; it fits all sizes."""
    write_inputs(folder, sizes_of(64, 1, 1, 1, 1))


def load(folder: Path, sizes: Sizes) -> tuple[PreTrainedModel, Adapter]:
    """The checkpoint in float32 for training, and its adapter, which leaves images of these sizes as they are."""
    model = AutoModelForImageTextToText.from_pretrained(folder / "model", dtype=torch.float32)
    for parameter in model.parameters():
        parameter.detach().sum()  # till then the weights may be a file that is mapped, and count for no memory
    return model.train(), load_adapter(folder / "model", min_pixels=sizes.image_px, max_pixels=sizes.image_px)


def make_prompts(adapter: Adapter, sizes: Sizes, images: int = 1) -> list[EncodedPrompt]:
    """Prompts that ask the same of different noise.

    Args:
        images: of each prompt, `sizes.image_tokens` tokens each.
    """
    rng = np.random.default_rng(0)
    width, height = sizes.image_wh
    prompt = Prompt(IMAGE_TOKEN * images + QUESTION, ("noise",) * images)
    return [
        adapter.encode(
            prompt,
            [Image.fromarray(rng.integers(256, size=(height, width, 3), dtype=np.uint8)) for _ in range(images)],
        )
        for _ in range(sizes.prompts)
    ]


def make_batch(adapter: Adapter, sizes: Sizes, images: int = 1) -> CompletionBatch:
    """The prompts with G random completions each, all of `sizes.completion_tokens` plain tokens."""
    shape = (sizes.prompts, sizes.generations, sizes.completion_tokens)
    ids_PGT = torch.randint(256, shape, generator=torch.Generator().manual_seed(0))
    return CompletionBatch(make_prompts(adapter, sizes, images), ids_PGT.tolist())


def policy_pass(policy: Policy, batch: CompletionBatch) -> None:
    """Forward and backward of the sum of all log-probabilities; the gradients are dropped."""
    policy(batch).logprobs_NT.sum().backward()
    policy.zero_grad()
