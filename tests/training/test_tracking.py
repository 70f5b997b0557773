"""What the trackers get of a run, read back from where each of them keeps it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
from pathlib import Path

import pytest
import wandb
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from vlm_r1.cli.main import main
from vlm_r1.config import Config, load_config
from vlm_r1.config.schema import TrainingSection
from vlm_r1.data.access import NOWHERE
from vlm_r1.errors import CheckpointError, ConfigError
from vlm_r1.grpo.completions import completion_rows
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path
from vlm_r1.runtime.run_folder import RunFolder, read_json
from vlm_r1.training import tracking
from vlm_r1.training.trackers import _as_markdown, _escaped
from vlm_r1.training.tracking import Sent, Tracking, doubled_steps, open_tracking
from vlm_r1.types import BoxFormat, Completion, EncodedPrompt, Group, ImageFrame, Record, Rollout, Score, StopReason

MEAN = "reward/mean"
HELD = "eval/held/accuracy_iou50"


@pytest.fixture(scope="module")
def stores():
    """Trackio's store in the folder of its own that tests/conftest.py made, and wandb without a network."""
    folder = Path(os.environ["TRACKIO_DIR"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        yield folder


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Read a chart as TensorBoard does, which keeps what a folder holds twice."""
    events = EventAccumulator(str(folder), tensor_size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]


def of_trackio(store: Path, name: str, key: str) -> list[tuple[int, object]]:
    database = sqlite3.connect(next(store.glob("*.db")))
    rows = database.execute("select step, metrics from metrics where run_name = ? order by id", [name]).fetchall()
    found = [(step, json.loads(metrics)) for step, metrics in rows]
    return [(step, metrics[key]) for step, metrics in found if key in metrics]


def of_wandb(folder: Path, key: str) -> list[tuple[int, object]]:
    """Read the files of offline runs: records of a LevelDB log, in blocks of 32 KiB, after a header of 7 bytes."""
    found = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for record in records_of(file.read_bytes()):
            items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            if key in items:
                found.append((int(items["step"]), json.loads(items[key])))
    return found


def records_of(data: bytes):
    from wandb.proto.wandb_internal_pb2 import Record

    at, parts = 7, b""
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(parts)
            parts = b""


@pytest.fixture(scope="module")
def options(rec_files):
    return {
        "training.report_to": ["tensorboard", "trackio", "wandb"],
        "training.project": "pets",
        "training.log_completions_steps": 2,
        "training.max_steps": 4,
        "training.save_steps": 2,
        "training.save_total_limit": 4,
        "training.trust_checks": False,
        "data.eval": {"held": {"path": str(rec_files["in_domain"])}},
    }


def test_all_three_get_every_step_once_through_a_resumption(recipe, options, stores, tmp_path) -> None:
    config, folder = load_config(recipe(**options)), tmp_path / "run"
    train(config)
    known = read_json(folder / "trackers.json")
    shutil.rmtree(folder / "checkpoints/step-000004")  # as if it had died after step 4, before it was saved
    train(config, resume=True)
    assert read_json(folder / "trackers.json") == known, "the same runs, and nothing new"
    assert {entry["name"] for entry in known.values()} == {"run"}
    logged = [(int(row["step"]), row[MEAN]) for row in read_metrics(folder / "metrics.jsonl")]
    assert [step for step, _ in logged] == [1, 2, 3, 4]
    before, after = (read_json(folder / f"eval/{moment}-held.json")["metrics"] for moment in ("before", "after"))
    evaluated = [(0, before["accuracy_iou50"]["mean"]), (4, after["accuracy_iou50"]["mean"])]
    assert [step for step, _ in scalars(folder, MEAN)] == [1, 2, 3, 4]
    assert dict(scalars(folder, MEAN)) == pytest.approx(dict(logged)), "float32"
    assert scalars(folder, HELD) == evaluated
    assert of_trackio(stores, "run", MEAN) == logged
    assert of_trackio(stores, "run", HELD) == evaluated
    assert of_wandb(folder, MEAN) == logged
    assert of_wandb(folder, HELD) == evaluated
    for table in (of_trackio(stores, "run", "completions"), of_wandb(folder, "completions._type")):
        assert [step for step, _ in table] == [2, 4]
    rows = of_trackio(stores, "run", "completions")[0][1]["_value"]
    answers = read_rollouts(rollouts_path(folder, 2))
    assert len(rows) == 4 * 4, "4 groups of 4 completions"
    assert [row["reward"] for row in rows] == [row.reward for row in answers]
    assert rows[5]["completion"] == "2 of 4"
    assert all((stores / "media" / row["picture"]["file_path"]).is_file() for row in rows)
    events = EventAccumulator(str(folder))
    events.Reload()
    assert sum(tag.startswith("completions/row ") for tag in events.Tags()["tensors"]) == 16
    assert [event.step for event in events.Tensors("completions/text_summary")] == [2, 4]
    assert len(sorted(folder.glob("wandb/offline-run-*"))) == 2
    assert {path.name.rpartition("-")[2] for path in folder.glob("wandb/offline-run-*")} == {known["wandb"]["id"]}


def config_of(folder: Path, **training: object) -> Config:
    return Config.model_validate(
        {"model": {"path": "tiny"}, "data": {}, "training": training, "output_dir": str(folder)}
    )


@pytest.fixture
def board(tmp_path):
    """A tracking of TensorBoard in a folder of its own."""
    opened = []

    def make(resumed: bool) -> Tracking:
        config = config_of(tmp_path, report_to=["tensorboard"])
        opened.append(open_tracking(config, RunFolder(tmp_path), resumed=resumed))
        return opened[-1]

    yield make
    for one in opened:
        one.finish()


def test_a_run_that_was_never_saved_sends_nothing_twice(board, tmp_path) -> None:
    """Killed before its first checkpoint, it starts again at step 0; evaluation 0 and step 1 are made twice."""
    for resumed in (False, True):
        found = board(resumed)
        found.log_evaluation("before", {"eval/held/iou": 0.25}, 0)
        found.log({"loss": 0.5}, 1)
        found.finish()
    assert scalars(tmp_path, "loss") == [(1, 0.5)]
    assert scalars(tmp_path, "eval/held/iou") == [(0, 0.25)]


def test_what_a_chart_cannot_show_is_left_out(board, tmp_path) -> None:
    found = board(resumed=False)
    found.log({"loss": float("nan"), "norm": float("inf"), "reward": 1.0}, 1)
    found.finish()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["tensors"] == ["recipe/text_summary", "reward"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"wandb": 3}', id="no object"),
        pytest.param(
            '{"tensorboard": {"project": "vlm-r1", "name": "a", "id": "b", "step": "4"}}', id="a step as text"
        ),
        pytest.param(
            '{"tensorboard": {"project": "p", "name": "a", "id": "b", "step": 4, "evaluations": ["after"]}}',
            id="no step",
        ),
        pytest.param('{"tensor', id="torn"),
    ],
)
def test_a_damaged_trackers_json_is_one_line(text, board, tmp_path) -> None:
    (tmp_path / "trackers.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"trackers\.json"):
        board(resumed=True)


def test_another_project_is_another_run(tmp_path, board) -> None:
    board(resumed=False).log({"loss": 1.0}, 7)
    entry = read_json(tmp_path / "trackers.json")["tensorboard"]
    assert (entry["project"], entry["step"]) == ("vlm-r1", 7)
    other = config_of(tmp_path, report_to=["tensorboard", "wandb"], project="b")
    other = other.model_copy(update={"training": other.training.model_copy(update={"report_to": ["tensorboard"]})})
    found = open_tracking(other, RunFolder(tmp_path), resumed=True)
    found.finish()
    assert found.sent["tensorboard"] == Sent()


def test_steps_that_a_changed_run_makes_otherwise_are_told() -> None:
    found = Tracking(sent={"wandb": Sent(14), "trackio": Sent(10), "tensorboard": Sent(10)})
    assert doubled_steps(found, 10) == [
        "wandb keeps steps 11 to 14 as they were before the change: they are not sent again"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"project": "pets"}, "project pets has no effect without wandb or trackio"),
        ({"project": "pets", "report_to": ["tensorboard"]}, "project pets has no effect without wandb or trackio"),
        ({"log_completions_steps": 5}, "log_completions_steps 5 has no effect without a tracker"),
    ],
)
def test_options_without_effect(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSection(**options)


def test_a_tracker_that_is_not_installed_is_found_before_anything_else(recipe, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    path = str(recipe(**{"training.report_to": ["wandb"]}))
    wanted = r"training\.report_to: wandb is not installed: pip install -e '\.\[wandb\]'"
    with pytest.raises(ConfigError, match=wanted):
        train(load_config(path))
    assert main(["train", path, "--dry-run"]) != 0
    assert "wandb is not installed" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run/config.yaml").exists()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a | b", "a &#124; b"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("# **big**\n[link](javascript:1)", "&#35; &#42;&#42;big&#42;&#42; ⏎ &#91;link&#93;(javascript:1)"),
        ("&lt;", "&amp;lt;"),
        (chr(0x202E), "\\u202e"),
    ],
)
def test_a_text_of_a_model_is_no_markup(text, wanted) -> None:
    assert _escaped(text) == wanted


def test_rows_of_different_rewards_make_one_table() -> None:
    rows = [{"reward": 0.123456, "reward/a": None}, {"reward": None, "reward/b": 1.0}]
    assert _as_markdown(rows).splitlines() == [
        "| reward | reward/a | reward/b |",
        "|---|---|---|",
        "| 0.1235 |  |  |",
        "|  |  | 1 |",
    ]


def test_a_picture_holds_gold_and_answer_and_says_why_it_is_missing(picture) -> None:
    """Gold (green, COLOURS[2]) at (10, 40) and the answer (red, COLOURS[0]) at (40, 30), on black."""
    path = picture(80, 60)
    Image.new("RGB", (80, 60)).save(path)
    frame = ImageFrame((80, 60), (84, 56))
    prompt = EncodedPrompt(text="find it", ids_L=(1,), vision={}, frames=(frame,), box_format=BoxFormat.INPUT_PIXELS)
    record = Record("1", "rec", "<image>it", (path,), [10, 40, 30, 56], source="a.jsonl:1")
    rollout = Rollout(
        Completion.sampled([5], [-0.1], "[40, 30, 60, 50]", StopReason.STOP),
        Score(0.5, {"accuracy": 0.5}, [40, 30, 60, 50], None, {}),
    )
    group = Group(record, prompt, (rollout,))
    (row,) = completion_rows([group], NOWHERE)
    drawn = row["picture"]
    assert isinstance(drawn, Image.Image)
    assert drawn.getpixel((20, 56)) == (0x1A, 0x98, 0x50)
    assert drawn.getpixel((50, 30)) == (0xD7, 0x30, 0x27)
    assert drawn.getpixel((70, 55)) == (0, 0, 0)
    assert row["reward/accuracy"] == 0.5
    Path(path).unlink()
    (row,) = completion_rows([group], NOWHERE)
    assert "not found" in str(row["picture"])


def test_a_tracker_that_refuses_is_one_line_and_leaves_no_file(recipe, monkeypatch, tmp_path) -> None:
    """Nobody is logged in, which wandb finds out before it asks its server."""
    wandb.teardown()  # it has read its variables already, in the tests above
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    path = recipe(**{"training.report_to": ["tensorboard", "wandb"]})
    with pytest.raises(ConfigError, match=r"wandb does not take the run: No API key.*WANDB_MODE=offline keeps the run"):
        train(load_config(path))
    assert [file.name for file in (tmp_path / "run").glob("*")] == []
