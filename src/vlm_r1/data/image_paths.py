"""The names of images in the rows of a file → paths and URLs; a name that leads elsewhere is refused.

Whoever wrote a row may name any file of this disk. So a path must lie below `image_root`, below a folder that the
recipe lists, or in our own cache, after every link in it has been followed. A URL must be allowed by the `Access`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vlm_r1.config.data import NOTHING, Allowed, DataSource
from vlm_r1.data.access import NOWHERE, Access, access_of, check_address
from vlm_r1.data.hub import images_folder
from vlm_r1.data.images import is_remote, spellings
from vlm_r1.errors import DataError

_LOCAL_URL = re.compile("(?:file|local)://", re.IGNORECASE)
_REMEMBERED_FOLDERS = 1 << 16


@dataclass(frozen=True)
class ImagePaths:
    """Where the names of images in the rows of one file may lead.

    Attributes:
        root: absolute folder or URL that names are relative to.
        folders: real paths, with a slash at the end, of the folders below which files may lie.
        access: URLs that may be fetched.
    """

    root: str
    folders: tuple[str, ...]
    access: Access = NOWHERE
    _real: dict[str, str] = field(default_factory=dict[str, str], repr=False, compare=False)

    def path(self, name: str) -> str:
        """Return the absolute path or URL of an image; its name may come from another system (`spellings`).

        A path is returned as it is written, not as its links lead. The file may be missing.

        Raises:
            DataError: the name leads out of all folders, or to a URL that is not allowed.

        >>> ImagePaths("/coco", ("/coco/",)).path("1.jpg")
        '/coco/1.jpg'
        >>> ImagePaths("s3://b/coco", (), Access(roots=("s3://b/coco",))).path("1.jpg")
        's3://b/coco/1.jpg'
        """
        name = _without_protocol(name)
        if "\0" in name:
            raise DataError("the name of the image holds a NUL character; wanted a path or a URL")
        if is_remote(name) or (is_remote(self.root) and not os.path.isabs(name)):
            url = name if is_remote(name) else f"{self.root}/{name}"
            check_address(url, self.access)
            return url
        if "\\" in name or not name.isascii():
            name = next((form for form in spellings(name) if os.path.isfile(os.path.join(self.root, form))), name)
        path = os.path.abspath(os.path.join(self.root, name))
        real = self._real_path(path)
        if not real.startswith(self.folders):
            raise DataError(self._outside(name, path, real))
        return path

    def is_inside(self, name: str) -> bool:
        """Return whether a name leads to a file or URL that is allowed."""
        try:
            self.path(name)
        except DataError:
            return False
        return True

    def _real_path(self, path: str) -> str:
        """The path after all links; those of folders are remembered."""
        if os.path.islink(path):
            return os.path.realpath(path)
        folder, _, last = path.rpartition("/")
        if folder not in self._real:
            if len(self._real) == _REMEMBERED_FOLDERS:
                self._real.clear()
            self._real[folder] = os.path.realpath(folder or "/")
        return f"{self._real[folder].rstrip('/')}/{last}"

    def _outside(self, name: str, path: str, real: str) -> str:
        leads = f'image "{name}" leads to {real}, ' if real != path else f'image "{name}" is {real}, '
        return (
            f"{leads}outside of image_root {self.root}. If you trust the data, set image_root to a folder above it, or "
            "list its folder in data.allowed_local_media_path (--allowed-local-media-path)"
        )


def image_paths(source: DataSource, allowed: Allowed = NOTHING, cache: Path | None = None) -> ImagePaths:
    """Return where the names of a file's images may lead.

    Args:
        source: with its `image_root`; without one, the names are relative to the file's own folder.
        allowed: what rows may name beside the files below it.
        cache: folder for embedded pictures, as in `hub.images_folder`.
    """
    root = _without_protocol(source.image_root)
    here = os.path.abspath(root or os.path.dirname(os.path.abspath(source.path)))
    own = [] if is_remote(root) else [here]
    folders = [*own, images_folder(cache), *allowed.allowed_local_media_path]
    access = access_of(allowed, [source.image_root])
    return ImagePaths(root.rstrip("/") if is_remote(root) else here, _real_folders(folders), access)


def _without_protocol(name: str) -> str:
    """The path in file:///path; other names as they are."""
    return _LOCAL_URL.sub("", name, count=1) if _LOCAL_URL.match(name) else name


def _real_folders(folders: Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    real = (os.path.realpath(folder).rstrip("/") for folder in folders)
    return tuple(dict.fromkeys(f"{folder}/" for folder in real))
