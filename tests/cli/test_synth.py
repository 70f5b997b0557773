"""`vlm-r1 data synth`: every world is written, and its gold answers earn full marks by the task that judges it."""

import argparse
import json

import pytest

from vlm_r1.cli import data
from vlm_r1.cli.data.synth import image_size
from vlm_r1.errors import ConfigError
from vlm_r1.synthetic import WORLDS, SizeRange

FEW = ["--train", 12, "--warmup", 6, "--in-domain", 4, "--out-of-domain", 4]


def run(*arguments):
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    return data.run(parser.parse_args([str(argument) for argument in arguments]))


def rows(path):
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("world", "difficulty"), [(world, "hard") for world in WORLDS] + [("ovd", "easy")])
def test_every_world_passes_the_check_of_its_task(tmp_path, capsys, world, difficulty):
    task = WORLDS[world].task
    shifts = ["--shift", "sizes", "--shift", "kinds", "--shift", "crowding"]
    assert run("synth", "--out", tmp_path, "--world", world, "--difficulty", difficulty, *FEW, *shifts) == 0
    files = [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()]
    names = ["train", "warmup", "in_domain", "out_of_domain_sizes", "out_of_domain_kinds", "out_of_domain_crowding"]
    assert files == [f"{tmp_path / name}.jsonl" for name in names]
    assert [run("check", file, "--task", task) for file in files] == [0] * len(files)
    assert capsys.readouterr().out.count("mean 1.0000, least 1.0000") == 2 * len(files)  # accuracy and format


def test_image_sizes_and_options_reach_the_world(tmp_path):
    sizes = ["--image-size", "70x60", "--image-size", "80x80-82x81"]
    options = ["--negatives", "none", "--thought", "question", "--looseness", 0]
    assert run("synth", "--out", tmp_path, "--world", "ovd", *FEW, *sizes, *options) == 0
    for train, taught in zip(rows(tmp_path / "train.jsonl"), rows(tmp_path / "warmup.jsonl"), strict=False):
        width, height = train["scene"]["size"]
        assert (width, height) == (70, 60) or (80 <= width <= 82 and 80 <= height <= 81)
        question, gold = (turn["value"] for turn in train["conversations"])
        assert taught["conversations"][1]["value"] == (
            f"<think>{question.removeprefix('<image>')}</think><answer>{json.dumps(gold)}</answer>"
        )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param("64x60", (64, 60), id="one size"),
        pytest.param("48x50-64x60", SizeRange((48, 50), (64, 60)), id="a range"),
    ],
)
def test_image_size(text, size):
    assert image_size(text) == size


@pytest.mark.parametrize("text", ["64", "64x", "64x60x3", "-64x60", "64x60-", "6.5x60", "64x60-48x80", "1x1-2x2-3x3"])
def test_image_sizes_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"^wanted .*, got "):
        image_size(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--world", "ovb"], 'unknown world "ovb". Did you mean "ovd"', id="world"),
        pytest.param(["--world", "change", "--negatives", "hard"], "negatives has no effect", id="without effect"),
        pytest.param(["--shift", "colours"], 'unknown shift "colours"', id="shift"),
    ],
)
def test_errors_of_the_user(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        run("synth", "--out", tmp_path / "out", *FEW, *options)
    assert not (tmp_path / "out").exists()
