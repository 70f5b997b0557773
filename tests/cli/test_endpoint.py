"""`vlm-r1 eval --endpoint`: a server answers, as the same model here would; and what is left when it fails."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers.utils.import_utils import is_serve_available

from testing_commands import PATIENCE_S, start
from testing_openai_server import Answer, Body, TinyModel, serve
from vlm_r1.api.evaluate import evaluate
from vlm_r1.cli.main import main
from vlm_r1.models import load_adapter
from vlm_r1.sampling import endpoint as endpoint_module
from vlm_r1.sampling.endpoint_http import send

KEY = "sk-of-a-test-0123456789"
ASKED = ("--template", "bare", "--max-completion-length", "8")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def words(model: Path, data: Path, out: Path, *options: str) -> list[str]:
    return ["eval", str(model), str(data), "--out", str(out), *ASKED, *options]


def two_boxes(body: Body) -> Answer:
    """The same answer to the same question: half of them can be read."""
    length = len(json.dumps(body["messages"][0]["content"]))
    return ("<answer>[1, 2, 30, 40]</answer>" if length % 2 else "no box"), "stop", 3


def test_a_served_model_gives_the_file_of_the_same_model_here(tiny_checkpoint, rec_files, tmp_path, capsys) -> None:
    data, here, there = rec_files["train"], tmp_path / "here", tmp_path / "there"
    assert main(words(tiny_checkpoint, data, here)) == 0
    with serve(TinyModel(tiny_checkpoint, "float32")) as server:
        assert main(words(tiny_checkpoint, data, there, "--endpoint", server.url)) == 0
        assert server.most_at_once > 1
    told = capsys.readouterr().out
    assert f"tiny of {server.url} answers, 8 questions at a time, without a key" in " ".join(told.split())
    assert (here / "train.samples.jsonl").read_bytes() == (there / "train.samples.jsonl").read_bytes()
    ours, theirs = (json.loads((out / "train.json").read_text(encoding="utf-8")) for out in (here, there))
    assert {k: v for k, v in theirs.items() if k != "provenance"} == {
        k: v for k, v in ours.items() if k != "provenance"
    }
    assert theirs["provenance"]["model"] == "tiny"
    asked = theirs["provenance"]["asked"]
    assert (asked["endpoint"], asked["as"]) == (server.url, str(tiny_checkpoint))


@pytest.mark.skipif(not is_serve_available(), reason="transformers[serving] is not installed")
def test_transformers_serve_gives_the_file_of_the_same_model_here(family_checkpoint, rec_files, tmp_path) -> None:
    """A server that we did not write. Gemma 3: its processor needs no torchvision."""
    folder = tmp_path / "model"
    shutil.copytree(family_checkpoint("gemma3"), folder)
    settings = {"processor_class": "Gemma3Processor", **load_adapter(folder).processor_settings()}
    (folder / "processor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--device", "cpu"]
    serving = subprocess.Popen([*program, "--dtype", "float32", "--host", "127.0.0.1", "--port", port])
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_S
        while not reached(f"{url}/health"):
            assert serving.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        there = ("--endpoint", url, "--model", str(folder), "--concurrency", "2")
        assert main(words(folder, rec_files["in_domain"], tmp_path / "here")) == 0
        assert main(words(folder, rec_files["in_domain"], tmp_path / "there", *there)) == 0
    finally:
        serving.kill()
        serving.wait()
    one, other = (tmp_path / place / "in_domain.samples.jsonl" for place in ("here", "there"))
    assert one.read_bytes() == other.read_bytes()


def reached(url: str) -> bool:
    try:
        return send(url, None, {}, 5).status == 200
    except OSError:
        return False


def test_a_failure_keeps_what_was_answered_and_no_key_is_written(
    tiny_checkpoint, rec_files, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    asked = ("--concurrency", "1", "--api-key-env", "MY_KEY", "--retries", "1")
    good = ["", "500"] * 5
    with serve(two_boxes, [*good, "401"]) as server:
        command = words(tiny_checkpoint, rec_files["train"], tmp_path, "--endpoint", server.url, *asked)
        assert main(command) == 2
        first = capsys.readouterr()
        assert "Incorrect API key provided: ***" in first.err
        assert "the same command goes on" in first.err
        assert not (tmp_path / "train.json").exists()
        kept = (tmp_path / "train.answers-0.jsonl").read_text(encoding="utf-8").count('"place"')
        assert kept == 5
        before = len(server.bodies)
        assert main(command) == 0
        assert len(server.bodies) - before == 48 - kept
        assert set(server.keys) == {f"Bearer {KEY}"}
    second = capsys.readouterr()
    written = [path.read_text(encoding="utf-8") for path in sorted(tmp_path.iterdir())]
    assert len(written) == 2
    assert [text for text in (*written, *first, *second) if KEY in text] == []


def test_a_refusal_is_in_the_result_and_in_a_later_measurement(tiny_checkpoint, rec_files, tmp_path) -> None:
    with serve(two_boxes, ["filtered"]) as server:
        command = words(tiny_checkpoint, rec_files["in_domain"], tmp_path, "--endpoint", server.url, "--name", "r")
        assert main(command) == 0
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["parse_failures"]["refused"] == 1
    protocol = tmp_path / "again.yaml"
    protocol.write_text("name: again\ntitle: Again\ndata: {set: shapes}\ntask: rec\n")
    again = [
        "score",
        str(tmp_path / "r.samples.jsonl"),
        "--protocol",
        str(protocol),
        "--out",
        str(tmp_path / "again.json"),
    ]
    assert main(again) == 0
    result = tmp_path / "again.json"
    assert json.loads(result.read_text(encoding="utf-8"))["parse_failures"]["refused"] == 1


def test_a_signal_ends_it_at_once_though_the_server_is_silent(tiny_checkpoint, rec_files, tmp_path) -> None:
    answers, deadline = tmp_path / "train.answers-0.jsonl", time.monotonic() + PATIENCE_S
    with serve(two_boxes, [""] * 9 + ["slow"] * 90) as server:
        process = start(*words(tiny_checkpoint, rec_files["train"], tmp_path, "--endpoint", server.url))
        while not answers.exists() or answers.read_text(encoding="utf-8").count("\n") < 8:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)  # the server is silent for 120 s, and may be for 300 s
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "stopped by SIGINT; what was answered is kept: the same command goes on"


def test_python_asks_a_server_too(tiny_checkpoint, rec_files, tmp_path) -> None:
    options = {"template": "bare", "max_completion_length": 8, "out": str(tmp_path)}
    with serve(two_boxes) as server:
        found = evaluate(
            tiny_checkpoint, rec_files["in_domain"], endpoint=server.url, served_model="tiny", concurrency=2, **options
        )
        assert server.most_at_once <= 2
    assert found.result["n"] == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--model", "x"], "--model has no effect without --endpoint URL", id="a name alone"),
        pytest.param(["--timeout-s", "9"], "--timeout-s has no effect without --endpoint URL", id="a time alone"),
        pytest.param(["--endpoint", "host:1"], "--endpoint host:1: wanted http://HOST:PORT/v1", id="no address"),
        pytest.param(
            ["--endpoint", "http://h", "--model", "m", "--api-key-env", KEY],
            "Wanted the name of a variable, not a key",
            id="a key in place of its variable",
        ),
        pytest.param(["--endpoint", "http://127.0.0.1:9/v1"], "Is the server up", id="nobody there"),
    ],
)
def test_mistakes_are_told(options, message, tiny_checkpoint, rec_files, tmp_path, capsys) -> None:
    assert main(words(tiny_checkpoint, rec_files["train"], tmp_path, *options)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert KEY not in told
