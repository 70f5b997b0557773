"""`vlm-r1 data rate` as a user runs it, on a tiny real model."""

import json
import shutil
import signal
import time

import pytest

from testing_commands import PATIENCE_S, start
from vlm_r1.cli.main import main
from vlm_r1.config.schema import Allowed, DataSource
from vlm_r1.data.sources import load_sources


def _words(checkpoint, data, out, *options):
    arguments = ["data", "rate", str(checkpoint), str(data), "--out", str(out), "--template", "bare", "--limit", "6"]
    sizes = ["--num-generations", "3", "--max-completion-length", "8", "--batch-size", "6"]
    return [*arguments, *sizes, "--reward", "testing_rewards:mostly_letters", *options]


def _rate(checkpoint, data, out, *options):
    return main(_words(checkpoint, data, out, *options))


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


def _begun(words, ratings, n):
    """Start the command, and return when its file has n lines."""
    process, deadline = start(*words), time.monotonic() + PATIENCE_S
    while not ratings.exists() or ratings.read_bytes().count(b"\n") < n:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return process


@pytest.mark.long
def test_a_killed_rating_goes_on_and_two_at_once_are_refused(tiny_checkpoint, rec_files, tmp_path, capsys):
    """Batches of one record. The killed one is equal to one that nobody disturbed, byte for byte."""
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    options = ["--batch-size", "3", "--limit", "40"]
    assert _rate(tiny_checkpoint, rec_files["train"], whole, *options) == 0
    words = _words(tiny_checkpoint, rec_files["train"], out, *options)
    ratings = out.with_name("out.jsonl.ratings.jsonl")
    for n in (3, 12):
        process = _begun(words, ratings, n)
        process.send_signal(signal.SIGSTOP)
        capsys.readouterr()
        assert main(words) == 2
        assert f"process {process.pid} on" in (told := capsys.readouterr().err)
        assert "choose another --out" in told
        process.kill()
        process.communicate()
        assert n <= ratings.read_bytes().count(b"\n") < 41
        assert not out.exists()
    assert main(words) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert ratings.read_bytes() == whole.with_name("whole.jsonl.ratings.jsonl").read_bytes()
    assert not (tmp_path / ".out.jsonl.lock").exists()


def test_a_signal_ends_a_rating_with_one_line(tiny_checkpoint, rec_files, tmp_path):
    out = tmp_path / "out.jsonl"
    words = _words(tiny_checkpoint, rec_files["train"], out, "--batch-size", "3", "--limit", "40")
    process = _begun(words, out.with_name("out.jsonl.ratings.jsonl"), 2)
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.splitlines()[-1]) == (143, "stopped by SIGTERM")
    assert not out.exists()


def test_other_weights_at_the_same_place_do_not_go_on(tiny_checkpoint, rec_files, tmp_path, capsys):
    model, out = shutil.copytree(tiny_checkpoint, tmp_path / "model"), tmp_path / "out.jsonl"
    assert _rate(model, rec_files["in_domain"], out) == 0
    content = bytearray((model / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (model / "model.safetensors").write_bytes(content)
    assert _rate(model, rec_files["in_domain"], out) == 2
    assert "made with other settings" in capsys.readouterr().err


def test_the_data_itself_is_not_the_output(tiny_checkpoint, rec_files, capsys):
    before = rec_files["in_domain"].read_bytes()
    assert _rate(tiny_checkpoint, rec_files["in_domain"], rec_files["in_domain"]) == 2
    assert "is the data itself" in capsys.readouterr().err
    assert rec_files["in_domain"].read_bytes() == before
