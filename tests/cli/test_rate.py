"""`vlm-r1 data rate` as a user runs it, on a tiny real model."""

import json

import pytest

from vlm_r1.cli.main import main
from vlm_r1.config.schema import Allowed, DataSource
from vlm_r1.data.sources import load_sources


def _rate(checkpoint, data, out, *options):
    arguments = ["data", "rate", str(checkpoint), str(data), "--out", str(out), "--template", "bare", "--limit", "6"]
    sizes = ["--num-generations", "3", "--max-completion-length", "8", "--batch-size", "6"]
    return main([*arguments, *sizes, "--reward", "testing_rewards:mostly_letters", *options])


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_kept_records_can_be_read_and_trained_on(tiny_checkpoint, rec_files, tmp_path, capsys):
    out = tmp_path / "band.jsonl"
    assert _rate(tiny_checkpoint, rec_files["in_domain"], out, "--easy-first") == 0
    rated = _lines(out)
    assert sorted((line["pass_rate"] for line in rated), reverse=True) == [line["pass_rate"] for line in rated]
    before = {r.id: r for r in load_sources([DataSource(path=str(rec_files["in_domain"]))])[:6]}
    allowed = Allowed(allowed_rewards=["testing_rewards:mostly_letters"])  # the rows name it
    said = " ".join(capsys.readouterr().out.split())
    root = str(rec_files["in_domain"].parent)
    assert f"image_root:{root}" in said.replace(" ", "")
    after = load_sources([DataSource(path=str(out), image_root=root)], allowed)
    assert {record.id for record in after} == before.keys()
    for record in after:
        original = before[record.id]
        assert (record.problem, record.images, record.answer) == (original.problem, original.images, original.answer)
        assert record.columns["scene"] == original.columns["scene"]
    assert "6 of 6 records written to" in said
    assert "has to allow it: data.allowed_rewards: ['testing_rewards:mostly_letters']" in said


def test_another_band_costs_no_new_answers(tiny_checkpoint, rec_files, tmp_path):
    out = tmp_path / "band.jsonl"
    assert _rate(tiny_checkpoint, rec_files["in_domain"], out) == 0
    ratings = out.with_name("band.jsonl.ratings.jsonl")
    before, rates = ratings.read_bytes(), [line["pass_rate"] for line in _lines(out)]
    assert _rate(tiny_checkpoint, rec_files["in_domain"], out, "--keep", "0.3", "0.7") == 0
    assert [line["pass_rate"] for line in _lines(out)] == [rate for rate in rates if 0.3 <= rate <= 0.7]
    assert ratings.read_bytes() == before


def test_records_that_their_reward_leaves_out_are_counted_and_not_kept(tiny_checkpoint, rec_files, tmp_path, capsys):
    out = tmp_path / "band.jsonl"
    options = ["--reward", "testing_rewards:letters_of_even", "--pass-from", "0"]
    assert _rate(tiny_checkpoint, rec_files["in_domain"], out, *options) == 0
    assert [int(line["id"]) % 2 for line in _lines(out)] == [0, 0, 0]
    assert "3 records are not rated, because their reward leaves them out (None)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--keep", "0.9", "0.1"], "wanted the lower bound first"), (["--temperature", "0"], "must be positive")],
)
def test_bad_options(tiny_checkpoint, rec_files, tmp_path, capsys, options, message):
    assert _rate(tiny_checkpoint, rec_files["in_domain"], tmp_path / "x.jsonl", *options) == 2
    assert message in capsys.readouterr().err
