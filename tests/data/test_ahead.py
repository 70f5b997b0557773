"""Images decoded in the background: the same pictures, errors when asked for, nothing kept that nobody wants."""

from concurrent.futures import wait
from pathlib import Path

import pytest
from PIL import Image

from vlm_r1.data.ahead import ImagesAhead
from vlm_r1.data.images import load_image
from vlm_r1.errors import DataError


@pytest.fixture
def paths(tmp_path):
    names = [str(tmp_path / f"{i}.png") for i in range(6)]
    for i, name in enumerate(names):
        Image.new("RGB", (40 + i, 30), (i, 2 * i, 3 * i)).save(name)
    return names


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_same_pictures(paths, workers):
    images = ImagesAhead(workers)
    images.start(paths[:4])
    for path in paths:  # two of them were never announced
        assert images.load(path).tobytes() == load_image(path).tobytes()


def test_announced_images_are_decoded_before_they_are_asked_for(paths):
    images = ImagesAhead(2)
    images.start(paths)
    wait(images._started.values())
    for path in paths:
        Path(path).unlink()
    assert [images.load(path).size for path in paths] == [(40 + i, 30) for i in range(6)]


def test_what_nobody_asked_for_is_forgotten(paths):
    images = ImagesAhead(1)
    images.start(paths[:3])
    images.start(paths[2:4])
    assert set(images._started) == set(paths[2:4])


def test_a_broken_image_is_an_error_when_it_is_asked_for(paths, tmp_path):
    images = ImagesAhead(1)
    images.start([str(tmp_path / "gone.png"), paths[0]])
    assert images.load(paths[0]).size == (40, 30)
    with pytest.raises(DataError, match=r"gone\.png: image not found"):
        images.load(str(tmp_path / "gone.png"))
