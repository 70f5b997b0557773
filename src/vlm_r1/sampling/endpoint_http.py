"""One request over http(s) to a server that a user has named, in bounded time and size.

Redirects are not followed, since a key would go along. Proxies are those of the environment (HTTPS_PROXY, NO_PROXY);
this machine itself is asked without.
"""

from __future__ import annotations

import ssl
import time
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from vlm_r1 import __version__
from vlm_r1.data.web import in_time

MAX_RESPONSE_BYTES = 1 << 24
"""More of a response is not read; an answer of 100,000 tokens has some hundred thousand bytes."""

CONNECT_TIMEOUT_S = 15.0
"""Seconds in which a connection must stand. An answer may take much longer."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Response(NamedTuple):
    """What a server has answered: its status, e.g. 200, two headers ("" if they are not there), and its body."""

    status: int
    reason: str
    retry_after: str
    location: str
    body: bytes


def send(url: str, body: bytes | None, headers: dict[str, str], timeout_s: float) -> Response:
    """Send a POST with this JSON, or a GET if there is none, and read the whole response, whatever its status is.

    Args:
        url: http:// or https://, without a user.
        timeout_s: for everything together.

    Raises:
        OSError: the server cannot be reached, or breaks off; a TimeoutError if that took too long.
    """
    headers = {"User-Agent": f"vlm-r1/{__version__}", "Accept": "application/json", **headers}
    headers |= {} if body is None else {"Content-Type": "application/json"}
    request = Request(url, body, headers)
    return in_time(lambda: _send(request, timeout_s), time.monotonic() + timeout_s)


def _send(request: Request, timeout_s: float) -> Response:
    try:
        with _opener(request.full_url).open(request, timeout=timeout_s) as response:
            return _response(response, response.status, response.reason)
    except HTTPError as error:
        with error:
            return _response(error, error.code, error.reason)
    except URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason)) from error
    except HTTPException as error:
        raise ConnectionError(f"the response makes no sense: {type(error).__name__} {error}".strip()) from error


def _response(response: HTTPResponse | HTTPError, status: int, reason: object) -> Response:
    try:
        body = response.read(MAX_RESPONSE_BYTES + 1)
    except HTTPException as error:
        raise ConnectionError(f"the server broke off in the middle of its response ({type(error).__name__})") from error
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and len(body) < min(int(length), MAX_RESPONSE_BYTES):  # `read` says nothing
        raise ConnectionError(f"the server broke off after {len(body):,} of {int(length):,} bytes")
    if len(body) > MAX_RESPONSE_BYTES:
        raise ConnectionError(f"the response has more than {MAX_RESPONSE_BYTES:,} bytes")
    headers = response.headers
    return Response(status, str(reason), headers.get("Retry-After", ""), headers.get("Location", ""), body)


def _opener(url: str) -> OpenerDirector:
    here = urlsplit(url).hostname in _LOOPBACK
    return build_opener(_NoRedirects, _Http, _Https(context=_tls()), *([ProxyHandler({})] if here else []))


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _NoRedirects(HTTPRedirectHandler):
    """Leaves a redirect as the response that it is."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


class _Connection(HTTPConnection):
    """Must connect in `CONNECT_TIMEOUT_S`; then the response may take the whole time."""

    def connect(self) -> None:
        whole_s, self.timeout = self.timeout, min(self.timeout or CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_S)
        try:
            super().connect()
        except TimeoutError as error:
            raise ConnectionError(f"no connection within {self.timeout:g} s") from error
        self.sock.settimeout(whole_s)


class _SecureConnection(_Connection, HTTPSConnection):
    """The same, with TLS: `_Connection.connect` calls that of `HTTPSConnection`."""


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(HTTPSHandler):
    def https_open(self, req: Request) -> HTTPResponse:
        connection: Any = _SecureConnection
        return self.do_open(connection, req, context=_tls())
