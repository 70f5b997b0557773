"""Calls into code that knows a model family which we do not: its processor, and in checks its forward.

What such code raises is no bug of ours. It becomes a `ModelError` that names the family, what was said, and what to do.
Only the foreign call itself belongs into the block.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from huggingface_hub.errors import StrictDataclassError

from vlm_r1.errors import ModelError

BROKEN: tuple[type[Exception], ...] = (
    *(OSError, ValueError, LookupError, ImportError, RuntimeError, EOFError, TypeError, AttributeError),
    *(ArithmeticError, MemoryError, AssertionError, StrictDataclassError),
)
"""What transformers and torch raise on what is missing, damaged, or not meant for them."""

TORCHVISION = "install torchvision, in the release that belongs to your torch: pip install torchvision"

ADAPTER = "It needs an adapter of its own: see docs/add_a_model.md"


@contextmanager
def foreign(what: str, remedy: str = ADAPTER) -> Generator[None]:
    """Make errors of the code within to a `ModelError`: "{what}: ValueError: its first line. {remedy}".

    If a package is missing, the remedy is to install it. That memory is full stays as it is.

    Raises:
        ModelError: something of `BROKEN` was raised.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except BROKEN as error:
        raise refusal(what, error, remedy) from error


def refusal(what: str, error: Exception, remedy: str = ADAPTER) -> ModelError:
    """Return the error of `foreign`, for those who catch by themselves."""
    return ModelError(f"{what}: {told(error)}. {missing_package(error) or remedy}")


def told(error: Exception) -> str:
    """Return the kind of an error and the first line that says something, without a full stop at the end.

    >>> told(KeyError("image_sizes")), told(ValueError("\\n wanted 3.\\n more")), told(TypeError())
    ("KeyError: 'image_sizes'", 'ValueError: wanted 3', 'TypeError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}".rstrip(".") if lines else type(error).__name__


def missing_package(error: Exception) -> str | None:
    """Return what to install if that is why the code failed; None: that is not known.

    >>> missing_package(ModuleNotFoundError("No module named 'num2words'", name="num2words"))
    'Install num2words: pip install num2words'
    """
    if "torchvision" in str(error).lower():
        return TORCHVISION[0].upper() + TORCHVISION[1:]
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return f"Install {package}: pip install {package}"
    return None
