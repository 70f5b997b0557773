"""Type and attention by device: decided from facts about it, so every device's choice is tested on any machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from testing_families import family_prompts
from vlm_r1.config.schema import LoraSection, ModelSection
from vlm_r1.models import load_adapter, load_model
from vlm_r1.models.precision import (
    CPU,
    Device,
    Precision,
    autocast_dtype,
    choose_precision,
    frozen_copy,
    frozen_matrices,
    look_at,
    this_device,
)
from vlm_r1.policy.logprobs import CompletionBatch, Policy

H100 = Device("cuda", bfloat16=True, flash_attention=True)
H100_WITHOUT_FLASH = H100._replace(flash_attention=False)
T4 = Device("cuda", bfloat16=False, flash_attention=True)
MPS = CPU._replace(kind="mps")
BF16, FP16 = torch.bfloat16, torch.float16

FLASH = {"vision_config": "flash_attention_2"}
LORA = LoraSection(r=2)


@pytest.mark.parametrize(
    ("device", "options", "autocast", "dtype", "attention"),
    [
        pytest.param(CPU, {}, None, torch.float32, None, id="CPU"),
        pytest.param(CPU, {"lora": LORA}, None, torch.float32, None, id="CPU, LoRA"),
        pytest.param(MPS, {"lora": LORA}, None, torch.float32, None, id="Apple, LoRA"),
        pytest.param(H100, {}, None, torch.float32, None, id="GPU, weights that train"),
        pytest.param(H100, {}, BF16, torch.float32, FLASH, id="GPU, autocast"),
        pytest.param(H100, {"lora": LORA}, None, torch.bfloat16, FLASH, id="GPU, LoRA"),
        pytest.param(H100_WITHOUT_FLASH, {"lora": LORA}, BF16, torch.bfloat16, None, id="GPU without flash-attn"),
        pytest.param(H100, {}, FP16, torch.float32, FLASH, id="GPU, float16 said"),
        pytest.param(T4, {}, FP16, torch.float32, None, id="GPU without bfloat16, float16"),
        pytest.param(T4, {"lora": LORA}, None, torch.float32, None, id="GPU without bfloat16"),
        pytest.param(H100, {"dtype": "checkpoint"}, None, None, None, id="as stored"),
        pytest.param(H100, {"dtype": "bfloat16"}, None, torch.bfloat16, FLASH, id="bfloat16 said"),
        pytest.param(
            CPU, {"dtype": "float64", "attn_implementation": "eager"}, None, torch.float64, "eager", id="both said"
        ),
    ],
)
def test_choice(
    device: Device, options: dict[str, Any], autocast: torch.dtype | None, dtype, attention, adapter
) -> None:
    chosen = choose_precision(ModelSection(path="x", **options), adapter, device, autocast)
    assert (chosen.dtype, chosen.attention) == (dtype, attention)


@pytest.mark.parametrize(
    ("mixed_precision", "device", "dtype", "passes"),
    [
        pytest.param("auto", H100, "auto", BF16, id="auto, GPU with bfloat16"),
        pytest.param("auto", T4, "auto", FP16, id="auto, GPU without"),
        pytest.param("auto", T4, "float32", FP16, id="auto, GPU without, float32 said"),
        pytest.param("auto", T4, "bfloat16", None, id="auto, GPU without, bfloat16 said"),
        pytest.param("auto", T4, "checkpoint", None, id="auto, GPU without, as stored"),
        pytest.param("auto", T4, "float64", None, id="auto, GPU without, exactness wanted"),
        pytest.param("auto", CPU, "auto", None, id="auto, CPU"),
        pytest.param("auto", MPS, "auto", None, id="auto, Apple"),
        pytest.param("auto", H100, "float64", None, id="auto, exactness wanted"),
        pytest.param("no", H100, "auto", None, id="no"),
        pytest.param("no", T4, "auto", None, id="no, GPU without"),
        pytest.param("bf16", CPU, "auto", BF16, id="said"),
        pytest.param("fp16", CPU, "auto", FP16, id="float16 said, CPU"),
        pytest.param("fp16", H100, "auto", FP16, id="float16 said, GPU with bfloat16"),
    ],
)
def test_autocast_by_device(mixed_precision: str, device: Device, dtype: Any, passes: torch.dtype | None) -> None:
    assert autocast_dtype(mixed_precision, ModelSection(path="x", dtype=dtype), device) is passes


def round_to_bfloat16(folder: Path) -> None:
    """As published checkpoints are, but stored in float32."""
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: x.bfloat16().float() for name, x in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )


class Casts(TorchDispatchMode):
    """Counts numbers of parameters that are copied into another type."""

    def __init__(self, model: torch.nn.Module):
        self.storages = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.numbers = 0
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and args[0].untyped_storage().data_ptr() in self.storages:
            self.numbers += args[0].numel()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "internvl", "gemma3", "idefics3", "llava_onevision"])
@pytest.mark.parametrize("freeze", [["language"], ["vision", "projector"]], ids=["language", "vision"])
def test_frozen_matrices_are_held_as_they_are_computed_with(
    family: str, freeze: Any, family_checkpoint, tmp_path
) -> None:
    """The same numbers to the last bit, saved weights too; what autocast would round at each pass is none of them."""
    shutil.copytree(family_checkpoint(family), tmp_path / "model")
    round_to_bfloat16(tmp_path / "model")
    adapter = load_adapter(tmp_path / "model")
    section = ModelSection(path=str(tmp_path / "model"), freeze=freeze)
    precision = choose_precision(section, adapter, CPU, autocast=torch.bfloat16)
    held, plain = load_model(section, adapter, precision=precision), load_model(section, adapter)
    kept = [p.numel() for p in frozen_matrices(held)]
    assert kept
    assert {p.dtype for p in frozen_matrices(held)} == {torch.bfloat16}
    assert f"{sum(kept):,} frozen ones in bfloat16" in precision.describe(held)
    prompt = family_prompts(adapter)["one"]
    batch = CompletionBatch([prompt], [[(5, 6, 7), (8, 9)]])
    counts = []
    scores = []
    for model in (held, plain):
        policy = Policy(model, adapter)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False), Casts(model) as casts:
            scores.append(policy(batch).logprobs_NT)
        counts.append(casts.numbers)
    assert torch.equal(*scores)
    assert counts[0] <= counts[1] - sum(kept)
    for (name, a), b in zip(held.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(a.to(b.dtype), b), name


def test_weights_that_bfloat16_does_not_hold_stay_as_they_are(tiny_checkpoint, adapter) -> None:
    section = ModelSection(path=str(tiny_checkpoint), freeze_vision_modules=True)
    model = load_model(section, adapter, precision=choose_precision(section, adapter, CPU, autocast=torch.bfloat16))
    assert {p.dtype for p in frozen_matrices(model)} == {torch.float32}


def test_frozen_weights_keep_their_type_where_passes_are_float16(tiny_checkpoint, adapter, tmp_path) -> None:
    """Also those that bfloat16 would hold; so does a reference. The control: they are bfloat16 for such passes."""
    shutil.copytree(tiny_checkpoint, tmp_path / "model")
    round_to_bfloat16(tmp_path / "model")
    section = ModelSection(path=str(tmp_path / "model"), freeze_vision_modules=True)
    for passes, frozen, reference in ((FP16, torch.float32, torch.float32), (BF16, BF16, BF16)):
        precision = choose_precision(section, adapter, CPU, autocast=passes)
        model = load_model(section, adapter, precision=precision)
        assert {p.dtype for p in frozen_matrices(model)} == {frozen}
        assert frozen_copy(precision).dtype is reference
        assert ("passes in float16" in precision.describe(model)) == (passes is FP16)


def test_flash_attention_is_not_tried_on_a_model_that_is_not_known(tiny_checkpoint) -> None:
    class Unknown(type(load_adapter(tiny_checkpoint))):
        knows_family = False

    unknown = Unknown(*(getattr(load_adapter(tiny_checkpoint), x) for x in ("config", "tokenizer", "image_processor")))
    assert choose_precision(ModelSection(path="x", lora=LORA), unknown, H100).attention is None


def test_this_machine() -> None:
    assert (this_device().type != "cpu") == torch.accelerator.is_available()
    assert look_at(torch.device("cpu")) == CPU
    assert look_at(torch.device("meta")) == CPU._replace(kind="meta")
    if torch.cuda.is_available():
        assert look_at(torch.device("cuda")).kind == "cuda"


def test_the_line_says_what_was_loaded(tiny_checkpoint, adapter) -> None:
    section = ModelSection(path=str(tiny_checkpoint), attn_implementation="eager")
    precision = choose_precision(section, adapter)
    model = load_model(section, adapter, precision=precision)
    assert precision.describe(model) == (
        "weights in float32 (auto: they train), attention eager (as model.attn_implementation says)"
    )


def test_a_kernel_for_the_vision_tower_alone(tiny_checkpoint, adapter) -> None:
    """As flash-attn is asked for, with a kernel that every machine has."""
    precision = Precision(torch.bfloat16, {"vision_config": "eager"}, ("", ""))
    model = load_model(ModelSection(path=str(tiny_checkpoint)), adapter, precision=precision)
    assert model.model.visual.config._attn_implementation == "eager"
    assert model.model.language_model.config._attn_implementation == "sdpa"
    assert model.dtype == torch.bfloat16
