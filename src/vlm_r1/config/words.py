"""Words that a recipe chooses from. Each choice is written here once; packages above import it."""

from __future__ import annotations

from typing import Literal

ADVANTAGES = ("group", "batch", "none", "rloo", "reinforce_plus_plus")
"""Names of the table `ADVANTAGES` of `grpo/advantage.py`."""

SAMPLERS = ("hf",)
"""Names of the table `SAMPLERS` of `sampling/build.py`."""

OPTIMIZERS = (
    "adamw",
    "muon",
    "adamw_torch_fused",
    "adamw_torch",
    "adafactor",
    "sgd",
    "adamw_8bit",
    "adamw_bnb_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
)
"""Names of the table `OPTIMIZERS` of `training/optimizer.py`; those of transformers mean what they mean there."""

OF_BITSANDBYTES = OPTIMIZERS[-4:]

WITHOUT_BETAS = ("adafactor", "sgd")
"""Optimizers that adam_beta1, adam_beta2 and adam_epsilon do not concern."""

_LESS_MEMORY = "it trains through a projection of the gradients. To save memory use adamw_8bit, adafactor or model.lora"
_BY_NAME = "name its class yourself, package.module:Name, e.g."

NO_OPTIMIZERS = {
    "adamw_hf": "it left transformers: use adamw",
    "adamw_anyprecision": "weights that train are float32 here: use adamw",
    "adamw_torch_xla": "it is for other devices: use adamw",
    "adamw_torch_npu_fused": "it is for other devices: use adamw",
    "adamw_torch_4bit": "use adamw_8bit, which is bitsandbytes' own",
    "adamw_torch_8bit": "use adamw_8bit, which is bitsandbytes' own",
    **{
        f"galore_{kind}": _LESS_MEMORY
        for base in ("adamw", "adamw_8bit", "adafactor")
        for kind in (base, f"{base}_layerwise")
    },
    **dict.fromkeys(("apollo_adamw", "apollo_adamw_layerwise"), _LESS_MEMORY),
    **dict.fromkeys(
        ("lomo", "adalomo"),
        "it updates weights during the backward pass, before all micro-batches have been through: use adafactor",
    ),
    **dict.fromkeys(
        ("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"),
        "its weights differ between training and sampling. Use adamw with lr_scheduler_type: constant_with_warmup",
    ),
    "adagrad": f"{_BY_NAME} torch.optim:Adagrad",
    **dict.fromkeys(("grokadamw", "stable_adamw"), f"{_BY_NAME} my_package:StableAdamW; or use adamw"),
    "rmsprop": f"{_BY_NAME} torch.optim:RMSprop",
    **{f"rmsprop_bnb{bits}": f"{_BY_NAME} bitsandbytes.optim:RMSprop8bit" for bits in ("", "_8bit", "_32bit")},
    **{
        f"{paged}{kind}": f"{_BY_NAME} bitsandbytes.optim:{name}"
        for paged in ("", "paged_")
        for kinds, name in (
            (("lion_8bit", "lion_32bit"), "Lion"),
            (("ademamix_8bit", "ademamix_32bit", "ademamix"), "AdEMAMix"),
        )
        for kind in kinds
    },
}
"""transformers' other optimizers, with what is near them."""

Coordinates = Literal["pixels", "norm_1000", "norm_1"]
"""Unit of gold boxes: pixels, or 0–1000 or 0–1 of the image's width and height."""

BoxNumbers = Literal["xyxy", "xywh", "cxcywh"]
"""Meaning of a gold box's four numbers: two corners; left, top, width, height; or centre, width, height."""

ColumnRole = Literal["image", "problem", "answer"]
"""What a key of a row can hold, for `columns` of a data source."""

Dtype = Literal["checkpoint", "float32", "bfloat16", "float64"]
"""Type of weights in memory; checkpoint: as stored."""

Layout = Literal["packed", "rows"]
"""How a group goes through the policy: its prompt once, or again for each completion."""

LayoutOption = Literal["auto", Layout]
"""`auto`: packed where the architecture allows it."""

ThinkingChoice = Literal["required", "free", "absent"]
"""Choices for a thought before the answer; the values of `types.Thinking`."""
