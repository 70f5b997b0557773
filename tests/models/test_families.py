"""What holds for every model family: its stock processor and stock model say the same, it trains, it is saved whole.

What only one kind of family has is in test_patch_grid.py, test_inline.py and test_generic.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from testing_families import (
    FAMILIES,
    GENERIC,
    KINDS,
    encode,
    family_prompts,
    picture_of,
    random_sizes,
    stock_arguments,
)
from testing_policy import TOLERANCE, completions, largest_difference, score
from vlm_r1.config import load_config
from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import ModelError
from vlm_r1.grpo.update import update_policy
from vlm_r1.models import ADAPTERS, load_adapter, load_model
from vlm_r1.models.inline import InlineImages
from vlm_r1.models.patch_grid import PatchGrid
from vlm_r1.models.stock import stock_processor
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.packed import Layout, choose_layout
from vlm_r1.runtime.phases import Phases
from vlm_r1.sampling import SamplingParams, greedy
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.training.learner import Learner
from vlm_r1.types import Completion, EncodedPrompt, Group, Prompt, Record, Rollout, Score, StopReason

ALL = (*FAMILIES, *GENERIC)
every_family = pytest.mark.parametrize("family", ALL)

KIND_OF = {
    **{family: "patch grid" for family, adapter in ADAPTERS.items() if issubclass(adapter, PatchGrid)},
    **{family: "inline" for family, adapter in ADAPTERS.items() if issubclass(adapter, InlineImages)},
    **dict.fromkeys(GENERIC, "generic"),
}
"""Of each family's adapter."""

LINEAR = ("qwen3_5", "qwen3_5_moe")
"""Families whose prompts cannot be shared by packing: linear attention, in float32 whatever the weights."""

ROWS = (*LINEAR, *GENERIC)
"""Families that layout `auto` computes in rows; the generic adapter's only because nobody vouches for them."""

TOLERANCES = {family: 3e-5 if family in (*LINEAR, "gemma4") else TOLERANCE for family in ALL}
"""Of log-probabilities in float64, computed in another order. Gemma 4's norms and pooling are float32."""

TOLERANCES_SAVED = {family: 0.0 if family in GENERIC else 1e-5 for family in ALL}
"""Of logits in float32 after saving and loading; the generic adapter replaces no modules."""

OPENED = {family: "<think>\n" if family in LINEAR else "" for family in ALL}
"""What the template writes for the model, and we leave to the completion."""

SIZES = {
    "patch grid": [(3, 40), (52, 52), (200, 31), (31, 200), *random_sizes(4, 4)],
    "inline": [(1, 40), (600, 3), (3, 600), (56, 56), (57, 56), (200, 31), *random_sizes(4, 16)],
    "generic": [(56, 56), (150, 60), (30, 90)],
}
"""Of images, (width, height), for each kind of family: thin ones, ones near to a multiple of 28, any."""

TOLD = {family: {"crop_to_patches": True} for family in ("internvl", "aya_vision")}
"""What combined processors tell their image processor, which a saved folder does not."""

UNREACHED = {
    "aya_vision": ("post_layernorm.", "vision_tower.head."),  # it reads the last layer, before its norm
    "llava": ("encoder.layers.1.", "post_layernorm."),  # of two vision layers it reads the first
    "llava_next": ("encoder.layers.1.", "post_layernorm."),
    "llava_onevision": ("model.vision_tower.post_layernorm.",),
}
"""Parameters behind the layer whose features the language model reads."""


def test_every_family_has_a_tiny_checkpoint() -> None:
    assert set(FAMILIES) == set(ADAPTERS)
    assert not set(GENERIC) & set(ADAPTERS)
    assert Counter(KIND_OF[family] for family in ALL) == {"patch grid": 10, "inline": 6, "generic": 3}


class Made(NamedTuple):
    """A tiny model in float64 that tests may use, but not change; and prompts of every kind."""

    adapter: Any
    model: Any
    prompts: dict[str, EncodedPrompt]


@pytest.fixture(scope="module")
def made(family_checkpoint, family_adapter):
    """`made("qwen3_vl")`, made once."""

    @cache
    def make(family: str) -> Made:
        adapter = family_adapter(family)
        model = load_model(ModelSection(path=str(family_checkpoint(family)), dtype="float64"), adapter)
        return Made(adapter, model.eval(), family_prompts(adapter))

    return make


# What goes in ---------------------------------------------------------------------------------------------------------


