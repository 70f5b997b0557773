"""Prompts that are too long are left out and counted on request, before training or when they are drawn."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import testing_stops
from testing_commands import assert_equal, untimed
from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.errors import ConfigError, DataError, OverlongError
from vlm_r1.export.model_card import model_card
from vlm_r1.grpo.trainer import train
from vlm_r1.planning.prompts import longest_prompt
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path
from vlm_r1.runtime.run_folder import RunFolder
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training import overlong
from vlm_r1.training.run import load_checked_records, load_env
from vlm_r1.training.stopping import Stopped

STEPS = 4
LONG = (3, 6, 7, 12)
"""Lines whose prompts are made too long."""


def written(path: Path, lines: list[str], but: tuple[int, ...] = ()) -> str:
    kept = [line for number, line in enumerate(lines, start=1) if number not in but]
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    return str(path)


@pytest.fixture
def lines(rec_files) -> list[str]:
    """Sixteen records, of which four ask at length."""
    rows = [json.loads(line) for line in rec_files["train"].read_text(encoding="utf-8").splitlines()[:16]]
    for number in LONG:
        rows[number - 1]["conversations"][0]["value"] += " " + "a" * 200
    return [json.dumps(row) for row in rows]


@pytest.fixture
def options(lines, rec_files, recipe, tmp_path) -> dict:
    """Options of a recipe with a limit between the long prompts and the others."""
    root = str(rec_files["train"].parent)
    path = written(tmp_path / "train.jsonl", lines)
    held = written(tmp_path / "held.jsonl", lines[:4])
    found = {
        "data.train": [{"path": path, "image_root": root}],
        "data.eval": {"held": {"path": held, "image_root": root}},
        "training.max_steps": STEPS,
        "training.save_steps": 0,
        "training.trust_checks": False,
    }
    config = load_config(recipe(**found))
    records, _ = load_checked_records(config)
    lengths = {n: load_env(config, ()).prompt_length(record) for n, record in enumerate(records, start=1)}
    limit = max(length for n, length in lengths.items() if n not in LONG)
    assert min(lengths[n] for n in LONG) > limit
    return {**found, "data.max_prompt_length": limit, "data.filter_overlong_prompts": True}


def drawn(folder: Path) -> list[list[int]]:
    """Lines of the records of each step, in its order."""
    rows = [read_rollouts(rollouts_path(folder, step)) for step in range(1, STEPS + 1)]
    return [[int(line) for line in dict.fromkeys(row.source.rpartition(":")[2] for row in own)] for own in rows]


@pytest.mark.parametrize("trainer", [train, train_sft])
def test_a_run_equals_one_on_a_file_without_them(trainer, options, lines, recipe, tmp_path):
    console = Console(file=StringIO(), width=300)
    trainer(load_config(recipe(**options, output_dir=str(tmp_path / "left out"))), display=Display(console))
    options = {**options, "data.filter_overlong_prompts": False}
    for source in (options["data.train"][0], options["data.eval"]["held"]):
        source["path"] = written(
            tmp_path / f"short {Path(source['path']).name}", lines[: 16 if "train" in source["path"] else 4], LONG
        )
    trainer(load_config(recipe(**options, output_dir=str(tmp_path / "never there"))))
    assert untimed(tmp_path / "left out") == untimed(tmp_path / "never there")
    shown = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "train.jsonl: 12 of 16 records (4 left out, whose prompts are longer than max_prompt_length)" in shown
    assert "held out held: 3 of 4 records (1 left out, whose prompts are longer than max_prompt_length), of" in shown
    kept = json.loads((tmp_path / "left out/environment.json").read_text())["records"]
    assert [kept["train"][0][key] for key in ("records", "of", "overlong_prompts")] == [12, 16, 4]
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("left out", "never there")]
    assert [one["after"]["held"]["n"] for one in summaries] == [3, 3]
    assert [one["after"]["held"].get("overlong_prompts") for one in summaries] == [1, None]
    evaluation = json.loads((tmp_path / "left out/eval/after-held.json").read_text())
    assert (evaluation["n"], evaluation["overlong_prompts"]) == (3, 1)


def test_the_commands_say_how_many(options, recipe, tmp_path, capsys):
    path = str(recipe(**options, **{"data.shuffle": False}))
    assert main(["train", path, "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "12 of 16 records (4 left out, whose prompts are longer than max_prompt_length)" in said
    assert "data 12 records, of which 12 were encoded" in said
    assert main(["train", path]) == 0
    assert "held: 3 records, without 1 whose prompts are too long" in " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "3, without 1 whose prompts are too long" in page
    config = load_config(path)
    card = model_card(
        RunFolder(tmp_path / "run"),
        config,
        adapter=load_env(config, ()).adapter,
        step=STEPS,
        moment="after",
        check="",
        as_adapter=False,
    )
    assert "| held | 3, without 1 whose prompts are too long | accuracy_iou50 |" in card
    assert len(longest_prompt(config).encoded.ids_L) == options["data.max_prompt_length"]


@pytest.fixture
def sampled(monkeypatch):
    """Training data of more than eight records counts as large: only eight of them are measured before training."""
    monkeypatch.setattr(overlong, "CHECKED_LINES", 8)


def test_of_large_data_they_are_left_out_when_they_are_drawn(sampled, options, recipe, tmp_path, capsys):
    options = {**options, "data.shuffle": False, "data.max_bad_records": 0}
    train(load_config(recipe(**options)))
    # step 1 draws lines 1 to 4, and 5 for 3; step 2 draws 6 to 9, and 10 and 11 for 6 and 7; step 3 12 to 15, and 16
    assert drawn(tmp_path / "run") == [[1, 2, 5, 4], [10, 11, 8, 9], [16, 13, 14, 15], [1, 2, 5, 4]]
    counted = [row.get("data/overlong_prompts") for row in read_metrics(tmp_path / "run/metrics.jsonl")]
    assert counted == [1, 3, 4, 5]
    assert not (tmp_path / "run/bad_records.jsonl").exists()
    said = " ".join(capsys.readouterr().out.split())
    # lines 1, 3, 5, …, 15 are measured
    line = "of 8 records that were measured, 2 have prompts longer than max_prompt_length: such records are"
    assert line in said
    assert main(["train", str(recipe(**options)), "--dry-run", f"--output_dir={tmp_path / 'new'}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert line in said
    assert "data 16 records, of which 12 were encoded" in said


def test_a_resumed_run_leaves_out_the_same(sampled, options, recipe, tmp_path):
    options |= {"sampling.engine": "testing_stops:make"}
    train(load_config(recipe(**options, output_dir=str(tmp_path / "whole"))))
    config = load_config(recipe(**options, output_dir=str(tmp_path / "stopped")))
    testing_stops.ORDERS[:] = [(False, 2)]
    with pytest.raises(Stopped):
        train(config)
    train(config, resume=True)
    assert_equal(tmp_path / "stopped", tmp_path / "whole")


def test_without_the_filter_a_long_prompt_stays_an_error(options, recipe):
    config = load_config(recipe(**{**options, "data.filter_overlong_prompts": False}))
    with pytest.raises(DataError, match=r"(?s)train\.jsonl:3: .*filter_overlong_prompts.*4 more like it: .*12"):
        train(config)
    env = load_env(load_config(recipe(**options)), ())
    with pytest.raises(OverlongError):
        env.encode(load_checked_records(config)[0][2])


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("filters", [True, False])
def test_a_missing_image_stays_an_error(filters, whole, options, lines, rec_files, recipe, tmp_path, monkeypatch):
    if not whole:
        monkeypatch.setattr(overlong, "CHECKED_LINES", 8)
    for number in (2, 3):  # a short prompt, and a long one
        row = json.loads(lines[number - 1])
        lines[number - 1] = json.dumps(row | {"image": "gone.png"})
    path = written(tmp_path / "train.jsonl", lines)
    config = load_config(recipe(**{**options, "data.filter_overlong_prompts": filters}))
    with pytest.raises(DataError, match=rf"(?s){path}:2: .*image not found.*1 more with the same message: line 3"):
        train(config)


def test_a_missing_held_out_image_stays_an_error(options, lines, recipe, tmp_path):
    written(tmp_path / "held.jsonl", [json.dumps(json.loads(lines[2]) | {"image": "gone.png"})])
    with pytest.raises(DataError, match=r"held\.jsonl:1: .*image not found"):
        train(load_config(recipe(**options)))


@pytest.mark.parametrize("where", ["train", "held"])
def test_a_source_of_which_nothing_is_left_is_an_error(where, options, lines, recipe, tmp_path):
    written(tmp_path / f"{where}.jsonl", lines, tuple(n for n in range(1, 17) if n not in LONG))
    with pytest.raises(
        DataError, match=rf"{where}\.jsonl: all 4 prompts are longer than max_prompt_length \d+, the sh"
    ):
        train(load_config(recipe(**options)))


def test_large_data_of_which_nothing_is_left_is_an_error(sampled, options, lines, recipe, tmp_path):
    odd = tuple(range(1, 17, 2))
    long = [json.loads(line) for line in lines]
    for number in odd:
        long[number - 1]["conversations"][0]["value"] += " " + "a" * 200
    written(tmp_path / "train.jsonl", [json.dumps(row) for row in long])
    with pytest.raises(DataError, match=r"data\.train: all 8 prompts that were measured are longer"):
        train(load_config(recipe(**options)))


def test_it_has_no_effect_without_a_limit(options, recipe):
    del options["data.max_prompt_length"]
    with pytest.raises(ConfigError, match=r"filter_overlong_prompts has no effect without data\.max_prompt_length"):
        load_config(recipe(**options))
