"""Real servers on this machine: where they may be asked, and for how long and how much."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest

from vlm_r1.data.access import Access
from vlm_r1.data.fetch import fetch
from vlm_r1.data.web import is_public
from vlm_r1.errors import DataError


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        kind, _, rest = self.path[1:].partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
        elif kind == "silent":
            self.server.ended.wait(60)
        elif kind == "drip":
            self.send_response(200)
            self.end_headers()
            self.go_on(b"x", 0.05)
        elif kind == "drip-head":
            self.go_on(b"x", 0.05)
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            self.go_on(b"x" * 65536, 0)
        elif kind == "gzip":
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
        elif kind == "gone":
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

    def go_on(self, data, pause_s):
        try:
            while not self.server.ended.wait(pause_s):
                self.wfile.write(data)
        except OSError:
            pass

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        running.ended = threading.Event()
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}"
        running.ended.set()
        running.shutdown()


HTTP = frozenset({"http"})
LISTED = Access(HTTP, frozenset({"127.0.0.1"}), timeout_s=1, max_bytes=1 << 20)


def test_a_listed_host_and_a_root_are_asked(server):
    assert fetch(f"http://{server}/a b.png?q=1", LISTED) == b"hello"
    assert fetch(f"http://{server}/a", LISTED, 2) == b"he"
    assert fetch(f"http://{server}/d/a", Access(roots=(f"http://{server}/d",))) == b"hello"
    assert fetch(f"http://{server}/to/../a", LISTED) == b"hello"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0177.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]"]
)
def test_private_addresses_are_not_asked(server, host):
    port = server.partition(":")[2]
    with pytest.raises(DataError, match="not public"):
        fetch(f"http://{host}:{port}/a", Access(HTTP))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        pytest.param("http://localhost:{port}/a", "'localhost' are not allowed", id="unlisted host"),
        pytest.param("file:///etc/passwd", "protocol is not allowed", id="file"),
        pytest.param("ftp://127.0.0.1/a", "protocol is not allowed", id="ftp"),
        pytest.param("/to//to//to//to//to//to//to//a", "more than 5 times", id="too many"),
    ],
)
def test_redirects_are_checked(server, target, message):
    port = server.partition(":")[2]
    with pytest.raises(DataError, match=message):
        fetch(f"http://{server}/to/{target.format(port=port)}", LISTED)


def test_a_redirect_from_a_root_leads_to_no_private_host(server):
    port = server.partition(":")[2]
    with pytest.raises(DataError, match="not public"):
        fetch(f"http://{server}/to/http://localhost:{port}/a", Access(roots=(f"http://{server}/to",)))


@pytest.mark.parametrize("kind", ["silent", "drip", "drip-head"])
def test_slow_servers_are_left(server, kind):
    start = time.monotonic()
    with pytest.raises(DataError, match="more than 1 s"):
        fetch(f"http://{server}/{kind}", LISTED)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("kind", "message"),
    [("endless", "more than 1,048,576 bytes"), ("gzip", "sent compressed"), ("gone", "image not found")],
)
def test_bad_answers(server, kind, message):
    with pytest.raises(DataError, match=message):
        fetch(f"http://{server}/{kind}", LISTED)


def test_addresses_of_clouds_and_transition_are_not_public():
    private = ("168.63.129.16", "192.0.0.192", "224.0.0.1", "240.0.0.1", "0.0.0.0", "fd00:ec2::254", "fe80::1")
    mapped = ("2002:7f00:1::", "2001:0:1::", "64:ff9b::a9fe:a9fe", "::127.0.0.1")
    assert not any(is_public(ip_address(text)) for text in private + mapped)
    assert all(is_public(ip_address(text)) for text in ("1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"))


def test_a_closed_port_is_an_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(DataError, match="cannot be fetched"):
            fetch(f"http://127.0.0.1:{free.getsockname()[1]}/a", LISTED)