CONVERSATIONS = {
    "none": ("what is red", []),
    "one": ("<image>what is red", [(56, 56)]),
    "wide": ("see <image> and say", [(150, 60)]),
    "several": ("before <image> and <image> after", [(84, 56), (50, 121)]),
}
AMONG_WORDS = "first <image> then <image>, last <image> end"
PICTURES = [picture_of(84, 56, 2), picture_of(56, 112, 3), picture_of(40, 40, 4)]


# SmolVLM's wants num2words, for videos; its images are those of Idefics3. GLM-GA has none; it sees as GLM-4.6V
@pytest.mark.parametrize("family", [family for family in ALL if family not in ("smolvlm", "glmga")])
@pytest.mark.parametrize("kind", CONVERSATIONS)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # GLM's
def test_prompts_are_those_of_the_stock_processor(kind: str, family: str, family_adapter) -> None:
    adapter = family_adapter(family)
    text, sizes = CONVERSATIONS[kind]
    pictures = [picture_of(width, height, seed) for seed, (width, height) in enumerate(sizes)]
    texts, content = text.split("<image>"), []
    for picture, after in zip([None, *pictures], texts, strict=True):
        content += [{"type": "image", "image": picture}] if picture else []
        content += [{"type": "text", "text": after}] if after else []
    expected = stock_processor(adapter).apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    encoded = encode(adapter, text, pictures)
    assert [*encoded.ids_L, *adapter.tokenize(OPENED[family])] == expected["input_ids"][0].tolist()
    for name, tensor in encoded.vision.items():
        assert torch.equal(tensor, expected[name]), name
    types = adapter.token_types(torch.tensor([encoded.ids_L]))
    assert {name: tensor.tolist() for name, tensor in types.items()} == {
        name: tensor.tolist() for name, tensor in expected.items() if name in ("token_type_ids", *types)
    }


@every_family
@torch.no_grad()
def test_placeholders_are_as_many_as_features(family: str, made) -> None:
    (adapter, model, _), text = made(family), "<image>what is it"
    for wh in SIZES[KIND_OF[family]]:
        encoded = encode(adapter, text, [picture_of(*wh)])
        (features,) = adapter.encode_images(model, [encoded])
        placeholders = encoded.ids_L.count(adapter.config.image_token_id)
        assert placeholders == len(features) == adapter.image_tokens(*wh), wh
        assert adapter.prompt_length(Prompt(text, ("",)), [wh]) == len(encoded.ids_L)
        assert encoded.frames[0].original_wh == wh


@every_family
@torch.no_grad()
def test_several_images_keep_their_order(family: str, made) -> None:
    adapter, model, _ = made(family)
    there, back = (encode(adapter, AMONG_WORDS, order) for order in (PICTURES, PICTURES[::-1]))
    assert there.frames == back.frames[::-1]
    for a, b in zip(adapter.encode_images(model, [there]), adapter.encode_images(model, [back])[::-1], strict=True):
        torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=0)


# LLaVA-OneVision cuts no tiles of several images, and its template puts them before the words
@pytest.mark.parametrize("family", [family for family in ALL if family != "llava_onevision"])
@torch.no_grad()
def test_an_image_among_others_is_seen_as_alone(family: str, made) -> None:
    adapter, model, _ = made(family)
    together = encode(adapter, AMONG_WORDS, PICTURES)
    alone = [encode(adapter, "<image>", [picture]) for picture in PICTURES]
    assert together.frames == tuple(prompt.frames[0] for prompt in alone)
    features = adapter.encode_images(model, [together])
    for own, (expected,) in zip(features, adapter.image_features(model, alone), strict=True):
        torch.testing.assert_close(own, expected, atol=TOLERANCE, rtol=0)
    texts = together.text.split(adapter.template_image_token or adapter.placeholder)
    assert [word in text for word, text in zip(("first", "then", "last", "end"), texts, strict=True)] == [True] * 4


@every_family
@torch.no_grad()
def test_an_images_features_do_not_depend_on_other_prompts(family: str, made) -> None:
    adapter, model, prompts = made(family)
    chosen = [prompts["wide"], prompts["several"], prompts["one"]]
    alone = [features for prompt in chosen for features in adapter.encode_images(model, [prompt])]
    together = adapter.encode_images(model, chosen)
    assert len(together) == len(alone) == 4
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=0)


