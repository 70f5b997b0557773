"""Tries the patterns of a LoRA folder, whose regular expressions may be a stranger's, before peft uses them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from peft import PeftConfig, PeftType
from peft.tuners import tuners_utils
from peft.utils.other import get_pattern_key

from vlm_r1.errors import ModelError
from vlm_r1.rewards.guard import TimeUpError, call_guarded

LIMIT_S = 30.0
"""Seconds for the names of all modules. Sound patterns take milliseconds."""


def check_patterns(path: str | Path, model: Any, limit_s: float = LIMIT_S) -> None:
    r"""Match the patterns of `adapter_config.json` as peft does: one like `(\w+)*!` tries for ever.

    Args:
        path: the folder of the adapter.
        model: what the adapter is for.

    Raises:
        ModelError: a pattern is no regular expression, or they take longer than the limit.
    """
    config = cast(Any, PeftConfig).from_pretrained(str(path))
    if config.peft_type != PeftType.LORA:
        return
    names: list[str] = [name for name, _ in model.named_modules()]
    patterns: list[str] = [*(config.rank_pattern or ()), *(config.alpha_pattern or ())]

    def match() -> None:
        for name in names:
            cast(Any, tuners_utils).check_target_module_exists(config, name)
            for pattern in patterns:
                get_pattern_key([pattern], name)

    try:
        call_guarded(match, f"{path}: the patterns of adapter_config.json", limit_s)
    except TimeUpError:
        raise ModelError(
            f"{path}: the patterns of adapter_config.json (target_modules and the like) are not matched within "
            f"{limit_s:g} s. Write the names of the modules there instead"
        ) from None
    except re.error as error:
        raise ModelError(
            f"{path}: a pattern of adapter_config.json is no regular expression: {error}. Write the names of the "
            "modules there instead"
        ) from None
