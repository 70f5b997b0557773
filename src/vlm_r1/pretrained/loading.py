"""Calls a loader of transformers, and turns its errors into one line that says what is missing where."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from vlm_r1.errors import ModelError
from vlm_r1.pretrained.foreign import BROKEN, missing_package
from vlm_r1.pretrained.reach import hub_trouble, is_hub_name
from vlm_r1.pretrained.remote_code import check_no_code


def load_with(
    what: str, wanted: str, loader: Any, path: str | Path, *, may_be_trusted: bool = True, **options: Any
) -> Any:
    """Call `loader(path)` of transformers or peft.

    Args:
        what: what is loaded, for messages, e.g. "tokenizer".
        wanted: the files that it is loaded from.
        may_be_trusted: whether a user may allow its code to run, which an error then says.

    Raises:
        ModelError: it cannot be loaded, needs code of the checkpoint, or is a pickle that holds more than weights.
    """
    trouble = hub_trouble() if is_hub_name(str(path)) else None
    try:
        return loader(str(path), **options, **({"local_files_only": True} if trouble else {}))
    except UnpicklingError as error:
        raise ModelError(
            f"{path}: the file of the {what} is a pickle that holds more than weights: it could run any program "
            f"and is not read (wanted {wanted})"
        ) from error
    except torch.OutOfMemoryError:
        raise
    except (*BROKEN, SafetensorError) as error:
        check_no_code(path, error, may_be_trusted=may_be_trusted)
        if trouble:
            raise ModelError(
                f"{path}: cannot load the {what}: there is no such folder here, {trouble}, and the cache of this "
                "machine does not have it. Check the network and HF_ENDPOINT, or name a folder"
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        remedy = missing_package(error) or f"wanted {wanted}"
        raise ModelError(f"{path}: cannot load the {what}: {reason} ({remedy})") from error
