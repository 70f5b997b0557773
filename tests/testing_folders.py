"""Sound files of model folders and checkpoints, pictures of a data row, and the functions that read each."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_r1.config.base import Section
from vlm_r1.evaluation.asking import find_asking, find_templates
from vlm_r1.runtime.history import find_changes
from vlm_r1.runtime.manifest import check_manifest, is_copy_of, write_manifest
from vlm_r1.runtime.run_folder import RunFolder, step_of_weights
from vlm_r1.training.state import read_state

ASKING = {
    "task": "rec",
    "template": "own",
    "thinking": "free",
    "templates": {"own": {"thinking": "free", "instruction": "x"}},
    "max_completion_length": 64,
    "adapter": None,
    "box_format": "input_pixels",
    "min_pixels": 784,
    "max_pixels": 78400,
}

TRAINER = {
    "step": 1,
    "stream": {"drawn": [1, 2], "records": [3, 4]},
    "skipped_in_a_row": 0,
    "inputs": {"data": {"a.jsonl": "5f"}},
}

HISTORY = {"config.yaml": [3, "5f"], "metrics.jsonl": [1, "5f"], "eval/before-held.json": [9, "5f"]}
"""Hashes of other files than stand there, so that every file is read, and told as changed."""

LORA: dict[str, Any] = {
    "peft_type": "LORA",
    "base_model_name_or_path": "base",
    "r": 2,
    "lora_alpha": 4,
    "lora_dropout": 0.0,
    "bias": "none",
    "target_modules": ["q_proj", "v_proj"],
    "inference_mode": True,
    "init_lora_weights": True,
    "rank_pattern": {},
    "modules_to_save": None,
    "task_type": None,
}


def read_asking(folder: Path) -> str:
    asking, where = find_asking(str(folder))
    templates, _ = find_templates(folder / "eval.samples.jsonl")
    assert isinstance(asking, Section)
    return f"asked with {asking.template} as in {where}, {len(templates)} templates"


def manifest_of(files: Mapping[str, bytes]) -> bytes:
    """The manifest of a folder with these files."""
    with tempfile.TemporaryDirectory() as made:
        for name, content in files.items():
            (Path(made) / name).write_bytes(content)
        write_manifest(Path(made), {"step": 1})
        return (Path(made) / "manifest.json").read_bytes()


def read_manifest(folder: Path) -> str:
    is_copy_of(folder, folder)
    check_manifest(folder)
    return f"whole, of step {step_of_weights(folder, 7)}"


def read_history(folder: Path) -> str:
    return f"changed: {find_changes(folder / 'checkpoints/step-000001', RunFolder(folder))}"


def read_trainer(folder: Path) -> str:
    return f"read: {sorted(read_state(folder, 1))}"


@cache
def _base() -> tuple[Path, bytes]:
    """A tiny checkpoint, and the weights of the LoRA adapter of `LORA` for it."""
    import atexit

    from vlm_r1.models.loading import load_adapter
    from vlm_r1.testing import TinySize, write_tiny_qwen2_5_vl

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    size = TinySize(num_key_value_heads=2)
    base = write_tiny_qwen2_5_vl(folder / "base", ["where is the cat?"], seed=1, size=size)
    from peft import LoraConfig, get_peft_model

    from vlm_r1.config.schema import ModelSection
    from vlm_r1.models.loading import load_model

    model = load_model(ModelSection(path=str(base)), load_adapter(base))
    lora: Any = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"]))
    lora.save_pretrained(folder / "lora")
    return base, (folder / "lora/adapter_model.safetensors").read_bytes()


def read_lora(folder: Path) -> str:
    """Load a LoRA adapter; its base model is the folder `base` beside its config."""
    from vlm_r1.config.schema import ModelSection
    from vlm_r1.models.loading import load_adapter, load_model

    base, weights = _base()
    (folder / "base").symlink_to(base)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of keys that it does not know
        model: Any = load_model(ModelSection(path=str(folder)), load_adapter(folder))
    return f"loaded: {len(model.peft_config)} adapters"


def pictures() -> dict[str, bytes]:
    """A picture of 64×60 pixels in each form that a data row often names."""
    found: dict[str, bytes] = {}
    for suffix, form in (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("tiff", "TIFF"), ("gif", "GIF")):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 60)).save(buffer, form)
        found[f"a.{suffix}"] = buffer.getvalue()
    return found
