"""`vlm-r1 eval` as a user runs it, on a tiny real model: protocols, interruptions, several processes."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from testing_commands import PATIENCE_S, in_two_processes, start
from vlm_r1.cli.main import main
from vlm_r1.evaluation.protocol import protocol_names

ASKED = ("--template", "bare", "--max-completion-length", "8")
MINE = """
name: mine
title: Mine
data: {set: shapes, records: 48}
task: rec
template: bare
decoding: {max_completion_length: 8}
metrics: [iou]
"""


def words(model: Path, data: Path, out: Path, *options: str) -> list[str]:
    return ["eval", str(model), str(data), "--out", str(out), *options]


def result(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def samples(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def timeless(path: Path) -> dict[str, Any]:
    found = result(path)
    for key in ("date", "command"):
        found["provenance"].pop(key)
    return found


@pytest.fixture
def protocol(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


def begun(arguments: list[str], answers: Path, n: int) -> subprocess.Popen[str]:
    """Start the command, and return when n records are answered."""
    process, deadline = start(*arguments), time.monotonic() + PATIENCE_S
    while not answers.exists() or answers.read_bytes().count(b"\n") < n + 1:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return process


def test_the_result_says_everything_that_was_asked(tiny_checkpoint, rec_files, protocol, tmp_path, capsys) -> None:
    data, out = rec_files["train"], tmp_path / "out"
    assert (
        main(["eval", str(tiny_checkpoint), "--data", str(data), "--protocol", str(protocol), "--out", str(out)]) == 0
    )
    found = result(out / "mine.json")
    assert (found["n"], next(iter(found["metrics"]))) == (48, "iou")
    asked = found["protocol"]
    assert asked["template"]["name"] == "bare"
    assert (asked["decoding"]["max_completion_length"], asked["data"]["asked"]) == (8, 48)
    assert len(asked["data"]["hash"]) == len(found["provenance"]["model_hash"]) == 64
    assert found["provenance"]["asked"]["box_format"] == "input_pixels"
    assert {"torch", "transformers", "vlm-r1"} <= found["provenance"]["versions"].keys()
    assert not list(out.glob("*answers*"))
    assert "48 records" in capsys.readouterr().out


def test_five_kills_change_nothing_and_two_at_once_are_refused(tiny_checkpoint, rec_files, tmp_path, capsys) -> None:
    data, whole, out = rec_files["train"], tmp_path / "whole", tmp_path / "out"
    options = [*ASKED, "--batch-size", "2"]
    assert main(words(tiny_checkpoint, data, whole, *options)) == 0
    command, answers = words(tiny_checkpoint, data, out, *options), out / "train.answers-0.jsonl"
    for n in (2, 4, 6, 10, 14):
        process = begun(command, answers, n)
        process.send_signal(signal.SIGSTOP)
        capsys.readouterr()
        assert main(command) == 2
        assert f"process {process.pid} on" in capsys.readouterr().err
        process.kill()
        process.communicate()
        assert not (out / "train.json").exists()
    assert main(command) == 0
    assert (out / "train.samples.jsonl").read_bytes() == (whole / "train.samples.jsonl").read_bytes()
    assert timeless(out / "train.json") == timeless(whole / "train.json")
    assert [path.name for path in sorted(out.iterdir())] == ["train.json", "train.samples.jsonl"]


def test_a_signal_keeps_the_answers_and_says_so(tiny_checkpoint, rec_files, tmp_path) -> None:
    command = words(tiny_checkpoint, rec_files["train"], tmp_path, *ASKED, "--batch-size", "2")
    process = begun(command, tmp_path / "train.answers-0.jsonl", 4)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "stopped by SIGINT; what was answered is kept: the same command goes on"


def test_two_processes_write_what_one_writes(tiny_checkpoint, rec_files, tmp_path) -> None:
    data, one, two = rec_files["train"], tmp_path / "one", tmp_path / "two"
    assert main(words(tiny_checkpoint, data, one, *ASKED)) == 0
    done = in_two_processes("-m", "vlm_r1.cli.main", *words(tiny_checkpoint, data, two, *ASKED))
    assert done.returncode == 0, done.stderr
    assert (one / "train.samples.jsonl").read_bytes() == (two / "train.samples.jsonl").read_bytes()
    assert timeless(one / "train.json") == timeless(two / "train.json")
    assert done.stdout.count("written to") == 1


def test_a_part_of_the_records_is_shuffled_as_the_protocol_says(tiny_checkpoint, rec_files, tmp_path) -> None:
    path = tmp_path / "part.yaml"
    path.write_text(MINE.replace("name: mine", "name: part") + "sample: {n: 5, seed: 42}\n")
    assert main(words(tiny_checkpoint, rec_files["train"], tmp_path, "--protocol", str(path))) == 0
    numbers = [str(n) for n in range(1, 49)]
    random.Random(42).shuffle(numbers)
    assert [row["record_id"] for row in samples(tmp_path / "part.samples.jsonl")] == numbers[:5]


def test_several_answers_to_each_record(tiny_checkpoint, rec_files, tmp_path) -> None:
    path = tmp_path / "k.yaml"
    path.write_text(MINE.replace("decoding: {", "decoding: {temperature: 1.0, samples: 3, seed: 5, "))
    command = words(tiny_checkpoint, rec_files["in_domain"], tmp_path, "--protocol", str(path), "--name")
    assert main([*command, "a"]) == main([*command, "b", "--batch-size", "5"]) == 0
    rows = samples(tmp_path / "a.samples.jsonl")
    assert [(row["record_id"], row["draw"]) for row in rows] == [(str(n), k) for n in range(1, 13) for k in range(3)]
    assert len({row["text"] for row in rows}) > 12
    assert [row["text"] for row in samples(tmp_path / "b.samples.jsonl")] == [row["text"] for row in rows]
    assert result(tmp_path / "a.json")["n"] == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--template", "r1"], "--template r1: protocol mine says bare: leave the option out"),
        (["--task", "ovd"], "--task ovd: protocol mine says rec"),
        (["--data", "other.jsonl"], "the data are given twice"),
        (["--protocol", "refcocoo"], 'Did you mean "refcoco'),
    ],
)
def test_contradictions_are_errors(options, message, tiny_checkpoint, rec_files, protocol, tmp_path, capsys) -> None:
    given = ["--protocol", str(protocol), *options]
    assert main(words(tiny_checkpoint, rec_files["train"], tmp_path, *given)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--limit", "0"), ("--limit", "-3"), ("--seed", "-1"), ("--seed", "x")])
def test_numbers_that_make_no_sense_are_refused_at_once(option, tiny_checkpoint, rec_files, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words(tiny_checkpoint, rec_files["train"], tmp_path, *option))
    assert ended.value.code == 2
    assert f"argument {option[0]}: wanted a whole number of at least" in capsys.readouterr().err


def test_a_protocol_names_no_code_unless_the_user_does(tiny_checkpoint, rec_files, tmp_path, capsys) -> None:
    """It may come from a stranger, as a data file may."""
    made, path = tmp_path / "made", tmp_path / "mine.yaml"
    path.write_text(MINE.replace("task: rec", f"task: \"subprocess:Popen(args=['touch', '{made}'])\""))
    assert main(words(tiny_checkpoint, rec_files["in_domain"], tmp_path, "--protocol", str(path))) == 2
    assert "is code, and a protocol may come from a stranger" in capsys.readouterr().err
    assert not made.exists()
    path.write_text(MINE.replace("task: rec", "task: vlm_r1.tasks.rec:Rec"))
    given = ["--protocol", str(path), "--task", "vlm_r1.tasks.rec:Rec"]
    assert main(words(tiny_checkpoint, rec_files["in_domain"], tmp_path, *given)) == 0


def test_a_page_is_written_beside_the_result(tiny_checkpoint, rec_files, protocol, tmp_path, capsys) -> None:
    given = ["--protocol", str(protocol), "--page"]
    assert main(words(tiny_checkpoint, rec_files["in_domain"], tmp_path, *given)) == 0
    page = (tmp_path / "mine.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert f"page: {tmp_path / 'mine.html'}" in capsys.readouterr().out


def test_report_makes_the_page_of_a_result_that_is_there(tiny_checkpoint, rec_files, tmp_path, capsys) -> None:
    """Its pictures lie beside the data, not beside the result. Control: without that folder it reads none."""
    assert main(words(tiny_checkpoint, data := rec_files["in_domain"], tmp_path, *ASKED, "--name", "it")) == 0
    page = tmp_path / "it.html"
    assert main(["report", str(tmp_path / "it.json")]) == 0
    assert capsys.readouterr().out.endswith(f"{page}\n")
    assert page.read_text(encoding="utf-8").count("<image href=") == 0
    assert main(["report", str(tmp_path / "it.json"), "--image-root", str(data.parent)]) == 0
    assert page.read_text(encoding="utf-8").count("<image href=") == 7


def test_options_of_another_page_are_errors(tmp_path, capsys) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert main(["report", str(tmp_path / "a.json"), "--allow-task", "a.b:C"]) == 2
    assert "--allow-task has no effect on the page of a result" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--image-root", "/"]) == 2
    assert "--image-root has no effect on the page of a run" in capsys.readouterr().err


def test_without_data_the_command_that_makes_them_is_said(tiny_checkpoint, capsys) -> None:
    assert main(["eval", str(tiny_checkpoint), "--protocol", "refcoco"]) == 2
    assert "the file is made by: vlm-r1 data convert refcoco" in capsys.readouterr().err


def test_answers_to_another_question_are_not_mixed(tiny_checkpoint, rec_files, tmp_path, capsys) -> None:
    command = words(tiny_checkpoint, rec_files["train"], tmp_path, *ASKED, "--batch-size", "2")
    process = begun(command, tmp_path / "train.answers-0.jsonl", 2)
    process.kill()
    process.communicate()
    other = words(tiny_checkpoint, rec_files["train"], tmp_path, "--template", "r1", "--max-completion-length", "8")
    assert main(other) == 2
    told = capsys.readouterr().err
    assert "protocol.template.name: 'bare' and 'r1'" in told
    assert "choose another --name or --out, or delete train.answers-0.jsonl" in told


def test_odd_data_and_a_model_that_was_asked_otherwise_are_said(
    tiny_checkpoint, rec_files, protocol, tmp_path, capsys
) -> None:
    assert main(words(tiny_checkpoint, rec_files["in_domain"], tmp_path, "--protocol", str(protocol))) == 0
    told = capsys.readouterr().out
    assert "shapes has 48 records, but this file has 12: is it another split or part?" in told
    assert "none of the first 12 answers has the form that template bare asks for" in told
    assert "nothing says how it was trained" in told


def test_a_run_folder_is_asked_by_its_model_or_newest_checkpoint(recipe, rec_files, tmp_path, capsys) -> None:
    assert main(["train", str(recipe(**{"training.max_steps": 1}))]) == 0
    for place in ("model", "checkpoints/step-000001"):
        assert main(words(tmp_path / "run", rec_files["in_domain"], tmp_path / "out")) == 0
        assert str(tmp_path / "run" / place / "vlm_r1.json") in capsys.readouterr().out
        if place == "model":
            (tmp_path / "run/model").rename(tmp_path / "away")
    (tmp_path / "run/checkpoints").rename(tmp_path / "gone")
    assert main(words(tmp_path / "run", rec_files["in_domain"], tmp_path / "out")) == 2
    assert "has no model/ and no whole checkpoint yet" in capsys.readouterr().err


def test_the_shipped_protocols_are_listed(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["eval", "--protocols"])
    assert ended.value.code == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == protocol_names()


def test_samples_are_measured_again_without_the_model(tiny_checkpoint, rec_files, protocol, tmp_path, capsys) -> None:
    assert main(words(tiny_checkpoint, rec_files["train"], tmp_path, "--protocol", str(protocol))) == 0
    kept, new = tmp_path / "mine.samples.jsonl", tmp_path / "again.json"
    assert main(["score", str(kept), "--protocol", str(protocol), "--out", str(new)]) == 0
    before, after = timeless(tmp_path / "mine.json"), result(new)
    assert {key: after[key] for key in ("n", "metrics", "format_rate")} == {
        key: before[key] for key in ("n", "metrics", "format_rate")
    }
    assert after["protocol"] == before["protocol"]
    assert "measured_again_by" in after["provenance"]
    assert (tmp_path / "again.samples.jsonl").read_bytes() == kept.read_bytes()
    protocol.write_text(MINE.replace("template: bare", "template: r1"))
    assert main(["score", str(kept), "--protocol", str(protocol), "--out", str(new)]) == 2
    assert "template: 'bare' was asked, the protocol says 'r1'" in capsys.readouterr().err
    assert main(["score", str(kept), "--protocol", "refcoco", "--out", str(tmp_path / "mine.json")]) == 2
    assert "would replace the samples" in capsys.readouterr().err


RUN = "model: {path: m}\noutput_dir: RUN\ndata: {train: [{path: t.jsonl}], eval: {val: {path: v.jsonl}}}\n"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data file, a run with a held-out set, and a model, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("val.jsonl").write_text("{}")
    for folder, file, text in (("run", "config.yaml", RUN), ("ckpt", "config.json", "{}"), ("old", "config.yaml", "x")):
        Path(folder).mkdir()
        Path(folder, file).write_text(text)


MISPLACED = {
    "data, then run": (
        ["val.jsonl", "run"],
        "val.jsonl: wanted the model first, then the data: vlm-r1 eval run val.js",
    ),
    "data, then model": (["val.jsonl", "ckpt"], "the model first, then the data: vlm-r1 eval ckpt val.jsonl"),
    "missing data, then model": (["v.jsonl", "ckpt"], "the model first, then the data: vlm-r1 eval ckpt v.jsonl"),
    "data of the hub first": (["hub:a/b", "ckpt"], "the model first, then the data: vlm-r1 eval ckpt hub:a/b"),
    "data as an option": (["val.jsonl", "--data", "run"], "the model first, then the data: vlm-r1 eval run val.jsonl"),
    "data alone": (["val.jsonl"], "val.jsonl: is a data file, and the model is missing; wanted vlm-r1 eval MODEL val."),
    "a run alone": (
        ["run"],
        "no data: give the file as DATA, or as --data FILE. The run holds out:\n  vlm-r1 eval run v",
    ),
    "a model alone": (["ckpt"], "no data: give the file as DATA, or as --data FILE\n"),
    "a run of another version alone": (["old"], "no data: give the file as DATA, or as --data FILE\n"),
}


@pytest.mark.parametrize("name", MISPLACED)
def test_model_and_data_in_the_wrong_order(name: str, folders, capsys) -> None:
    arguments, told = MISPLACED[name]
    assert main(["eval", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_the_right_order_is_no_mistake(folders, capsys) -> None:
    """Controls: a missing model is one, and so is an empty data file."""
    assert main(["eval", "nowhere/at-all", "val.jsonl"]) == 2
    assert "model first" not in capsys.readouterr().err
    assert main(["data", "rate", "val.jsonl", "ckpt", "--out", "x.jsonl"]) == 2
    assert "the model first, then the data: vlm-r1 data rate ckpt val.jsonl" in capsys.readouterr().err