@every_family
def test_positions_are_of_three_axes_or_ordinary(family: str, made) -> None:
    adapter, model, prompts = made(family)
    of_patch_grid = KIND_OF[family] == "patch grid"
    for prompt in prompts.values():
        (positions,) = adapter.positions(model, [prompt])
        assert positions.shape == (3 if of_patch_grid else 1, len(prompt.ids_L))
        if prompt.frames and of_patch_grid:
            assert positions.max() < len(prompt.ids_L) - 1, "an image takes fewer positions than tokens"
        else:
            assert torch.equal(positions, torch.arange(len(prompt.ids_L)).expand(positions.shape))


@every_family
def test_structure_is_never_drawn(family: str, made) -> None:
    adapter, _, prompts = made(family)
    special = {id for id, token in adapter.tokenizer.added_tokens_decoder.items() if token.special}
    text, expanded = set(prompts["none"].ids_L), set(prompts["several"].ids_L)
    assert (expanded - text) & special <= set(adapter.banned_ids())
    assert not set(adapter.banned_ids()) & set(adapter.tokenize("a <think>b</think> [1, 2]\n"))


@every_family
def test_the_templates_own_marks_may_not_stand_in_the_data(family: str, family_adapter) -> None:
    adapter = family_adapter(family)
    image_token = adapter.template_image_token or adapter.placeholder
    if image_token != "<image>":  # which is our own token too
        with pytest.raises(ModelError, match="contains the model's own placeholder"):
            encode(adapter, f"<image>what is {image_token}", [picture_of(56, 56)])
    with pytest.raises(ModelError, match="1 <image> for 2 images"):
        encode(adapter, "<image>what", [picture_of(56, 56)] * 2)


# What comes out -------------------------------------------------------------------------------------------------------


@every_family
def test_greedy_equals_generate(family: str, made) -> None:
    (adapter, model, prompts), length = made(family), 10
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
    assert len(distinct) >= 3, "a model that repeats one token proves little"  # which weights: torch 2.9 draws others


def auto_layout(made: Made) -> tuple[Layout, str]:
    return choose_layout("auto", made.model.config.get_text_config(), made.adapter.why_not_shared)


@every_family
def test_the_sampler_agrees_with_the_trainer_and_looks_at_the_image(family: str, made) -> None:
    adapter, model, prompts = made(family)
    chosen = [prompts["one"], prompts["several"]]
    sampled = HFSampler(model, adapter).sample(chosen, [[1, 2, 3]] * 2, SamplingParams(8, temperature=0.9))
    ids_P_G_T = [[completion.ids_T for completion in own] for own in sampled]
    policy = Policy(model, adapter, 0.9, auto_layout(made(family))[0])
    with torch.no_grad():
        scored = policy(CompletionBatch(chosen, ids_P_G_T)).logprobs_NT
        blank = policy(CompletionBatch([adapter.blank(prompt) for prompt in chosen], ids_P_G_T)).logprobs_NT
        features = adapter.image_features(model, chosen)
        kept = [replace(p, features=own, vision=unseen(p)) for p, own in zip(chosen, features, strict=True)]
        reused = policy(CompletionBatch(kept, ids_P_G_T)).logprobs_NT
    for logprobs_T, completion in zip(scored, [c for own in sampled for c in own], strict=True):
        own = torch.tensor(completion.logprobs_T, dtype=torch.float64)
        torch.testing.assert_close(logprobs_T[: len(own)], own, atol=TOLERANCES[family], rtol=0)
        assert not set(completion.ids_T) & set(adapter.banned_ids())
    for row in (slice(0, 3), slice(3, 6)):
        assert float((scored - blank)[row].abs().max()) > 1e-3
    torch.testing.assert_close(reused, scored, atol=TOLERANCE, rtol=0)


def unseen(prompt: EncodedPrompt) -> dict[str, Any]:
    """The prompt's vision without pixels: only what positions are made of."""
    return {name: tensor for name, tensor in prompt.vision.items() if name == "image_grid_thw"}


def stock_logprobs(model: Any, adapter: Any, prompt: EncodedPrompt, ids_T: Sequence[int], temperature: float) -> Any:
    with torch.no_grad():
        logits = model(**stock_arguments(adapter, prompt, ids_T)).logits[0, len(prompt.ids_L) - 1 : -1]
    logits[:, list(adapter.banned_ids())] = float("-inf")
    return (logits / temperature).log_softmax(-1)[range(len(ids_T)), list(ids_T)]


