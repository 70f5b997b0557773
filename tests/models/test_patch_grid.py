"""Qwen-VL and GLM-V against their stock processors, stock models and the formulas of their papers."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from math import ceil, floor, sqrt
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from testing_families import KINDS, encode, family_prompts, picture_of, stock_arguments
from testing_policy import TOLERANCE, completions, largest_difference, score
from vlm_r1.config import load_config
from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import DataError, ModelError
from vlm_r1.grpo.update import update_policy
from vlm_r1.models import ADAPTERS, load_adapter, load_model
from vlm_r1.models.patch_grid import PatchGrid
from vlm_r1.models.tiny import TINY
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.packed import choose_layout
from vlm_r1.runtime.phases import Phases
from vlm_r1.sampling import SamplingParams, greedy
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.training.learner import Learner
from vlm_r1.types import Completion, EncodedPrompt, Group, ImageFrame, Prompt, Record, Rollout, Score, StopReason

FAMILIES = sorted(family for family, adapter in ADAPTERS.items() if issubclass(adapter, PatchGrid))
every_family = pytest.mark.parametrize("family", FAMILIES)

ROWS = {"qwen3_5", "qwen3_5_moe"}
"""Families whose prompts cannot be shared by packing: linear attention, which computes in float32 whatever the weights.
"""


def tolerance(family: str) -> float:
    """Of log-probabilities in float64, computed in another order."""
    return 3e-5 if family in ROWS else TOLERANCE


def test_every_one_has_a_tiny_checkpoint() -> None:
    assert len(FAMILIES) == 8
    assert set(FAMILIES) <= set(TINY)


# What goes in ---------------------------------------------------------------------------------------------------------


def smart_resize(width: int, height: int, factor: int, smallest: int, largest: int) -> tuple[int, int]:
    """qwen-vl-utils' formula, as plainly as can be: (width, height) of the processed image."""
    wide, high = (max(factor, round(side / factor) * factor) for side in (width, height))
    if wide * high > largest:
        shrink = sqrt(width * height / largest)
        wide, high = (max(factor, floor(side / shrink / factor) * factor) for side in (width, height))
    elif wide * high < smallest:
        grow = sqrt(smallest / (width * height))
        wide, high = (ceil(side * grow / factor) * factor for side in (width, height))
    return wide, high


def random_sizes(least: int, count: int) -> list[tuple[int, int]]:
    """Log-uniform sides, up to 600 px."""
    draws = random.Random(0)

    def side() -> int:
        return int(least * (600 / least) ** draws.random())

    return [(side(), side()) for _ in range(count)]


