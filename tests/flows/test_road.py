"""The whole road on real photographs: a YOLO folder becomes a model that is asked (docs/start.md, docs/detector.md).

Stickers of known boxes are pasted on sample photographs of installed packages. Each command uses what the one before
it wrote, as a user does.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gradio
import matplotlib
import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from testing_browser import CHROMIUM
from vlm_r1.cli.main import main
from vlm_r1.testing import write_tiny

PHOTOGRAPHS = (
    Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg",
    *(Path(gradio.__file__).parent / f"media_assets/images/{name}.jpg" for name in ("cheetah1", "lion", "tower")),
)
SIZE = (112, 84)
NAMES = {"red disc": "red", "blaues Schild": "blue"}
"""Stickers and their colours; one name has a space, as users' names have."""
STICKER = 28


def picture(draw: np.random.Generator) -> tuple[Image.Image, list[tuple[int, list[int]]]]:
    """A piece of a photograph with one or two stickers on it, and (class, [x1, y1, x2, y2]) of each."""
    with Image.open(PHOTOGRAPHS[int(draw.integers(len(PHOTOGRAPHS)))]) as photograph:
        left, top = (int(draw.integers(space - room + 1)) for space, room in zip(photograph.size, SIZE, strict=True))
        image = photograph.convert("RGB").crop((left, top, left + SIZE[0], top + SIZE[1]))
    objects = []
    for kind in draw.permutation(len(NAMES))[: int(draw.integers(1, 3))]:
        x, y = int(draw.integers(SIZE[0] - STICKER)), int(draw.integers(SIZE[1] - STICKER))
        colour = list(NAMES.values())[kind]
        shape = ImageDraw.Draw(image).ellipse if kind == 0 else ImageDraw.Draw(image).rectangle
        shape((x, y, x + STICKER - 1, y + STICKER - 1), fill=colour)
        objects.append((int(kind), [x, y, x + STICKER, y + STICKER]))
    return image, objects


def write_yolo(folder: Path) -> dict[str, list[tuple[int, list[int]]]]:
    """A folder as YOLO tools write it: images/ and labels/ of each split, and data.yaml; returns the true boxes."""
    draw, truth = np.random.default_rng(0), {}
    for split, n in (("train", 16), ("val", 6)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(n):
            image, objects = picture(draw)
            image.save(folder / f"images/{split}/photo {number}.jpg", quality=95)
            lines = [
                f"{kind} {(x1 + x2) / 2 / SIZE[0]} {(y1 + y2) / 2 / SIZE[1]} {STICKER / SIZE[0]} {STICKER / SIZE[1]}\n"
                for kind, (x1, y1, x2, y2) in objects
            ]
            (folder / f"labels/{split}/photo {number}.txt").write_text("".join(lines))
            truth[f"{split}/photo {number}.jpg"] = objects
    (folder / "data.yaml").write_text(
        yaml.safe_dump({"path": ".", "train": "images/train", "val": "images/val", "names": list(NAMES)})
    )
    return truth


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Give a command; returns what it printed."""
    assert main(list(words)) == 0, capsys.readouterr()
    return capsys.readouterr().out


def test_from_a_folder_of_pictures_to_a_model_one_can_ask(request, tmp_path, monkeypatch, capsys) -> None:
    open_page = request.getfixturevalue("open_page") if CHROMIUM else None  # the rest runs without a browser too
    monkeypatch.chdir(tmp_path)
    truth = write_yolo(Path("stickers"))

    assert main(["data", "check", "stickers"]) == 1
    assert "this is YOLO (22 pictures, 2 names): vlm-r1 data convert yolo" in capsys.readouterr().out
    for split in ("train", "val"):
        told = said(capsys, *f"data convert yolo stickers --split {split} --out stickers/{split}.jsonl".split())
        assert f"{sum(name.startswith(split) for name in truth)}  record" in told
    rows = [json.loads(line) for line in Path("stickers/train.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        gold = [(list(NAMES).index(one["label"]), one["bbox_2d"]) for one in row["conversations"][1]["value"]]
        assert gold == truth[row["image"].removeprefix("images/")], "the boxes that were pasted, to the pixel"

    told = said(capsys, *["data", "check", "stickers/train.jsonl", "--task", "ovd", "--page", "check.html"])
    assert told.endswith("all well\n")
    if open_page is not None:
        page, logged, _ = open_page(Path("check.html").resolve())
        assert page.locator("svg image").count() == len(rows)
        assert logged == []

    write_tiny("qwen2_5_vl", "tiny", Path("stickers/train.jsonl").read_text("utf-8").splitlines())
    new = "new my.yaml --data stickers/train.jsonl --eval stickers/val.jsonl --gpu 24GB --model tiny"
    assert "next        vlm-r1 train my.yaml --rehearse" in said(capsys, *new.split())
    assert said(capsys, "train", "my.yaml", "--rehearse").endswith("rehearsed: everything works but the weights\n")

    options = {"max_steps": 2, "prompts_per_step": 2, "eval_steps": 0, "mixed_precision": "no"}
    small = [f"--training.{name}={value}" for name, value in options.items()]
    small += ["--grpo.num_generations=4", "--sampling.max_completion_length=16"]
    assert "runs/my/report.html" in said(capsys, "train", "my.yaml", *small)
    assert "nothing found" in said(capsys, "doctor", "runs/my")
    if open_page is not None:
        page, logged, _ = open_page(Path("runs/my/report.html").resolve())
        assert "6 held-out records" in page.locator("main, body").first.inner_text()
        assert logged == []

    photo = "stickers/images/val/photo 0.jpg"
    status = main(["ask", "runs/my", photo, "red disc", "--json", "--out", "boxed.jpg"])
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert status == (answer["reason"] is not None), "two steps teach nothing: its answer may not be readable"
    assert (answer["task"], answer["image_sizes"]) == ("ovd", [list(SIZE)])
    with Image.open("boxed.jpg") as boxed:
        assert boxed.size == SIZE

    said(capsys, *["export", "runs/my", "--to", "exported"])
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", Path("exported/README.md").read_text(), re.MULTILINE | re.DOTALL)
    shutil.copy(photo, "exported/picture.jpg")
    done = subprocess.run([sys.executable, "-c", snippet], cwd="exported", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ovd: ")
