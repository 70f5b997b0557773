"""Images decoded ahead of time: by threads, while the model trains on the step before."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from vlm_r1.data.images import load_image


class ImagesAhead:
    """Loads images by path; those that `start` was told of are waiting, or nearly so.

    An image that cannot be read raises its error when it is asked for, not before. What is decoded and not asked for is
    forgotten with the next `start`.

    Args:
        workers: threads that read and decode (Pillow decodes outside Python's lock); 0: only when asked for.
    """

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="images") if workers else None
        self._started: dict[str, Future[Image.Image]] = {}

    def start(self, paths: Iterable[str]) -> None:
        """Begin to load images; those of an earlier call that nobody asked for are dropped."""
        if self._pool is None:
            return
        wanted = dict.fromkeys(paths)
        for path in [path for path in self._started if path not in wanted]:
            self._started.pop(path).cancel()
        for path in wanted:
            if path not in self._started:
                self._started[path] = self._pool.submit(load_image, path)

    def load(self, path: str) -> Image.Image:
        """The image, upright RGB; waits for it if it is on its way.

        Raises:
            DataError: see `load_image`.
        """
        started = self._started.pop(path, None)
        return load_image(path) if started is None else started.result()