@every_family
def test_frames_are_those_of_smart_resize_and_of_the_processor(family: str, family_adapter) -> None:
    adapter = family_adapter(family)
    # a side under half a factor, which qwen-vl-utils rounds up and the processors down to nothing, is compared below
    for width, height in [(56, 56), (500, 31), *random_sizes(adapter.factor, 12)]:
        encoded = encode(adapter, "<image>what is it", [picture_of(width, height)])
        limits = [adapter.image_processor.size[edge] for edge in ("shortest_edge", "longest_edge")]
        frames = 2 if family.startswith("glm4v") else 1
        expected = smart_resize(width, height, adapter.factor, *(limit // frames for limit in limits))
        assert encoded.frames == (ImageFrame((width, height), expected),)
        tokens = expected[0] * expected[1] // adapter.factor**2
        assert adapter.image_tokens(width, height) == encoded.ids_L.count(adapter.placeholder_id) == tokens


@every_family
def test_placeholders_are_as_many_as_features(family: str, family_adapter, models) -> None:
    adapter = family_adapter(family)
    for width, height in [(3, 40), (52, 52), (200, 31), (31, 200), *random_sizes(4, 4)]:
        encoded = encode(adapter, "<image>what is it", [picture_of(width, height)])
        (features,) = adapter.encode_images(models(family).model, [encoded])
        placeholders = encoded.ids_L.count(adapter.config.image_token_id)
        assert placeholders == len(features) == adapter.image_tokens(width, height)
        (frame,) = encoded.frames
        assert frame.input_wh[0] * frame.input_wh[1] == placeholders * adapter.factor**2
        assert adapter.prompt_length(Prompt("<image>what is it", ("",)), [(width, height)]) == len(encoded.ids_L)


@every_family
def test_several_images_keep_their_order(family: str, family_adapter, models) -> None:
    adapter, made = family_adapter(family), models(family)
    pictures = [picture_of(84, 56, 2), picture_of(56, 112, 3), picture_of(40, 40, 4)]
    together = encode(adapter, "first <image> then <image>, last <image> end", pictures)
    alone = [encode(adapter, "<image>", [picture]) for picture in pictures]
    assert together.frames == tuple(prompt.frames[0] for prompt in alone)
    features = adapter.encode_images(made.model, [together])
    for own, (expected,) in zip(features, adapter.image_features(made.model, alone), strict=True):
        torch.testing.assert_close(own, expected, atol=TOLERANCE, rtol=0)
    texts = together.text.split(adapter.placeholder)
    assert [word in text for word, text in zip(("first", "then", "last", "end"), texts, strict=True)] == [True] * 4


@every_family
def test_positions_are_those_of_the_stock_model(family: str, family_adapter, models) -> None:
    made = models(family)
    for prompt in made.prompts.values():
        (positions,) = family_adapter(family).positions(made.model, [prompt])
        assert positions.shape == (3, len(prompt.ids_L))
        if not prompt.frames:
            assert torch.equal(positions, torch.arange(len(prompt.ids_L)).expand(3, -1))
        else:
            assert positions.max() < len(prompt.ids_L) - 1, "an image takes fewer positions than tokens"


@every_family
def test_pixel_limits(family: str, family_checkpoint) -> None:
    adapter: Any = load_adapter(family_checkpoint(family), min_pixels=1, max_pixels=10_000)
    for wh in [(500, 400), (200, 600), (600, 600)]:
        assert adapter.image_tokens(*wh) * adapter.factor**2 <= 10_000
        encoded = encode(adapter, "<image>", [picture_of(*wh)])
        assert encoded.ids_L.count(adapter.placeholder_id) == adapter.image_tokens(*wh)
    large = load_adapter(family_checkpoint(family), min_pixels=40_000)
    assert large.image_tokens(56, 56) * adapter.factor**2 >= 40_000
    with pytest.raises(ModelError, match=f"at least {adapter.factor**2}, one image token"):
        load_adapter(family_checkpoint(family), min_pixels=1, max_pixels=adapter.factor**2 - 1)
    with pytest.raises(ModelError, match="wanted min_pixels <= max_pixels"):
        load_adapter(family_checkpoint(family), min_pixels=20_000, max_pixels=10_000)


@every_family
def test_an_image_as_thin_as_no_resize_takes_is_an_error(family: str, family_adapter) -> None:
    with pytest.raises(DataError, match=r"an image of 9000 x 30 pixels: .*200.*; crop it or drop the record"):
        encode(family_adapter(family), "<image>what", [picture_of(9000, 30)])


# What comes out -------------------------------------------------------------------------------------------------------


class Made(NamedTuple):
    """A tiny model in float64 that tests may use, but not change; and prompts of every kind."""

    model: Any
    prompts: dict[str, EncodedPrompt]


@pytest.fixture(scope="module")
def models(family_checkpoint, family_adapter):
    @cache
    def make(family: str) -> Made:
        section = ModelSection(path=str(family_checkpoint(family)), dtype="float64")
        adapter = family_adapter(family)
        return Made(load_model(section, adapter).eval(), family_prompts(adapter))

    return make


@every_family
def test_greedy_equals_generate(family: str, family_adapter, models) -> None:
    adapter, (model, prompts), length = family_adapter(family), models(family), 10
    sampled = HFSampler(model, adapter).sample([prompts[kind] for kind in KINDS], [[1, 2]] * len(KINDS), greedy(length))
    distinct = set()
    for kind, own in zip(KINDS, sampled, strict=True):
        out = model.generate(
            **stock_arguments(adapter, prompts[kind]),
            do_sample=False,
            max_new_tokens=length,
            suppress_tokens=list(adapter.banned_ids()),
            return_dict_in_generate=True,
            output_scores=True,
        )
        logprobs_TV = torch.cat(out.scores).double().log_softmax(-1)
        for completion in own:
            tokens = len(completion.ids_T)
            assert list(completion.ids_T) == out.sequences[0, len(prompts[kind].ids_L) :][:tokens].tolist()
            expected = logprobs_TV[range(tokens), completion.ids_T]
            torch.testing.assert_close(
                torch.tensor(completion.logprobs_T, dtype=torch.float64), expected, atol=1e-5, rtol=0
            )
            distinct |= set(completion.ids_T)
    assert len(distinct) >= 4, "a model that repeats one token proves little"


@every_family
def test_rows_equal_the_stock_forward_and_packed_equals_rows(family: str, family_adapter, models) -> None:
    adapter, (model, prompts) = family_adapter(family), models(family)
    layout, reason = choose_layout("auto", model.config.get_text_config())
    assert (layout == "rows") is (family in ROWS), reason
    batch = CompletionBatch(
        [prompts[kind] for kind in KINDS], [completions(adapter, [5, 9, 3], seed) for seed in range(len(KINDS))]
    )
    policy = Policy(model, adapter, 0.7, layout)
    rows = score(policy, batch, "rows")
    members = [(prompt, ids_T) for prompt, own in zip(*batch, strict=True) for ids_T in own]
    for logprobs_T, (prompt, ids_T) in zip(rows.logprobs_NT, members, strict=True):
        expected = stock_logprobs(model, adapter, prompt, ids_T, temperature=0.7)
        torch.testing.assert_close(logprobs_T[: len(ids_T)], expected, atol=tolerance(family), rtol=0)
    if layout == "packed":
        assert max(largest_difference(score(policy, batch), rows)) < TOLERANCE
    swapped = batch._replace(prompts=[*batch.prompts[1:], batch.prompts[0]])
    assert largest_difference(score(policy, swapped), rows)[0] > 1e-3


def stock_logprobs(model: Any, adapter: Any, prompt: EncodedPrompt, ids_T: Any, temperature: float) -> torch.Tensor:
    with torch.no_grad():
        logits = model(**stock_arguments(adapter, prompt, ids_T)).logits[0, len(prompt.ids_L) - 1 : -1]
    logits[:, list(adapter.banned_ids())] = float("-inf")
    return (logits / temperature).log_softmax(-1)[range(len(ids_T)), list(ids_T)]


@every_family
def test_the_sampler_agrees_with_the_trainer_and_looks_at_the_image(family: str, family_adapter, models) -> None:
    adapter, (model, prompts) = family_adapter(family), models(family)
    chosen = [prompts["one"], prompts["several"]]
    sampled = HFSampler(model, adapter).sample(chosen, [[1, 2, 3]] * 2, SamplingParams(8, temperature=0.9))
    ids_P_G_T = [[completion.ids_T for completion in own] for own in sampled]
    policy = Policy(model, adapter, 0.9, choose_layout("auto", model.config.get_text_config())[0])
    with torch.no_grad():
        scored = policy(CompletionBatch(chosen, ids_P_G_T)).logprobs_NT
        blank = policy(CompletionBatch([adapter.blank(prompt) for prompt in chosen], ids_P_G_T)).logprobs_NT
        features = adapter.image_features(model, chosen)
        unread = {"pixel_values": torch.full((1, 1), torch.nan)}
        kept = [
            replace(p, features=own, vision={**p.vision, **unread}) for p, own in zip(chosen, features, strict=True)
        ]
        reused = policy(CompletionBatch(kept, ids_P_G_T)).logprobs_NT
    for logprobs_T, completion in zip(scored, [c for own in sampled for c in own], strict=True):
        own = torch.tensor(completion.logprobs_T, dtype=torch.float64)
        torch.testing.assert_close(logprobs_T[: len(own)], own, atol=tolerance(family), rtol=0)
        assert not set(completion.ids_T) & set(adapter.banned_ids())
    assert float((scored - blank).abs().max()) > 1e-3
    torch.testing.assert_close(reused, scored, atol=TOLERANCE, rtol=0)


# What trains and is saved ---------------------------------------------------------------------------------------------


def judged(adapter: Any, prompt: EncodedPrompt) -> Group:
    """Two completions of which the first was better."""
    rollouts = [
        Rollout(Completion(ids_T, (0.0,) * len(ids_T), "", StopReason.STOP), Score(0.0, {}, None, None, {}), advantage)
        for ids_T, advantage in zip(completions(adapter, [6, 9]), (1.0, -1.0), strict=True)
    ]
    return Group(Record("0", "rec", "", (), None), prompt, tuple(rollouts))


@every_family
@pytest.mark.parametrize("frozen", [False, True], ids=["all", "vision frozen"])
def test_a_grpo_step_changes_what_should_train(frozen: bool, family: str, recipe, family_checkpoint, models) -> None:
    overrides = {"model.path": str(family_checkpoint(family)), "model.freeze_vision_modules": frozen}
    config = load_config(recipe(**overrides, **{"training.weight_decay": 0.0}))
    learner = Learner(config, load_adapter(config.model.path), None, temperature=1.0)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.begin_step()
    group = judged(learner.adapter, models(family).prompts["several"])
    update_policy([group], group, learner, None, Phases())
    changed = {name for name, p in learner.model.named_parameters() if not torch.equal(p, before[name])}
    vision = {name for name in before if name.startswith("model.visual.")}
    assert vision
    assert vision < before.keys()
    assert changed == (before.keys() - vision if frozen else before.keys())


@every_family
def test_a_saved_model_is_the_same_in_plain_transformers(family: str, family_checkpoint, family_adapter, tmp_path):
    adapter = family_adapter(family)
    model = load_model(ModelSection(path=str(family_checkpoint(family))), adapter).eval()
    Policy(model, adapter, layout=choose_layout("auto", model.config.get_text_config())[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.02)
    model.save_pretrained(tmp_path)
    adapter.save(tmp_path)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    prompt = encode(adapter, "<image>what is it", [picture_of(84, 56)])
    arguments = stock_arguments(adapter, prompt)
    with torch.no_grad():
        torch.testing.assert_close(plain(**arguments).logits, model(**arguments).logits, atol=1e-5, rtol=0)
    assert plain.generation_config.eos_token_id == model.generation_config.eos_token_id
    assert "shared_prefix" not in (tmp_path / "config.json").read_text()
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it"}]}]
    text = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert text.startswith(prompt.text)
    pixels = AutoImageProcessor.from_pretrained(tmp_path)(images=[picture_of(84, 56)], return_tensors="pt")
    assert torch.equal(pixels["pixel_values"], prompt.vision["pixel_values"])
