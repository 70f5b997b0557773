"""What remote images may be fetched: addresses that a recipe or a command allows.

A row of data names the address, and whoever wrote the row may have meant the machine that reads it: its metadata
service, its neighbours, its own ports. So nothing is fetched unless an `Access` allows it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from vlm_r1.config.data import Allowed
from vlm_r1.errors import DataError

FETCH_TIMEOUT_S = 30.0
"""Seconds that one file may take in all: names, connections, redirects and every byte."""

MAX_FETCH_BYTES = 1 << 28
"""Size of the largest remote file that is read, in bytes: as much as the largest image takes as RGB."""

WEB = ("http", "https")
"""Protocols that `web.get` speaks; fsspec has the others."""

_LOCAL = ("file", "local", "asynclocal", "dir", "generic")
"""fsspec's protocols that reach this disk, or any other protocol. The paths of files are those of `image_paths`."""

_WITHOUT_HOST = frozenset(
    ("s3", "s3a", "gs", "gcs", "hf", "az", "abfs", "abfss", "adl", "oss", "oci", "memory", "github", "gdrive")
)
"""Protocols with the name of a bucket, an account or a data set where others have a host."""


@dataclass(frozen=True)
class Access:
    """What may be fetched: what lies below a root, and what has an allowed protocol and an allowed host.

    Attributes:
        protocols: e.g. {"https", "s3"}.
        hosts: only these hosts are asked, at any address; if there are none, all hosts with public addresses.
        roots: remote image roots, without the last slash; their hosts are asked at any address.
        timeout_s: seconds for one file.
        max_bytes: size of the largest file.
        until: time of `time.monotonic` after which nothing more is fetched.
    """

    protocols: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    roots: tuple[str, ...] = ()
    timeout_s: float = FETCH_TIMEOUT_S
    max_bytes: int = MAX_FETCH_BYTES
    until: float = math.inf


NOWHERE = Access()
"""Nothing remote is fetched."""


def access_of(allowed: Allowed, image_roots: Iterable[str]) -> Access:
    """Return what may be fetched for data files with these image roots; local ones are left out."""
    return Access(
        frozenset(protocol.lower() for protocol in allowed.allowed_protocols),
        frozenset(host.lower().strip("[]").rstrip(".") for host in allowed.allowed_media_domains),
        tuple(root.rstrip("/") for root in dict.fromkeys(image_roots) if "://" in root and not _is_local(root)),
    )


def check_address(url: str, access: Access) -> None:
    """Refuse an address that may not be fetched. Nothing is looked up.

    Raises:
        DataError: it has a protocol or a host that is not allowed, or leads out of its root.
    """
    if root := root_of(url, access):
        _check_below(url, root)
        return
    protocol = protocol_of(url)
    if protocol not in access.protocols or _is_local(url):
        raise DataError(
            f'{url}: images of the protocol "{protocol}" are not allowed, only: '
            f"{', '.join(sorted(access.protocols)) or 'none'}. If you trust the data, list it in "
            "data.allowed_protocols (--allowed-protocols), or copy the images"
        )
    if "::" in url and protocol not in WEB:
        raise DataError(f'{url}: protocols chained by "::" are not read. Copy the images')
    if has_host(url, access) and access.hosts:
        check_listed(url, access)


def check_redirect(url: str, start: str, access: Access) -> None:
    """Refuse the target of a redirect, unless it is https or has the protocol of the start, and its host is allowed.

    Args:
        url: where the server sends us.
        start: the address that was allowed.

    Raises:
        DataError: see above.
    """
    protocol = protocol_of(url)
    if protocol not in WEB or protocol not in {"https", protocol_of(start), *access.protocols}:
        raise DataError(f"{start}: sent on to {url:.200}, whose protocol is not allowed. Copy the images")
    if access.hosts and not is_trusted(url, start, access):
        check_listed(url, access)


def check_listed(url: str, access: Access) -> None:
    """Refuse a host that is not among those of `access`; DataError."""
    if (host := host_of(url)) not in access.hosts:
        raise DataError(
            f"{url}: images from the host {host!r} are not allowed, only: {', '.join(sorted(access.hosts)) or 'none'}. "
            "If you trust it, list it in data.allowed_media_domains (--allowed-media-domains)"
        )


def is_trusted(url: str, start: str, access: Access) -> bool:
    """Return whether a host may have any address: it is listed, or is that of the root below which we started."""
    is_of_root = root_of(start, access) is not None and _origin(url) == _origin(start)
    return is_of_root or host_of(url) in access.hosts


def has_host(url: str, access: Access) -> bool:
    """Return whether a URL that lies below no root names a host, and not a bucket or the like."""
    return protocol_of(url) not in _WITHOUT_HOST and root_of(url, access) is None and bool(host_of(url))


def protocol_of(url: str) -> str:
    """Return the part before ://, in small letters.

    >>> protocol_of("HTTPS://x.org/a.png"), protocol_of("simplecache::s3://bucket/a.png")
    ('https', 'simplecache::s3')
    """
    return url.partition("://")[0].lower()


def host_of(url: str) -> str:
    """Return the host of an address, in small letters, or the name in its place; "" if it has none.

    Raises:
        DataError: the address makes no sense.

    >>> host_of("http://X.org.:80/a.png"), host_of("http://[::1]/")
    ('x.org', '::1')
    """
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError as error:
        raise DataError(f"{url}: no address: {error}") from error


def root_of(url: str, access: Access) -> str | None:
    """Return the root that a URL is, or that its text begins with."""
    return next((root for root in access.roots if url == root or url.startswith(f"{root}/")), None)


def _is_local(url: str) -> bool:
    return protocol_of(url) in _LOCAL


def _origin(url: str) -> str:
    """The part of an address that names the server, with the port as it is written."""
    return f"{protocol_of(url)}://{urlsplit(url).netloc.lower()}"


def _check_below(url: str, root: str) -> None:
    rest = url.removeprefix(root)
    path = unquote(unquote(re.split("[?#]", rest, maxsplit=1)[0])).replace("\\", "/")
    if ".." in path.split("/") or "::" in rest:
        raise DataError(f"{url}: leads out of image_root {root}; wanted a name below it")
    if "::" in root and any(protocol in WEB for protocol in re.split("::|://", root.lower())):
        raise DataError(f"{root}: http is not read through other protocols; wanted http(s):// itself as image_root")
