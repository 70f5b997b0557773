"""`report --watch`: what the server serves and refuses, when it makes the page anew, and what the open page does."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testing_browser import CHROMIUM
from vlm_r1.cli.main import main
from vlm_r1.errors import CheckpointError, ConfigError
from vlm_r1.report.watch import Watch, answer, fingerprint, open_watch, sentence, with_script

PAGE = (
    '<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; script-src 'sha256-abc'; base-uri 'none'\"><title>script-src </title><body>"
    '<h1>Step {n}</h1><div style="height:1300px"></div><details><summary>more</summary>text</details>'
    '<div style="height:5000px"></div>'
    "</body>"
)


def begin(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text("seed: 1\n")


def step(folder: Path, n: int) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": n, "stage": "grpo"}) + "\n")


def watch_of(folder: Path) -> Watch:
    """A watch whose page says how many steps there are."""

    def build() -> Path:
        metrics = folder / "metrics.jsonl"
        n = metrics.read_text().count("\n") if metrics.exists() else 0
        (folder / "report.html").write_text(PAGE.replace("{n}", str(n)))
        return folder / "report.html"

    return Watch(build, folder)


def test_the_page_is_made_anew_when_the_run_has_written_and_only_then(tmp_path) -> None:
    watch = watch_of(tmp_path / "run")
    assert not watch.follow(), "there is no run"
    assert "No run yet" in watch.page()
    assert watch.state() == {"version": 0, "text": "The run has not started"}
    begin(tmp_path / "run")
    made = [watch.follow(), watch.follow()]
    step(tmp_path / "run", 1)
    made += [watch.follow(), watch.follow()]
    assert made == [True, False, True, False]
    assert watch.version == 2
    assert "Step 1" in watch.page()
    (tmp_path / "run/report.html").touch()
    (tmp_path / "run/notes.txt").write_text("mine")
    assert not watch.follow(), "the page itself, and files of others, are nothing new"


@pytest.mark.parametrize(
    ("files", "lock", "wanted"),
    [
        pytest.param({}, None, "The run has not started", id="no folder"),
        pytest.param({"config.yaml": ""}, "own", "The run goes on; this page follows it", id="its process lives"),
        pytest.param({"config.yaml": "", "summary.json": "{}"}, None, "The run has ended", id="a summary"),
        pytest.param({"config.yaml": ""}, None, "The run was stopped before its end", id="no lock, no summary"),
        pytest.param({"config.yaml": ""}, "dead", "The run was stopped before its end", id="its process was killed"),
        pytest.param({"config.yaml": ""}, "far", "The run goes on; this page follows it", id="on another machine"),
        pytest.param({"config.yaml": ""}, "torn", "The run was stopped before its end", id="a torn lock"),
    ],
)
def test_where_a_run_stands(files, lock, wanted, tmp_path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    ended = subprocess.Popen(["true"])
    ended.wait()
    host = socket.gethostname()
    locks = {"own": (host, os.getpid()), "dead": (host, ended.pid), "far": ("elsewhere", 1)}
    if lock == "torn":
        (tmp_path / ".lock").write_text('{"host"')
    elif lock:
        (tmp_path / ".lock").write_text(json.dumps(dict(zip(("host", "pid"), locks[lock], strict=True))))
    assert sentence(tmp_path) == wanted


def test_a_page_that_cannot_be_made_says_why_and_the_last_one_stays(tmp_path) -> None:
    begin(tmp_path)
    watch = watch_of(tmp_path)
    watch.follow()

    def fails() -> Path:
        raise CheckpointError("metrics.jsonl:3: wanted a JSON object")

    watch.build = fails
    step(tmp_path, 1)
    assert watch.follow()
    assert watch.state() == {"version": 2, "text": "metrics.jsonl:3: wanted a JSON object"}
    assert "Step 0" in watch.page()


def test_the_policy_of_the_page_lets_the_script_run_and_no_other(tmp_path) -> None:
    begin(tmp_path)
    watch = watch_of(tmp_path)
    watch.follow()
    page = watch.page()
    assert "style-src 'unsafe-inline'; connect-src 'self'; script-src 'sha256-" in page
    assert page.count("connect-src") == 1
    assert "<title>script-src </title>" in page
    assert "script" not in (tmp_path / "report.html").read_text().partition("<body>")[2], "the file has no script"
    assert with_script("<p>no policy</p></body>", ";") == "<p>no policy</p><script>;</script></body>"


PART = "part-0-1-0123456789abcdef.js"


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/", True),
        ("/report.html", True),
        ("/state", True),
        (f"/report_files/{PART}", True),
        ("/config.yaml", False),
        ("/report_files/", False),
        ("/report_files/../config.yaml", False),
        ("/report_files/%2e%2e/config.yaml", False),
        ("/report_files/part-0-2-0123456789abcdef.js", False),
        ("/report_files/linked.js", False),
        ("//etc/passwd", False),
        ("/%00", False),
        ("", False),
    ],
)
def test_the_page_its_data_and_nothing_else_is_served(path, served, tmp_path) -> None:
    begin(tmp_path)
    watch = watch_of(tmp_path)
    watch.follow()
    (tmp_path / "report_files").mkdir()
    (tmp_path / "report_files" / PART).write_text("1;")
    (tmp_path / "report_files/linked.js").symlink_to(tmp_path / "config.yaml")
    (tmp_path / "report_files/part-0-2-0123456789abcdef.js").symlink_to(tmp_path / "config.yaml")
    assert (answer(watch, path) is not None) == served


def get(address: str, path: str, host: str | None = None, method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address.removeprefix("http://").strip("/"), timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_other_names_of_this_machine_are_refused(tmp_path) -> None:
    begin(tmp_path)
    with open_watch(watch_of(tmp_path)) as address:
        port = address.rpartition(":")[2].strip("/")
        assert address == f"http://127.0.0.1:{port}/"
        found = {
            host: get(address, "/state", host).status
            for host in (
                f"127.0.0.1:{port}",
                f"localhost:{port}",
                f"evil.example:{port}",
                "127.0.0.1",
                f"127.0.0.1:{port}.evil",
            )
        }
        assert list(found.values()) == [200, 200, 421, 421, 421], "DNS rebinding sends the name of the attacker"
        assert get(address, "/", method="POST").status == 501
        response = get(address, "/")
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        with (
            pytest.raises(ConfigError, match=f"--port {port}: the page cannot listen there"),
            open_watch(watch_of(tmp_path), int(port)),
        ):
            pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "8000"], "--port has no effect without --watch"),
        (["--watch", "--out", "x.html"], "--watch follows one run"),
        (["other", "--watch"], "--watch follows one run"),
    ],
)
def test_options_that_do_not_fit(arguments, message, tmp_path, capsys) -> None:
    begin(tmp_path)
    assert main(["report", str(tmp_path), *arguments]) != 0
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_command_follows_a_real_folder_and_ends_at_ctrl_c(tmp_path) -> None:
    begin(tmp_path)
    step(tmp_path, 1)
    command = [sys.executable, "-m", "vlm_r1.cli.main", "report", str(tmp_path), "--watch"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        address = line.split()[1]
        deadline = time.monotonic() + 30
        while not (tmp_path / "report.html").is_file():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert get(address, "/").status == 200
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert output.startswith("ended; the page as it was last is")
    assert errors == ""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found")
def test_an_open_page_loads_itself_anew_only_for_news_and_keeps_its_place(tmp_path, browser) -> None:
    folder = tmp_path / "run"
    page, logged, loads = browser.new_page(viewport={"width": 400, "height": 800}), [], []
    page.on("console", lambda message: logged.append(message.text))
    page.on("load", lambda: loads.append(page.url))
    with open_watch(watch_of(folder)) as address:
        page.goto(address)
        assert page.inner_text("h1") == "No run yet"
        begin(folder)
        page.wait_for_selector("h1:text('Step 0')", timeout=15_000)
        page.wait_for_selector("#watch:text('stopped')")
        page.wait_for_load_state()
        page.evaluate("scrollTo(0, 1200)")
        page.click("summary")
        page.wait_for_timeout(2500)
        assert len(loads) == 2, "nothing new, nothing loaded"
        step(folder, 1)
        page.wait_for_selector("h1:text('Step 1')", timeout=15_000)
        page.wait_for_selector("#watch:text('stopped before its end')")
        assert page.evaluate("scrollY") == 1200
        assert page.evaluate("document.querySelector('details').open")
        assert logged == []
    page.wait_for_selector("#watch:text('has ended: this page is as it was last')", timeout=10_000)
    page.close()


def test_a_fingerprint_is_of_names_sizes_and_times(tmp_path) -> None:
    begin(tmp_path)
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/before-a.json").write_text("{}")
    second = fingerprint(tmp_path)
    (tmp_path / "eval/before-a.json").rename(tmp_path / "eval/before-b.json")
    third = fingerprint(tmp_path)
    os.utime(tmp_path / "eval/before-b.json", (1, 1))
    assert len({first, second, third, fingerprint(tmp_path)}) == 4
