"""What the tests of all converters share: pictures, files, and a conversion with its output read back."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from vlm_r1.cli import data
from vlm_r1.converters import CONVERTERS, Job, Tally, run_conversion


@dataclass(frozen=True)
class Converted:
    """The output of a conversion, read back."""

    rows: list[dict]
    tally: Tally
    task: str
    image_root: Path
    text: str

    @property
    def dropped(self) -> dict[str, int]:
        return {f"{what}: {reason}": n for (what, reason), n in self.tally.dropped.items()}

    def answers(self) -> dict[str, object]:
        """id → gold answer."""
        return {row["id"]: row["conversations"][1]["value"] for row in self.rows}

    def questions(self) -> dict[str, str]:
        """id → question, without `<image>`."""
        return {row["id"]: row["conversations"][0]["value"].removeprefix("<image>") for row in self.rows}


@pytest.fixture
def convert(tmp_path):
    """`convert("coco", source, mode="all")`: run a conversion, and let `vlm-r1 data check` judge its output."""

    def run(name, source, *, images=None, verify=False, out=None, **options) -> Converted:
        converter = CONVERTERS[name]
        job = Job(Path(source), out or tmp_path / "out" / f"{name}.jsonl", images, verify)
        conversion = run_conversion(converter, job, converter.options(**options))
        _check(job.out, conversion)
        text = job.out.read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.split("\n")[:-1]]
        return Converted(rows, job.tally, conversion.task, conversion.image_root, text)

    return run


def _check(path, conversion):
    """`vlm-r1 data check`: images are there, boxes lie on them, every gold answer earns full marks by its task."""
    if "http" in path.read_text(encoding="utf-8"):
        return
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    arguments = ["check", str(path), "--task", conversion.task, "--image-root", str(conversion.image_root)]
    assert data.run(parser.parse_args(arguments)) == 0


@pytest.fixture
def picture_file():
    """`picture_file(path, (640, 480), exif=6)`: write a picture of that stored size."""

    def write(path: Path, wh=(640, 480), exif=1):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", wh)
        tags = image.getexif()
        tags[0x0112] = exif
        image.save(path, exif=tags)
        return path

    return write


@pytest.fixture
def json_file():
    """`json_file(path, value)`: write a value as JSON."""

    def write(path: Path, value):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return write
