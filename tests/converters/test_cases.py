"""Small COCO files that went wrong, as they were handed in: each with its right outcome."""

from pathlib import Path

import pytest

from vlm_r1.errors import DataError

CASES = Path(__file__).resolve().parents[2] / "../shared/cases"
A_CAT = [{"bbox_2d": [10, 20, 60, 80], "label": "cat"}]
B_CAT = [{"bbox_2d": [50, 30, 90, 70], "label": "cat"}]
B_DOG = [{"bbox_2d": [100, 60, 140, 100], "label": "dog"}]


@pytest.fixture
def converted(convert):
    def run(name, **options):
        folder = CASES / name
        if not folder.is_dir():
            pytest.skip("shared cases are not here")
        return convert("coco", folder / "ann.json", images=folder / "images", **options)

    return run


@pytest.mark.parametrize(
    ("name", "answers", "told"),
    [
        pytest.param("coco-ids-text-and-number", {"ann-1": A_CAT, "ann-2": B_CAT + B_DOG}, {}),
        pytest.param(
            "coco-object-annotated-twice",
            {"ann-1": A_CAT, "ann-2": B_CAT + B_DOG},
            {"box: annotated twice, with the same category and box": 1},
        ),
        pytest.param("coco-crowd-as-text", {"ann-1": A_CAT, "ann-2": B_DOG}, {"box: crowd region": 1}),
        pytest.param(
            "coco-one-object-without-box",
            {"ann-1": A_CAT, "ann-2": B_CAT + B_DOG},
            {"box made from a polygon, since there was none": 1},
        ),
        pytest.param(
            "coco-without-image-sizes",
            {"ann-1": A_CAT, "ann-2": B_CAT + B_DOG},
            {"image without a size in the annotations, read from its file": 2},
        ),
        pytest.param(
            "coco-paths-of-windows",
            {"ann-1": A_CAT, "ann-2": B_CAT + B_DOG},
            {"folders cut off the beginning of the images' names": 1},
        ),
    ],
)
@pytest.mark.parametrize("negatives", [(0, 0), (1, 2)])
def test_what_is_read(converted, name, answers, told, negatives):
    done = converted(name, negatives=negatives)
    assert done.answers() == answers
    assert done.dropped | done.tally.notes == told


def test_two_images_with_one_id(converted):
    with pytest.raises(DataError, match=r"two images with the id 1: 'a.jpg' and 'b.jpg'"):
        converted("coco-image-id-twice")


def test_a_name_with_a_comma(converted):
    done = converted("coco-category-name-with-comma", mode="all")
    assert done.questions() == dict.fromkeys(("ann-1", "ann-2"), '"bowl, ceramic", dog, ceramic')
    assert list(done.tally.examples.values()) == ["bowl, ceramic"]
