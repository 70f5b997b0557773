"""The shapes of a few published models, so that a plan needs no network: their config without weights.

A plan of them has the model's true sizes. Text is counted by a tokenizer that is made from the data, because the
model's own is not at hand; it needs more tokens, so the plan errs to the safe side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm_r1.files import read_text
from vlm_r1.testing import TinySize, write_tiny

_VOCABULARY = 1000
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Published:
    """The shape of a published model.

    Attributes:
        model_type: of its config.
        text, vision: the options of its config that depend on its size.
        tied: whether its output head is its embedding.
        pixels: least and greatest area that its image processor makes of a picture.
        parameters: how many it has; a test counts them.
    """

    model_type: str
    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    tied: bool
    pixels: tuple[int, int]
    parameters: int = field(compare=False)


_Sizes = tuple[int, int, int, int, int]
"""Of a language model: hidden size, inner size of its MLPs, layers, heads, heads of keys and values."""


def _qwen2_5(sizes: _Sizes, vocabulary: int) -> dict[str, Any]:
    own = _text(sizes) | {"vocab_size": vocabulary, "layer_types": None}
    return own | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}


def _qwen3(sizes: _Sizes) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    return _text(sizes) | {"vocab_size": 151936, "head_dim": 128, "rope_parameters": rope}


def _text(sizes: _Sizes) -> dict[str, Any]:
    hidden, inner, layers, heads, key_values = sizes
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_values,
        "max_position_embeddings": 128000,
    }


def _vision(depth: int, hidden: int, inner: int, out: int, **more: Any) -> dict[str, Any]:
    sizes = {"depth": depth, "hidden_size": hidden, "intermediate_size": inner, "out_hidden_size": out}
    return {**sizes, "num_heads": 16, **more}


_OF_QWEN2_5 = {"window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]}
_SMALL_QWEN3 = {"num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17]}
_QWEN2_5_PIXELS = (56 * 56, 28 * 28 * 16384)
_QWEN3_PIXELS = (256 * 256, 4096 * 4096)

PUBLISHED: Mapping[str, Published] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": Published(
        "qwen2_5_vl",
        _qwen2_5((2048, 11008, 36, 16, 2), 151936),
        _vision(32, 1280, 3420, 2048, **_OF_QWEN2_5),
        True,
        _QWEN2_5_PIXELS,
        3_754_622_976,
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": Published(
        "qwen2_5_vl",
        _qwen2_5((3584, 18944, 28, 28, 4), 152064),
        _vision(32, 1280, 3420, 3584, **_OF_QWEN2_5),
        False,
        _QWEN2_5_PIXELS,
        8_292_166_656,
    ),
    "Qwen/Qwen3-VL-2B-Instruct": Published(
        "qwen3_vl",
        _qwen3((2048, 6144, 28, 16, 8)),
        _vision(24, 1024, 4096, 2048, **_SMALL_QWEN3),
        True,
        _QWEN3_PIXELS,
        2_127_532_032,
    ),
    "Qwen/Qwen3-VL-4B-Instruct": Published(
        "qwen3_vl",
        _qwen3((2560, 9728, 36, 32, 8)),
        _vision(24, 1024, 4096, 2560, **_SMALL_QWEN3),
        True,
        _QWEN3_PIXELS,
        4_437_815_808,
    ),
    "Qwen/Qwen3-VL-8B-Instruct": Published(
        "qwen3_vl",
        _qwen3((4096, 12288, 36, 32, 8)),
        _vision(27, 1152, 4304, 4096, num_position_embeddings=2304, deepstack_visual_indexes=[8, 16, 24]),
        False,
        _QWEN3_PIXELS,
        8_767_123_696,
    ),
}
"""By the name on the Hub; from their config.json and preprocessor_config.json."""


def write_published(name: str, folder: Path, texts: Iterable[str]) -> Path:
    """Write what a plan reads of a published model: config, image processor, and a tokenizer made from texts.

    Args:
        name: one of `PUBLISHED`.
        folder: a new folder.
        texts: e.g. questions and answers of the data.
    """
    model = PUBLISHED[name]
    write_tiny(model.model_type, folder, texts, size=TinySize(vocab_size=_VOCABULARY))
    (folder / _WEIGHTS).unlink()
    config = _read(folder / "config.json")
    config["text_config"] |= {**model.text, "tie_word_embeddings": model.tied, "dtype": "bfloat16"}
    config["vision_config"] |= model.vision
    _write(folder / "config.json", {**config, "tie_word_embeddings": model.tied, "dtype": "bfloat16"})
    least, greatest = model.pixels
    processor = _read(folder / "preprocessor_config.json")
    size = {"shortest_edge": least, "longest_edge": greatest}
    _write(folder / "preprocessor_config.json", {**processor, "size": size})
    return folder


def _read(file: Path) -> dict[str, Any]:
    return json.loads(read_text(file))


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")
