"""Type and attention by device: decided from facts about it, so every device's choice is tested on any machine."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vlm_r1.config.schema import LoraSection, ModelSection
from vlm_r1.models import load_adapter, load_model
from vlm_r1.models.precision import CPU, Device, Precision, choose_precision, look_at

H100 = Device("cuda", bfloat16=True, flash_attention=True)
H100_WITHOUT_FLASH = H100._replace(flash_attention=False)
T4 = Device("cuda", bfloat16=False, flash_attention=True)
MPS = CPU._replace(kind="mps")

FLASH = {"vision_config": "flash_attention_2"}
LORA = LoraSection(r=2)


@pytest.mark.parametrize(
    ("device", "options", "autocast", "dtype", "attention"),
    [
        pytest.param(CPU, {}, False, torch.float32, None, id="CPU"),
        pytest.param(CPU, {"lora": LORA}, False, torch.float32, None, id="CPU, LoRA"),
        pytest.param(MPS, {"lora": LORA}, False, torch.float32, None, id="Apple, LoRA"),
        pytest.param(H100, {}, False, torch.float32, None, id="GPU, weights that train"),
        pytest.param(H100, {}, True, torch.float32, FLASH, id="GPU, autocast"),
        pytest.param(H100, {"lora": LORA}, False, torch.bfloat16, FLASH, id="GPU, LoRA"),
        pytest.param(H100_WITHOUT_FLASH, {"lora": LORA}, True, torch.bfloat16, None, id="GPU without flash-attn"),
        pytest.param(T4, {"lora": LORA}, False, torch.float32, None, id="GPU without bfloat16"),
        pytest.param(H100, {"dtype": "checkpoint"}, False, None, None, id="as stored"),
        pytest.param(H100, {"dtype": "bfloat16"}, False, torch.bfloat16, FLASH, id="bfloat16 said"),
        pytest.param(
            CPU, {"dtype": "float64", "attn_implementation": "eager"}, False, torch.float64, "eager", id="both said"
        ),
    ],
)
def test_choice(device: Device, options: dict[str, Any], autocast: bool, dtype, attention, adapter) -> None:
    chosen = choose_precision(ModelSection(path="x", **options), adapter, device, autocast)
    assert (chosen.dtype, chosen.attention) == (dtype, attention)


def test_flash_attention_is_not_tried_on_a_model_that_is_not_known(tiny_checkpoint) -> None:
    class Doubted(type(load_adapter(tiny_checkpoint))):
        doubt = "nobody knows it"

    doubted = Doubted(*(getattr(load_adapter(tiny_checkpoint), x) for x in ("config", "tokenizer", "image_processor")))
    assert choose_precision(ModelSection(path="x", lora=LORA), doubted, H100).attention is None


def test_this_machine() -> None:
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
