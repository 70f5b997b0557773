"""Reads a file over http(s), in bounded time and size, and only from addresses that may be asked.

A host is looked up once, its addresses are checked, and the connection goes to one of these: a name that resolves
differently a moment later leads nowhere else. Redirects are followed by the same rules. Proxies are not used.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from vlm_r1 import __version__
from vlm_r1.data.access import Access, check_redirect, host_of, is_trusted
from vlm_r1.errors import DataError

T = TypeVar("T")

MAX_REDIRECTS = 5

_CHUNK_BYTES = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_GONE = (404, 410)
_OF_CLOUDS = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
"""Addresses of services of Azure and Oracle for their own machines, which `ipaddress` may count as global."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""Addresses whose last 32 bits are an IPv4 address that a gateway asks for us (RFC 6052)."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")


def get(url: str, access: Access, deadline: float, limit: int) -> bytes:
    """Return the first `limit` bytes of a file.

    Args:
        url: an address that `access.check_address` has passed.
        access: says which hosts may be asked, after redirects too.
        deadline: time of `time.monotonic` at which we give up.
        limit: bytes that are read at most; no more is asked for.

    Raises:
        DataError: a host or a redirect is not allowed, or the server refuses.
        FileNotFoundError: the server has no such file.
        TimeoutError: the deadline has passed.
        OSError, ValueError: the server cannot be reached, or what it sends makes no sense.
    """
    at = url
    for _ in range(MAX_REDIRECTS + 1):
        parts = _parts(at)
        with _connect(parts, deadline, is_trusted(at, url, access), access) as connected:
            response = _ask(parts, connected, deadline, limit if limit <= access.max_bytes else None)
            if response.status not in _REDIRECTS:
                return _body(response, at, limit)
            location = response.headers.get("Location", "")
        at = urljoin(at, location)
        check_redirect(at, url, access)
    raise DataError(f"{url}: sent on more than {MAX_REDIRECTS} times. Copy the images")


def check_host(url: str, access: Access, deadline: float) -> None:
    """Refuse a host that is not listed and has an address that is not public.

    Raises:
        DataError: see above.
        OSError: the host is unknown.
    """
    parts = urlsplit(url)
    _addresses(parts, parts.port or 0, deadline, host_of(url) in access.hosts, access)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is one of the internet, and not of this machine or of the networks around it.

    An IPv6 address that stands for an IPv4 address is as public as that.

    >>> [is_public(ip_address(text)) for text in ("8.8.8.8", "10.0.0.1", "100.64.0.1", "169.254.169.254", "::1")]
    [True, False, False, False, False]
    >>> [is_public(ip_address(text)) for text in ("::ffff:8.8.8.8", "::ffff:127.0.0.1", "64:ff9b::7f00:1")]
    [True, False, False]
    """
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not any(address in some for some in _OF_CLOUDS)
    if address.ipv4_mapped or address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour:
        return is_public(address.sixtofour)
    return address in _GLOBAL_UNICAST and address.is_global and address.teredo is None


def in_time(work: Callable[[], T], deadline: float) -> T:
    """Call a function in a thread of its own; TimeoutError after the deadline. The thread is then left behind.

    Args:
        work: raises nothing but DataError, OSError and ValueError.
        deadline: time of `time.monotonic`.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except (DataError, OSError, ValueError) as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()  # an executor would wait for it at exit
    return future.result(_left(deadline))


