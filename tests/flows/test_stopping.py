"""A signal ends a run after its step, saved, and the resumed run is the run that was never stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import testing_stops
from testing_commands import PATIENCE_S, assert_equal, closed_output, start, untimed, wait_for, wait_for_steps
from vlm_r1.cli.console import write_report
from vlm_r1.cli.endings import is_loss_of_others
from vlm_r1.config import load_config
from vlm_r1.grpo.trainer import train
from vlm_r1.report.build import build_report
from vlm_r1.report.groups import GROUPS_PER_STEP
from vlm_r1.runtime.checkpoint import latest_checkpoint
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.stopping import Stopped


@pytest.fixture
def options(rec_files) -> dict:
    return {
        "training.max_steps": 30,
        "training.eval_steps": 7,
        "training.eval_batch_size": 4,
        "data.eval": {"in_domain": {"path": str(rec_files["in_domain"])}},
    }


@pytest.mark.long
def test_a_run_that_every_signal_stopped_equals_one_that_was_never_stopped(recipe, options, tmp_path) -> None:
    train(load_config(recipe(**options, output_dir=str(tmp_path / "whole"))))
    path, folder = recipe(**options, output_dir=str(tmp_path / "stopped")), tmp_path / "stopped"
    done, arguments = 0, ["train", str(path), "--resume", "auto"]
    for name, status in (("SIGTERM", 143), ("SIGINT", 130), ("SIGUSR1", 138), ("SIGHUP", 129)):
        process = start(*arguments)
        wait_for_steps(folder, done + 3, process)
        process.send_signal(signal.Signals[name])
        output, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == status, errors
        assert "Traceback" not in output + errors
        done = len(read_metrics(folder / "metrics.jsonl"))
        assert 3 <= done < 30, "it was stopped in its middle"
        (line,) = [line for line in errors.splitlines() if line.startswith("stopped")]
        command = f"vlm-r1 train {folder}/config.yaml --resume"
        assert line == f"stopped at step {done} of 30 ({name}); go on with: {command}"
        assert f"{name}: stopping after this step; again to end at once" in errors
        newest = max((folder / "checkpoints").iterdir())
        assert newest.name == f"step-{done:06d}", "no finished step is lost"
        assert (folder / "report.html").stat().st_mtime_ns >= newest.stat().st_mtime_ns
        assert not (folder / "summary.json").exists()
    train(load_config(path), resume=True)
    assert_equal(folder, tmp_path / "whole")


class _Silent(SimpleHTTPRequestHandler):
    """Serves files until it is told to be silent; then it keeps whoever asks waiting."""

    def do_GET(self) -> None:
        if self.server.silent.is_set():  # type: ignore[attr-defined]
            self.server.asked.set()  # type: ignore[attr-defined]
            self.server.ended.wait(PATIENCE_S)  # type: ignore[attr-defined]
            return
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def pictures(rec_files) -> Iterator[ThreadingHTTPServer]:
    """A server with the pictures of the data."""
    handler = partial(_Silent, directory=str(rec_files["train"].parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        for name in ("silent", "asked", "ended"):
            setattr(server, name, threading.Event())
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.ended.set()
        server.shutdown()


def stop_on_pictures_of(server, recipe, rec_files, folder) -> tuple[subprocess.Popen[str], Path]:
    """Train on remote pictures, and ask the run to stop after some steps."""
    source = {"path": str(rec_files["train"]), "image_root": f"http://127.0.0.1:{server.server_port}"}
    path = recipe(**{"data.train": [source], "training.max_steps": 1000, "training.trust_checks": False})
    process = start("train", str(path))
    wait_for_steps(folder, 3, process)
    return process, path


def test_the_report_of_a_stopped_run_is_that_of_a_finished_one(pictures, recipe, rec_files, tmp_path) -> None:
    """It shows the remote pictures that the recipe allows. Control: `vlm-r1 report` alone fetches none."""
    process, path = stop_on_pictures_of(pictures, recipe, rec_files, tmp_path / "run")
    process.terminate()
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143, errors
    page = (tmp_path / "run/report.html").read_text()
    groups = page.partition('<section id="groups">')[2].partition("</section>")[0]
    assert groups.count("data:image/png") == 3 * GROUPS_PER_STEP, "three steps of the run are shown"
    assert page == write_report(load_config(path)).read_text()
    assert build_report(tmp_path / "run").read_text().count("data:image/png") == 0


def test_a_signal_ends_a_report_that_waits_for_pictures(pictures, recipe, rec_files, tmp_path) -> None:
    process, _ = stop_on_pictures_of(pictures, recipe, rec_files, tmp_path / "run")
    process.terminate()
    assert process.stderr is not None
    while not process.stderr.readline().startswith("stopped at step"):
        assert process.poll() is None
    pictures.silent.set()
    while not pictures.asked.wait(0.1):
        assert process.poll() is None, "the report is made already"
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM
    assert latest_checkpoint(tmp_path / "run/checkpoints") is not None


@pytest.mark.parametrize(
    ("trainer", "order", "step"),
    [
        pytest.param(train, (True, 2), 0, id="the evaluation before the first step"),
        pytest.param(train, (False, 3), 3, id="a step"),
        pytest.param(train, (True, 3 + 2), 4, id="the evaluation after step 4"),
        pytest.param(train_sft, (True, 3 + 2), 4, id="the evaluation after step 4 of SFT"),
        pytest.param(train, (False, 6), 6, id="the last step, so the evaluation after it"),
        pytest.param(train, (True, 3 + 3 + 2), 6, id="the evaluation after training"),
    ],
)
def test_the_signal_comes_at_any_moment(trainer, order, step, recipe, options, tmp_path) -> None:
    """Three batches of four answers are an evaluation. An interrupted one is made again, as if nothing had been.

    Args:
        order: what the signal interrupts: the n-th greedy call, of an evaluation, or the n-th other one, of a step.
        step: the finished steps.
    """
    options |= {"training.max_steps": 6, "training.eval_steps": 4, "training.trust_checks": False}
    options |= {"sampling.engine": "testing_stops:make"}
    trainer(load_config(recipe(**options, output_dir=str(tmp_path / "whole"))))
    config = load_config(recipe(**options, output_dir=str(tmp_path / "stopped")))
    testing_stops.ORDERS[:] = [order]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match=f"stopped at step {step} of 6 \\(SIGTERM\\); go on with: vlm-r1 ") as stopped:
        trainer(config)
    assert stopped.value.exit_status == 143
    assert signal.getsignal(signal.SIGTERM) is before, "handlers are given back"
    assert not (tmp_path / "stopped/summary.json").exists()
    checkpoints = sorted(path.name for path in (tmp_path / "stopped/checkpoints").glob("*"))
    assert checkpoints == ([f"step-{step:06d}"] if step else [])
    trainer(config, resume=True)
    assert_equal(tmp_path / "stopped", tmp_path / "whole")


def test_a_second_signal_ends_at_once(recipe) -> None:
    process = start("train", str(recipe(rewards={"testing_stops:asleep": 1.0})))
    wait_for("asleep", process)
    process.terminate()
    assert process.stderr is not None
    while "stopping after this step" not in process.stderr.readline():
        pass
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.strip()) == (143, "SIGTERM: ended at once")


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGUSR1", 138), ("SIGHUP", 129)])
def test_a_signal_before_the_first_step_ends_at_once_and_leaves_nothing(name, status, recipe, tmp_path) -> None:
    process = start("train", str(recipe(**{"sampling.engine": "testing_stops:make"})), TESTING_SLOW_IMPORT="1")
    wait_for("importing", process)
    process.send_signal(signal.Signals[name])
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (status, f"stopped by {name}\n")
    assert not (tmp_path / "run").exists()


def test_nohup_keeps_its_meaning(recipe, tmp_path) -> None:
    path = recipe(**{"training.max_steps": 30})
    process = start("train", str(path), before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for_steps(tmp_path / "run", 2, process)
    process.send_signal(signal.SIGHUP)
    wait_for_steps(tmp_path / "run", 8, process)
    process.terminate()
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143
    assert "SIGHUP" not in errors


def test_other_commands_end_with_one_line(tmp_path) -> None:
    process = start("data", "synth", "--out", str(tmp_path / "many"), "--train", "1000000")
    deadline = time.monotonic() + PATIENCE_S
    while not any(tmp_path.rglob("*.png")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "stopped by SIGINT\n"), output


def test_a_closed_pipe_is_no_traceback_and_ends_no_run(recipe, tmp_path) -> None:
    done = closed_output("config")
    assert (done.returncode, done.stderr) == (141, "")
    done = closed_output("train", str(recipe()))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/summary.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("saving", "steps"),
    [
        ({}, [4]),
        ({"training.save_minutes": 1e-6}, [3, 4]),
        ({"training.save_steps": 0}, [4]),
        ({"training.save_steps": 3}, [3, 4]),
    ],
    ids=["by default every ten minutes", "a tiny interval", "only at the end", "every three steps"],
)
def test_checkpoints_by_time_and_by_steps(saving, steps, recipe, tmp_path) -> None:
    """The newest two are kept. The weights do not depend on when a run is saved."""
    train(load_config(recipe(**{"training.max_steps": 4, **saving})))
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == [f"step-00000{n}" for n in steps]
    train(load_config(recipe(**{"training.max_steps": 4}, output_dir=str(tmp_path / "other"))))
    assert untimed(tmp_path / "run") == untimed(tmp_path / "other")


def test_the_loss_of_other_processes_is_told_from_a_bug(monkeypatch) -> None:
    closed = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:1")
    assert not is_loss_of_others(closed), "there are no others"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert is_loss_of_others(closed)
    assert not is_loss_of_others(RuntimeError("the loss counted 3 tokens of 4"))
