"""Decides which parameters train: parts of a model that are frozen, and layers that LoRA adapts."""

# pyright: standard

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from torch import nn

from vlm_r1.config.model import LoraSection, ModelSection, Part
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.models.adapter import Adapter
from vlm_r1.registry import suggestion

if TYPE_CHECKING:
    from peft import LoraConfig

PARTS: tuple[Part, ...] = get_args(Part)

PEFT_OPTIONS = (
    "alpha_pattern",
    "ensure_weight_tying",
    "exclude_modules",
    "init_lora_weights",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "use_dora",
    "use_rslora",
)
"""Keys that `model.lora.peft` may hold. Each other field of peft's `LoraConfig` is left out for one of these reasons:

- it is an option of `model.lora` itself (r, lora_alpha, lora_dropout, target_modules);
- it needs data or Python objects, which a recipe cannot hold (e.g. eva_config);
- it acts only in peft's own forward (e.g. alora_invocation_tokens);
- an adapter with it cannot be merged;
- it still changes the model when the adapter is switched off, as the reference needs it (e.g. bias).
"""

INITIAL_WEIGHTS = (True, "gaussian", "orthogonal")
"""Values of `init_lora_weights` under which a new adapter changes nothing. The reference is the model without it."""


_OF_EXPERTS = ("gate", "gate_proj", "up_proj", "down_proj")
"""In some mixtures of experts peft takes layers of these names for those of transformers 4 and adapts all experts."""


def set_trainable(model: Any, section: ModelSection, adapter: Adapter) -> Any:
    """Make trainable what the section says: all weights of the parts that are not frozen, or new LoRA adapters there.

    Returns:
        The model, or the peft model around it.

    Raises:
        ConfigError: the section names a part or a layer that this model does not have, or peft refuses its options.
    """
    absent = set(section.freeze or ()) - {adapter.part_of(name) for name, _ in model.named_parameters()}
    if absent:
        raise ConfigError(
            f"model.freeze: {min(absent)} has no effect, since the adapter of this family names no such part: remove it"
        )
    if section.lora is not None:
        return add_lora(model, section.lora, lora_targets(model, section, adapter))
    for name, parameter in model.named_parameters():
        if adapter.part_of(name) in section.frozen:
            parameter.requires_grad_(False)
    return model


def lora_targets(model: Any, section: ModelSection, adapter: Adapter) -> list[str]:
    """Return the full names of the linear layers to adapt, all in parts that are not frozen.

    `target_modules` names them. By default they are all linear layers except the output head, and in a mixture of
    experts also except the feed-forward layers. (In transformers 5, experts and routers are no linear layers;
    `lora.peft.target_parameters` can name them.)

    Raises:
        ConfigError: a name of `target_modules` matches no layer.
    """
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    names = [name for name in linear if adapter.part_of(name) not in section.frozen]
    wanted = section.lora.target_modules if section.lora is not None else None
    if wanted is None:
        head, mixture = model.get_output_embeddings(), any(".experts." in name for name, _ in model.named_parameters())
        left_out = [name for name in names if mixture and (_last(name) in _OF_EXPERTS or "shared_expert" in name)]
        return [name for name in names if linear[name] is not head and name not in left_out]
    for end in wanted:
        if not any(_ends_in(name, end) for name in names):
            where = {adapter.part_of(name) for name in linear if _ends_in(name, end)}
            hint = f"it is in {', '.join(sorted(where))}: see model.freeze. " if where else _like(end, names)
            raise ConfigError(
                f'model.lora.target_modules: "{end}" is no linear layer of the parts that are not frozen '
                f"({', '.join(part for part in PARTS if part not in section.frozen)}). {hint}"
            )
    return [name for name in names if any(_ends_in(name, end) for end in wanted)]


