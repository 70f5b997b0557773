"""The checkpoint under test: its adapter, pictures, prompts, and one model at a time."""

# pyright: standard

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForImageTextToText

from vlm_r1.config.data import NOTHING
from vlm_r1.config.schema import ModelSection, SamplingSection
from vlm_r1.config.words import Dtype
from vlm_r1.data.access import access_of
from vlm_r1.data.images import load_image
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.models import Adapter, load_adapter
from vlm_r1.models.precision import look_at, this_device
from vlm_r1.policy.build import build_policy, choose_setup
from vlm_r1.policy.head import tempered_logits
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.packed import Layout
from vlm_r1.sampling import Sampler
from vlm_r1.sampling.build import build_sampler
from vlm_r1.types import BoxFormat, EncodedPrompt, Prompt

SIZES_WH = ((112, 84), (84, 140), (60, 56))
"""(width, height) of the generated pictures: small, of different shapes, the last no multiple of any patch."""

QUESTIONS = {
    "no image": "Where would a small red circle be?",
    "one image": "<image>Where is the small red circle?",
    "several images": "Compare <image> with <image> and <image>: what has changed?",
}

ANSWERS = ("the circle is at [12, 34, 56, 78]", "not there", "[1, 2, 30, 40] and [5, 60, 70, 80], left of the square")

EXACT_PARAMETERS = 100_000_000
"""A model on a CPU with at most this many parameters is checked in float64, unless a type is given."""


