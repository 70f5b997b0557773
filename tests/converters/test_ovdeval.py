"""OVDEval: COCO files whose images name their positive and their hard negative texts."""

import pytest

from vlm_r1.errors import DataError

SUBSET = {
    "categories": [
        {"supercategory": "object", "id": 0, "name": "computer without screen on"},
        {"supercategory": "object", "id": 1, "name": "computer with screen on"},
    ],
    "annotations": [
        {"id": 0, "bbox": [111, 117, 99, 75], "category_id": 0, "image_id": 0, "iscrowd": 0, "area": 7523},
    ],
    "images": [
        {
            "file_name": "64d22c6fe4b011b0db94b993.jpg",
            "id": 0,
            "height": 254,
            "width": 340,
            "text": ["computer without screen on"],
            "neg_text": ["computer with screen on", "computer without screen on", " lamp "],
        },
        {
            "file_name": "64d22c6fe4b011b0db94b994.jpg",
            "id": 1,
            "height": 254,
            "width": 340,
            "text": ["lamp"],
            "neg_text": [],
        },
    ],
}


@pytest.fixture
def ovdeval(tmp_path, picture_file, json_file):
    for name in ("64d22c6fe4b011b0db94b993.jpg", "64d22c6fe4b011b0db94b994.jpg"):
        picture_file(tmp_path / "negation" / name, (340, 254))
    return json_file(tmp_path / "negation.json", SUBSET)


def test_modes(convert, ovdeval):
    done = convert("ovdeval", ovdeval)
    # the second hard negative is there, so it is none; 111 + 99 = 210, 117 + 75 = 192
    assert done.rows == [
        {
            "id": "negation-0",
            "image": "64d22c6fe4b011b0db94b993.jpg",
            "conversations": [
                {"from": "human", "value": "<image>computer without screen on, computer with screen on, lamp"},
                {"from": "gpt", "value": [{"bbox_2d": [111, 117, 210, 192], "label": "computer without screen on"}]},
            ],
            "size": [340, 254],
            "subset": "negation",
            "targets": ["computer without screen on", "computer with screen on", "lamp"],
        }
    ]
    assert done.dropped == {"name: named as positive by its image, without a box": 1, "image: nothing to ask": 1}
    assert convert("ovdeval", ovdeval, mode="positive").questions() == {"negation-0": "computer without screen on"}


def test_a_folder_of_subsets(convert, ovdeval, json_file):
    json_file(ovdeval.with_name("color.json"), SUBSET)
    done = convert("ovdeval", ovdeval.parent, images=ovdeval.parent / "negation")
    assert [row["id"] for row in done.rows] == ["color-0", "negation-0"]


def test_the_images_of_each_subset_in_a_folder_of_its_name(convert, tmp_path, picture_file, json_file):
    """The published layout. The subsets' images are different ones, even where they are called the same."""
    for name, wh in (("color", (340, 254)), ("negation", (680, 508))):
        picture_file(tmp_path / "images" / name / "64d22c6fe4b011b0db94b993.jpg", wh)
        sized = [image | {"width": wh[0], "height": wh[1]} for image in SUBSET["images"][:1]]
        json_file(tmp_path / "annotations" / f"{name}.json", {**SUBSET, "images": sized})
    done = convert("ovdeval", tmp_path / "annotations", verify=True)
    assert done.image_root == tmp_path / "images"
    assert {row["image"]: row["size"] for row in done.rows} == {
        "color/64d22c6fe4b011b0db94b993.jpg": [340, 254],
        "negation/64d22c6fe4b011b0db94b993.jpg": [680, 508],
    }
    assert [row["subset"] for row in done.rows] == ["color", "negation"]


def test_bad_texts_are_named(convert, ovdeval, json_file):
    images = [{**SUBSET["images"][0], "neg_text": [3]}]
    json_file(ovdeval, {**SUBSET, "images": images})
    with pytest.raises(DataError, match=r"negation.json: images\[0\].neg_text\[0\]: got 3, wanted a name"):
        convert("ovdeval", ovdeval)
