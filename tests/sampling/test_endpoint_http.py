"""One request: its time, its size, and where its key does not go."""

from __future__ import annotations

import time

import pytest

from testing_openai_server import serve
from vlm_r1.sampling import endpoint_http
from vlm_r1.sampling.endpoint_http import send


def seven(body):
    return "7", "stop", 1


HEADERS = {"Authorization": "Bearer sk-of-a-test"}


def test_a_redirect_is_not_followed_even_to_the_same_host() -> None:
    with serve(seven) as other, serve(seven, ["moved"]) as server:
        response = send(f"{server.url}/chat/completions", b"{}", HEADERS, 10)
        assert (response.status, response.location.partition("?")[0]) == (307, "http://127.0.0.1:9/elsewhere")
        assert other.keys == []


def test_this_machine_is_asked_without_a_proxy_and_others_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(seven) as proxy, serve(seven) as server:
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert send(f"{server.url}/models", None, {}, 10).status == 200
        assert (server.asked_models, proxy.asked_models) == (1, 0)
        assert send("http://a.host.that.is.not.there/v1/models", None, {}, 10).status == 404  # the proxy's answer


def test_a_response_without_end_is_not_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_http, "MAX_RESPONSE_BYTES", 1000)
    with serve(lambda body: ("x" * 1000, "stop", 1)) as server, pytest.raises(ConnectionError, match="more than 1,000"):
        send(f"{server.url}/chat/completions", b'{"model": "tiny"}', {}, 10)


@pytest.mark.parametrize("fault", ["reset", "cut"])
def test_a_connection_that_breaks_is_an_error_of_the_connection(fault: str) -> None:
    with serve(seven, [fault]) as server, pytest.raises(OSError):  # noqa: PT011 (any of them is tried again)
        send(f"{server.url}/chat/completions", b'{"model": "tiny"}', {}, 10)


def test_all_of_a_request_takes_no_longer_than_its_time() -> None:
    with serve(seven, ["dripping"]) as server:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            send(f"{server.url}/chat/completions", b'{"model": "tiny"}', {}, 0.5)
        assert time.monotonic() - start >= 0.5
