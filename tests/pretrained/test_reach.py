"""A Hub that does not answer is said within five seconds, instead of after minutes of attempts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from huggingface_hub import constants

from testing_commands import PATHS
from vlm_r1.errors import ModelError
from vlm_r1.models import load_adapter
from vlm_r1.pretrained import reach

MODEL = "owner/model"


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    """The address of a server that answers each question by 401, as a private Hub does."""

    class Refusing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Online mode, with a short patience, and nothing remembered from before or left behind."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(reach, "PATIENCE_S", 0.2)
    monkeypatch.setattr(reach, "getproxies", dict)
    reach.hub_trouble.cache_clear()
    yield monkeypatch
    reach.hub_trouble.cache_clear()


def test_a_silent_hub(ask, silent: str) -> None:
    ask.setattr(constants, "ENDPOINT", silent)
    start = time.monotonic()
    told = reach.hub_trouble()
    assert time.monotonic() - start < 2
    assert told is not None
    assert told.startswith(f"the Hub, {silent}, cannot be reached within 0.2 s (")
    start = time.monotonic()
    assert reach.hub_trouble() == told, "it is asked once"
    assert time.monotonic() - start < 0.1


def test_a_closed_port(ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ask.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    assert "Connection refused" in (reach.hub_trouble() or "")


def test_a_hub_that_answers(ask, refusing: str) -> None:
    """Control: any answer is one."""
    ask.setattr(constants, "ENDPOINT", refusing)
    assert reach.hub_trouble() is None


def test_nobody_is_asked_offline_or_through_a_proxy_for_all(ask, silent: str) -> None:
    ask.setattr(constants, "ENDPOINT", silent)
    ask.setattr(reach, "getproxies", lambda: {"all": "socks5://proxy"})
    assert reach.hub_trouble() is None
    reach.hub_trouble.cache_clear()
    ask.setattr(reach, "getproxies", dict)
    ask.setattr(constants, "HF_HUB_OFFLINE", True)
    assert reach.hub_trouble() is None


def test_a_model_of_a_silent_hub(ask, silent: str, tmp_path) -> None:
    ask.setattr(constants, "ENDPOINT", silent)
    ask.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    told = (
        f"{MODEL}: cannot load the config: there is no such folder here, the Hub, {silent}, cannot be reached within "
        r"0.2 s .*, and the cache of this machine does not have it. Check the network and HF_ENDPOINT, or name a folder"
    )
    start = time.monotonic()
    with pytest.raises(ModelError, match=told):
        load_adapter(MODEL)
    assert time.monotonic() - start < 5


def test_a_model_in_the_cache(ask, silent: str, tiny_checkpoint, tmp_path) -> None:
    """Control: what the cache holds is loaded, without another question to the Hub."""
    ask.setattr(constants, "ENDPOINT", silent)
    ask.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--model"
    shutil.copytree(tiny_checkpoint, repository / "snapshots/abc")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    start = time.monotonic()
    assert load_adapter(MODEL).config.model_type == "qwen2_5_vl"
    assert time.monotonic() - start < 5


def test_a_command_ends_soon(silent: str, tmp_path) -> None:
    variables = {"HF_ENDPOINT": silent, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "PYTHONPATH": PATHS}
    command = [sys.executable, "-m", "vlm_r1.cli.main", "data", "check", "hub:owner/data:train"]
    start = time.monotonic()
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=100, check=False)
    assert time.monotonic() - start < 60, "datasets alone takes minutes"
    assert done.returncode == 1
    told = f"hub:owner/data:train: the Hub, {silent}, cannot be reached within 5 s ("
    assert told in " ".join(done.stdout.split())
