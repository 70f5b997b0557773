"""The same command goes on: `--resume auto`, and what a command without --resume says about a run that is there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from testing_commands import PATIENCE_S, assert_equal, start, wait_for_steps
from vlm_r1.cli.main import main, make_parser
from vlm_r1.cli.train import join_resume
from vlm_r1.config import load_config
from vlm_r1.errors import CheckpointError, ConfigError
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.run_folder import RunFolder
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.new_run import goes_on

WORDS = {
    "none": (["recipe.yaml"], False),
    "alone": (["recipe.yaml", "--resume"], True),
    "before the recipe": (["--resume", "recipe.yaml"], True),
    "auto": (["recipe.yaml", "--resume", "auto"], "auto"),
    "auto, one word": (["recipe.yaml", "--resume=auto"], "auto"),
    "auto before the recipe": (["--resume", "auto", "recipe.yaml"], "auto"),
    "the older name": (["recipe.yaml", "--resume-or-start"], "auto"),
}


@pytest.mark.parametrize("command", ["train", "sft"])
@pytest.mark.parametrize("case", WORDS)
def test_words_of_the_command_line(case: str, command: str) -> None:
    words, resume = WORDS[case]
    args, rest = make_parser().parse_known_args(join_resume([command, *words, "--seed=1"]))
    assert (args.recipe, args.resume, rest) == ("recipe.yaml", resume, ["--seed=1"])


def test_a_recipe_called_auto_comes_first(capsys) -> None:
    """Behind --resume the word is never a recipe. Control: in front of it, and as ./auto, it is."""
    for words in (["auto", "--resume"], ["--resume", "auto", "auto"]):
        assert make_parser().parse_known_args(join_resume(["train", *words]))[0].recipe == "auto"
    assert make_parser().parse_known_args(join_resume(["train", "--resume", "./auto"]))[0].recipe == "./auto"
    with pytest.raises(SystemExit):
        main(["train", "--resume", "auto"])
    assert "the following arguments are required: RECIPE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--resume=latest", "recipe.yaml"])


@pytest.mark.parametrize(
    ("command", "trainer", "kills"),
    [("train", train, (1, 5)), pytest.param("sft", train_sft, (5,), marks=pytest.mark.long)],
)
def test_the_same_command_after_kill_minus_9(command, trainer, kills, recipe, tmp_path, capsys) -> None:
    """Killed before its first checkpoint, killed after one, then left alone: the run that was never killed."""
    options = {"training.max_steps": 12, "training.save_steps": 3, "training.trust_checks": False}
    trainer(load_config(recipe(**options, output_dir=str(tmp_path / "whole"))))
    folder = tmp_path / "killed"
    path = recipe(**options, output_dir=str(folder))
    for steps in kills:
        process = start(command, str(path), "--resume", "auto")
        wait_for_steps(folder, steps, process)
        process.kill()
        process.communicate()
        checkpoints = sorted((folder / "checkpoints").glob("step-*"))
        shutil.rmtree(checkpoints.pop()) if steps == 1 and checkpoints else None  # the kill came a moment late
        assert bool(checkpoints) == (steps == 5)
        assert steps <= len(read_metrics(folder / "metrics.jsonl")) < 12, "the run was killed in its middle"
        assert main([command, str(path)]) == 2
        told = capsys.readouterr().err
        saved = (
            f"its newest checkpoint is of step {int(checkpoints[-1].name[5:])}" if checkpoints else "it has saved no"
        )
        assert f"CheckpointError: {folder}: already holds a run of `vlm-r1 {command}`; {saved}" in told
        assert "of 12. Its recipe is the same. Go on with: " in told
    process = start(command, str(path), "--resume=auto")
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert_equal_runs(folder, tmp_path / "whole", command)


def assert_equal_runs(folder: Path, whole: Path, command: str) -> None:
    for run in (folder, whole):
        (run / "eval").mkdir(exist_ok=True)
    assert_equal(folder, whole)
    assert len(list((folder / "rollouts").glob("*.parquet"))) == (12 if command == "train" else 0)


@pytest.fixture
def begun(recipe, tmp_path) -> Path:
    """A run of one step; returns its folder."""
    train(load_config(recipe(**{"training.max_steps": 1, "training.trust_checks": False})))
    return tmp_path / "run"


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_command_that_the_error_names_goes_on(begun, recipe, tmp_path, capsys) -> None:
    before = files(begun)
    assert main(["train", str(tmp_path / "recipe.yaml")]) == 2
    told = capsys.readouterr().err
    assert f"or delete {begun}" in told
    (words,) = re.findall(r"Go on with: vlm-r1 ([^;]*);", told)
    assert files(begun) == before
    assert main(words.split()) == 0


def test_another_recipe_is_refused_and_its_options_are_named(begun, recipe, tmp_path, capsys) -> None:
    """Without --resume and with auto; options about saving do not count."""
    before = files(begun)
    changed = ["train", str(tmp_path / "recipe.yaml"), "--seed=4", "--training.save_steps=1"]
    assert main(changed) == 2
    told = capsys.readouterr().err
    assert (
        "its newest checkpoint is of step 1 of 1. Its recipe is another:\n  seed: run 3, now 4\nGo on with its" in told
    )
    assert main([*changed, "--resume", "auto"]) == 2
    assert (
        "--resume with another recipe than the run was started with:\n  seed: run 3, now 4" in capsys.readouterr().err
    )
    assert main(["sft", str(tmp_path / "recipe.yaml"), "--resume", "auto"]) == 2
    assert "`vlm-r1 train` made this run, not `vlm-r1 sft`" in capsys.readouterr().err
    assert main(["sft", str(tmp_path / "recipe.yaml")]) == 2
    assert f"of step 1 of 1. Go on with: vlm-r1 train {begun}/config.yaml --resume. To start" in capsys.readouterr().err
    assert files(begun) == before


def test_a_recipe_of_another_version_is_no_traceback(begun, tmp_path) -> None:
    config = load_config(tmp_path / "recipe.yaml")
    (begun / "config.yaml").write_text("model: {old: 1}\n")
    with pytest.raises(
        CheckpointError, match=r"(?s)of step 1. Its recipe is of another version or damaged: .*To start anew"
    ):
        train(config)


def test_a_dry_run_of_a_command_that_goes_on(begun, tmp_path, capsys) -> None:
    """Control: without --resume the dry run says what training would say."""
    assert main(["train", str(tmp_path / "recipe.yaml"), "--dry-run", "--resume", "auto"]) == 0
    assert "already holds a run" not in capsys.readouterr().out
    assert main(["train", str(tmp_path / "recipe.yaml"), "--dry-run"]) == 0
    assert "already holds a run of `vlm-r1 train`" in capsys.readouterr().out


def test_allow_counts_once_there_is_a_run(recipe, tmp_path) -> None:
    """A queue's command allows what differs when it goes on, and nothing when it starts."""
    config = load_config(recipe(**{"training.max_steps": 1, "training.trust_checks": False}))
    train(config, resume="auto", allow=["training.max_steps"])
    with pytest.raises(ConfigError, match="has no effect: nothing changed there"):
        train(config, resume="auto", allow=["seed"])
    train(load_config(recipe(**{"training.max_steps": 2})), resume="auto", allow=["training"])
    assert len(read_metrics(tmp_path / "run/metrics.jsonl")) == 2


def test_resume_takes_no_path(recipe, begun, tmp_path) -> None:
    """Control: what it takes."""
    run, nothing = RunFolder(begun), RunFolder(tmp_path / "nothing")
    assert [goes_on(one, resume) for one in (run, nothing) for resume in (True, False, "auto")] == [
        *(True, False, True),
        *(True, False, False),
    ]
    with pytest.raises(ConfigError, match="wanted True, False or \"auto\", got 'checkpoint-3'"):
        train(load_config(recipe()), resume="checkpoint-3")  # type: ignore[arg-type]
