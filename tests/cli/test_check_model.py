"""`vlm-r1 check-model` as a user runs it."""

from __future__ import annotations

import json

import pytest

from vlm_r1.cli.main import main

QUICK = ("--only", "loads", "--only", "encode", "--only", "frames")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_a_sound_checkpoint(tiny_checkpoint, picture, tmp_path, capsys) -> None:
    out = tmp_path / "checks.json"
    options = ["--dtype", "float32", "--image", picture(140, 56), "--json", str(out)]
    assert main(["check-model", str(tiny_checkpoint), *QUICK, *options]) == 0
    printed = capsys.readouterr().out
    assert "Qwen25VL for qwen2_5_vl" in printed
    assert "140×56 seen as 140×56" in printed
    assert "all well" in printed
    written = json.loads(out.read_text(encoding="utf-8"))
    assert (written["path"], written["adapter"], written["device"]) == (str(tiny_checkpoint), None, "cpu")
    assert [(row["name"], row["status"], row["message"]) for row in written["checks"]] == [
        ("loads", "ok", ""),
        ("encode", "ok", ""),
        ("frames", "ok", ""),
    ]
    assert written["checks"][0]["numbers"]["type"] == "float32 on cpu"


def test_a_broken_adapter(tiny_checkpoint, tmp_path, capsys) -> None:
    out = tmp_path / "checks.json"
    command = ["check-model", str(tiny_checkpoint), "--adapter", "testing_adapters:ShufflesImages", "--json", str(out)]
    assert main([*command, "--only", "neighbours", "--only", "prefix", "--only", "frames"]) == 1
    printed = capsys.readouterr().out
    assert "neighbours an image's features in a batch are others" in printed
    assert "2 of 3 checks failed: start with neighbours, which may explain the others" in printed
    rows = json.loads(out.read_text(encoding="utf-8"))["checks"]  # strict JSON: no Infinity
    assert [row["status"] for row in rows] == ["ok", "failed", "failed"]
    assert rows[1]["numbers"]["in a batch"] == "inf"


def test_one_failure_needs_no_advice(tiny_checkpoint, capsys) -> None:
    command = ["check-model", str(tiny_checkpoint), "--adapter", "testing_adapters:CountsPatches", "--only", "encode"]
    assert main(command) == 1
    assert "1 of 1 checks failed\n" in capsys.readouterr().out


def test_what_cannot_be_loaded(tmp_path, tiny_checkpoint, capsys) -> None:
    assert main(["check-model", str(tmp_path)]) == 1
    assert "cannot load the config" in capsys.readouterr().out
    assert main(["check-model", str(tiny_checkpoint), "--adapter", "nowhere:Mine"]) == 1
    assert 'adapter "nowhere:Mine" cannot be imported' in capsys.readouterr().out
    assert main(["check-model", str(tiny_checkpoint), "--adapter", "vlm_r1.types:Prompt"]) == 1
    assert "wanted a class that inherits from vlm_r1.models.Adapter" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--only", "encod"], 'unknown check "encod". Did you mean "encode"?', id="no such check"),
        pytest.param(["--only", "save", "--skip", "save"], "no check is left", id="nothing to do"),
        pytest.param(["--image", "nowhere.png"], "nowhere.png", id="no such picture"),
        pytest.param(["--image", "a", "--image", "b"] * 2, "4 images: wanted at most 3", id="too many pictures"),
    ],
)
def test_errors_of_the_user(options, message, tiny_checkpoint, capsys) -> None:
    assert main(["check-model", str(tiny_checkpoint), *options]) == 2
    assert message in capsys.readouterr().err
