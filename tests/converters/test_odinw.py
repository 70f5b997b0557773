"""Folders of COCO files as Roboflow exports them."""

import pytest

from vlm_r1.errors import ConfigError, DataError

AQUARIUM = {
    "info": {"description": "Exported from roboflow.com"},
    "categories": [
        {"id": 0, "name": "creatures", "supercategory": "none"},
        {"id": 1, "name": "fish", "supercategory": "creatures"},
        {"id": 2, "name": "shark", "supercategory": "creatures"},
    ],
    "images": [{"id": 0, "file_name": "IMG_1.rf.ab12.jpg", "height": 1024, "width": 768, "license": 1}],
    "annotations": [
        {
            "id": 0,
            "image_id": 0,
            "category_id": 1,
            "bbox": [10, 20, 100.5, 200],
            "area": 1,
            "segmentation": [],
            "iscrowd": 0,
        }
    ],
}


@pytest.fixture
def odinw(tmp_path, picture_file, json_file):
    for folder in ("Aquarium/raw/test", "pothole/test", "pothole/valid"):
        picture_file(tmp_path / "odinw" / folder / "IMG_1.rf.ab12.jpg", (768, 1024))
        json_file(tmp_path / "odinw" / folder / "_annotations.coco.json", AQUARIUM)
    return tmp_path / "odinw"


def test_all_data_sets_below_a_folder(convert, odinw):
    done = convert("odinw", odinw)
    assert done.image_root == odinw
    assert [row["id"] for row in done.rows] == ["Aquarium/raw/test-0", "pothole/test-0"]
    assert done.rows[0]["image"] == "Aquarium/raw/test/IMG_1.rf.ab12.jpg"
    assert done.answers()["pothole/test-0"] == [{"bbox_2d": [10, 20, 110.5, 220], "label": "fish"}]


def test_one_split_of_one_data_set(convert, odinw):
    assert [row["id"] for row in convert("odinw", odinw / "pothole", split="valid").rows] == ["valid-0"]
    with pytest.raises(DataError, match=r"no train/_annotations.coco.json in this folder or below it"):
        convert("odinw", odinw, split="train")


def test_the_root_category_is_never_asked(convert, odinw):
    assert set(convert("odinw", odinw, mode="all").questions().values()) == {"fish, shark"}


def test_odinw_has_a_file_without_the_root_category(convert, odinw, json_file):
    only_shark = {**AQUARIUM, "categories": [{"id": 1, "name": "shark", "supercategory": "none"}]}
    json_file(odinw / "pothole/test/annotations_without_background.json", only_shark)
    assert convert("odinw", odinw).questions() == {"Aquarium/raw/test-0": "fish", "pothole/test-0": "shark"}


def test_images_lie_beside_their_annotations(convert, odinw):
    with pytest.raises(ConfigError, match="--images has no effect"):
        convert("odinw", odinw, images=odinw)
