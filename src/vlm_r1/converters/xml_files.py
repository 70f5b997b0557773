"""XML files of strangers → elements. Entities and other files are not read, and nesting is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from vlm_r1.converters.files import numbers_in
from vlm_r1.errors import DataError
from vlm_r1.files import open_regular

_MAX_DEPTH = 100
_CHUNK_BYTES = 1 << 16


def read_xml(path: Path) -> Element:
    """Read a whole file.

    Raises:
        DataError: missing, unreadable, not XML, nested too deeply, or with entities of its own.
    """
    *_, (root, _) = _growing(path, keep=True)  # an empty file is no XML: it raises
    return root


def xml_children(path: Path) -> Iterator[tuple[str, Element]]:
    """Yield the root's tag with each of its children as soon as it is complete, so that memory holds one at a time.

    Raises:
        DataError: as `read_xml`.
    """
    for root, child in _growing(path, keep=False):
        if child is not None:
            yield root.tag, child


def text_of(element: Element, tag: str) -> str:
    """The text of a child, without spaces around it; empty: there is none."""
    return (element.findtext(tag) or "").strip()


def numbers_of(element: Element, names: tuple[str, ...], *, attributes: bool = False) -> list[float] | None:
    """Finite numbers of children, or of attributes, by their names; None: one is missing or no number."""
    values = [element.get(name) if attributes else element.findtext(name) for name in names]
    return numbers_in(values, len(names))


def _growing(path: Path, keep: bool) -> Iterator[tuple[Element, Element | None]]:
    """Yield the root with each complete child, and at the end the root with None."""
    reader = _Reader(keep)
    try:
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                reader.parser.Parse(chunk, False)
                yield from reader.take()
            reader.parser.Parse(b"", True)
            yield from reader.take()
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror or error}") from error
    except (expat.ExpatError, ValueError, LookupError) as error:  # an unknown encoding is a LookupError or ValueError
        raise DataError(f"{path}: not valid XML: {error}") from error
    if reader.root is not None:
        yield reader.root, None


class _Reader:
    """Builds elements from the events of expat."""

    def __init__(self, keep: bool) -> None:
        self.root: Element | None = None
        self._keep = keep
        self._depth = 0
        self._complete: list[Element] = []
        self._builder = TreeBuilder()
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._builder.data
        self.parser.EntityDeclHandler = self._refuse

    def take(self) -> Iterator[tuple[Element, Element]]:
        """Yield the root with each child that was completed since the last call."""
        complete, self._complete = self._complete, []
        for child in complete:
            assert self.root is not None
            yield self.root, child

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"its elements are nested more than {_MAX_DEPTH} deep")
        element = self._builder.start(tag, attributes)
        if self.root is None:
            self.root = element

    def _end(self, tag: str) -> None:
        element = self._builder.end(tag)
        self._depth -= 1
        if self._depth == 1 and self.root is not None:
            self._complete.append(element)
            if not self._keep:
                self.root.remove(element)

    def _refuse(self, name: str, *_: object) -> None:
        raise ValueError(f"it declares the entity {name!r}, and entities of a file's own are not read")
