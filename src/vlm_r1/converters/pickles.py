"""Read pickled annotations without running any function that they name.

A pickle is a program: it may name any function of any module and call it. Annotations need no functions. Here a pickle
may hold None, booleans, numbers, texts, bytes, lists, tuples and dictionaries, which the pickle machine makes itself.
D-cube's files hold arrays of numbers too. Replacements in this module rebuild those as lists; numpy is never called.
Every other name in a pickle is refused before anything runs.

Time and memory are bounded by the size of the file. So the machine is Python's own one in Python: it looks at each key
before it is hashed, and its memo is a dictionary. A short file may share a tuple into 2⁴⁰ places, whose hash or text
would never end, so no tuple is a key, and messages show no values. What the replacements make from one shared text is
counted.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from vlm_r1.errors import DataError
from vlm_r1.files import read_bytes

_CODES = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H", "u1": "B"}
"""numpy's number types → those of `struct`."""

_UNWANTED = b"".join(
    (
        *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.BYTEARRAY8, pickle.LONG4),
        *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EXT1, pickle.EXT2, pickle.EXT4),
        *(pickle.NEWOBJ, pickle.NEWOBJ_EX),
    )
)
"""Opcodes that plain values do not need."""

_KEYS = (str, bytes, int, float, bool, type(None))
"""Types of the keys of a dictionary."""

_MAX_AXES = 8
"""Of an array; D-cube's have two."""

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
        return _plain(_PlainUnpickler(read_bytes(path)).load())
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from error
    except _RefusedError as error:
        raise DataError(
            f"{path}: names {error!s:.200}, which is not read: a pickle that names functions can run any program. "
            "Wanted numbers, texts, lists and dictionaries alone, as published. Get the file from its publisher, or as "
            "JSON"
        ) from error
    except _BROKEN as error:
        raise DataError(f"{path}: not a pickle, or damaged: {error!s:.200}. Download it again") from error


class _RefusedError(Exception):
    """A refused name. This is deliberately not an UnpicklingError, so that it differs from damage."""


_Machine: Any = vars(pickle)["_Unpickler"]
"""Python's reader of pickles that is written in Python; typeshed does not know it."""


class _PlainUnpickler(_Machine):
    """Finds only the replacements. They are new for each file, since a pickle can set attributes of what it finds."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_Machine.dispatch)

    def __init__(self, data: bytes):
        _Machine.__init__(self, io.BytesIO(data), encoding="latin1")
        self._found = _replacements(len(data))

    def find_class(self, module_name: str, global_name: str) -> Any:
        found = self._found.get((module_name, global_name))
        if found is None:
            raise _RefusedError(f"{module_name:.100}.{global_name:.100}")
        return found

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        _Machine.load_setitem(self)

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])  # the stack since the mark: key, value, key, value, …
        _Machine.load_setitems(self)

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        _Machine.load_dict(self)

    def load_unwanted(self) -> None:
        raise pickle.UnpicklingError("it holds a set, a huge number, or something else that annotations do not hold")


_PlainUnpickler.dispatch |= {
    pickle.SETITEM[0]: _PlainUnpickler.load_setitem,
    pickle.SETITEMS[0]: _PlainUnpickler.load_setitems,
    pickle.DICT[0]: _PlainUnpickler.load_dict,
    **dict.fromkeys(_UNWANTED, _PlainUnpickler.load_unwanted),
}


def _check_keys(keys: list[Any]) -> None:
    """ValueError if a key is costly to hash, or shares its hash with others: a tuple, or a number beyond 2⁶⁰."""
    for key in keys:
        if type(key) not in _KEYS or (type(key) is int and abs(key) > 1 << 60):
            raise ValueError(f"a dictionary has a key that is {type(key).__name__} and no text or ordinary number")


class _DType:
    """Replacement of numpy.dtype for one number; its state, (3, "<", …), has the byte order."""

    __slots__ = ("code", "order")

    def __init__(self, name: object):
        if not isinstance(name, str) or name not in _CODES:  # no other type, since its hash or text may never end
            raise ValueError("an array of something else, wanted numbers")
        self.code, self.order = _CODES[name], "<"

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

    __slots__ = ("use", "values")

    def __init__(self, use: Callable[[object], None]) -> None:
        self.use = use
        self.values: Any = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _DType):
            raise TypeError("the state of an array is not numpy's")
        _, shape, dtype, fortran, data = state
        if fortran and len(shape) > 1:
            raise ValueError("an array in Fortran order")
        self.use(data)
        self.values = _nested(dtype.unpack(data), tuple(shape))


_Leaf = str | bytes | float | _Array | None


def _nested(values: list[float], shape: tuple[Any, ...]) -> Any:
    """Turn a flat list into lists of lists; ValueError if the shape has another number of elements."""
    if len(shape) > _MAX_AXES:
        raise ValueError(f"the shape of an array has more than {_MAX_AXES} axes")
    for side in reversed(shape[1:]):
        if side < 1 or len(values) % side:
            raise ValueError(f"{len(values)} numbers do not fill an array")
        values = [values[i : i + side] for i in range(0, len(values), side)]  # type: ignore[assignment]
    return values if shape else values[0]


def _replacements(size_bytes: int) -> dict[tuple[str, str], Any]:
    """Map the names that numpy and Python's `bytes` write into a pickle to their replacements here.

    Each of a file's `size_bytes` bytes is used once at most: a memo can hand one long text to many calls.
    """
    unused = size_bytes

    def use(data: object) -> None:
        nonlocal unused
        unused -= len(data) if isinstance(data, str | bytes) else 0
        if unused < 0:
            raise ValueError("its arrays and bytes are larger than the file")

    def make_array(kind: object, shape: object, code: object) -> _Array:
        return _Array(use)

    def make_dtype(name: object, align: object = False, copy: object = True) -> _DType:
        return _DType(name)

    def make_scalar(dtype: _DType, data: object) -> float:
        use(data)
        return dtype.unpack(data)[0]

    def make_bytes(text: str, encoding: str = "latin1") -> bytes:
        if encoding != "latin1":
            raise ValueError("bytes in another encoding than latin1")
        use(text)
        return str.encode(text, "latin1")

    def make_no_bytes() -> bytes:
        return b""

    cores: dict[str, Callable[..., object]] = {"_reconstruct": make_array, "scalar": make_scalar}
    return {
        **{(f"numpy.{core}.multiarray", name): made for core in ("core", "_core") for name, made in cores.items()},
        ("numpy", "ndarray"): object(),
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
        done[id(value)] = _plain_leaf(value)
    return done[id(value)]


def _plain_leaf(value: _Leaf) -> Any:
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, bytes):
        return _as_utf8(value)
    if not isinstance(value, str | float | int | None):
        raise TypeError("a function or a type where a value is wanted")
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
