"""`vlm_r1.evaluate` is `vlm-r1 eval`: the same options, the same files."""

from __future__ import annotations

import json

import pytest

import vlm_r1
from vlm_r1.cli.main import main
from vlm_r1.errors import ConfigError

ASKED = {"template": "bare", "max_completion_length": 8, "limit": 6}


def test_the_files_are_those_of_the_command(tiny_checkpoint, rec_files, tmp_path) -> None:
    found = vlm_r1.evaluate(tiny_checkpoint, rec_files["in_domain"], out=tmp_path / "api", **ASKED)
    words = ["--template", "bare", "--max-completion-length", "8", "--limit", "6", "--out", str(tmp_path / "cli")]
    assert main(["eval", str(tiny_checkpoint), str(rec_files["in_domain"]), *words]) == 0
    name = "in_domain.samples.jsonl"
    assert (tmp_path / "api" / name).read_bytes() == (tmp_path / "cli" / name).read_bytes()
    assert found.path == tmp_path / "api/in_domain.json"
    assert found.result["metrics"] == json.loads((tmp_path / "cli/in_domain.json").read_text())["metrics"]


def test_frames_and_samples(tiny_checkpoint, rec_files, tmp_path) -> None:
    found = vlm_r1.evaluate(tiny_checkpoint, rec_files["in_domain"], out=tmp_path, **ASKED)
    assert list(found.metrics.columns) == ["metric", "mean", "low", "high", "n"]
    assert "iou" in set(found.metrics.metric)
    assert len(found.samples) == 6
    assert list(found.samples.record_id) == [sample.record_id for sample in found]
    assert found[-1].record_id == "6"
    assert "<table" in found._repr_html_()


def test_a_protocol_by_its_path(tiny_checkpoint, rec_files, tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntitle: Mine\ndata: {set: s}\ntemplate: bare\nsample: {n: 3, seed: 1}\n")
    found = vlm_r1.evaluate(tiny_checkpoint, rec_files["in_domain"], path, out=tmp_path, max_completion_length=4)
    assert (found.path.name, found.result["n"]) == ("mine.json", 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"templat": "bare"}, 'no option "templat". Did you mean "template"'),
        ({"protocols": True}, 'no option "protocols"'),
        ({"limit": "many"}, "wanted a whole number of at least 1, got .many."),
        ({"dtype": "int8"}, "invalid choice: 'int8'"),
    ],
)
def test_bad_options(options, message, tiny_checkpoint, rec_files) -> None:
    with pytest.raises(ConfigError, match=message):
        vlm_r1.evaluate(tiny_checkpoint, rec_files["in_domain"], **options)
