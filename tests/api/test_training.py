"""`vlm_r1.train` and `vlm_r1.sft`: the commands from Python, with callbacks; what they leave behind is nothing."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers.utils import logging

import vlm_r1
from testing_commands import PATHS, assert_equal, in_two_processes, untimed
from vlm_r1.config import load_config, make_config
from vlm_r1.errors import CallbackError, CheckpointError, ConfigError
from vlm_r1.grpo import trainer as grpo
from vlm_r1.runtime.checkpoint import latest_checkpoint
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path
from vlm_r1.training.callbacks import StepEnd


@pytest.fixture
def path(recipe, rec_files) -> Path:
    held = {"in_domain": {"path": str(rec_files["in_domain"])}}
    return recipe(**{"data.eval": held, "training.eval_steps": 2, "training.trust_checks": False})


class Seen:
    """A callback that keeps what it gets."""

    def __init__(self, stop_at: int = 0) -> None:
        self.ends: list[vlm_r1.StepEnd] = []
        self.stop_at = stop_at

    def __call__(self, end: vlm_r1.StepEnd) -> str:
        self.ends.append(end)
        if end.step == self.stop_at:
            end.stop()
        return "what a callback returns is not looked at"


def test_the_recipe_as_a_path_a_mapping_and_a_config(path, tmp_path) -> None:
    """All are the run of the trainer; a Path is a path."""
    grpo.train(load_config(path, [f"--output_dir={tmp_path / 'whole'}", "--training.max_steps=1"]))
    tree = yaml.safe_load(path.read_text())
    for name, recipe in (("path", path), ("mapping", tree), ("config", load_config(path))):
        run = vlm_r1.train(recipe, {"output_dir": tmp_path / name, "training.max_steps": 1})
        assert (run.path, run.summary["seed"]) == (tmp_path / name, 3)
        assert (run.path / "report.html").exists()
        assert_equal(tmp_path / name, tmp_path / "whole")
    assert tree == yaml.safe_load(path.read_text()), "the mapping is not changed"


def test_a_callback_sees_each_step_and_changes_nothing(path, tmp_path) -> None:
    grpo.train(load_config(path, [f"--output_dir={tmp_path / 'whole'}"]))
    seen = Seen()

    def meddle(end: vlm_r1.StepEnd) -> None:
        torch.manual_seed(0)
        torch.set_grad_enabled(False)
        end.model.eval()
        with torch.enable_grad():
            sum(p.sum() for p in end.model.parameters()).backward()

    run = vlm_r1.train(path, callbacks=[meddle, seen])
    assert_equal(run.path, tmp_path / "whole")
    assert [(end.step, end.max_steps, end.run_folder) for end in seen.ends] == [(n, 3, run.path) for n in (1, 2, 3)]
    rows = read_metrics(run.path / "metrics.jsonl")
    assert [{"step": e.step, "stage": "grpo", **e.metrics} for e in seen.ends] == rows
    assert [any(name.startswith("eval/") for name in end.metrics) for end in seen.ends] == [False, True, False]
    for end in seen.ends:
        logged = [(row.text, row.advantage) for row in read_rollouts(rollouts_path(run.path, end.step))]
        assert [(r.completion.text, r.advantage) for group in end.groups for r in group.rollouts] == logged
        assert all(not group.encoded.vision for group in end.groups), "no pixels are kept"
    with pytest.raises(TypeError):
        seen.ends[0].metrics["loss"] = 0.0  # type: ignore[index]


def test_control_a_callback_that_changes_the_model_changes_the_run(path, tmp_path) -> None:
    def double(end: vlm_r1.StepEnd) -> None:
        with torch.no_grad():
            next(iter(end.model.parameters())).mul_(2.0)

    plain = vlm_r1.train(path, {"output_dir": tmp_path / "plain"})
    changed = vlm_r1.train(path, {"output_dir": tmp_path / "changed"}, callbacks=[double])
    assert untimed(plain.path)[0] == untimed(changed.path)[0]
    assert untimed(plain.path)[2] != untimed(changed.path)[2]


@pytest.mark.parametrize("trainer", ["train", "sft"])
def test_stopped_by_a_callback_and_resumed_is_the_whole_run(trainer, path, tmp_path, capsys) -> None:
    function = getattr(vlm_r1, trainer)
    whole = function(path, {"output_dir": tmp_path / "whole"}, callbacks=[Seen(stop_at=3)])
    assert whole.summary, "after the last step there is nothing to stop"
    seen = Seen(stop_at=2)
    stopped = function(path, callbacks=[seen])
    assert stopped.summary == {}
    assert "stopped at step 2 of 3 (a callback asked); go on with: vlm-r1" in " ".join(capsys.readouterr().out.split())
    assert (stopped.path / "report.html").exists()
    newest = latest_checkpoint(stopped.path / "checkpoints")
    assert newest is not None
    assert newest.name == "step-000002"
    with pytest.raises(CheckpointError, match=r"its newest checkpoint is of step 2 of 3\. Its recipe is the same"):
        function(path)
    resumed = function(path, resume="auto", callbacks=[seen])
    assert [end.step for end in seen.ends] == [1, 2, 3]
    assert [len(end.groups) for end in seen.ends] == ([4, 4, 4] if trainer == "train" else [0, 0, 0])
    assert_equal(resumed.path, tmp_path / "whole")


@pytest.mark.parametrize("trainer", ["train", "sft"])
def test_a_callback_that_raises_ends_the_run_saved(trainer, path, tmp_path) -> None:
    def second_is_bad(end: vlm_r1.StepEnd) -> None:
        if end.step == 2:
            raise ValueError("no such\nplanet")

    function = getattr(vlm_r1, trainer)
    wanted = (
        r'^callback "test_a_callback.*second_is_bad" raised ValueError after step 2: no such planet \(\S+/'
        r"test_training.py:\d+\). The step is saved; mend the function, and go on with resume=True$"
    )
    with pytest.raises(CallbackError, match=wanted) as error:
        function(path, callbacks=[second_is_bad])
    assert isinstance(error.value.__cause__, ValueError), "a notebook shows its traceback"
    seen = Seen()
    resumed = function(path, resume=True, callbacks=[seen])
    assert [end.step for end in seen.ends] == [3], "the step whose callback failed is done"
    assert_equal(resumed.path, function(path, {"output_dir": tmp_path / "whole"}).path)


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        pytest.param(print, "wanted a list of functions, got <built-in function print>", id="one function"),
        pytest.param(["print"], "wanted functions, got 'print'", id="a name"),
        pytest.param([type("Old", (), {"on_step_end": 0})()], "a function of one vlm_r1.StepEnd", id="transformers'"),
    ],
)
def test_what_is_no_callback(callbacks, message, path, tmp_path) -> None:
    with pytest.raises(ConfigError, match=message):
        vlm_r1.train(path, callbacks=callbacks)
    assert not (tmp_path / "run").exists()


RECIPES = {
    "unknown option": ({"training.max_step": 3}, r'recipe.yaml: unknown key "training.max_step"'),
    "a value of another type": ({"training.max_steps": "many"}, "training.max_steps: .*got 'many'"),
    "a name with dashes": ({"--training.max_steps": 3}, 'wanted names such as "training.max_steps"'),
    "no name": ({3: 3}, 'wanted names such as "training.max_steps", got 3'),
    "a place that is not there": ({"data.train.7.path": "x"}, "wanted an index 0 to 1"),
}


@pytest.mark.parametrize("case", RECIPES)
def test_overrides_that_make_no_sense(case, path) -> None:
    overrides, message = RECIPES[case]
    with pytest.raises(ConfigError, match=message):
        vlm_r1.train(path, overrides)
    with pytest.raises(ConfigError, match="wanted a recipe as a path, a mapping or a Config, got int"):
        vlm_r1.train(3)  # type: ignore[arg-type]


def test_overrides_are_values_not_yaml(path) -> None:
    """Control: on the command line the same text is read as YAML."""
    config = make_config(path, {"rewards": {"format": 1}, "model.freeze": ("vision",), "data.template": "null"})
    assert (dict(config.rewards), config.model.freeze, config.data.template) == ({"format": 1.0}, ["vision"], "null")


def test_the_recipe_of_a_run_that_moved(path, tmp_path) -> None:
    run = vlm_r1.train(path, {"training.max_steps": 1})
    moved = run.path.rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="was the run moved or copied"):
        vlm_r1.train(moved / "config.yaml", resume=True)
    assert vlm_r1.train(moved / "config.yaml", {"output_dir": moved}, resume=True).summary


def test_nothing_is_left_in_the_process(path, tmp_path) -> None:
    """Two runs in one program, of other precisions; what was there before is there after, also after a failure."""
    before = Accelerator(cpu=True, mixed_precision="no")
    torch.manual_seed(5)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    numbers, verbosity, filters = torch.get_rng_state(), logging.get_verbosity(), list(warnings.filters)
    environment, threads = dict(os.environ), set(threading.enumerate())
    models: list[weakref.ref] = []

    def keep(end: vlm_r1.StepEnd) -> None:
        models.append(weakref.ref(end.model))

    vlm_r1.sft(path, {"output_dir": tmp_path / "a", "training.max_steps": 1}, callbacks=[keep])
    bf16 = {"output_dir": tmp_path / "b", "training.max_steps": 1, "training.mixed_precision": "bf16"}
    vlm_r1.train(path, bf16, callbacks=[keep])
    with pytest.raises(CallbackError):
        vlm_r1.train(path, {"output_dir": tmp_path / "c"}, callbacks=[lambda end: 1 / 0])
    gc.collect()
    assert [model() for model in models] == [None, None], "their memory is given back"
    assert AcceleratorState().mixed_precision == before.mixed_precision == "no"
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert torch.equal(torch.get_rng_state(), numbers)
    assert (logging.get_verbosity(), list(warnings.filters)) == (verbosity, filters)
    assert dict(os.environ) == environment
    new = [thread for thread in threading.enumerate() if not thread.daemon and thread not in threads]
    for thread in new:
        thread.join(30)  # a thread that reads images ends soon after its owner
    assert not any(thread.is_alive() for thread in new), new
    vlm_r1.train(path, {"output_dir": tmp_path / "c"}, resume=True)


def test_in_a_thread(path) -> None:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(vlm_r1.train(path, callbacks=[Seen(stop_at=1)])))
    thread.start()
    thread.join()
    (run,) = found
    assert len(run.metrics) == 1  # type: ignore[attr-defined]


def test_the_names_stay_functions() -> None:
    """`vlm_r1.train` and `sft` are no packages, whatever has been imported."""
    assert vlm_r1.StepEnd is StepEnd
    importlib.import_module("vlm_r1.supervised.trainer")
    assert callable(vlm_r1.train)
    assert callable(vlm_r1.sft)
    assert {"train", "sft", "StepEnd"} <= set(dir(vlm_r1))


NOTEBOOK = """
import os, signal, sys, time
import vlm_r1