def lora_config(section: LoraSection, targets: list[str]) -> LoraConfig:
    """Return the section as peft's `LoraConfig`.

    Raises:
        ConfigError: an unknown or unsuitable option in `peft`.
    """
    from peft import LoraConfig

    for key in section.peft:
        if key not in PEFT_OPTIONS:
            raise ConfigError(
                f'model.lora.peft: "{key}" is no option here. {suggestion(key, PEFT_OPTIONS)}'
                f"Wanted one of {', '.join(PEFT_OPTIONS)}; r, lora_alpha, lora_dropout and target_modules are options "
                "of model.lora itself"
            )
    start = section.peft.get("init_lora_weights", True)
    if start not in INITIAL_WEIGHTS:
        raise ConfigError(
            f"model.lora.peft.init_lora_weights is {start!r}, with which a new adapter changes the model or its "
            f"weights, so that the model without it is not where training began; wanted one of {INITIAL_WEIGHTS}"
        )
    alpha = int(section.lora_alpha) if section.lora_alpha.is_integer() else section.lora_alpha
    return LoraConfig(
        r=section.r,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=section.lora_dropout,
        target_modules=targets,
        **section.peft,
    )


def add_lora(model: Any, section: LoraSection, targets: list[str]) -> Any:
    """Wrap the model with new low-rank adapters (peft); only they and the modules of `modules_to_save` train.

    Raises:
        ConfigError: peft cannot do it; repeats its message.
    """
    from peft import get_peft_model

    _check_names(model, section)
    try:
        wrapped = get_peft_model(model, lora_config(section, targets))
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"model.lora: peft cannot: {error}") from error
    modules = dict(wrapped.get_base_model().named_modules())
    mistaken = [name for name in targets if _last(name) in _OF_EXPERTS and type(modules.get(name)) is nn.Linear]
    if mistaken and "exclude_modules" not in section.peft:
        raise ConfigError(
            f"model.lora.target_modules: peft takes {mistaken[0]} for layers of the experts. Leave "
            f"{', '.join(_OF_EXPERTS)} out; model.lora.peft.target_parameters can name the parameters of experts"
        )
    return wrapped


@dataclass(frozen=True)
class PartSize:
    """The number of parameters of a part, LoRA adapters included, and how many of them train."""

    part: Part
    parameters: int
    trainable: int


def count_numbers(parameter: nn.Parameter) -> int:
    """Return how many numbers a parameter holds; bitsandbytes packs two numbers of 4 bits into a byte."""
    packed = type(parameter).__name__ == "Params4bit"
    return parameter.numel() * parameter.element_size() * 2 if packed else parameter.numel()


def size_by_part(
    model: nn.Module, adapter: Adapter, count: Callable[[nn.Parameter], int] = count_numbers
) -> list[PartSize]:
    """Return the sizes of the parts that the model has, in the order of `PARTS`.

    Args:
        count: returns how many numbers to count for a parameter.

    Raises:
        ModelError: nothing would train.
    """
    parameters: dict[Part, int] = dict.fromkeys(PARTS, 0)
    trainable: dict[Part, int] = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        part, size = adapter.part_of(name), count(parameter)
        parameters[part] += size
        trainable[part] += size if parameter.requires_grad else 0
    if not any(trainable.values()):
        raise ModelError(
            "no parameter would train: unfreeze a part. (A folder that holds only a LoRA adapter does not train "
            "either; make it a model first: vlm-r1 export RUN --to DIR)"
        )
    return [PartSize(part, parameters[part], trainable[part]) for part in PARTS if parameters[part]]


def check_rates(rates: Mapping[Part, float], sizes: list[PartSize]) -> None:
    """Refuse learning rates of parts that do not train.

    Raises:
        ConfigError: names the part.
    """
    train = {size.part for size in sizes if size.trainable}
    for part in rates:
        if part not in train:
            raise ConfigError(
                f"training.learning_rates.{part} has no effect: nothing of this model's {part} trains: remove it"
            )


def _check_names(model: nn.Module, section: LoraSection) -> None:
    """Refuse names in peft's options that match nothing in the model; peft would ignore them."""
    modules, parameters = ([name for name, _ in found()] for found in (model.named_modules, model.named_parameters))
    kinds = {"modules_to_save": modules, "exclude_modules": modules, "target_parameters": parameters}
    for option, known in kinds.items():
        given = section.peft.get(option)
        for end in given if isinstance(given, list) else ():
            if not any(_ends_in(name, end) for name in known):
                raise ConfigError(
                    f'model.lora.peft.{option}: nothing in the model ends in "{end}". {_like(end, known)}'
                )


def _ends_in(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _like(end: str, names: list[str]) -> str:
    last = {_last(name) for name in names} - {""}
    return f"{suggestion(end, last)}Known: {', '.join(sorted(last))}"
