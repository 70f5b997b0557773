"""Checkpoints that bring code of their own: it is never run, and the error says so."""

from __future__ import annotations

from pathlib import Path

from transformers import PretrainedConfig

from vlm_r1.errors import ModelError
from vlm_r1.files import read_text
from vlm_r1.registry import quoted

_SETTINGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
"""Files of a checkpoint that may name classes of its own, in the key auto_map."""


def check_no_code(path: str | Path, error: Exception) -> None:
    """Do nothing, unless transformers' error means that a checkpoint cannot be loaded without its own code.

    Raises:
        ModelError: it names the folder, the file and the key.
    """
    if "trust_remote_code" not in str(error):
        return
    named = [name for name in _SETTINGS if _names_code(Path(path) / name)] or ["its settings"]
    raise ModelError(
        f"{path}: auto_map in {' and '.join(named)} names code of this checkpoint, which is never run. Take a "
        "checkpoint of a model type that transformers has, or a newer transformers (docs/security.md)"
    ) from error


def check_no_kernels(path: str | Path, config: PretrainedConfig) -> None:
    """Refuse a config that names attention or experts as a kernel of the Hub: transformers would fetch and run it.

    Raises:
        ModelError: it names the folder and the kernel.
    """
    for key in ("_attn_implementation", "_experts_implementation"):
        name = getattr(config, key, None)
        if isinstance(name, str) and not name.isidentifier():
            raise ModelError(
                f"{path}: config.json names the kernel {quoted(name)} as {key[1:]}, which is code and is not fetched. "
                "Take the line out; model.attn_implementation of a recipe may name another (docs/security.md)"
            )
    for part in vars(config).values():
        if isinstance(part, PretrainedConfig):
            check_no_kernels(path, part)


def _names_code(path: Path) -> bool:
    try:
        return '"auto_map"' in read_text(path)
    except (OSError, ValueError):
        return False