class Context:
    """One checkpoint under test. At most one model is in memory at a time, so that large ones fit.

    Args:
        path: Hugging Face folder or hub name.
        adapter: `package.module:Name` of the family's adapter; default: by the model type.
        box_format: how the checkpoint writes boxes, if not as its family.
        dtype: type of the weights; None: float64 for small models on a CPU, else the checkpoint's own.
        images: files of up to three pictures, used instead of generated ones.

    Attributes:
        device: the GPU if there is one.

    Raises:
        ConfigError: there are too many images.
        DataError: an image cannot be read.
    """

    def __init__(
        self,
        path: str,
        *,
        adapter: str | None = None,
        box_format: BoxFormat | None = None,
        dtype: Dtype | None = None,
        images: Sequence[str] = (),
        trust_remote_code: bool = False,
    ):
        if len(images) > len(SIZES_WH):
            raise ConfigError(f"{len(images)} images: wanted at most {len(SIZES_WH)}")
        self.path = path
        self.adapter_name = adapter
        self.box_format = box_format
        self.trust_remote_code = trust_remote_code
        self.device = this_device()
        self._dtype: Dtype | None = dtype
        self._given = [load_image(image, access_of(NOTHING, [image])) for image in images]
        self._model: Any = None

    @cached_property
    def adapter(self) -> Adapter:
        """The family's adapter for the checkpoint under test."""
        return self.load_adapter(self.path)

    def load_adapter(self, path: str) -> Adapter:
        """Load the family's adapter for a checkpoint: the one under test, or a saved copy of it."""
        return load_adapter(
            path, adapter=self.adapter_name, box_format=self.box_format, trust_remote_code=self.trust_remote_code
        )

    @cached_property
    def parameters(self) -> int:
        """Number of the model's parameters, counted without weights."""
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(
                self.adapter.config, trust_remote_code=self.trust_remote_code
            ).num_parameters()

    @cached_property
    def dtype(self) -> Dtype:
        """Type of the weights."""
        if self._dtype is None and self.device.type == "cpu" and self.parameters <= EXACT_PARAMETERS:
            return "float64"
        return self._dtype or "checkpoint"

    @property
    def model(self) -> Any:
        """The model, loaded to train all of it. Checks must not change it."""
        if self._model is None:
            self._model = self.load()
        return self._model

    def load(self, **options: Any) -> Any:
        """Load a fresh model that may be changed; options are those of a recipe's model section."""
        self._model = None
        trust = self.trust_remote_code
        section = ModelSection(path=self.path, dtype=self.dtype, trust_remote_code=trust, **options)
        setup = choose_setup(section, self.adapter, look_at(self.device), layout="rows")  # the model's own attention
        return build_policy(section, self.adapter, setup, device=self.device).eval().model

    @cached_property
    def layout(self) -> tuple[Layout, str]:
        """The layout of the family in training, and a line that says why."""
        setup = choose_setup(ModelSection(path=self.path), self.adapter, look_at(self.device))
        return setup.layout, setup.layout_reason

    def policy(self, layout: Layout, model: Any = None) -> Policy:
        """Return a policy at temperature 1, of the unchanged model or of a given one."""
        return Policy(self.model if model is None else model, self.adapter, layout=layout).eval()

    @property
    def sampler(self) -> Sampler:
        """A sampler of the unchanged model."""
        return build_sampler(self.policy(self.layout[0]), SamplingSection())

    @cached_property
    def pictures(self) -> list[Image.Image]:
        """Three pictures: the given ones, then generated ones."""
        return [*self._given, *(_noise(wh, seed) for seed, wh in enumerate(SIZES_WH))][: len(SIZES_WH)]

    def images_of(self, kind: str) -> list[Image.Image]:
        """Return the pictures of a kind of prompt, in order."""
        return self.pictures[: QUESTIONS[kind].count("<image>")]

    def encode(self, question: str, images: Sequence[Image.Image]) -> EncodedPrompt:
        """Encode a question with one `<image>` for each of these images."""
        return self.adapter.encode(_prompt(question), images)

    def encode_kind(self, kind: str, adapter: Adapter | None = None) -> EncodedPrompt:
        """Encode a kind of prompt with its pictures, by a given adapter or by the one under test."""
        return (adapter or self.adapter).encode(_prompt(QUESTIONS[kind]), self.images_of(kind))

    def prompt(self, kind: str) -> Prompt:
        """Return a kind of prompt before it is encoded."""
        return _prompt(QUESTIONS[kind])

    def prompt_length(self, kind: str) -> int:
        """Return the length that the adapter predicts for a kind of prompt from the sizes of its images."""
        return self.adapter.prompt_length(_prompt(QUESTIONS[kind]), [image.size for image in self.images_of(kind)])

    @cached_property
    def prompts(self) -> Mapping[str, EncodedPrompt]:
        """Encoded prompts by kind, except those that the adapter refuses."""
        encoded = {"one image": self.encode_kind("one image")}
        for kind in QUESTIONS:
            if kind not in encoded and kind not in self.refused:
                encoded[kind] = self.encode_kind(kind)
        return {kind: encoded[kind] for kind in QUESTIONS if kind in encoded}

    @cached_property
    def refused(self) -> Mapping[str, str]:
        """Kinds of prompts that the family refuses, with its reasons. Every family takes one image."""
        refused = {}
        for kind in QUESTIONS:
            if kind == "one image":
                continue
            try:
                self.encode_kind(kind)
            except ModelError as error:
                refused[kind] = str(error)
        return refused

    @cached_property
    def completions(self) -> list[tuple[int, ...]]:
        """Token ids of answers of different lengths, each ending in a stop token."""
        stop = self.adapter.stop_ids(self.model)[0]
        return [(*self.adapter.tokenize(text), stop) for text in ANSWERS]

    @cached_property
    def batch(self) -> CompletionBatch:
        """Every prompt with two completions, of different lengths."""
        firsts = range(len(self.prompts))
        pairs = [[self.completions[(p + g) % len(self.completions)] for g in range(2)] for p in firsts]
        return CompletionBatch(list(self.prompts.values()), pairs)

    @property
    def one_group(self) -> CompletionBatch:
        """The prompt with one image and all completions."""
        return CompletionBatch([self.prompts["one image"]], [self.completions])

    @cached_property
    def roles(self) -> tuple[set[str], set[str]]:
        """(names of parameters that image features depend on, names of those that the model's own forward uses).

        They are found by gradients of `one_group`, not from the adapter's vision modules.
        """
        model = self.load()
        (features,) = self.adapter.image_features(model, self.one_group.prompts)
        if not all(feature.requires_grad for feature in features):
            raise ModelError("image features carry no gradient, so what sees cannot train: encode_images() cut it")
        weighted_sum(torch.cat(features)).backward()
        seeing = {name for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        weighted_sum(self.plain_logprobs(model, self.one_group)).backward()
        return seeing, {name for name, p in model.named_parameters() if p.grad is not None}

    def plain_inputs(self, model: Any, prompt: EncodedPrompt, ids_T: Sequence[int] = ()) -> dict[str, Any]:
        """Return the arguments of transformers' own forward, which computes positions and image features itself."""
        ids_1L = torch.tensor([[*prompt.ids_L, *ids_T]], device=self.device)
        known = inspect.signature(model.forward).parameters
        types = (ids_1L == self.adapter.placeholder_id).long()
        vision = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in prompt.vision.items()}
        return {
            "input_ids": ids_1L,
            "attention_mask": torch.ones_like(ids_1L),
            **{name: types for name in ("mm_token_type_ids", "token_type_ids") if name in known},
            **{name: tensor.to(self.device) for name, tensor in vision.items()},
        }

    def plain_logprobs(self, model: Any, batch: CompletionBatch) -> Tensor:
        """Compute log-probabilities with transformers' own forward, one completion at a time; (N, T), 0 on padding."""
        rows: list[Tensor] = []
        for prompt, ids_G_T in zip(batch.prompts, batch.ids_P_G_T, strict=True):
            for ids_T in ids_G_T:
                inputs = self.plain_inputs(model, prompt, ids_T)
                logits_TV = model(**inputs, use_cache=False, logits_to_keep=len(ids_T) + 1).logits[0, :-1]
                logprobs_TV = tempered_logits(logits_TV, 1.0, self.adapter.banned_ids()).log_softmax(-1)
                rows.append(logprobs_TV.gather(1, torch.tensor(ids_T, device=self.device)[:, None])[:, 0])
        return pad_sequence(rows, batch_first=True)

    def count_placeholders(self, prompt: EncodedPrompt) -> int:
        """Count the placeholder tokens of an encoded prompt."""
        return prompt.ids_L.count(self.adapter.placeholder_id)


def weighted_sum(values: Tensor) -> Tensor:
    """Sum values with different weights, so that their gradients differ and do not cancel.

    (The plain sum of a normalised vector would be constant.)
    """
    weights = torch.linspace(-1, 1, values.numel(), device=values.device, dtype=values.dtype)
    return (values.flatten() * weights).sum()


def _prompt(question: str) -> Prompt:
    return Prompt(question, tuple(f"picture {n}" for n in range(question.count("<image>"))))


def _noise(wh: tuple[int, int], seed: int) -> Image.Image:
    """Coloured squares of 4 × 4 pixels: no two places look alike."""
    width, height = wh
    squares = np.random.default_rng(seed).integers(0, 256, (-(-height // 4), -(-width // 4), 3), dtype=np.uint8)
    return Image.fromarray(squares.repeat(4, 0).repeat(4, 1)[:height, :width])
