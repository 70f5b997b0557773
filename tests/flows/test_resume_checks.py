"""What is wrong with a run that goes on is found when it starts, and what a damaged or full disk leaves is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from testing_runs import untimed
from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.errors import CheckpointError, ConfigError, ModelError
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.lock import lock_folder
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.run_folder import RunFolder
from vlm_r1.training.processes import first_does
from vlm_r1.training.resume import find_start

STEPS = 3


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_checkpoint, rec_files) -> Path:
    """A finished run of three steps with all its checkpoints, its data and its model, in one folder.

    Its recipe knows the folder by a link beside it, so that a copy can take its place.
    """
    home = tmp_path_factory.mktemp("finished")
    shutil.copytree(tiny_checkpoint, home / "model")
    shutil.copytree(rec_files["train"].parent, home / "rec")
    link_to(home, home)
    train(load_config(write_recipe(link(home))))
    return home


def link(finished: Path) -> Path:
    return finished.with_name("linked")


def link_to(home: Path, finished: Path) -> Path:
    link(finished).unlink(missing_ok=True)
    link(finished).symlink_to(home)
    return link(finished)


def write_recipe(home: Path, **training: object) -> Path:
    tree = {
        "output_dir": str(home / "run"),
        "model": {"path": str(home / "model")},
        "data": {
            "train": [{"path": str(home / "rec/train.jsonl")}],
            "eval": {"held": {"path": str(home / "rec/in_domain.jsonl")}},
            "template": "bare",
        },
        "sampling": {"max_completion_length": 6},
        "grpo": {"num_generations": 2},
        "rewards": {"accuracy": 1.0, "testing_rewards:letters": 1.0},
        "training": {
            "max_steps": STEPS,
            "prompts_per_step": 2,
            "learning_rate": 1e-3,
            "save_steps": 1,
            "save_total_limit": STEPS,
            "eval_steps": 1,
            "trust_checks": False,
            **training,
        },
    }
    path = home / "recipe.yaml"
    path.write_text(json.dumps(tree))
    return path


@pytest.fixture
def home(finished, tmp_path) -> Path:
    """The same, as if the run had been killed after step 2."""
    copy = Path(shutil.copytree(finished, tmp_path / "home"))
    shutil.rmtree(copy / "run/checkpoints/step-000003")
    shutil.rmtree(copy / "run/model")
    return link_to(copy, finished)


def resume(home: Path, *allow: str, **training: object) -> None:
    train(load_config(write_recipe(home, **training)), resume=True, allow=allow)


def assert_equal(home: Path, finished: Path) -> None:
    runs = [home / "run", finished / "run"]
    one, two = (untimed(read_metrics(run / "metrics.jsonl")) for run in runs)
    assert one == two
    one, two = (load_file(run / "model/model.safetensors") for run in runs)
    assert all(one[name].equal(two[name]) for name in two)
    assert [p.name for p in sorted((home / "run/checkpoints").iterdir())] == [f"step-00000{n}" for n in (1, 2, 3)]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["model.safetensors", "state/optimizer.bin", "state/trainer.json", "manifest.json"])
def test_the_checkpoint_before_a_damaged_one_is_used_and_named(file, home, finished, capsys) -> None:
    damaged = home / "run/checkpoints/step-000002" / file
    if file == "manifest.json":
        damaged.unlink()
    else:
        flip(damaged)
    resume(home)
    said = " ".join(capsys.readouterr().out.split())
    assert f"step-000002 is damaged: {file}" in said
    assert "going on from step-000001" in said
    assert_equal(home, finished)


def test_foreign_names_change_nothing(home, finished) -> None:
    run = home / "run"
    shutil.copytree(run / "checkpoints/step-000001", home / "keep")
    (home / "keep").rename(run / "checkpoints/step-000099-keep")
    (run / "checkpoints/step-000098.tar").write_text("")
    shutil.copy(run / "rollouts/step-000001.parquet", run / "rollouts/step-000001 (copy).parquet")
    resume(home)
    assert (run / "rollouts/step-000001 (copy).parquet").exists()
    shutil.rmtree(run / "checkpoints/step-000099-keep")
    (run / "checkpoints/step-000098.tar").unlink()
    assert_equal(home, finished)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


DAMAGE = {
    "metrics missing": (lambda h: (h / "run/metrics.jsonl").unlink(), r"metrics\.jsonl: cannot be read"),
    "metrics empty": (lambda h: (h / "run/metrics.jsonl").write_text(""), "metrics.jsonl: lacks steps 1, 2"),
    "a step repeated": (
        lambda h: (h / "run/metrics.jsonl").write_text((h / "run/metrics.jsonl").read_text() * 2),
        "metrics.jsonl: repeats steps 1, 2",
    ),
    "before missing": (lambda h: (h / "run/eval/before-held.json").unlink(), r"before-held\.json: cannot be read"),
    "samples torn": (
        lambda h: (h / "run/eval/before-held.samples.jsonl").write_text('{"a"'),
        r"before-held\.samples\.jsonl: has 0 whole lines, but 12 answers",
    ),
    "a step's evaluation torn": (
        lambda h: (h / "run/eval/step-000001-held.json").write_text('{"n": 3'),
        r"step-000001-held\.json: cannot be read as JSON",
    ),
    "environment torn": (lambda h: (h / "run/environment.json").write_text("{"), r"environment\.json: cannot be read"),
    "changes are a number": (
        lambda h: edit(h / "run/environment.json", "{", '{"changes": 5,'),
        r'environment\.json: wanted a list of objects as "changes", got 5',
    ),
    "changes are numbers": (
        lambda h: edit(h / "run/environment.json", "{", '{"changes": [1],'),
        r'environment\.json: wanted a list of objects as "changes", got \[1\]',
    ),
    "all checkpoints gone": (lambda h: shutil.rmtree(h / "run/checkpoints"), "has saved checkpoints, but there are no"),
    "all checkpoints damaged": (
        lambda h: [flip(f) for f in (h / "run/checkpoints").glob("*/model.safetensors")],
        "no checkpoint is whole:\n  step-000002 is damaged: .*\n  step-000001 is damaged",
    ),
    "no config": (lambda h: (h / "run/config.yaml").unlink(), "no config.yaml of a run"),
    "rows swapped": (
        lambda h: (h / "rec/train.jsonl").write_text(
            "\n".join(reversed((h / "rec/train.jsonl").read_text().splitlines()))
        ),
        r"data\.train\.0\.path: its rows are not.*\n.*--allow data\.train\.0\.path",
    ),
    "a held-out row changed": (
        lambda h: edit(h / "rec/in_domain.jsonl", "the ", "The "),
        r"data\.eval\.held\.path: its rows are not.*\n.*--allow data\.eval\.held\.path",
    ),
    "a bit of the model": (
        lambda h: flip(h / "model/model.safetensors"),
        r"model\.path: its files are not.*\n.*--allow model\.path",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_wrong_is_found_at_the_start_and_nothing_is_changed(kind, home) -> None:
    damage, message = DAMAGE[kind]
    damage(home)
    before = {p: p.read_bytes() for p in sorted((home / "run").rglob("*")) if p.is_file()}
    with pytest.raises(CheckpointError, match=message):
        resume(home)
    assert {p: p.read_bytes() for p in sorted((home / "run").rglob("*")) if p.is_file()} == before


def test_changed_rows_that_are_allowed(home) -> None:
    lines = (home / "rec/train.jsonl").read_text().splitlines()
    (home / "rec/train.jsonl").write_text("\n".join(lines[:40]))
    resume(home, "data.train")
    (change,) = json.loads((home / "run/environment.json").read_text())["changes"]
    assert (change["after_step"], change["option"]) == (2, "data.train.0.path")


def test_a_longer_run_needs_to_be_allowed_and_then_goes_on(home, finished, tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"max_steps: run 3, now 4\n.*--allow training\.max_steps.*learning rate"):
        resume(home, max_steps=4)
    resume(home)
    resume(home, "training.max_steps", max_steps=4)
    run = RunFolder(home / "run")
    rows = read_metrics(run.metrics)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert any(name.startswith("eval/") for name in rows[2]), "evaluated as in a run of four steps from the start"
    rows[2] = {name: value for name, value in rows[2].items() if not name.startswith("eval/")}
    assert untimed(rows[:3]) == untimed(read_metrics(finished / "run/metrics.jsonl"))
    assert rows[3]["learning_rate"] == pytest.approx(1e-3 * 1 / 4), "linear, over four steps"
    assert load_config(run.config).training.max_steps == 4
    assert json.loads((run.evaluations / "after-held.json").read_text())["step"] == 4
    assert json.loads((run.model / "manifest.json").read_text())["step"] == 4
    resume(home, "training.max_steps", max_steps=4)  # requeued: no error
    with pytest.raises(CheckpointError, match=r"the newest checkpoint is of step 4, but training\.max_steps is now 2"):
        resume(home, "training.max_steps", max_steps=2)


def test_a_finished_run_is_not_written_again(finished, tmp_path) -> None:
    home = link_to(Path(shutil.copytree(finished, tmp_path / "home")), finished)
    kept = ("checkpoints/step-000003", "model", "eval/after-held.json")
    before = [(home / "run" / name).stat().st_ino for name in kept]
    resume(home)
    assert [(home / "run" / name).stat().st_ino for name in kept] == before
    flip(home / "run/model/model.safetensors")
    resume(home)
    assert_equal(home, finished)


@pytest.mark.parametrize(
    ("allow", "message"),
    [
        ("training.max_step", 'no such option. Did you mean "training.max_steps"'),
        ("training.max_steps", "has no effect: nothing changed there"),
    ],
)
def test_an_option_that_allows_nothing(allow, message, home) -> None:
    with pytest.raises(ConfigError, match=message):
        resume(home, allow)


def test_allow_needs_resume(home, capsys) -> None:
    assert main(["train", str(write_recipe(home)), "--allow", "training", "--output_dir", str(home / "new")]) == 2
    assert "--allow has no effect without --resume" in capsys.readouterr().err
    assert not (home / "new").exists()


@pytest.mark.parametrize("lost", ["", "environment.json", "checkpoints", "stage"])
def test_the_other_command_does_not_go_on(lost, home, finished, capsys) -> None:
    """Not even where nothing but one file says who made the run. Control: the command that the message names does."""
    run = home / "run"
    if lost == "stage":  # as in a run of an older version
        facts = json.loads((run / "environment.json").read_text())
        (run / "environment.json").write_text(json.dumps({name: facts[name] for name in facts if name != "stage"}))
    elif lost:
        damaged = run / lost
        shutil.rmtree(damaged) if damaged.is_dir() else damaged.unlink()
    before = {p: p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}
    assert main(["sft", str(write_recipe(home)), "--resume"]) == 2
    told = capsys.readouterr().err
    assert (
        f"`vlm-r1 train` made this run, not `vlm-r1 sft`. Go on with: vlm-r1 train {run}/config.yaml --resume" in told
    )
    assert {p: p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()} == before
    if lost != "checkpoints":
        assert main(["train", str(write_recipe(home)), "--resume"]) == 0
        assert_equal(home, finished)


def test_the_recipe_of_a_run_that_moved_says_which_run_goes_on(home, finished, tmp_path, capsys) -> None:
    """Not the one at the old place, without a word. Control: with --output_dir the copy goes on, and is equal."""
    moved = Path(shutil.copytree(home / "run", tmp_path / "moved"))
    before = {p: p.read_bytes() for p in sorted((home / "run").rglob("*")) if p.is_file()}
    for command in (["--resume"], ["--resume", "auto"], []):
        assert main(["train", str(moved / "config.yaml"), *command]) == 2
        told = capsys.readouterr().err
        assert "was the run moved or copied?" in told
        assert f"add --output_dir={moved}" in told
    assert {p: p.read_bytes() for p in sorted((home / "run").rglob("*")) if p.is_file()} == before
    assert main(["train", str(moved / "config.yaml"), "--resume", f"--output_dir={moved}"]) == 0
    shutil.rmtree(home / "run")
    moved.rename(home / "run")
    assert_equal(home, finished)


def test_options_about_saving_are_free(home) -> None:
    config = load_config(write_recipe(home, save_steps=2, save_total_limit=1))
    start = find_start(RunFolder(home / "run"), config, True, [], "grpo")
    assert [change.key for change in start.changes] == ["training.save_steps", "training.save_total_limit"]


def test_a_run_that_goes_on_holds_the_lock(home, capsys) -> None:
    with lock_folder(home / "run"):
        assert main(["train", str(write_recipe(home)), "--resume"]) == 2
    assert "has been writing here since" in capsys.readouterr().err
    resume(home)
    assert not (home / "run/.lock").exists()


def test_a_failed_save_stops_or_not_as_the_recipe_says(home, finished) -> None:
    """A file where the checkpoints should be stands for a full disk."""
    shutil.rmtree(home / "run")
    recipe = write_recipe(home, on_save_failure="continue")
    config = load_config(recipe)
    (home / "run").mkdir()
    (home / "run/checkpoints").write_text("")
    train(config)
    assert untimed(read_metrics(home / "run/metrics.jsonl")) == untimed(read_metrics(finished / "run/metrics.jsonl"))
    assert (home / "run/model/model.safetensors").exists()
    shutil.rmtree(home / "run")
    (home / "run").mkdir()
    (home / "run/checkpoints").write_text("")
    with pytest.raises(CheckpointError, match="step-000001: cannot be written"):
        train(load_config(write_recipe(home)))


def test_a_folder_that_moved_is_not_made_again(tmp_path) -> None:
    run = RunFolder(tmp_path / "run", lock_folder(tmp_path / "run"))
    run.config.write_text("")
    run.check_in_place()
    run.path.rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="moved or deleted while it trains"):
        run.check_in_place()
    with lock_folder(tmp_path / "run"):
        run.config.write_text("another run")
        with pytest.raises(CheckpointError, match="moved or deleted while it trains"):
            run.check_in_place()


def test_a_model_that_was_damaged_is_not_used(finished, tmp_path, capsys) -> None:
    home = Path(shutil.copytree(finished, tmp_path / "home"))
    model = home / "run/model"
    flip(model / "model.safetensors")
    for command in (
        ["eval", str(model), str(home / "rec/in_domain.jsonl"), "--out", str(home / "eval")],
        ["export", str(home / "run"), "--to", str(home / "export")],
        ["train", str(write_recipe(home)), f"--model.path={model}", f"--output_dir={home / 'next'}"],
    ):
        assert main(command) == 2
        assert "model.safetensors has other bytes than were written" in capsys.readouterr().err, command
    (model / "manifest.json").unlink()
    assert main(["eval", str(model), str(home / "rec/in_domain.jsonl"), "--out", str(home / "eval"), "--limit=2"]) == 0


def test_what_the_first_process_raises_all_raise() -> None:
    def fail() -> None:
        raise ModelError("as it was")

    with pytest.raises(ModelError, match="as it was"):
        first_does(fail)
    assert first_does(lambda: 3) == 3


def test_a_config_that_somebody_edited_is_refused(home) -> None:
    edit(home / "run/config.yaml", "learning_rate: 0.001", "learning_rate: 0.003")
    with pytest.raises(CheckpointError, match=r"config\.yaml: is not what the run wrote .* command line, with --allow"):
        train(load_config(home / "run/config.yaml"), resume=True)


def test_a_config_that_a_resumption_changed_is_the_runs_own(home) -> None:
    longer = {"max_steps": STEPS + 1}
    resume(home, "training.max_steps", **longer)
    shutil.rmtree(home / "run/checkpoints/step-000004")  # as if it had been killed before
    shutil.rmtree(home / "run/checkpoints/step-000003")
    train(load_config(home / "run/config.yaml"), resume=True)
    assert len(read_metrics(home / "run/metrics.jsonl")) == STEPS + 1


def test_a_damaged_rollout_file_is_named(home, finished, capsys) -> None:
    edit(home / "run/metrics.jsonl", '"reward/mean"', '"reward/maen"')
    (home / "run/rollouts/step-000001.parquet").unlink()
    resume(home)
    said = " ".join(capsys.readouterr().out.split())
    assert "metrics.jsonl is not what the run wrote" in said
    assert "rollouts/step-000001.parquet is missing" in said
