"""InternVL, Gemma 3, Gemma 4, Idefics3, SmolVLM and LLaVA-OneVision: their combined and their image processors.

What they share with all families is in test_families.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoImageProcessor, ProcessorMixin

from testing_families import KINDS, family_prompts
from vlm_r1.errors import ModelError
from vlm_r1.models import ADAPTERS
from vlm_r1.models.inline import InlineImages

FAMILIES = sorted(family for family, adapter in ADAPTERS.items() if issubclass(adapter, InlineImages))
every_family = pytest.mark.parametrize("family", FAMILIES)


def test_smolvlm_prompts_are_those_of_idefics3(family_adapter) -> None:
    one, other = (family_prompts(family_adapter(family)) for family in ("smolvlm", "idefics3"))
    for kind in KINDS:
        assert one[kind].ids_L == other[kind].ids_L
        for name, tensor in one[kind].vision.items():
            assert torch.equal(tensor, other[kind].vision[name])


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
    other_size.pooling_kernel_size = 2
    misfit = "has pooling_kernel_size 2, not 3" if family == "gemma4" else "makes squares of 28 pixels, not 56"
    with pytest.raises(ModelError, match=f"the image processor {misfit}: it belongs to another model"):
        type(adapter)(adapter.config, adapter.tokenizer, other_size).check("there")


@every_family
def test_a_saved_folder_names_its_combined_processor(family: str, family_adapter, tmp_path) -> None:
    adapter = family_adapter(family)
    adapter.save(tmp_path)
    settings, _ = ProcessorMixin.get_processor_dict(tmp_path)
    assert settings["processor_class"] == adapter.processor_class
    assert {name: settings[name] for name in adapter.processor_settings()} == adapter.processor_settings()
