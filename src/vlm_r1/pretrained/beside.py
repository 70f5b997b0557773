"""torchvision, which transformers imports wherever it is installed: a build for another torch breaks every command."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from vlm_r1.errors import ModelError

_FOLDER = f"{os.sep}torchvision{os.sep}"


def broken_torchvision(error: BaseException) -> ModelError | None:
    """Return the error to tell if an import failed because torchvision's own import did; None: it did not.

    What torchvision raises when it is used, in code of the user's own, is not meant.
    """
    for one in _chain(error):
        frames = traceback.extract_tb(one.__traceback__)
        if any(_FOLDER in frame.filename and frame.name == "<module>" for frame in frames):
            return ModelError(
                f"{_release('torchvision')} does not fit {_release('torch')}: {type(one).__name__}: "
                f"{str(one).partition(chr(10))[0]}. Remove it, since most models do not need it: pip uninstall "
                "torchvision. Or install both from one index: pip install --force-reinstall torch torchvision"
            )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from or during."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _release(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
