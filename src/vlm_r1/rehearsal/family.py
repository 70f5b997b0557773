"""The family of a recipe's model: by its config if that is on this machine, else by its name. No network is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from vlm_r1.config.model import ModelSection
from vlm_r1.errors import ConfigError
from vlm_r1.files import read_text
from vlm_r1.parsing.json_values import is_object
from vlm_r1.registry import suggestion
from vlm_r1.testing import TINY

_BY_NAME: Mapping[str, str] = {
    r"qwen2vl": "qwen2_vl",
    r"qwen25vl": "qwen2_5_vl",
    r"qwen3vl.*a\d+b": "qwen3_vl_moe",
    r"qwen3vl": "qwen3_vl",
    r"qwen35.*a\d+b": "qwen3_5_moe",
    r"qwen35": "qwen3_5",
    r"internvl": "internvl",
    r"gemma3": "gemma3",
    r"gemma4": "gemma4",
    r"glm41v": "glm4v",
    r"glm45v": "glm4v_moe",
    r"glm46v": "glm46v",
    r"glmga": "glmga",
    r"idefics3": "idefics3",
    r"smolvlm": "smolvlm",
    r"llavaonevision": "llava_onevision",
}
"""Model types by a pattern of the name, in small letters without `-`, `_`, `.` and blanks; the first that fits counts.
Sizes such as A3B mark a mixture of experts."""

_GUIDES = 2
"""How many folders of LoRA adapters may lead to one another before a base model is found."""


class Family(NamedTuple):
    """A model type of `TINY`, and where it comes from, for people."""

    model_type: str
    found: str


def find_family(section: ModelSection, given: str | None = None) -> Family:
    """Return the family of a recipe's model.

    Args:
        section: `model` of the recipe.
        given: the model type that the user names (`--family`).

    Raises:
        ConfigError: nothing says the family, or there is no tiny model of it.
    """
    if given is not None:
        return Family(_known(given, f'--family "{given}"'), "as --family says")
    path = section.path
    for _ in range(_GUIDES):
        path = _base_of(path) or path
    if (config := _config_of(path)) is not None:
        file, content = config
        model_type = content.get("model_type")
        return Family(_known(str(model_type), f"{file}: model type {model_type}"), f"as {file} says")
    if (model_type := family_of_name(path)) is None:
        raise ConfigError(
            f'model.path "{path}": its config is not on this machine, and its name says no family that is known. Name '
            f"one: --family NAME, of {', '.join(sorted(TINY))}"
        )
    return Family(model_type, f'by the name "{path}": its config is not on this machine')


def family_of_name(name: str) -> str | None:
    """Return the model type that the name of a model says; None if it says none.

    >>> family_of_name("Qwen/Qwen2.5-VL-3B-Instruct"), family_of_name("models/VLM-R1-Qwen2.5VL-3B-OVD-0321")
    ('qwen2_5_vl', 'qwen2_5_vl')
    >>> family_of_name("Qwen/Qwen3-VL-30B-A3B-Instruct"), family_of_name("my/model") is None
    ('qwen3_vl_moe', True)
    """
    squeezed = re.sub(r"[-_.\s]", "", name.lower())
    return next((model_type for pattern, model_type in _BY_NAME.items() if re.search(pattern, squeezed)), None)


def _known(model_type: str, what: str) -> str:
    if model_type in TINY:
        return model_type
    raise ConfigError(
        f"{what}: there is no tiny model of this family. {suggestion(model_type, TINY)}Rehearse with one that is near, "
        f"by --family NAME, of {', '.join(sorted(TINY))}"
    )


def _base_of(path: str) -> str | None:
    """Return the base model that a folder of LoRA adapters names."""
    file = Path(path) / "adapter_config.json"
    base = _read(file).get("base_model_name_or_path") if file.is_file() else None
    return base if isinstance(base, str) else None


def _config_of(path: str) -> tuple[str, dict[str, Any]] | None:
    """Return name and content of the config of a folder, or of a model of the Hub that is in the cache."""
    file = Path(path) / "config.json"
    if file.is_file():
        return str(file), _read(file)
    if Path(path).exists():
        raise ConfigError(f"model.path {path}: wanted the folder of a model, with its config.json")
    try:
        cached = try_to_load_from_cache(path, "config.json")
    except HFValidationError:  # not the name of a model of the Hub
        return None
    return (f"config.json of {path} in the cache", _read(Path(cached))) if isinstance(cached, str) else None


def _read(file: Path) -> dict[str, Any]:
    try:
        content: Any = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: cannot be read as JSON: {error}") from None
    if not is_object(content):
        raise ConfigError(f"{file}: wanted a JSON object")
    return content
