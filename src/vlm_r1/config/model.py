"""The section `model`: which model is loaded, in which type, and which parts of it train."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, JsonValue, TypeAdapter, field_validator, model_validator

from vlm_r1.config.base import PathText, PositiveFloat, PositiveInt, Section
from vlm_r1.config.words import Dtype
from vlm_r1.types import BoxFormat

Part = Literal["vision", "projector", "language"]
"""The parts of a model: its vision tower, the projector of image features, and the language model with its head."""


_JSON_OBJECT = TypeAdapter(dict[str, JsonValue])


class LoraSection(Section):
    """Low-rank adapters (peft). Defaults are from the original VLM-R1's REC LoRA script, except its dropout of 0.05."""

    r: PositiveInt = Field(default=64, description="Rank of the adapters.")
    lora_alpha: PositiveFloat = Field(default=128, description="Scale: adapters are multiplied by lora_alpha / r.")
    lora_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Dropout on the adapters' input, in training passes. Sampling has none, so the policy that trains "
        "then differs a little from the one that sampled. All iterations of a step use the same dropout mask.",
    )
    target_modules: list[str] | None = Field(
        default=None,
        description="Linear layers to adapt, by the ends of their names, e.g. [q_proj, v_proj], in the parts that are "
        "not frozen; default: all in these parts except the output head.",
    )
    peft: dict[str, Any] = Field(
        default_factory=dict,
        description="Further options of peft.LoraConfig by their own names, e.g. {use_dora: true, use_rslora: true}.",
    )

    @field_validator("peft")
    @classmethod
    def _of_json_values(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Refuse dates, bytes and sets, which YAML knows, but the files of a run do not."""
        return _JSON_OBJECT.validate_python(options)


class ModelSection(Section):
    """The policy."""

    path: PathText = Field(description="Hugging Face folder or hub name of a vision-language model.")
    adapter: str | None = Field(
        default=None,
        description="Family that the model is treated as: package.module:Name, or a model type that has an adapter; "
        "default: by the checkpoint's model type (docs/models.md).",
    )
    box_format: BoxFormat | None = Field(
        default=None,
        description="How the model writes boxes; default: as its family. A family without an adapter needs it.",
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Run the Python files that this checkpoint brings, with your rights: for model types that "
        "transformers does not have. Read them first (docs/security.md).",
    )
    dtype: Literal["auto", Dtype] = Field(
        default="auto",
        description="Type of the weights in memory. auto: bfloat16 on a GPU with lora, where they do not train, else "
        "float32; checkpoint: as stored. mixed_precision decides about autocast.",
    )
    attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        default="auto",
        description="Attention kernel of transformers: for the vision part, and with training.layout rows for the "
        "language model too (packed brings its own). auto: flash_attention_2 on a GPU that computes in bfloat16 where "
        "flash-attn is installed, else transformers' choice, mostly sdpa.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass: less memory."
    )
    freeze: list[Part] | None = Field(
        default=None,
        description="Parts of the model that do not train: vision, projector, language (docs/finetuning.md). Default: "
        "none; with lora, vision and projector, which then get no LoRA adapters either. []: none, with lora too.",
    )
    freeze_vision_modules: bool = Field(default=False, description="Short for freeze: [vision, projector].")
    min_pixels: PositiveInt | None = Field(
        default=None,
        description="Smallest image the model sees, in pixels of area, in every family's terms (docs/finetuning.md); "
        "default: the processor's own.",
    )
    max_pixels: PositiveInt | None = Field(
        default=None, description="Largest image the model sees, in pixels of area; default: the processor's own."
    )
    lora: LoraSection | None = Field(default=None, description="Train low-rank adapters instead of all weights.")
    load_in_4bit: bool = Field(
        default=False,
        description="Hold the language model's frozen weights in 4 bits (QLoRA: NF4 by bitsandbytes); only with lora.",
    )

    @property
    def frozen(self) -> frozenset[str]:
        """The parts that do not train, by `freeze`, `freeze_vision_modules` and `lora`."""
        if self.freeze is not None:
            return frozenset(self.freeze)
        return frozenset(("vision", "projector") if self.freeze_vision_modules or self.lora is not None else ())

    @model_validator(mode="after")
    def _has_effect(self):
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} > max_pixels {self.max_pixels}")
        if self.freeze is not None and self.freeze_vision_modules:
            raise ValueError("freeze_vision_modules is short for freeze: [vision, projector]: give one of the two")
        if self.frozen == set(get_args(Part)):
            raise ValueError("freeze names all parts, so nothing would train: leave one out")
        if self.load_in_4bit and self.lora is None:
            raise ValueError("load_in_4bit needs lora: weights of 4 bits cannot train")
        return self