@every_family
def test_rows_and_packed_equal_the_stock_forward_and_each_other(family: str, made) -> None:
    adapter, model, prompts = made(family)
    layout, reason = auto_layout(made(family))
    assert (layout == "rows") is (family in ROWS), reason
    batch = CompletionBatch(
        [prompts[kind] for kind in KINDS], [completions(adapter, [5, 30, 3], seed) for seed in range(len(KINDS))]
    )
    policy = Policy(model, adapter, 0.7, layout)
    scored = [score(policy, batch, "rows")]
    if family not in LINEAR:
        scored.append(score(Policy(model, adapter, 0.7, "packed"), batch))
        assert max(largest_difference(*scored)) < TOLERANCE
    members = [(prompt, ids_T) for prompt, own in zip(batch.prompts, batch.ids_P_G_T, strict=True) for ids_T in own]
    for row, (prompt, ids_T) in enumerate(members):
        expected = stock_logprobs(model, adapter, prompt, ids_T, temperature=0.7)
        for logprobs_NT, _, _ in scored:
            own = logprobs_NT[row, : len(ids_T)]
            torch.testing.assert_close(own, expected, atol=TOLERANCES[family], rtol=0)
    others = batch._replace(prompts=[prompts[kind] for kind in ("twin", "several", "none", "wide")])
    with torch.no_grad():
        difference_NT = (policy(others).logprobs_NT - scored[0].logprobs_NT).abs()
    assert float(difference_NT[:3].max()) > 1e-3, "another picture in the same words"
    assert float(difference_NT[3:].max()) > 1e-3, "other prompts"


# What trains and is saved ---------------------------------------------------------------------------------------------


def judged(adapter: Any, prompt: EncodedPrompt) -> Group:
    """Two completions of which the first was better."""
    rollouts = [
        Rollout(
            Completion.sampled(ids_T, (0.0,) * len(ids_T), "", StopReason.STOP),
            Score(0.0, {}, None, None, {}),
            advantage,
        )
        for ids_T, advantage in zip(completions(adapter, [6, 9]), (1.0, -1.0), strict=True)
    ]
    return Group(Record("0", "rec", "", (), None), prompt, tuple(rollouts))


@every_family
@pytest.mark.parametrize("frozen", [False, True], ids=["all", "vision frozen"])
def test_a_grpo_step_changes_what_should_train(frozen: bool, family: str, recipe, family_checkpoint, made) -> None:
    overrides = {"model.path": str(family_checkpoint(family)), "model.freeze_vision_modules": frozen}
    config = load_config(recipe(**overrides, **{"training.weight_decay": 0.0}))
    adapter, _, prompts = made(family)
    learner = Learner(config, adapter, None, temperature=1.0)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.begin_step()
    group = judged(adapter, prompts["several"])
    update_policy([group], group, learner, None, Phases())
    changed = {name for name, p in learner.model.named_parameters() if not torch.equal(p, before[name])}
    vision = {name for name in before if name.startswith(adapter.vision_modules)}
    text = {name for name in before if ".language_model." in name or ".text_model." in name or "lm_head" in name}
    assert vision
    assert text
    assert vision | text == before.keys()
    assert not vision & text
    unreached = {name for name in vision if any(part in name for part in UNREACHED.get(family, ()))}
    assert changed == (text if frozen else before.keys() - unreached)
    trainable = {name for name, p in learner.model.named_parameters() if p.requires_grad}
    # only an adapter of its own knows what is never reached
    assert trainable == (changed | unreached if family in GENERIC and not frozen else changed)


@every_family
def test_a_saved_model_is_the_same_in_plain_transformers(family: str, made, family_checkpoint, tmp_path) -> None:
    adapter = made(family).adapter
    model = load_model(ModelSection(path=str(family_checkpoint(family))), adapter).eval()
    Policy(model, adapter, layout=auto_layout(made(family))[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.02)
    model.save_pretrained(tmp_path)
    adapter.save(tmp_path)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    picture, text = picture_of(84, 56), "<image>what is it"
    prompt = encode(adapter, text, [picture])
    arguments = stock_arguments(adapter, prompt)
    with torch.no_grad():
        found, expected = plain(**arguments).logits, model(**arguments).logits
    torch.testing.assert_close(found, expected, atol=TOLERANCES_SAVED[family], rtol=0)
    assert plain.generation_config.eos_token_id == model.generation_config.eos_token_id
    assert "shared_prefix" not in (tmp_path / "config.json").read_text()
    assert encode(load_adapter(tmp_path, box_format=adapter.box_format), text, [picture]).ids_L == prompt.ids_L
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it"}]}]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == prompt.text + OPENED[family]
    image_processor = AutoImageProcessor.from_pretrained(tmp_path)
    pixels = image_processor(images=[picture], return_tensors="pt", **TOLD.get(family, {}))["pixel_values"]
    assert torch.equal(pixels, prompt.vision["pixel_values"])
