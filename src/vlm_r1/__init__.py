"""VLM-R1: reinforcement learning with rule-based rewards (GRPO) for vision-language models.

From Python: `vlm_r1.train`, `sft`, `evaluate`, `ask`, `load_run` and `show` (docs/python.md). They are imported when
they are first used, so that `import vlm_r1` loads no large library.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "train": "vlm_r1.api.training",
    "sft": "vlm_r1.api.training",
    "StepEnd": "vlm_r1.training.callbacks",
    "evaluate": "vlm_r1.api.evaluate",
    "ask": "vlm_r1.api.ask",
    "load_run": "vlm_r1.api.runs",
    "show": "vlm_r1.api.show",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_MODULES[name]), name)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        beside = import_module("vlm_r1.pretrained.beside")
        if broken := beside.broken_torchvision(error):
            raise broken from error
        raise


def __dir__() -> list[str]:
    return ["__version__", *_MODULES]