def _parts(url: str) -> SplitResult:
    """The parts of an address; ValueError if it makes no sense, DataError if it holds a password."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise DataError(f"{parts.hostname}: an address with a user or a password is not read. Copy the images")
    if not parts.hostname or not 0 < (parts.port or 1) < 1 << 16:
        raise ValueError("no host, or no such port")
    return parts


def _host(parts: SplitResult) -> str:
    """The host in letters of ASCII, as servers and certificates have it."""
    host = (parts.hostname or "").rstrip(".")
    return host if host.isascii() else host.encode("idna").decode()


def _addresses(parts: SplitResult, port: int, deadline: float, trusted: bool, access: Access) -> list[tuple[Any, ...]]:
    """Look up a host: (family, socket address) of each of its addresses."""
    host = _host(parts)
    found = in_time(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), deadline)
    for *_, (address, *_) in found:
        if not trusted and not is_public(ip_address(str(address).partition("%")[0])):
            listed = ", ".join(sorted(access.hosts)) or "none"
            raise DataError(
                f"{parts.geturl():.200}: the host {host!r} has the address {address}, which is not public (of this "
                f"machine, a private network or the like); allowed: {listed}. If you trust it, list it in "
                "data.allowed_media_domains (--allowed-media-domains)"
            )
    return [(family, address) for family, _, _, _, address in found]


def _connect(parts: SplitResult, deadline: float, trusted: bool, access: Access) -> socket.socket:
    """Connect to the first address of the host that answers; they have all been checked."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    reason: OSError = OSError("the host has no address")
    addresses = _addresses(parts, port, deadline, trusted, access)
    for tried, (family, address) in enumerate(addresses):
        connected = socket.socket(family, socket.SOCK_STREAM)
        try:
            connected.settimeout(_left(deadline) / (len(addresses) - tried))  # a silent one leaves time for the others
            connected.connect(address)
            return _secured(connected, parts, deadline)
        except OSError as error:
            connected.close()
            reason = error
    raise reason


def _secured(connected: socket.socket, parts: SplitResult, deadline: float) -> socket.socket:
    if parts.scheme != "https":
        return connected
    connected.settimeout(_left(deadline))
    return _tls().wrap_socket(connected, server_hostname=_host(parts))


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _ask(parts: SplitResult, connected: socket.socket, deadline: float, n_bytes: int | None) -> HTTPResponse:
    """Send the request for the first bytes, or for all, and read the head of the answer."""
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(_host(parts), parts.port)
    connection.sock = _Timed(connected, deadline)
    headers = {"User-Agent": f"vlm-r1/{__version__}", "Accept-Encoding": "identity", "Connection": "close"}
    headers |= {} if n_bytes is None else {"Range": f"bytes=0-{n_bytes - 1}"}
    path = quote(parts.path or "/", safe="/%:@!$&'(),;=~*+")
    query = quote(parts.query, safe="/?%:@!$&'(),;=~[]*+")
    try:
        connection.request("GET", f"{path}?{query}" if query else path, headers=headers)
        return connection.getresponse()
    except HTTPException as error:
        raise OSError(f"{type(error).__name__} {error}".strip()) from error


def _body(response: HTTPResponse, url: str, limit: int) -> bytes:
    if response.status in _GONE:
        raise FileNotFoundError(f"{response.status} {response.reason}")
    if response.status not in (200, 206):
        raise OSError(f"the server answers {response.status} {response.reason:.80}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DataError(f"{url}: sent compressed, though that was not asked for; it is not unpacked. Copy the images")
    content = io.BytesIO()
    try:
        while (wanted := limit - content.tell()) > 0 and (chunk := response.read1(min(wanted, _CHUNK_BYTES))):
            content.write(chunk)
    except HTTPException as error:
        raise OSError(f"the answer makes no sense: {type(error).__name__}") from error
    if content.tell() < limit and response.length:
        raise OSError(f"the server stopped {response.length} bytes before the end")
    return content.getvalue()


def _left(deadline: float) -> float:
    """Seconds until the deadline; TimeoutError if it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class _Timed:
    """As much of a socket as http.client uses. Each read and write may take until the deadline, all together."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._connected, self._deadline = connected, deadline

    def sendall(self, data: bytes) -> None:
        self._connected.settimeout(_left(self._deadline))
        self._connected.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._connected, self._deadline))

    def close(self) -> None:
        """Do nothing: http.client closes its socket before the body is read; `get` closes ours."""


class _TimedReader(io.RawIOBase):
    """The bytes that come from a socket."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._connected, self._deadline = connected, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._connected.settimeout(_left(self._deadline))
        return self._connected.recv_into(buffer)
