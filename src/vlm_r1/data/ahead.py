"""Images that threads decode ahead of time, while the model trains on the previous step."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from vlm_r1.data.access import NOWHERE, Access
from vlm_r1.data.images import load_image


class ImagesAhead:
    """Loads images by path; images announced to `start` are decoded in the background.

    The error of an unreadable image is raised by `load`, not before. Images that were decoded but not loaded are
    dropped by the next `start`.

    Args:
        workers: threads that read and decode (Pillow decodes outside Python's lock); 0: `load` decodes itself.
        access: says which URLs may be fetched.
    """

    def __init__(self, workers: int, access: Access = NOWHERE) -> None:
        self.access = access
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="images") if workers else None
        self._started: dict[str, Future[Image.Image]] = {}

    def start(self, paths: Iterable[str]) -> None:
        """Begin to load images; those of an earlier call that are not among them are dropped."""
        if self._pool is None:
            return
        wanted = dict.fromkeys(paths)
        for path in [path for path in self._started if path not in wanted]:
            self._started.pop(path).cancel()
        for path in wanted:
            if path not in self._started:
                self._started[path] = self._pool.submit(load_image, path, self.access)

    def load(self, path: str) -> Image.Image:
        """Return an image as upright RGB; waits if it is being decoded.

        Raises:
            DataError: see `load_image`.
        """
        started = self._started.pop(path, None)
        return load_image(path, self.access) if started is None else started.result()
