"""`vlm-r1 data check` and `--dry-run` on small files that used to be misread, as a user meets them."""

import argparse
from pathlib import Path

import pytest

from vlm_r1.cli import data
from vlm_r1.cli.main import main

CASES = Path(__file__).resolve().parents[3] / "shared/cases"

pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the cases are not here")


@pytest.fixture(autouse=True)
def quiet_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")


def check(case, task):
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    return data.run(parser.parse_args(["check", str(CASES / case / "rows.jsonl"), "--task", task]))


@pytest.mark.parametrize(
    ("case", "task", "status", "said"),
    [
        (
            "video-row-read-as-text",
            "counting",
            1,
            "rows.jsonl:1: the question holds <video>; videos and sound are not read",
        ),
        ("own-placeholder-in-question", "counting", 0, "rows.jsonl:10: <|image_pad|> in the question"),
        (
            "gold-corners-out-of-order",
            "ovd",
            1,
            "rows.jsonl:3: box (124, 82, 120, 92) has no area: its corners are out",
        ),
        ("gold-corners-out-of-order", "ovd", 1, "coordinates: the boxes look like x, y, width, height"),
        ("gold-label-never-asked", "ovd", 1, 'the gold label "Cat" is asked for as "cat"'),
        ("options-as-one-text", "choice", 0, "Which animal is it?\nA. cat\nB. dog"),
        ("boxes-left-over", "rec", 1, 'rows.jsonl:1: 2 boxes in "objects" for 1 <bbox>'),
        ("numbered-image-marks", "vqa", 0, "What is shown in <image> but not in <image>?"),
        ("grey-image-of-12-bits", "vqa", 0, "of a range of 65,535 only 4,095 is used; scale it"),
        ("image-as-data-uri", "vqa", 0, "smallest 8x6"),
        ("verl-rows", "math", 0, "all well"),
        ("whole-instruction-in-chinese", "ovd", 0, "1 of 1 problems look like whole instructions"),
    ],
)
def test_data_check(case, task, status, said, capsys):
    assert check(case, task) == status
    out = capsys.readouterr().out
    assert said in out
    assert "iVBORw0KGgo" not in out
    assert max(map(len, out.splitlines())) < 1000


@pytest.fixture
def dry_run(recipe, capsys):
    def run(case, task, status, **source):
        train = {"path": str(CASES / case / "rows.jsonl"), "task": task, **source}
        held = {"path": train["path"], "task": task, "split_range": [0.9, 1], **source} if source else None
        train |= {"split_range": [0, 0.9]} if source else {}
        overrides = {"data.train": [train], "rewards": {"accuracy": 1.0}, "training.prompts_per_step": 1}
        path = recipe(**overrides, **({"data.eval": {"held": held}} if held else {}))
        assert main(["train", str(path), "--dry-run"]) == status
        return "".join(capsys.readouterr())

    return run


def test_the_model_s_own_tokens_stop_a_run_before_its_first_step(dry_run):
    out = dry_run("own-placeholder-in-question", "counting", 2)
    assert "rows.jsonl:10: the model's own token <|image_pad|> in the question" in out


def test_held_out_records_that_share_pictures_are_counted_and_can_be_split_apart(dry_run):
    by_id = dry_run("held-out-shares-pictures", "rec", 0, split_by="id")
    assert "held: 8 records, of which 8 show pictures that are trained on (split_by: image keeps them apart)" in by_id
    by_image = dry_run("held-out-shares-pictures", "rec", 0, split_by="image")
    assert "held: 40 records, of which 0 show pictures that are trained on\n" in by_image
