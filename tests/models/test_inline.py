"""InternVL, Gemma 3, Idefics3, SmolVLM and LLaVA-OneVision against their stock processors and stock models."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, ProcessorMixin

from testing_families import KINDS, encode, family_prompts, picture_of, stock_arguments
from testing_policy import TOLERANCE, completions, largest_difference, score
from testing_processors import combined_processor
from vlm_r1.config import load_config
from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import ModelError
from vlm_r1.grpo.update import update_policy
from vlm_r1.models import ADAPTERS, load_adapter, load_model
from vlm_r1.models.inline import InlineImages
from vlm_r1.models.tiny import TINY
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.packed import choose_layout
from vlm_r1.runtime.phases import Phases
from vlm_r1.sampling import SamplingParams, greedy
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.training.learner import Learner
from vlm_r1.types import Completion, EncodedPrompt, Group, Prompt, Record, Rollout, Score, StopReason

FAMILIES = sorted(family for family, adapter in ADAPTERS.items() if issubclass(adapter, InlineImages))
every_family = pytest.mark.parametrize("family", FAMILIES)


def test_every_one_has_a_tiny_checkpoint() -> None:
    assert len(FAMILIES) == 5
    assert set(FAMILIES) <= set(TINY)


# What goes in ---------------------------------------------------------------------------------------------------------


CONVERSATIONS = {
    "none": ("what is red", []),
    "one": ("<image>what is red", [(56, 56)]),
    "wide": ("see <image> and say", [(150, 60)]),
    "several": ("before <image> and <image> after", [(84, 56), (50, 121)]),
}


# SmolVLM's wants num2words, for videos; its images are those of Idefics3
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "smolvlm"])
@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_prompts_are_those_of_the_stock_processor(kind: str, family: str, family_adapter) -> None:
    adapter = family_adapter(family)
    text, sizes = CONVERSATIONS[kind]
    pictures = [picture_of(width, height, seed) for seed, (width, height) in enumerate(sizes)]
    texts, content = text.split("<image>"), []
    for picture, after in zip([None, *pictures], texts, strict=True):
        content += [{"type": "image", "image": picture}] if picture else []
        content += [{"type": "text", "text": after}] if after else []
    processor = combined_processor(adapter.processor_class, adapter, adapter.processor_settings())
    expected = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        chat_template=adapter.tokenizer.chat_template,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    encoded = encode(adapter, text, pictures)
    assert list(encoded.ids_L) == expected["input_ids"][0].tolist()
    for name, tensor in encoded.vision.items():
        assert torch.equal(tensor, expected[name]), name
    types = adapter.token_types(torch.tensor([encoded.ids_L]))
    assert {name: tensor.tolist() for name, tensor in types.items()} == {
        name: tensor.tolist() for name, tensor in expected.items() if name == "token_type_ids"
    }


def test_smolvlm_prompts_are_those_of_idefics3(family_adapter) -> None:
    one, other = (family_prompts(family_adapter(family)) for family in ("smolvlm", "idefics3"))
    for kind in KINDS:
        assert one[kind].ids_L == other[kind].ids_L
        for name, tensor in one[kind].vision.items():
            assert torch.equal(tensor, other[kind].vision[name])


def random_sizes(count: int) -> list[tuple[int, int]]:
    """Log-uniform sides of 4 to 600 px."""
    sides = random.Random(0)
    return [(int(4 * 150 ** sides.random()), int(4 * 150 ** sides.random())) for _ in range(count)]


@every_family
def test_placeholders_are_as_many_as_features(family: str, family_adapter, models) -> None:
    adapter, text = family_adapter(family), "<image>what is it"
    for wh in [(1, 40), (600, 3), (3, 600), (56, 56), (57, 56), (200, 31), *random_sizes(16)]:
        encoded = encode(adapter, text, [picture_of(*wh)])
        (features,) = adapter.encode_images(models(family).model, [encoded])
        placeholders = encoded.ids_L.count(adapter.placeholder_id)
        assert placeholders == len(features) == adapter.image_tokens(*wh), wh
        assert adapter.prompt_length(Prompt(text, ("",)), [wh]) == len(encoded.ids_L)
        assert encoded.frames[0].original_wh == wh


@every_family
def test_an_images_features_do_not_depend_on_its_neighbours(family: str, family_adapter, models) -> None:
    adapter, (model, prompts) = family_adapter(family), models(family)
    chosen = [prompts["wide"], prompts["several"], prompts["one"]]
    alone = [features for prompt in chosen for features in adapter.encode_images(model, [prompt])]
    together = adapter.encode_images(model, chosen)
    assert len(together) == len(alone) == 4
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=0)


@every_family
def test_several_images_keep_their_order(family: str, family_adapter, models) -> None:
    adapter, model = family_adapter(family), models(family).model
    pictures = [picture_of(84, 56, 2), picture_of(56, 112, 3)]
    there, back = (encode(adapter, "<image> then <image>", order) for order in (pictures, pictures[::-1]))
    assert there.frames == back.frames[::-1]
    for a, b in zip(adapter.encode_images(model, [there]), adapter.encode_images(model, [back])[::-1], strict=True):
        torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=0)


@every_family
def test_structure_is_never_drawn(family: str, family_adapter, models) -> None:
    adapter = family_adapter(family)
    special = {id for id, token in adapter.tokenizer.added_tokens_decoder.items() if token.special}
    text, expanded = (set(models(family).prompts[kind].ids_L) for kind in ("none", "several"))
    assert (expanded - text) & special <= set(adapter.banned_ids())
    assert not set(adapter.banned_ids()) & set(adapter.tokenize("a <think>b</think> [1, 2]\n"))


@every_family
def test_the_templates_own_marks_may_not_stand_in_the_data(family: str, family_adapter) -> None:
    adapter = family_adapter(family)
    mark = adapter.mark or adapter.placeholder
    if mark != "<image>":  # which is our own mark too
        with pytest.raises(ModelError, match="contains the model's own placeholder"):
            encode(adapter, f"<image>what is {mark}", [picture_of(56, 56)])
    with pytest.raises(ModelError, match="1 <image> for 2 images"):
        encode(adapter, "<image>what", [picture_of(56, 56)] * 2)


class OfAnotherModel:
    """An image processor without any settings of these families."""


@every_family
def test_an_image_processor_of_another_model_is_an_error(family: str, family_adapter) -> None:
    adapter = family_adapter(family)
    stranger = type(adapter)(adapter.config, adapter.tokenizer, OfAnotherModel())
    with pytest.raises(ModelError, match=r"there: the image processor has no .* belongs to another model; copy"):
        stranger.check("there")
    other_size: Any = AutoImageProcessor.from_pretrained(adapter.config.name_or_path)
    for setting in ("size", "max_image_size"):
        setattr(other_size, setting, {"height": 28, "width": 28, "longest_edge": 28})
    with pytest.raises(ModelError, match="makes squares of 28 pixels, not 56"):
        type(adapter)(adapter.config, adapter.tokenizer, other_size).check("there")


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
            found = torch.tensor(completion.logprobs_T, dtype=torch.float64)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)  # generate's scores are float32
            distinct |= set(completion.ids_T)
    assert len(distinct) >= 4, "a model that repeats one token proves little"


def stock_logprobs(model: Any, adapter: Any, prompt: EncodedPrompt, ids_T: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = model(**stock_arguments(adapter, prompt, ids_T)).logits[0, len(prompt.ids_L) - 1 : -1]
    logits[:, list(adapter.banned_ids())] = float("-inf")
    return (logits / 0.7).log_softmax(-1)[range(len(ids_T)), list(ids_T)]


@every_family
def test_packed_equals_rows_and_the_stock_forward(family: str, family_adapter, models) -> None:
    adapter, (model, prompts) = family_adapter(family), models(family)
    assert choose_layout("auto", model.config.get_text_config(), adapter.doubt)[0] == "packed"
    batch = CompletionBatch(
        [prompts[kind] for kind in KINDS], [completions(adapter, [5, 30, 3], seed) for seed in range(len(KINDS))]
    )
    policy = Policy(model, adapter, 0.7, "packed")
    packed = score(policy, batch)
    assert max(largest_difference(packed, score(policy, batch, "rows"))) < TOLERANCE
    members = [(prompt, ids_T) for prompt, own in zip(*batch, strict=True) for ids_T in own]
    for logprobs_T, (prompt, ids_T) in zip(packed.logprobs_NT, members, strict=True):
        expected = stock_logprobs(model, adapter, prompt, ids_T)
        torch.testing.assert_close(logprobs_T[: len(ids_T)], expected, atol=TOLERANCE, rtol=0)
    twins = batch._replace(prompts=[prompts["twin"], *batch.prompts[1:]])
    assert largest_difference(score(policy, twins), packed)[0] > 1e-3, "another picture in the same words"


@every_family
def test_the_sampler_agrees_with_the_trainer_and_looks_at_the_image(family: str, family_adapter, models) -> None:
    adapter, (model, prompts) = family_adapter(family), models(family)
    chosen = [prompts["one"], prompts["several"]]
    sampled = HFSampler(model, adapter).sample(chosen, [[1, 2, 3]] * 2, SamplingParams(8, temperature=0.9))
    ids_P_G_T = [[completion.ids_T for completion in own] for own in sampled]
    policy = Policy(model, adapter, 0.9)
    with torch.no_grad():
        scored = policy(CompletionBatch(chosen, ids_P_G_T)).logprobs_NT
        blank = policy(CompletionBatch([adapter.blank(prompt) for prompt in chosen], ids_P_G_T)).logprobs_NT
        kept = [
            replace(prompt, features=own, vision={})
            for prompt, own in zip(chosen, adapter.image_features(model, chosen), strict=True)
        ]
        reused = policy(CompletionBatch(kept, ids_P_G_T)).logprobs_NT
    for logprobs_T, completion in zip(scored, [c for own in sampled for c in own], strict=True):
        own = torch.tensor(completion.logprobs_T, dtype=torch.float64)
        torch.testing.assert_close(logprobs_T[: len(own)], own, atol=5 * TOLERANCE, rtol=0)
        assert not set(completion.ids_T) & set(adapter.banned_ids())
    for row in (slice(0, 3), slice(3, 6)):
        assert float((scored - blank)[row].abs().max()) > 1e-3
    torch.testing.assert_close(reused, scored, atol=TOLERANCE, rtol=0)


# What trains and is saved ---------------------------------------------------------------------------------------------


def judged(adapter: Any, prompt: EncodedPrompt) -> Group:
    """Two completions of which the first was better."""
    rollouts = [
        Rollout(Completion(ids_T, (0.0,) * len(ids_T), "", StopReason.STOP), Score(0.0, {}, None, None, {}), advantage)
        for ids_T, advantage in zip(completions(adapter, [6, 9]), (1.0, -1.0), strict=True)
    ]
    return Group(Record("0", "rec", "", (), None), prompt, tuple(rollouts))


UNREACHED = {f"model.vision_tower.post_layernorm.{name}" for name in ("weight", "bias")}
"""LLaVA-OneVision takes its features before it."""


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
    vision = {name for name in before if name.startswith(learner.adapter.vision_modules)}
    text = {name for name in before if ".language_model." in name or ".text_model." in name or "lm_head" in name}
    assert vision | text == before.keys()
    assert not vision & text
    reached = before.keys() - UNREACHED if family == "llava_onevision" else before.keys()
    assert changed == {name for name, p in learner.model.named_parameters() if p.requires_grad}
    assert changed == (text if frozen else reached)


@every_family
def test_a_saved_model_is_the_same_in_plain_transformers(family: str, family_checkpoint, family_adapter, tmp_path):
    adapter = family_adapter(family)
    model = load_model(ModelSection(path=str(family_checkpoint(family))), adapter).eval()
    Policy(model, adapter)
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
    again = load_adapter(tmp_path)
    assert encode(again, "<image>what is it", [picture_of(84, 56)]).ids_L == prompt.ids_L
    settings, _ = ProcessorMixin.get_processor_dict(tmp_path)
    assert settings["processor_class"] == adapter.processor_class
    assert {name: settings[name] for name in adapter.processor_settings()} == adapter.processor_settings()
