"""Ids of annotation files are not trusted: no record of an image whose boxes are in doubt, never a false "None"."""

import copy
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.converters.ids import check_alike, check_shift, read_id
from vlm_r1.errors import DataError

IDS = [
    pytest.param(7, 7, id="integer"),
    pytest.param("7", 7, id="text"),
    pytest.param(7.0, 7, id="whole float"),
    pytest.param("7.0", 7, id="text of a whole float"),
    pytest.param(" 7 ", 7, id="spaces"),
    pytest.param("-1", -1, id="negative"),
    pytest.param("0", 0, id="zero"),
    pytest.param("007", "007", id="leading zeros are not taken off"),
    pytest.param("a7", "a7", id="a name"),
    pytest.param("cafe\u0301", "caf\u00e9", id="accents are composed"),
    pytest.param("1_000", "1_000", id="no number as people write it"),
    pytest.param(7.5, None, id="fraction"),
    pytest.param(float("nan"), None, id="NaN"),
    pytest.param(float("inf"), None, id="infinity"),
    pytest.param(2.0**53, None, id="a float that may stand for two integers"),
    pytest.param(True, None, id="truth value"),
    pytest.param(None, None, id="null"),
    pytest.param(" ", None, id="empty"),
    pytest.param([7], None, id="list"),
]


@pytest.mark.parametrize(("value", "id_"), IDS)
def test_ids_have_one_form(value, id_):
    assert read_id(value) == id_
    assert type(read_id(value)) is type(id_)


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_integers_are_the_same_as_texts_and_floats(number):
    assert read_id(number) == read_id(str(number)) == read_id(float(number)) == read_id(f"{number}.0") == number


@pytest.mark.parametrize("ids", [["007", 7], [7, "007"], ["07", "007"], [7, "8", "-07", -7]])
def test_leading_zeros_beside_none(ids):
    with pytest.raises(DataError, match=r'a.json: the image ids "-?0.* differ by leading zeros only'):
        check_alike("image", ids, "a.json")


def test_leading_zeros_everywhere_are_no_question():
    check_alike("image", ["001", "002", 7, "a"], "a.json")


@pytest.mark.parametrize(
    ("known", "used", "shift"),
    [
        pytest.param({1, 2, 3}, {0, 1, 2}, "-1", id="from 0 instead of from 1"),
        pytest.param({0, 1, 2}, {1, 2, 3}, r"\+1", id="from 1 instead of from 0"),
        pytest.param({1, 2, 3}, {1, 2, 3}, None, id="right"),
        pytest.param({1, 2, 3}, {2, 3}, None, id="not all are used"),
        pytest.param({1, 2, 3}, {1, 2, 9}, None, id="one unknown among right ones"),
        pytest.param({1, "a"}, {"a", 2}, None, id="texts are not counted"),
        pytest.param({1}, set(), None, id="none used"),
    ],
)
def test_shifted_ids(known, used, shift):
    if shift is None:
        check_shift("category", known, used, "a.json")
        return
    with pytest.raises(DataError, match=f"a.json: the annotations' category ids .* look shifted by {shift} "):
        check_shift("category", known, used, "a.json")


IMAGES = [{"id": i, "file_name": f"{i}.jpg", "width": 160, "height": 120} for i in (1, 2, 3)]
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
BOXES = [
    {"id": 10, "image_id": 1, "category_id": 3, "bbox": [10, 20, 50, 60]},
    {"id": 11, "image_id": 2, "category_id": 3, "bbox": [50, 30, 40, 40]},
    {"id": 12, "image_id": 2, "category_id": 7, "bbox": [100, 60, 40, 40]},
    {"id": 13, "image_id": 3, "category_id": 7, "bbox": [1, 2, 30, 40]},
]
GOOD = {"images": IMAGES, "annotations": BOXES, "categories": CATEGORIES}
WRITTEN = (int, str, float, lambda id_: f"{id_}.0")


def changed(*changes):
    """The good file with values changed: `changed(("annotations", 0, "image_id", 9))`; a value may be made of `...`."""
    value = copy.deepcopy(GOOD)
    for *steps, last, new in changes:
        node = value
        for step in steps:
            node = node[step]
        node[last] = new
    return value


@pytest.fixture
def coco(tmp_path, picture_file, json_file):
    """`coco(value)`: the file with its pictures beside it."""
    for i in (1, 2, 3):
        picture_file(tmp_path / f"{i}.jpg", (160, 120))
    return lambda value: json_file(tmp_path / "ann.json", value)


