"""What a command writes is whole or not there: two at once are refused; a kill or a failure leaves what was there."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from testing_commands import PATIENCE_S, start
from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.errors import DataError
from vlm_r1.evaluation.runner import write_evaluation
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.lock import lock_folder, lock_output
from vlm_r1.synthetic import RecWorld, write_dataset

SMALL = {"train": 6, "warmup": 2, "in_domain": 2, "out_of_domain": 2}
CASE = {"reward": "iou", "completion": "<answer>[1, 2, 3, 4]</answer>", "solution": [1, 2, 3, 4], "image_size": [9, 9]}


@pytest.fixture
def place(tmp_path: Path, recipe, tiny_checkpoint: Path, rec_files: dict[str, Path]) -> dict[str, Path]:
    """What the commands read, and a folder `new` for what they write."""
    train(load_config(recipe(**{"training.max_steps": 1, "training.trust_checks": False})))
    (tmp_path / "cases.jsonl").write_text(json.dumps(CASE) + "\n")
    asked = {"id": 1, "image": str(rec_files["train"].parent / "images/train/000001.png"), "box": []}
    (tmp_path / "ovd.jsonl").write_text(json.dumps(asked) + "\n")
    return {"here": tmp_path, "new": tmp_path / "new", "model": tiny_checkpoint, "data": rec_files["in_domain"]}


OUTPUTS = {
    "eval": (["eval", "{model}", "{data}", "--limit", "2", "--out", "{new}", "--name", "it"], "new/it", "--name"),
    "score": (["score", "{here}/cases.jsonl", "--out", "{new}/it"], "new/it", "--out"),
    "export": (["export", "{here}/run", "--to", "{new}"], "new", "--to"),
    "data check": (["data", "check", "{data}", "--page", "{new}/it"], "new/it", "--page"),
    "report": (["report", "{here}/run"], "run/report.html", "RUN"),
    "data rate": (
        ["data", "rate", "{model}", "{data}", "--limit", "2", "--num-generations", "2", "--out", "{new}/it"],
        "new/it",
        "--out",
    ),
    "data synth": (["data", "synth", "--out", "{new}", *(f"--{name}=2" for name in ("train", "in-domain"))], "new", ""),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", OUTPUTS)
def test_two_at_once_are_refused(name, place, capsys) -> None:
    """Control: the same command succeeds when the other has ended, and leaves no lock behind."""
    words, output, option = OUTPUTS[name]
    command = [word.format(**place) for word in words]
    held = place["here"] / output
    with lock_output(held, option) if option else lock_folder(held):
        before = contents(place["here"])
        assert main(command) == 2
        told = capsys.readouterr().err
        assert "has been writing here since" in told
        assert f"or choose another {option or '--out'}" in told
        assert contents(place["here"]) == before
    assert main(command) == 0
    assert not list(place["here"].rglob("*.lock"))
    assert held.exists() or held.with_suffix(".json").exists()


def test_two_conversions_at_once_are_refused(tmp_path, capsys) -> None:
    out = tmp_path / "out.jsonl"
    with lock_output(out):
        assert main(["data", "convert", "coco", str(tmp_path), "--out", str(out)]) == 2
    assert f"{out}: process" in capsys.readouterr().err
    assert main(["data", "convert", "coco", str(tmp_path), "--out", str(out)]) == 2, "nothing to convert"
    assert "process" not in capsys.readouterr().err


@pytest.mark.parametrize("n", [1, 40, 400])
def test_a_killed_synth_leaves_the_older_data_set_whole(n, tmp_path) -> None:
    """Killed after n pictures. Control: the same command, not killed, replaces it."""
    write_dataset(tmp_path, RecWorld(), seed=1, counts=SMALL)
    before = contents(tmp_path)
    process = start("data", "synth", "--out", str(tmp_path), "--seed", "2", "--train", "100000", "--warmup", "1")
    deadline, new = time.monotonic() + PATIENCE_S, tmp_path / ".new/images/train"
    while not new.exists() or sum(1 for _ in new.iterdir()) < n:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert {name: content for name, content in contents(tmp_path).items() if name[0] != "."} == before
    write_dataset(tmp_path, RecWorld(), seed=2, counts=SMALL)
    assert not (tmp_path / ".new").exists()
    after = {name: content for name, content in contents(tmp_path).items() if name[0] != "."}
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)


class Failing(RecWorld):
    """A world that draws its first pictures only."""

    def draw(self, rng):
        if rng.random() < 0.2:
            raise DataError("no more pictures")
        return super().draw(rng)


def test_a_synth_that_fails_leaves_the_older_data_set_whole(tmp_path) -> None:
    write_dataset(tmp_path, RecWorld(), seed=1, counts=SMALL)
    before = contents(tmp_path)
    with pytest.raises(DataError, match="no more pictures"):
        write_dataset(tmp_path, Failing(), seed=2, counts={**SMALL, "train": 40})
    assert contents(tmp_path) == before


def test_pictures_never_change_below_a_file_that_names_them(tmp_path) -> None:
    """The replacement fails in its middle, at pictures that cannot be moved: no file names them then."""
    write_dataset(tmp_path, RecWorld(), seed=1, counts=SMALL)
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "images").write_text("in the way")
    with pytest.raises(DataError, match="cannot write the data set"):
        write_dataset(tmp_path, RecWorld(), seed=2, counts=SMALL)
    assert not list(tmp_path.glob("*.jsonl"))


def test_an_evaluation_that_cannot_be_written_leaves_the_older_one(place, capsys) -> None:
    """The second has another seed, so that its file would differ; a folder in the way of its samples stands for a full
    disk. Its answers are kept beside the older result until they are written.
    """
    words = [word.format(**place) for word in OUTPUTS["eval"][0]]
    assert main(words) == 0
    before = contents(place["new"])
    (place["new"] / ".it.samples.jsonl.tmp").mkdir()
    assert main([*words, "--seed", "1"]) == 2
    assert "it.samples.jsonl: cannot be written" in capsys.readouterr().err
    assert contents(place["new"]).pop("it.answers-0.jsonl")
    assert {name: own for name, own in contents(place["new"]).items() if "answers" not in name} == before
    (place["new"] / ".it.samples.jsonl.tmp").rmdir()
    assert main([*words, "--seed", "1"]) == 0
    assert contents(place["new"]).keys() == before.keys()
    assert contents(place["new"]) != before


def test_a_json_file_never_stands_beside_samples_of_another_evaluation(tmp_path) -> None:
    write_evaluation(tmp_path, {"name": "it", "n": 1}, [])
    (tmp_path / "it.samples.jsonl").unlink()
    (tmp_path / "it.samples.jsonl").mkdir()  # the new samples cannot get their name
    with pytest.raises(Exception, match="cannot be written"):
        write_evaluation(tmp_path, {"name": "it", "n": 2}, [])
    assert not (tmp_path / "it.json").exists()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_killed_score_leaves_no_process_and_no_output(tmp_path) -> None:
    (tmp_path / "cases.jsonl").write_text((json.dumps(CASE) + "\n") * 100_000)
    words = ["score", str(tmp_path / "cases.jsonl"), "--out", str(tmp_path / "out"), "--workers", "2"]
    process, deadline = start(*words), time.monotonic() + PATIENCE_S
    while not (tmp_path / ".out.tmp").exists() or (tmp_path / ".out.tmp").stat().st_size == 0:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = children_of(process.pid)
    assert len(children) >= 2
    process.kill()
    process.communicate(timeout=PATIENCE_S)  # to the end of its output, which its workers hold open
    while any(map(lives, children)):
        assert time.monotonic() < deadline, "the workers wait for ever"
        time.sleep(0.01)
    assert not (tmp_path / "out").exists()
    (tmp_path / "cases.jsonl").write_text(json.dumps(CASE) + "\n")
    assert main(words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cases.jsonl", "out"]
