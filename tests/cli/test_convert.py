"""`vlm-r1 data convert` as a user meets it: help, table, how to go on, and a file that `data check` accepts."""

import argparse
import json

import pytest
from PIL import Image

from vlm_r1.cli import data
from vlm_r1.cli.data import convert
from vlm_r1.cli.data.convert import count_range, format_parser
from vlm_r1.cli.main import main
from vlm_r1.converters import CONVERTERS
from vlm_r1.errors import ConfigError


def run(*arguments):
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    return data.run(parser.parse_args(["convert", *map(str, arguments)]))


@pytest.fixture
def coco(tmp_path):
    """Two images, one of them missing, a cat and a crowd of dogs."""
    (tmp_path / "coco" / "val2017").mkdir(parents=True)
    (tmp_path / "coco" / "annotations").mkdir()
    Image.new("RGB", (640, 480)).save(tmp_path / "coco" / "val2017" / "1.jpg")
    value = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in (1, 2)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 100, 200], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [10, 20, 100, 200], "iscrowd": 1},
        ],
        "categories": [{"id": i, "name": name} for i, name in ((1, "cat"), (2, "dog"), (3, "bird"), (4, "cow"))],
    }
    path = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(value))
    return path


def test_what_a_user_sees(coco, tmp_path, capsys):
    out = tmp_path / "data" / "coco.jsonl"
    assert run("coco", coco, "--out", out, "--negatives", "1:2") == 0
    printed = capsys.readouterr().out
    root = tmp_path / "coco" / "val2017"
    assert [" ".join(line.split()) for line in printed.splitlines()] == [
        "kept 1 box",
        "kept 1 record",
        "dropped 1 box: crowd region, e.g. dog in 1.jpg",
        f"dropped 1 image: image not found, e.g. {root}/2.jpg",
        "",
        f"{out} is for task ovd",
        f"check it vlm-r1 data check {out} --task ovd --image-root {root}",
        f"train on it data: {{train: [{{path: {out}, image_root: {root}, task: ovd}}]}}",
    ]
    (row,) = (json.loads(line) for line in out.read_text().splitlines())
    assert {"cat"} < set(row["targets"]) <= {"cat", "bird", "cow"}


def test_the_command_it_names_accepts_the_file(coco, tmp_path, capsys):
    out = tmp_path / "coco.jsonl"
    assert main(["data", "convert", "coco", str(coco), "--out", str(out)]) == 0
    command = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("check it"))
    assert main(command.partition("vlm-r1 ")[2].split()) == 0
    assert "all well" in capsys.readouterr().out


def test_no_image_root_where_it_is_the_files_own_folder(coco, tmp_path, capsys):
    assert run("coco", coco, "--out", tmp_path / "coco" / "val2017" / "out.jsonl") == 0
    assert "image-root" not in capsys.readouterr().out


def test_help_lists_every_format_with_its_layout():
    lines = dict(line.split(maxsplit=1) for line in (convert.__doc__ or "").splitlines() if "  " in line)
    assert {name: lines.get(name) for name in CONVERTERS} == {c.name: c.layout for c in CONVERTERS.values()}


@pytest.mark.parametrize("name", CONVERTERS)
def test_help_of_a_format(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        run(name, "--help")
    printed = capsys.readouterr().out
    assert CONVERTERS[name].layout in printed
    assert "--out" in printed


@pytest.mark.parametrize("name", CONVERTERS)
def test_defaults_of_the_command_are_those_of_the_options(name):
    chosen = vars(format_parser(CONVERTERS[name]).parse_args(["source", "--out", "out"]))
    for key in ("source", "out", "images", "verify_images"):
        chosen.pop(key, None)
    assert CONVERTERS[name].options(**chosen) == CONVERTERS[name].options()


def test_errors_of_the_user(coco, tmp_path, capsys):
    with pytest.raises(ConfigError, match=r'unknown format "cocoo"\. Did you mean "coco"'):
        run("cocoo", coco, "--out", tmp_path / "a.jsonl")
    with pytest.raises(SystemExit, match="2"):
        run("coco", coco, "--out", tmp_path / "a.jsonl", "--questions", "train")
    assert "unrecognized arguments: --questions train" in capsys.readouterr().err
    assert main(["data", "convert", "coco", str(tmp_path / "gone.json"), "--out", "a.jsonl"]) == 2
    assert "DataError: " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "x", "3:1", "-1", "1:x", "1:2:3"])
def test_ranges_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="wanted a whole number, or a range"):
        count_range(text)