@pytest.mark.parametrize("seed", range(8))
def test_ids_that_differ_in_type_only_are_the_same(convert, coco, seed):
    """Each id is written in a form drawn for itself: the output is that of the plain file, to the byte."""
    plain = convert("coco", coco(GOOD), negatives=(1, 2)).text
    rng = random.Random(seed)
    value = copy.deepcopy(GOOD)
    for row in (*value["images"], *value["annotations"], *value["categories"]):
        for key in {"id", "image_id", "category_id"} & row.keys():
            row[key] = rng.choice(WRITTEN)(row[key])
    assert convert("coco", coco(value), negatives=(1, 2)).text == plain


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(
            changed(("images", 1, "id", 1)),
            r"ann.json: two images with the id 1: '1.jpg' and '2.jpg'. Give each an id of its own",
            id="two images with one id",
        ),
        pytest.param(
            changed(("images", 1, "id", "1.0")), r"two images with the id 1: '1.jpg' and '2.jpg'", id="once as a text"
        ),
        pytest.param(
            changed(("categories", 1, "id", "3")), r"two categories with the id 3: 'cat' and 'dog'", id="categories"
        ),
        pytest.param(
            changed(("images", 0, "id", "007"), ("images", 1, "id", 7)),
            r'the image ids "007" and 7 differ by leading zeros only',
            id="leading zeros",
        ),
        pytest.param(
            changed(("annotations", 0, "category_id", "03")), r'the category ids "03" and 3 differ', id="of a category"
        ),
        pytest.param(
            changed(("annotations", 0, "image_id", 99)),
            r"1 box of no image that the file lists, e.g. annotations\[0\].image_id: 99, so any image may lack one",
            id="unknown image",
        ),
        pytest.param(changed(("annotations", 0, "image_id", None)), r"image_id: None, so any image", id="null"),
        pytest.param(changed(("annotations", 0, "image_id", 1.5)), r"image_id: 1.5, so any image", id="fraction"),
        pytest.param(changed(("annotations", 0, {"bbox": [1, 2, 3, 4]})), r"1 box of no image", id="no image_id"),
        pytest.param(
            changed(("annotations", [])), "no annotation names an image, so nobody knows what", id="no annotations"
        ),
        pytest.param(
            changed(*(("annotations", i, "image_id", BOXES[i]["image_id"] - 1) for i in range(4))),
            r"image ids \(0 to 2\) look shifted by -1",
            id="shifted images",
        ),
        pytest.param(
            changed(*(("annotations", i, "category_id", BOXES[i]["category_id"] + 1) for i in range(4))),
            r"category ids \(4 to 8\) look shifted by \+1",
            id="shifted categories",
        ),
    ],
)
def test_files_whose_ids_mean_several_things(convert, coco, value, message):
    with pytest.raises(DataError, match=message):
        convert("coco", coco(value), negatives=(1, 2))


@pytest.mark.parametrize("category", [99, None, [3], "cat"])
def test_an_image_with_a_box_of_an_unknown_category_is_left_out(convert, coco, category):
    """Image 1 has one box, whose category is unknown: it may be a cat, so neither "cat" nor "None" is known of it."""
    done = convert("coco", coco(changed(("annotations", 0, "category_id", category))), negatives=(1, 2))
    assert set(done.answers()) == {"ann-2", "ann-3"}
    assert done.dropped == {
        "box: of an unknown category": 1,
        "image: it has a box of an unknown category, so what it shows is not known": 1,
    }
    assert "annotations[0].category_id" in done.tally.examples["box", "of an unknown category"]


def test_boxes_of_images_left_out_on_purpose(convert, coco):
    """A file cut down to some of its images, with all annotations: told by the option, its boxes are counted."""
    value = {**GOOD, "images": IMAGES[1:], "annotations": [*BOXES, {**BOXES[0], "image_id": 77}]}
    done = convert("coco", coco(value), unknown_images="drop")
    assert set(done.answers()) == {"ann-2", "ann-3"}
    assert done.dropped == {"box: of an unknown image": 2}


def test_a_file_listed_under_several_ids(convert, coco):
    """Image 3 is the file of image 1 again, written by Windows: each has a part of its boxes."""
    done = convert("coco", coco(changed(("images", 2, "file_name", ".\\1.jpg"))))
    assert set(done.answers()) == {"ann-2"}
    assert done.dropped == {"image: its file is listed under several ids, which share its boxes out": 2}


def test_rows_that_stand_there_twice_are_there_once(convert, coco):
    plain = convert("coco", coco(GOOD)).text
    twice = {**GOOD, "images": [*IMAGES, {**IMAGES[0], "id": "1"}], "categories": [*CATEGORIES, CATEGORIES[0]]}
    done = convert("coco", coco(twice))
    assert done.text == plain
    assert done.dropped == {
        "image: listed twice, with the same id and name": 1,
        "category: listed twice, with the same id and name": 1,
    }


def test_annotation_ids_that_are_used_again(convert, coco):
    """All objects are kept: detection does not refer to them by id."""
    done = convert("coco", coco(changed(*(("annotations", i, "id", 10) for i in range(4)))))
    assert done.text == convert("coco", coco(GOOD)).text
    assert done.tally.notes == {"annotation ids that several objects have": 3}


