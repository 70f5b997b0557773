"""Checkpoints that bring code of their own: it runs only if the user says so, and an error or a warning tells of it."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers import PretrainedConfig

from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.files import read_text
from vlm_r1.registry import quoted

_SETTINGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
"""Files of a checkpoint that may name classes of its own, in the key auto_map."""

TRUST = "model.trust_remote_code=true in a recipe, --trust-remote-code of eval, data rate, check-model and export"


def check_no_code(path: str | Path, error: Exception, *, may_be_trusted: bool = True) -> None:
    """Do nothing, unless transformers' error means that a checkpoint cannot be loaded without its own code.

    Raises:
        ModelError: it names the folder, the file and the key.
    """
    if "trust_remote_code" not in str(error):
        return
    named = _naming_code(path) or ["its settings"]
    allowed = f"; or, if you have read this code and trust it, allow it: {TRUST}" if may_be_trusted else ""
    raise ModelError(
        f"{path}: auto_map in {' and '.join(named)} names code of this checkpoint, which is not run. Take a "
        f"checkpoint of a model type that transformers has, or a newer transformers{allowed} (docs/security.md)"
    ) from error


def code_note(path: str | Path) -> str:
    """Return the warning that code of a checkpoint runs, with its folder or commit.

    Raises:
        ConfigError: the checkpoint brings no code, so that to trust it has no effect.
    """
    named = _naming_code(path)
    if not named:
        raise ConfigError(f"{path}: brings no code of its own, so that to trust it has no effect: leave out {TRUST}")
    found = _find(path, named[0])
    commit = "" if Path(path).is_dir() or found is None else f" at commit {found.parent.name}"
    return (
        f"code of {path}{commit} runs with your rights, as you said (trust_remote_code); auto_map in "
        f"{' and '.join(named)} names it"
    )


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


def _naming_code(path: str | Path) -> list[str]:
    return [name for name in _SETTINGS if (file := _find(path, name)) is not None and _names_code(file)]


def _find(path: str | Path, name: str) -> Path | None:
    """Return a file of a folder, or of a checkpoint of the Hub once it is in the cache."""
    if Path(path).is_dir():
        return Path(path) / name
    try:
        found = try_to_load_from_cache(str(path), name)
    except HFValidationError:  # no name of the Hub
        return None
    return Path(found) if isinstance(found, str) else None


def _names_code(path: Path) -> bool:
    try:
        return '"auto_map"' in read_text(path)
    except (OSError, ValueError):
        return False
