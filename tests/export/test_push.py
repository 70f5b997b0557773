"""`vlm-r1 export --push-to-hub` against a stand-in of the Hub on this machine, which plays the calls of an upload."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import huggingface_hub
import pytest

from testing_exports import export, trained
from vlm_r1.runtime.run_folder import RunFolder

TOKEN = "hf_notARealTokenOfAnybody"
OID = "0" * 40


class Hub:
    """What was sent: requests as (method, path), the repository, and the files of the commit."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.tokens = set[str | None]()
        self.made: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.message, self.blobs = "", dict[str, bytes]()
        self.refuses = 0
        self.url = ""

    def answer(self, method: str, path: str, body: bytes) -> Any:
        if self.refuses:
            return {}
        if path == "/api/repos/create":
            self.made = json.loads(body)
            return {"url": f"{self.url}/me/rec"}
        if path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            mode = {True: "lfs", False: "regular"}
            return {
                "files": [
                    {"path": n, "uploadMode": mode[n.endswith(".safetensors")], "shouldIgnore": False} for n in names
                ]
            }
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            put = [{**one, "actions": {"upload": {"href": f"{self.url}/put/{one['oid']}"}}} for one in objects]
            return {"transfer": "basic", "objects": put}
        if method == "PUT":
            self.blobs[path.rpartition("/")[2]] = body
            return {}
        if path.endswith("/commit/main"):
            return self._commit([json.loads(line) for line in body.splitlines()])
        return {"warnings": [], "errors": []}

    def _commit(self, lines: list[dict[str, Any]]) -> Any:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.message = value["summary"]
            elif line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            else:
                self.files[value["path"]] = self.blobs[value["oid"]]
        return {"success": True, "commitOid": OID, "commitUrl": f"{self.url}/me/rec/commit/{OID}"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self._body()
            hub.requests.append((self.command, self.path))
            if self.command == "POST":
                hub.tokens.add(self.headers.get("Authorization"))
            answer = json.dumps(hub.answer(self.command, self.path, body)).encode()
            self.send_response(hub.refuses or 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_PUT = do_POST

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_checkpoint, rec_files) -> RunFolder:
    return trained(tmp_path_factory.mktemp("pushed") / "run", tiny_checkpoint, rec_files, training={"max_steps": 1})


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's upload of large files
def test_an_export_is_pushed_in_one_commit(run, hub, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("vlm_r1.export.model.SHARD_SIZE", "500KB")
    out = tmp_path / "out"
    assert export(run, out, "--push-to-hub", "me/rec", "--private", "--commit-message", "First") == 0
    assert (hub.made["name"], hub.made["organization"], hub.message) == ("rec", "me", "First")
    assert hub.made.get("private") is True or hub.made.get("visibility") == "private"
    here = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert hub.files == here, "all that was written, and nothing else"
    shards = [name for name in here if name.endswith(".safetensors")]
    assert len(shards) > 1
    index = json.loads(hub.files["model.safetensors.index.json"])
    assert set(index["weight_map"].values()) == set(shards)
    assert not [name for name in here if re.search("optim|state|rollout|metrics|parquet", name)]
    assert len([path for _, path in hub.requests if path.endswith("/commit/main")]) == 1
    assert hub.tokens == {f"Bearer {TOKEN}"}
    shown = "".join(capsys.readouterr())
    assert f"pushed to {hub.url}/me/rec" in shown
    assert TOKEN not in shown
    assert not any(TOKEN.encode() in content for content in here.values())
    assert hashlib.sha256(here[shards[0]]).hexdigest() in hub.blobs


@pytest.mark.parametrize(
    ("status", "message"), [(401, "the Hub refuses (HTTP 401): run `hf auth login`"), (403, "HTTP 403"), (400, "400")]
)
def test_a_hub_that_refuses_is_one_line(status, message, run, hub, tmp_path, capsys) -> None:
    hub.refuses = status
    assert export(run, tmp_path / "out", "--push-to-hub", "me/rec") == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if "not pushed" in line]
    assert message in line
    assert f"The export in {tmp_path / 'out'} is complete: `hf upload me/rec {tmp_path / 'out'}` pushes it" in line
    assert TOKEN not in error
    assert "Traceback" not in error
    assert (tmp_path / "out/README.md").exists()


def test_a_hub_that_is_not_there(run, hub, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert export(run, tmp_path / "out", "--push-to-hub", "me/rec") == 2
    assert "not pushed: Cannot reach" in capsys.readouterr().err
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert export(run, tmp_path / "again", "--push-to-hub", "me/rec") == 2
    assert "me/rec: not pushed: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--private"], "--private has no effect without --push-to-hub"),
        (["--commit-message", "x"], "--commit-message has no effect without --push-to-hub"),
        (["--push-to-hub", "rec"], "wanted OWNER/NAME"),
        (["--push-to-hub", "me/a b"], "--push-to-hub me/a b: "),
    ],
)
def test_what_is_refused_before_anything_is_written(options, message, run, hub, tmp_path, capsys) -> None:
    assert export(run, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not hub.requests


def test_without_a_token(run, hub, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    assert export(run, tmp_path / "out", "--push-to-hub", "me/rec") == 2
    assert "there is no token of the Hub: run `hf auth login`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