def test_categories_of_one_name(convert, coco):
    """Two ids of one name are one thing to ask for; so are names that differ in case and spaces."""
    value = {**GOOD, "categories": [*CATEGORIES, {"id": 8, "name": " Cat"}]}
    value["annotations"] = [*BOXES, {"id": 14, "image_id": 1, "category_id": 8, "bbox": [90, 20, 50, 60]}]
    done = convert("coco", coco(value), mode="all")
    assert done.questions()["ann-1"] == "cat, dog"
    assert [item["label"] for item in done.answers()["ann-1"]] == ["cat", "cat"]


def test_lvis_lists_of_categories(convert, tmp_path, picture_file, json_file):
    """Ids as texts are read; image 2 names an unknown category that is not exhaustive, 3 an unknown negative one."""
    images = [
        {**row, "coco_url": f"http://a/val2017/{row['id']}.jpg", "neg_category_ids": negative} | more
        for row, negative, more in (
            (IMAGES[0], ["7"], {"not_exhaustive_category_ids": ["3"]}),
            (IMAGES[1], [], {"not_exhaustive_category_ids": [99]}),
            (IMAGES[2], [3.0, 99], {"not_exhaustive_category_ids": []}),
        )
    ]
    for i in (1, 2, 3):
        picture_file(tmp_path / "val2017" / f"{i}.jpg", (160, 120))
    done = convert("lvis", json_file(tmp_path / "lvis.json", {**GOOD, "images": images}), negatives=(2, 2))
    assert {id_: sorted(text.split(", ")) for id_, text in done.questions().items()} == {
        "lvis-1": ["dog"],
        "lvis-3": ["cat", "dog"],
    }
    assert done.answers()["lvis-1"] == "None"  # the cats are not exhaustive, the dog is verified to be absent
    assert done.dropped["image: an unknown category is not exhaustive in it"] == 1
    assert done.dropped["name: negative of an unknown category"] == 1


def test_ovdeval_images_that_share_a_file(convert, tmp_path, picture_file, json_file):
    """Images 1 and 2 are one picture, asked for different names: what 2 shows is no negative of 1."""
    picture_file(tmp_path / "1.jpg", (160, 120))
    images = [
        {**IMAGES[0], "text": ["cat"], "neg_text": ["Dog", "cow"]},
        {**IMAGES[1], "file_name": "1.jpg", "text": ["dog"], "neg_text": []},
    ]
    boxes = [BOXES[0], {**BOXES[2], "image_id": "2"}]
    value = {"images": images, "annotations": boxes, "categories": CATEGORIES}
    assert convert("ovdeval", json_file(tmp_path / "color.json", value)).questions() == {
        "color-1": "cat, cow",
        "color-2": "dog",
    }


def ref(image_id, ann_id, sent_id, **more):
    sentences = [{"sent_id": sent_id, "sent": f"thing {sent_id}"}]
    return {"image_id": image_id, "ann_id": ann_id, "split": "train", "sentences": sentences, **more}


@pytest.mark.parametrize(
    ("name", "refs", "annotations", "kept", "dropped"),
    [
        pytest.param(
            "refs(unc)",
            [ref("1", "10", 0), ref(2.0, 11, 1)],
            BOXES,
            {0: [10, 20, 60, 80], 1: [50, 30, 90, 70]},
            {},
            id="types",
        ),
        pytest.param(
            "refs(unc)",
            [ref(1, 11, 0), ref(2, 11, 1)],
            BOXES,
            {1: [50, 30, 90, 70]},
            {"sentence: of an object that lies in another image": 1},
            id="object of another image",
        ),
        pytest.param(
            "refs(unc)",
            [ref(2, 11, 0), ref(1, 10, 1)],
            [*BOXES, {**BOXES[2], "id": "11"}],
            {1: [10, 20, 60, 80]},
            {"sentence: of an id that several objects of instances.json have": 1},
            id="annotation id used again",
        ),
        pytest.param(
            "grefs(unc)",
            [ref(2, [11, 11, 12], 0), ref(1, [], 1), ref(1, [], 2, no_target=True), ref(1, [-1], 3)],
            BOXES,
            {0: [[50, 30, 90, 70], [100, 60, 140, 100]], 2: "None", 3: "None"},
            {
                "box: annotated twice, with the same category and box": 1,
                "sentence: names no object, and does not say that there is none": 1,
            },
            id="several, none",
        ),
    ],
)
def test_references(convert, tmp_path, picture_file, json_file, name, refs, annotations, kept, dropped):
    folder = tmp_path / "refcoco"
    for i in (1, 2, 3):
        picture_file(tmp_path / "train2014" / f"{i}.jpg", (160, 120))
    json_file(folder / "instances.json", {**GOOD, "annotations": annotations})
    json_file(folder / f"{name}.json", refs)
    done = convert("refcoco", folder)
    assert done.answers() == {f"refcoco-unc-{i}": answer for i, answer in kept.items()}
    assert done.dropped == dropped


def test_digits_as_names(convert, coco):
    value = {**GOOD, "categories": [{"id": 3, "name": 0}, {"id": 7, "name": 1}]}
    assert convert("coco", coco(value)).questions() == {"ann-1": "0", "ann-2": "0, 1", "ann-3": "1"}
