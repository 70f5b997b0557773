"""Commands as a user runs them: what they print, their exit status, and clear errors before any training."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest
import yaml
from PIL import Image

from vlm_r1.cli.main import COMMANDS, main
from vlm_r1.config.markdown import reference
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def edited(rec_files, folder: Path, change) -> str:
    """A file of one training line that was changed; `change` gets the record and returns a record or a text."""
    lines = rec_files["train"].read_text().splitlines()
    record = json.loads(lines[2])
    record["image"] = str(rec_files["train"].parent / record["image"])
    changed = change(record)
    lines = [changed if isinstance(changed, str) else json.dumps(changed)]
    path = folder / "bad.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def with_box(record: dict, box: list[int]) -> dict:
    record["conversations"][1]["value"] = box
    return record


def broken(record: dict, folder: Path) -> dict:
    path = folder / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    return {**record, "image": str(path)}


def marks(record: dict) -> dict:
    record["conversations"][0]["value"] = "<image><image>the red circle"
    return record


BAD_LINES = {
    "missing image": (lambda r, f: {**r, "image": "nowhere.png"}, "image not found"),
    "broken image": (broken, "not an image of a known format"),
    "bad JSON": (lambda r, f: json.dumps(r)[:-5], "bad.jsonl:1:"),
    "marks and images differ": (lambda r, f: marks(r), "2 <image>"),
    "box outside its image": (lambda r, f: with_box(r, [1, 2, 900, 40]), "outside its image"),
    "box of three numbers": (lambda r, f: with_box(r, [1, 2, 30]), "is no box"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_data_is_named_before_training(name: str, recipe, rec_files, tmp_path, capsys) -> None:
    change, message = BAD_LINES[name]
    path = edited(rec_files, tmp_path, lambda record: change(record, tmp_path))
    pictures = f"--data.allowed_local_media_path=[{rec_files['train'].parent}]"
    assert main(["train", str(recipe()), f"--data.train.0.path={path}", pictures]) == 2
    error = capsys.readouterr().err
    assert error.startswith("DataError: ")
    assert message in error
    assert "bad.jsonl:1" in error
    assert not (tmp_path / "run").exists()


BAD_RECIPES = {
    "unknown task": (["--data.train.0.task=rec2"], 'unknown task "rec2". Did you mean "rec"?'),
    "unknown source reward": (["--data.train.0.reward=ioo"], 'unknown reward "ioo". Did you mean "iou"?'),
    "unknown reward part": (["--rewards.formatt=1"], 'unknown reward "formatt". Did you mean "format"?'),
    "unknown key": (["--grpo.num_generation=4"], 'unknown key "grpo.num_generation". Did you mean "num_generations"?'),
    "unknown template": (["--data.template=r2"], 'unknown template "r2". Known: bare, direct, free, paper, r1'),
    "num_generations 1": (["--grpo.num_generations=1"], "wanted at least 2"),
    "epsilon without effect": (["--grpo.epsilon=0.1"], "no effect with num_iterations 1"),
    "eval_steps without effect": (["--training.eval_steps=5"], "no effect without data.eval"),
    "warmup without effect": (["--training.warmup_steps=5", "--training.lr_scheduler_type=constant"], "no effect"),
    "all weights 0": (["--rewards={accuracy: 0}"], "nothing would be learnt"),
    "no data": (["--data.train=[]"], "data.train is empty"),
    "prompt too long": (["--data.max_prompt_length=5"], "more than max_prompt_length 5"),
    "prompt of one record too long": (
        ["--data.max_prompt_length=24"],
        "the prompt has 31 tokens, more than max_prompt_length 24",
    ),
    "no checkpoint": (["--model.path=nowhere/at-all"], "nowhere/at-all: cannot load the config"),
    "pixel budget below a patch": (["--model.max_pixels=100"], "one image token"),
    "not an override": (["beta=3"], "overrides read --section.option=value"),
    "override without value": (["--grpo.beta"], "has no value"),
    "index out of range": (["--data.train.3.path=x"], "wanted an index 0 to 1"),
    "nothing to resume": (["--resume"], "there is no config.yaml"),
}


@pytest.mark.parametrize("name", BAD_RECIPES)
def test_bad_recipes_are_named_before_training(name: str, recipe, tmp_path, capsys) -> None:
    arguments, message = BAD_RECIPES[name]
    assert main(["train", str(recipe()), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_empty_data_set(recipe, tmp_path, capsys) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n\n")
    assert main(["train", str(recipe()), f"--data.train.0.path={empty}"]) == 2
    assert "empty.jsonl: holds no records" in capsys.readouterr().err


def test_run_folder_of_another_run(recipe, tmp_path, capsys) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("{}\n")
    assert main(["train", str(recipe())]) == 2
    told = capsys.readouterr().err
    assert "already holds a run, but its config.yaml is gone: restore it. To start anew, choose another --out" in told


def test_run_folder_inside_a_file(recipe, tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert main(["train", str(recipe()), f"--output_dir={tmp_path / 'file' / 'run'}"]) == 2
    assert "file is not a folder. Choose another --output_dir" in capsys.readouterr().err


def test_run_folder_without_permission(recipe, tmp_path, capsys) -> None:
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o555)
    # root may write into any folder of a disk, so there it is asked for one that the kernel refuses to make
    place = Path("/proc/run") if os.geteuid() == 0 else folder / "run"
    assert main(["train", str(recipe()), f"--output_dir={place}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("CheckpointError: ")
    assert str(place) in error


def test_dry_run_shows_the_plan_and_writes_nothing(recipe, rec_files, tmp_path, capsys) -> None:
    held_out = f"--data.eval.val.path={rec_files['in_domain']}"
    assert main(["train", str(recipe()), "--dry-run", held_out, "--data.template=r1"]) == 0
    shown = capsys.readouterr().out
    for expected in (
        "<|image_pad|>",
        "Please provide the bounding box",
        "gold answer",
        "48 records",
        "3 of 4 prompts: 0.25 epochs",
    ):
        assert expected in shown
    assert "16 completions a step (4 a prompt), at most 8 tokens each" in shown
    assert "val: 12 records" in shown
    assert not (tmp_path / "run").exists()


def test_trace_shows_every_stage_in_80_columns(recipe, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    parts = {"accuracy": 1.0, "format": 1.0, "one_answer": 1.0, "json_format": 1.0, "repetition": 1.0}
    assert main(["trace", str(recipe(rewards=parts)), "--record", "2"]) == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert "…" not in shown, "nothing is cut"
    assert re.search(r"^0 accuracy [\d.]+, format [\d.]+, json_format [\d.]+, one_answer [\d.]+", shown, re.MULTILINE)
    for expected in (
        "train.jsonl:3",
        "token_ids",
        "pixel_values",
        "input_pixels",
        "log p (sampler)",
        "advantage",
        "loss_type",
    ):
        assert expected in shown
    rows = [line for line in shown.splitlines() if " length " in line or " stop " in line]
    assert len(rows) >= 4
    assert main(["trace", str(recipe()), "--record", "48"]) == 2
    assert "holds records 0 to 47" in capsys.readouterr().err


def test_trace_shows_what_a_step_computes(recipe, capsys, tmp_path) -> None:
    """A run of one step whose batch is this record: the same texts, rewards and loss, to the last digit shown."""
    one = {"training.prompts_per_step": 1, "training.max_steps": 1, "data.shuffle": False, "grpo.beta": 0.1}
    sixteen = {"grpo.num_generations": 16}  # so that some of them stop early, or the loss of a first step is 0
    path = recipe(
        **one, **{"grpo.loss_type": "dapo", "model.lora": {"r": 2}, "sampling.max_completion_length": 60}, **sixteen
    )
    assert main(["trace", str(path)]) == 0
    shown = capsys.readouterr().out
    assert main(["train", str(path)]) == 0
    (step,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert step["loss"] != 0
    assert f"{step['loss']:.6f}" in shown
    for row in read_rollouts(tmp_path / "run" / "rollouts" / "step-000001.parquet"):
        assert repr(row.text) in shown.replace("\n", "")
        assert f"{row.advantage:+.3f}" in shown


def test_trace_takes_what_training_takes(recipe, family_checkpoint, capsys) -> None:
    """A model whose prompts cannot be shared: training computes it in layout rows."""
    assert main(["trace", str(recipe(**{"model.path": str(family_checkpoint("qwen3_5"))}))]) == 0
    shown = capsys.readouterr().out
    assert "rows: each prompt is computed again" in " ".join(shown.split())
    assert "log p (trainer)" in shown


def test_eval_writes_what_it_prints(tiny_checkpoint, rec_files, tmp_path, capsys) -> None:
    arguments = [
        "--out",
        str(tmp_path / "eval"),
        "--template",
        "bare",
        "--max-completion-length",
        "8",
        "--batch-size",
        "5",
    ]
    assert main(["eval", str(tiny_checkpoint), str(rec_files["in_domain"]), *arguments]) == 0
    shown = capsys.readouterr().out
    result = json.loads((tmp_path / "eval" / "in_domain.json").read_text())
    assert (result["n"], result["metrics"]["iou"]["mean"]) == (12, 0.0)
    assert "not parsed: no_answer_tag" in shown
    samples = [json.loads(line) for line in (tmp_path / "eval" / "in_domain.samples.jsonl").read_text().splitlines()]
    assert [sample["record_id"] for sample in samples] == [str(n) for n in range(1, 13)]
    assert samples[0]["reason"] == "no_answer_tag"


def test_eval_takes_the_settings_of_the_run_that_the_model_lies_in(recipe, rec_files, tmp_path, capsys) -> None:
    assert main(["train", str(recipe(**{"training.max_steps": 1}))]) == 0
    arguments = [
        "eval",
        str(tmp_path / "run/model"),
        str(rec_files["in_domain"]),
        "--out",
        str(tmp_path / "eval"),
        "--limit",
        "3",
    ]
    assert main(arguments) == 0
    assert f"template bare, at most 8 tokens (as in {tmp_path / 'run/model/vlm_r1.json'})" in capsys.readouterr().out
    assert json.loads((tmp_path / "eval/in_domain.json").read_text())["n"] == 3
    assert main([*arguments, "--template", "direct"]) == 0
    assert "template direct, at most 8 tokens (as given)" in capsys.readouterr().out


def test_sft_refuses_options_of_grpo(recipe, capsys) -> None:
    assert main(["sft", str(recipe()), "--grpo.beta=0.1"]) == 2
    assert "no effect in `vlm-r1 sft`" in capsys.readouterr().err


def test_config_prints_the_reference_and_docs_hold_it(capsys) -> None:
    assert main(["config"]) == 0
    printed = capsys.readouterr().out
    assert printed == reference() == (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert "`grpo.num_generations`" in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_teaches(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert f"usage: vlm-r1 {command}" in capsys.readouterr().out


def test_the_shipped_demo_recipes_are_complete(recipe) -> None:
    for file in (ROOT / "src/vlm_r1/cli/demo_recipes").glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["training"]["max_steps"] > 0


def test_demo_in_small(tmp_path, capsys) -> None:
    sizes = ["--warmup-steps", "2", "--grpo-steps", "2", "--train-records", "40", "--eval-records", "8"]
    assert main(["demo", "--out", str(tmp_path / "demo"), "--seed", "5", *sizes]) == 0
    shown = capsys.readouterr().out
    assert str(tmp_path / "demo" / "report.html") in shown
    told = " ".join(shown.split())
    parts = [
        told.index(words)
        for words in ("1/3 Pictures", "2/3 Warm start", "watch the loss", "3/3 GRPO", "watch acc@", "What came")
    ]
    assert parts == sorted(parts)
    assert parts[2] < told.index("SFT 1/2") < parts[3], "what to look at is said before it is seen"
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["seed"] == 5
    assert {"prepare", "warm_start", "train", "evaluate"} <= summary["seconds"].keys()
    assert summary["before"].keys() == summary["after"].keys() == {*("in_domain", "out_of_domain", "new_kinds")}
    share = 100 * summary["after"]["in_domain"]["accuracy_iou50"]
    assert f"and boxes {share:.0f} right now. Ask it yourself:" in told
    (command,) = re.findall(r"^ +vlm-r1 (ask .*)$", shown, flags=re.MULTILINE)
    assert main([*shlex.split(command), "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["template"] == "bare"
    with Image.open(tmp_path / "demo/boxed.png") as picture:
        assert min(picture.size) > 20
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 2
    assert "already holds a run" in capsys.readouterr().err
