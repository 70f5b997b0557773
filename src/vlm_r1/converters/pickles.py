"""Read pickled annotations without running any function that they name.

A pickle is a program: it may name any function of any module and call it. Annotations need no functions. Here a pickle
may hold None, booleans, numbers, texts, bytes, lists, tuples and dictionaries, which the pickle machine makes itself.
D-cube's files hold arrays of numbers too. Replacements in this module rebuild those as lists; numpy is never called.
Every other name in a pickle is refused before anything runs.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlm_r1.errors import DataError
from vlm_r1.files import regular_only

_CODES = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H", "u1": "B"}
"""numpy's number types → those of `struct`."""

_BROKEN = (
    *(pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError),
    *(struct.error, MemoryError, RecursionError, OverflowError),
)
"""Errors that the pickle machine raises on damaged files (Python's documentation lists some, "not necessarily" all)."""


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain values, written by Python 2 or 3.

    Texts of Python 2 are read as latin-1, which never fails, and then decoded as UTF-8 where that is possible.

    Raises:
        DataError: the file is missing or damaged, or names anything but plain values and arrays of numbers.
    """
    try:
        with open(path, "rb", opener=regular_only) as file:
            return _plain(_PlainUnpickler(file, encoding="latin1").load())
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from error
    except _RefusedError as error:
        raise DataError(
            f"{path}: names {error}, which is not read: a pickle that names functions can run any program. Wanted "
            "numbers, texts, lists and dictionaries alone, as published. Get the file from its publisher, or as JSON"
        ) from error
    except _BROKEN as error:
        raise DataError(f"{path}: not a pickle, or damaged: {error}. Download it again") from error


class _RefusedError(Exception):
    """A refused name. This is deliberately not an UnpicklingError, so that it differs from damage."""


class _PlainUnpickler(pickle.Unpickler):
    """Finds only the replacements. They are new for each file, since a pickle can set attributes of what it finds."""

    def __init__(self, file: Any, *, encoding: str):
        super().__init__(file, encoding=encoding)
        self._found = _replacements()

    def find_class(self, module_name: str, global_name: str) -> Any:
        found = self._found.get((module_name, global_name))
        if found is None:
            raise _RefusedError(f"{module_name}.{global_name}")
        return found


class _DType:
    """Replacement of numpy.dtype for one number; its state, (3, "<", …), has the byte order."""

    __slots__ = ("code", "order")

    def __init__(self, name: object):
        if name not in _CODES:
            raise ValueError(f"an array of {name!r}, wanted numbers")
        self.code, self.order = _CODES[str(name)], "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        self.order = ">" if order == ">" else "<"

    def unpack(self, data: object) -> list[float]:
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(raw, bytes):
            raise TypeError("the numbers of an array are not bytes")
        return [value for (value,) in struct.iter_unpack(self.order + self.code, raw)]


class _Array:
    """Replacement of numpy.ndarray; its state is (version, shape, dtype, Fortran order, bytes)."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: Any = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _DType):
            raise TypeError("the state of an array is not numpy's")
        _, shape, dtype, fortran, data = state
        if fortran and len(shape) > 1:
            raise ValueError("an array in Fortran order")
        self.values = _nested(dtype.unpack(data), shape)


_Leaf = str | bytes | float | _Array | _DType | None


def _nested(values: list[float], shape: tuple[int, ...]) -> Any:
    """Turn a flat list into lists of lists; ValueError if the shape has another number of elements."""
    for side in reversed(shape[1:]):
        if side < 1 or len(values) % side:
            raise ValueError(f"{len(values)} numbers do not fill an array of {shape}")
        values = [values[i : i + side] for i in range(0, len(values), side)]  # type: ignore[assignment]
    return values if shape else values[0]


def _replacements() -> dict[tuple[str, str], Any]:
    """Map the names that numpy and Python's `bytes` write into a pickle to their replacements here."""

    def make_array(kind: object, shape: object, code: object) -> _Array:
        return _Array()

    def make_dtype(name: object, align: object = False, copy: object = True) -> _DType:
        return _DType(name)

    def make_scalar(dtype: _DType, data: object) -> float:
        return dtype.unpack(data)[0]

    def make_bytes(text: str, encoding: str = "latin1") -> bytes:
        if encoding != "latin1":
            raise ValueError(f"bytes in the encoding {encoding!r}")
        return str.encode(text, "latin1")

    def make_no_bytes() -> bytes:
        return b""

    cores: dict[str, Callable[..., object]] = {"_reconstruct": make_array, "scalar": make_scalar}
    return {
        **{(f"numpy.{core}.multiarray", name): made for core in ("core", "_core") for name, made in cores.items()},
        ("numpy", "ndarray"): "numpy.ndarray",
        ("numpy", "dtype"): make_dtype,
        ("_codecs", "encode"): make_bytes,  # Python 3 writes bytes for Python 2 this way, except b"", which is bytes()
        ("__builtin__", "bytes"): make_no_bytes,
    }


def _plain(value: dict[Any, Any] | list[Any] | tuple[Any, ...] | _Leaf, done: dict[int, Any] | None = None) -> Any:
    """Turn arrays into lists, and bytes and latin-1 texts into UTF-8 where possible, in all nested containers.

    An object that several places share is converted once (`done`): a short file can share lists into 2⁴⁰ places.
    """
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        done[id(value)] = {_plain(key, done): _plain(item, done) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        done[id(value)] = [_plain(item, done) for item in value]
    else:
        return _plain_leaf(value)
    return done[id(value)]


def _plain_leaf(value: _Leaf) -> Any:
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, _DType):
        raise TypeError("a number type where a value is wanted")
    if isinstance(value, bytes):
        return _as_utf8(value)
    return _latin1_as_utf8(value) if isinstance(value, str) and not value.isascii() else value


def _as_utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin1")


def _latin1_as_utf8(text: str) -> str:
    """Decode a text that Python 2 wrote as UTF-8 bytes, e.g. "café"; any other text stays as it is."""
    try:
        return text.encode("latin1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text
