"""Fetches a remote file, by http(s) or by fsspec, if the `Access` allows it, in bounded time and size."""

from __future__ import annotations

import time

from vlm_r1.data.access import WEB, Access, check_address, has_host, protocol_of
from vlm_r1.data.web import check_host, get, in_time
from vlm_r1.errors import DataError


def fetch(url: str, access: Access, n_bytes: int | None = None) -> bytes:
    """Return the first `n_bytes` bytes of a remote file, or all of them.

    Raises:
        DataError: it may not be fetched, is not there, is larger than `max_bytes`, or takes longer than `timeout_s`.
    """
    check_address(url, access)
    limit = access.max_bytes + 1 if n_bytes is None else n_bytes
    deadline = min(time.monotonic() + access.timeout_s, access.until)
    try:
        if protocol_of(url) in WEB:
            content = get(url, access, deadline, limit)
        else:
            content = in_time(lambda: _by_fsspec(url, access, deadline, limit), deadline)
    except FileNotFoundError as error:
        raise DataError(f"{url}: image not found. Check image_root and the record's image") from error
    except TimeoutError as error:
        raise DataError(f"{url}: not fetched: it takes more than {access.timeout_s:g} s. Copy the images") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{url}: cannot be fetched: {error}. Check the address and the access rights") from error
    if len(content) > access.max_bytes:
        raise DataError(f"{url}: not fetched: it has more than {access.max_bytes:,} bytes. Shrink the image")
    return content


def _by_fsspec(url: str, access: Access, deadline: float, limit: int) -> bytes:
    if has_host(url, access):
        check_host(url, access, deadline)
    try:
        import fsspec

        files, name = fsspec.url_to_fs(url)
        return files.cat_file(name, start=0, end=limit)
    except FileNotFoundError:
        raise
    except ImportError as error:
        raise DataError(f"{url}: cannot be fetched: {error}. Install that package, or copy the images") from error
    except Exception as error:  # each protocol has a package with its own errors
        raise DataError(f"{url}: cannot be fetched: {error}. Check the address and the access rights") from error
