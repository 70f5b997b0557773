"""Nothing of a checkpoint is run: no module, no pickle, no expression of a template outside its sandbox."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from testing_families import BOX_FORMATS
from vlm_r1.config.schema import LoraSection, ModelSection
from vlm_r1.errors import ModelError
from vlm_r1.models import load_adapter, load_model
from vlm_r1.pretrained.remote_code import check_no_code
from vlm_r1.types import Prompt

AUTO = {
    "config.json": {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"},
    "tokenizer_config.json": {"AutoTokenizer": ["evil.Slow", "evil.Fast"]},
    "preprocessor_config.json": {"AutoImageProcessor": "evil.Pictures", "AutoProcessor": "evil.Both"},
}


@pytest.fixture
def folder(tiny_checkpoint, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def change(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | keys), encoding="utf-8")


def plant(folder: Path) -> Path:
    """Put a module into a checkpoint that all of its settings name; return the file that it writes."""
    canary = folder.parent / "it ran"
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\n", encoding="utf-8")
    for name, named in AUTO.items():
        change(folder / name, auto_map=named)
    return canary


def runs(folder: Path) -> None:
    """The control: import the planted module."""
    spec = importlib.util.spec_from_file_location("evil", folder / "evil.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch):
    """Transformers asks whether to run code, unless it is told not to; the answer here would be yes."""
    asked: list[str] = []

    def say_yes(question: str = "") -> str:
        asked.append(question)
        return "y"

    monkeypatch.setattr("builtins.input", say_yes)
    yield
    assert not asked


def test_code_of_an_unknown_model_type_is_not_run(folder) -> None:
    canary = plant(folder)
    change(folder / "config.json", model_type="evil_vl")
    with pytest.raises(ModelError, match=r"copy: auto_map in config\.json and .* code of this checkpoint"):
        load_adapter(folder)
    assert not canary.exists()
    runs(folder)
    assert canary.exists()


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "EvilTokenizer"}),
        ("preprocessor_config.json", {"image_processor_type": "EvilImageProcessor"}),
    ],
)
def test_code_of_a_tokenizer_or_image_processor_is_not_run(folder, name, keys) -> None:
    canary = plant(folder)
    change(folder / name, **keys)
    with suppress(ModelError):  # transformers may know the class by the model type
        load_adapter(folder)
    assert not canary.exists()


def test_code_beside_a_known_model_type_is_left_alone(folder) -> None:
    canary = plant(folder)
    adapter = load_adapter(folder)
    model = load_model(ModelSection(path=str(folder)), adapter)
    assert type(model).__module__.startswith("transformers.models.")
    assert not canary.exists()


def test_code_beside_a_family_without_an_adapter_is_left_alone(family_checkpoint, tmp_path) -> None:
    family = next(iter(BOX_FORMATS))
    copy = Path(shutil.copytree(family_checkpoint(family), tmp_path / "copy"))
    canary = tmp_path / "it ran"
    (copy / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\n", encoding="utf-8")
    for path in copy.glob("*config.json"):
        change(path, auto_map={"AutoProcessor": "evil.Both", "AutoConfig": "evil.Config"})
    assert load_adapter(copy, box_format=BOX_FORMATS[family]).config.model_type == family
    assert not canary.exists()


@pytest.mark.parametrize("name", ["evil/attention", "evil/attention:forward", "evil/attention@v1"])
@pytest.mark.parametrize("key", ["attn_implementation", "experts_implementation"])
def test_a_kernel_of_the_hub_is_not_fetched(folder, name, key) -> None:
    """Transformers downloads such a kernel and runs it, where the package kernels is installed."""
    change(folder / "config.json", **{key: name})
    with pytest.raises(ModelError, match=f'copy: config.json names the kernel "{name}" as {key}, which is code'):
        load_adapter(folder)


def test_attention_of_transformers_itself_is_left_alone(folder) -> None:
    """The control of the test above."""
    change(folder / "config.json", attn_implementation="eager")
    assert load_adapter(folder).config._attn_implementation == "eager"


@pytest.mark.parametrize(
    "keys",
    [
        {"text_config": {"hidden_size": "x"}},
        {"image_token_id": "x"},
        {"text_config": {"num_attention_heads": 0}},
        {"vision_config": {"num_heads": 0}},
        {"text_config": []},
        {"dtype": "marker"},
        {"quantization_config": [1]},
    ],
    ids=str,
)
def test_settings_of_other_kinds_are_an_error_of_the_checkpoint(folder, keys) -> None:
    change(folder / "config.json", **keys)
    with pytest.raises(ModelError, match="copy: "):
        load_model(ModelSection(path=str(folder)), load_adapter(folder))


def test_other_errors_are_not_explained_by_code(folder) -> None:
    check_no_code(folder, ValueError("no such file"))
    with pytest.raises(ModelError, match=r"auto_map in its settings"):
        check_no_code(folder, ValueError("pass trust_remote_code=True"))


class Runs:
    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_weights_that_are_a_pickle_of_code_are_refused(folder, write) -> None:
    canary = folder.parent / "it ran"
    (folder / "model.safetensors").unlink()
    write({"lm_head.weight": Runs(f"touch '{canary}'")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"copy: .*wanted model\.safetensors") as caught:
        load_model(ModelSection(path=str(folder)), load_adapter(folder))
    assert "\n" not in str(caught.value)
    assert not canary.exists()
    with suppress(RuntimeError):  # the bare pickle runs before torch misses its mark
        torch.load(folder / "pytorch_model.bin", weights_only=False)  # the control
    assert canary.exists()


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x02", b"\x80\x02h\x07.", b"PK\x03\x04damaged", b"\x80\x02K\x01K\x02\x86R."]
)
def test_weights_that_are_a_damaged_pickle_are_refused(folder, data) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(ModelError, match=r"copy: .*wanted model\.safetensors") as caught:
        load_model(ModelSection(path=str(folder)), load_adapter(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_lora_weights_that_are_a_pickle_of_code_are_refused(tiny_checkpoint, tmp_path, write) -> None:
    section = ModelSection(path=str(tiny_checkpoint), lora=LoraSection(r=2))
    adapter = load_adapter(tiny_checkpoint)
    folder, canary = tmp_path / "lora", tmp_path / "it ran"
    load_model(section, adapter).save_pretrained(folder)
    load_model(section, adapter, folder)  # the control: as it was saved, it loads
    (folder / "adapter_model.safetensors").unlink()
    write({"lora_A.weight": Runs(f"touch '{canary}'")}, folder / "adapter_model.bin")
    with pytest.raises(
        ModelError, match=r"lora: the file of the LoRA weights is a pickle|lora: cannot load the LoRA weights"
    ):
        load_model(section, adapter, folder)
    assert not canary.exists()


@pytest.mark.parametrize("text", ["[]", "{", '{"peft_type": 5}', '{"peft_type": "os"}'])
def test_a_damaged_lora_config_is_an_error_of_the_folder(tmp_path, text) -> None:
    (tmp_path / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=re.escape(str(tmp_path))):
        load_adapter(tmp_path)


TEMPLATES = {
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "SecurityError",
    "{{ messages[0].missing.attribute }}": "UndefinedError",
    "{% for %}": "TemplateSyntaxError",
    "{{ 1 / 0 }}": "ZeroDivisionError",
    "{{ 1 + 'a' }}": "TypeError",
    "{{ range(10 ** 10) }}": "OverflowError",
    "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}": "RecursionError",
    "{{ raise_exception('no') }}": "TemplateError: no",
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_chat_template_that_fails_is_an_error_of_the_checkpoint(folder, template) -> None:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(ModelError, match=rf"chat template fails: {TEMPLATES[template]}"):
        load_adapter(folder).render(Prompt("red", ()))
