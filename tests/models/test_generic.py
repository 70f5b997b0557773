"""The generic adapter on model types that are not built in: LLaVA and LLaVA-NeXT suit it, others are refused."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from testing_families import KINDS, SIZE, encode, family_prompts, picture_of, stock_arguments
from testing_policy import TOLERANCE, completions, largest_difference, score
from testing_processors import combined_processor
from vlm_r1.config import load_config
from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.grpo.update import update_policy
from vlm_r1.models import ADAPTERS, load_adapter, load_model
from vlm_r1.models.generic import Generic
from vlm_r1.models.tiny.common import Vocabulary, text_sizes, train_tokenizer
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.packed import choose_layout
from vlm_r1.runtime.phases import Phases
from vlm_r1.sampling import greedy
from vlm_r1.sampling.decoding import choose_decoding, expanded
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.training.learner import Learner
from vlm_r1.types import BoxFormat, Completion, Group, Prompt, Record, Rollout, Score, StopReason

CORPUS = ["Please provide the bounding box coordinates of the region this sentence describes: the red circle."] * 4
VOCABULARY = Vocabulary(
    special_tokens=("<pad>", "</s>", "<s>", "<image>"),
    named_tokens={"image_token": "<image>"},
    chat_template="{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %} ASSISTANT:"
    "{% endfor %}",
    stop_tokens=("</s>",),
    pad_token="<pad>",
    bos_token="<s>",
)
CANVASES = [[56, 112], [112, 56], [112, 112]]
VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}
SQUARE = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
OF_CLIP = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


class Kind(NamedTuple):
    """A model type in small: parts of its config, preprocessor_config.json and processor_config.json."""

    text: dict[str, Any]
    vision: dict[str, Any]
    config: dict[str, Any]
    image_processor: dict[str, Any]
    processor: dict[str, Any]


KINDS_OF_MODELS = {
    "llava": Kind(
        {"model_type": "llama"},
        {"model_type": "clip_vision_model", "projection_dim": 64},
        {},
        {"image_processor_type": "CLIPImageProcessor", **SQUARE},
        {"processor_class": "LlavaProcessor", **OF_CLIP},
    ),
    "llava_next": Kind(
        {"model_type": "llama"},
        {"model_type": "clip_vision_model", "projection_dim": 64},
        {"image_grid_pinpoints": CANVASES},
        {"image_processor_type": "LlavaNextImageProcessor", "image_grid_pinpoints": CANVASES, **SQUARE},
        {"processor_class": "LlavaNextProcessor", **OF_CLIP},
    ),
    "paligemma": Kind(
        {"model_type": "gemma", "head_dim": 16},
        {"model_type": "siglip_vision_model", "vision_use_head": False},
        {"projection_dim": 64},
        {
            "image_processor_type": "SiglipImageProcessor",
            "size": {"height": 56, "width": 56},
            "image_seq_length": 16,
        },
        {"processor_class": "PaliGemmaProcessor"},
    ),
    "aya_vision": Kind(
        {"model_type": "cohere2"},
        {"model_type": "siglip_vision_model"},
        {},
        {"image_processor_type": "GotOcr2ImageProcessor", "size": {"height": 56, "width": 56}},
        {"processor_class": "AyaVisionProcessor", "patch_size": 28, "img_size": 56},
    ),
}
SUITED = ("llava", "llava_next")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory):
    """`checkpoint("llava")`: folder of a tiny random model of that type, written once."""

    @cache
    def make(model_type: str) -> Path:
        folder, kind = tmp_path_factory.mktemp(model_type), KINDS_OF_MODELS[model_type]
        tokenizer = train_tokenizer(VOCABULARY, CORPUS, 400)
        config = AutoConfig.for_model(
            model_type,
            text_config={**text_sizes(tokenizer, SIZE), **kind.text},
            vision_config={**VISION, **kind.vision},
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            **kind.config,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model: Any = AutoModelForImageTextToText.from_config(config)
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(kind.image_processor))
        (folder / "processor_config.json").write_text(json.dumps(kind.processor))
        return folder

    return make


class Made(NamedTuple):
    adapter: Any
    model: Any
    prompts: Any


@pytest.fixture
def made(checkpoint):
    """`made("llava")`: adapter, model in float64, and prompts of every kind."""

    def make(model_type: str) -> Made:
        adapter = load_adapter(checkpoint(model_type), box_format=BoxFormat.NORM_1)
        model = load_model(ModelSection(path=str(checkpoint(model_type)), dtype="float64"), adapter).eval()
        return Made(adapter, model, family_prompts(adapter))

    return make


# What it takes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", SUITED)
def test_prompts_are_the_processors_own(model_type: str, made, checkpoint) -> None:
    adapter, model, prompts = made(model_type)
    assert isinstance(adapter, Generic)
    assert model_type not in ADAPTERS
    processor = AutoProcessor.from_pretrained(checkpoint(model_type))
    pictures = [picture_of(84, 56, 2), picture_of(56, 84, 3)]
    content = [
        {"type": "text", "text": "before "},
        {"type": "image", "image": pictures[0]},
        {"type": "text", "text": " and after "},
        {"type": "image", "image": pictures[1]},
        {"type": "text", "text": ": the red circle"},
    ]
    expected = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    assert list(prompts["several"].ids_L) == expected["input_ids"][0].tolist()
    for name, tensor in prompts["several"].vision.items():
        assert torch.equal(tensor, expected[name])
    for wh in [(56, 56), (150, 60), (30, 90)]:
        encoded = encode(adapter, "<image>it", [picture_of(*wh)])
        assert encoded.ids_L.count(adapter.placeholder_id) == adapter.image_tokens(*wh)
        assert adapter.prompt_length(Prompt("<image>it", ("",)), [wh]) == len(encoded.ids_L)
        assert sum(map(len, adapter.encode_images(model, [encoded]))) == adapter.image_tokens(*wh)
        assert encoded.frames[0].original_wh == wh


@pytest.mark.parametrize("model_type", SUITED)
def test_it_finds_the_vision_part_and_the_placeholder(model_type: str, made) -> None:
    adapter, model, _ = made(model_type)
    projecting = {"model.multi_modal_projector"} | ({"model.image_newline"} if model_type == "llava_next" else set())
    assert set(adapter.vision_modules) == {"model.vision_tower"} | projecting
    assert set(adapter.projector_modules) == projecting
    assert adapter.banned_ids() == (adapter.tokenizer.convert_tokens_to_ids("<image>"),)
    assert adapter.stop_ids(model) == (adapter.tokenizer.eos_token_id,)
    assert adapter.box_format is BoxFormat.NORM_1


@pytest.mark.parametrize("model_type", SUITED)
def test_rows_equal_the_stock_forward_and_packed_equals_rows(model_type: str, made) -> None:
    adapter, model, prompts = made(model_type)
    batch = CompletionBatch(
        [prompts[kind] for kind in KINDS], [completions(adapter, [5, 9, 3], seed) for seed in range(len(KINDS))]
    )
    policy = Policy(model, adapter, layout="rows")
    rows = score(policy, batch)
    members = [(prompt, ids_T) for prompt, own in zip(*batch, strict=True) for ids_T in own]
    for logprobs_T, (prompt, ids_T) in zip(rows.logprobs_NT, members, strict=True):
        with torch.no_grad():
            logits = model(**stock_arguments(adapter, prompt, ids_T)).logits[0, len(prompt.ids_L) - 1 : -1]
        logits[:, list(adapter.banned_ids())] = float("-inf")
        expected = logits.log_softmax(-1)[range(len(ids_T)), list(ids_T)]
        torch.testing.assert_close(logprobs_T[: len(ids_T)], expected, atol=TOLERANCE, rtol=0)
    packed = Policy(model, adapter, layout="packed")
    assert max(largest_difference(score(packed, batch), rows)) < TOLERANCE
    blank = batch._replace(prompts=[adapter.blank(prompt) if prompt.frames else prompt for prompt in batch.prompts])
    assert largest_difference(score(policy, blank), rows)[0] > 1e-3


@pytest.mark.parametrize("model_type", SUITED)
def test_greedy_equals_generate(model_type: str, made) -> None:
    adapter, model, prompts = made(model_type)
    sampled = HFSampler(model, adapter).sample([prompts[kind] for kind in KINDS], [[1, 2]] * len(KINDS), greedy(8))
    for kind, own in zip(KINDS, sampled, strict=True):
        out = model.generate(
            **stock_arguments(adapter, prompts[kind]),
            do_sample=False,
            max_new_tokens=8,
            suppress_tokens=list(adapter.banned_ids()),
        )
        for completion in own:
            tokens = len(completion.ids_T)
            assert list(completion.ids_T) == out[0, len(prompts[kind].ids_L) :][:tokens].tolist()


def test_prompts_are_shared_only_if_the_recipe_says_so(made) -> None:
    adapter, model, _ = made("llava")
    text_config = model.config.get_text_config()
    layout, reason = choose_layout("auto", text_config, adapter.doubt)
    assert layout == "rows"
    assert "no adapter of its own; training.layout packed tries" in reason
    assert choose_layout("packed", text_config, adapter.doubt)[0] == "packed"
    assert choose_decoding(model, adapter) is expanded


@pytest.mark.parametrize("frozen", [False, True], ids=["all", "vision frozen"])
def test_a_grpo_step_changes_what_should_train(frozen: bool, recipe, checkpoint) -> None:
    overrides = {"model.path": str(checkpoint("llava_next")), "model.freeze_vision_modules": frozen}
    config = load_config(recipe(**overrides, **{"training.weight_decay": 0.0, "model.box_format": "norm_1"}))
    adapter = load_adapter(config.model.path, box_format=BoxFormat.NORM_1)
    learner = Learner(config, adapter, None, temperature=1.0)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.begin_step()
    prompt = encode(adapter, "<image>it", [picture_of(84, 56)])
    score = Score(0.0, {}, None, None, {})
    rollouts = [
        Rollout(Completion(ids_T, (0.0,) * len(ids_T), "", StopReason.STOP), score, advantage)
        for ids_T, advantage in zip(completions(adapter, [6, 9]), (1.0, -1.0), strict=True)
    ]
    group = Group(Record("0", "rec", "", (), None), prompt, tuple(rollouts))
    update_policy([group], group, learner, None, Phases())
    changed = {name for name, p in learner.model.named_parameters() if not torch.equal(p, before[name])}
    text = {name for name in before if ".language_model." in name or "lm_head" in name}
    assert text
    # of two vision layers LLaVA reads the first
    unread = {name for name in before if "encoder.layers.1." in name or "post_layernorm" in name}
    assert changed == (text if frozen else before.keys() - unread)


@pytest.mark.parametrize("model_type", SUITED)
def test_a_saved_model_is_the_same_in_plain_transformers(model_type: str, made, tmp_path) -> None:
    adapter, model, prompts = made(model_type)
    model.save_pretrained(tmp_path)
    adapter.save(tmp_path)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float64).eval()
    arguments = stock_arguments(adapter, prompts["several"])
    with torch.no_grad():
        assert torch.equal(plain(**arguments).logits, model(**arguments).logits)
    inputs = AutoProcessor.from_pretrained(tmp_path)(
        images=[picture_of(56, 56)], text=prompts["one"].text, return_tensors="pt"
    )
    assert tuple(inputs["input_ids"][0].tolist()) == prompts["one"].ids_L


# What it refuses ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # PaliGemma's processor
@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        pytest.param("paligemma", "its image tokens do not have ordinary positions", id="positions from 1 on"),
        pytest.param("aya_vision", r"changes its logits behind the output head \(logit_scale\)", id="scaled logits"),
    ],
)
def test_a_model_that_does_not_suit_is_refused(model_type: str, reason: str, made) -> None:
    with pytest.raises(ModelError, match=f"{reason}. It needs an adapter of its own: see docs/add_a_model.md"):
        made(model_type)


class FromParts(Generic):
    """By a processor without its half for videos."""

    def load_processor(self, config: Any) -> Any:
        own: Any = load_adapter(config.name_or_path)
        name = {"qwen2_5_vl": "Qwen2_5_VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}.get(config.model_type)
        return combined_processor(name or own.processor_class, own, {} if name else own.processor_settings())


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        pytest.param("qwen2_5_vl", "its image tokens do not have ordinary positions", id="positions of three axes"),
        pytest.param("qwen3_vl", "its images have deepstack_features besides their features", id="inner features"),
        pytest.param("gemma3", "its attention is not plainly causal", id="image tokens that see both ways"),
        pytest.param("internvl", None, id="InternVL, which would suit"),
        pytest.param("llava_onevision", None, id="LLaVA-OneVision, which would suit"),
    ],
)
def test_families_with_an_adapter_show_what_is_found_out(family: str, reason: str | None, family_adapter) -> None:
    own = family_adapter(family)
    adapter = FromParts(own.config, own.tokenizer, own.image_processor)
    model = AutoModelForImageTextToText.from_pretrained(own.config.name_or_path)
    if reason is None:
        adapter.prepare(model)
        assert set(adapter.vision_modules) == set(own.vision_modules)
        assert set(adapter.projector_modules) == set(own.projector_modules)
        return
    with pytest.raises(ModelError, match=f"does not suit model type .*: {reason}"):
        adapter.prepare(model)


@pytest.mark.parametrize("box_format", [None, BoxFormat.INPUT_PIXELS])
def test_the_box_format_has_to_be_said(box_format, checkpoint) -> None:
    message = r'"llava" has no adapter of its own, so model.box_format has to say how it writes boxes: original_pixels'
    with pytest.raises(ConfigError, match=message):
        load_adapter(checkpoint("llava"), box_format=box_format)


def test_pixels_cannot_be_limited(checkpoint) -> None:
    with pytest.raises(ModelError, match="min_pixels and max_pixels have no effect on model type"):
        load_adapter(checkpoint("llava"), max_pixels=10_000, box_format=BoxFormat.NORM_1)


def test_without_its_processor_nothing_works(checkpoint, tmp_path) -> None:
    for path in checkpoint("llava").iterdir():
        if path.name not in ("processor_config.json", "preprocessor_config.json"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="cannot load the"):
        load_adapter(tmp_path, box_format=BoxFormat.NORM_1)