sys.ps1 = "In : "

def interrupt(end):
    for _ in range(end.step):
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)  # the thread that reads signals takes a moment

for _ in range(2):
    try:
        vlm_r1.train(sys.argv[1], resume="auto", callbacks=[interrupt])
    except KeyboardInterrupt as stop:
        print("caught", stop)
print(vlm_r1.train(sys.argv[1], resume="auto").summary.keys())
"""


def test_the_stop_button_of_a_notebook(path) -> None:
    """Once: the step is saved. Twice: the run ends at once, and the kernel lives. Both go on."""
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", NOTEBOOK, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    caught = [line.split(" (SIGINT)")[0] for line in done.stdout.splitlines() if line.startswith("caught ")]
    assert caught == ["caught stopped at step 1 of 3", "caught SIGINT: ended at once; the last checkpoint counts"]
    assert "dict_keys(['before', 'after'" in done.stdout


TWO = """
import json, os, sys
import vlm_r1

def look(end):
    print(json.dumps({"rank": os.environ["RANK"], "step": end.step, "groups": len(end.groups)}))
    if end.step == int(sys.argv[2]):
        raise ValueError("no such planet")

if os.environ["RANK"] == "1":
    look = lambda end: 1 / 0  # never called
vlm_r1.train(sys.argv[1], callbacks=[look])
"""


def test_in_two_processes_the_first_one_calls_and_all_end(path, tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TWO)
    done = in_two_processes(str(program), str(path), "2")
    assert done.returncode != 0
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert told == [{"rank": "0", "step": step, "groups": 4} for step in (1, 2)]
    assert done.stderr.count('CallbackError: callback "look" raised ValueError after step 2: no such planet') >= 2
    newest = latest_checkpoint(tmp_path / "run/checkpoints")
    assert newest is not None
    assert newest.name == "step-000002"
