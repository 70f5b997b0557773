"""Patterns of a LoRA folder that take for ever are an error in bounded time."""

import json
import time

import pytest
from peft import LoraConfig, get_peft_model

from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import ModelError
from vlm_r1.models import load_adapter, load_model
from vlm_r1.models.lora_patterns import check_patterns

FOR_EVER = r"(([a-z_.0-9]|\w)+)*!"


@pytest.fixture
def lora(tiny_checkpoint, model64, tmp_path):
    """Writes a folder of LoRA adapters with changed settings."""

    def write(**changed):
        get_peft_model(model64, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "lora")
        path = tmp_path / "lora/adapter_config.json"
        settings = json.loads(path.read_text()) | {"base_model_name_or_path": str(tiny_checkpoint)} | changed
        path.write_text(json.dumps(settings))
        return tmp_path / "lora"

    return write


@pytest.mark.parametrize(
    "changed",
    [
        {"target_modules": FOR_EVER},
        {"exclude_modules": FOR_EVER},
        {"modules_to_save": [FOR_EVER]},
        {"rank_pattern": {FOR_EVER: 3}},
        {"alpha_pattern": {FOR_EVER: 3}},
        {"layers_to_transform": [0], "layers_pattern": FOR_EVER},
    ],
    ids=lambda changed: next(reversed(changed)),
)
def test_a_pattern_that_takes_for_ever_is_an_error(lora, model64, changed):
    folder, start = lora(**changed), time.process_time()
    with pytest.raises(ModelError, match=r"lora: the patterns of adapter_config\.json .* not matched within 0\.5 s"):
        check_patterns(folder, model64, limit_s=0.5)
    assert time.process_time() - start < 20


def test_control_a_sound_pattern_is_matched_and_loaded(lora):
    folder = lora(target_modules=r"model\.language_model(?=\.).*\.(q_proj|nothing)", rank_pattern={".*q_proj": 2})
    model = load_model(ModelSection(path=str(folder)), load_adapter(folder))
    assert [name for name, _ in model.named_parameters() if "lora_A" in name and "q_proj" not in name] == []
    assert any("q_proj.lora_A" in name for name, _ in model.named_parameters())


def test_loading_tries_the_patterns_first(lora):
    folder = lora(target_modules="(")
    with pytest.raises(ModelError, match=r"a pattern of adapter_config\.json is no regular expression: missing"):
        load_model(ModelSection(path=str(folder)), load_adapter(folder))
