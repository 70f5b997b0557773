"""RefCOCO as the refer API publishes it: a pickle of references and COCO's instances."""

import os
import pickle

import pytest

from vlm_r1.errors import DataError


def sentence(id_, text):
    return {"tokens": text.split(), "raw": text, "sent_id": id_, "sent": text}


def reference(ref_id, ann_id, image_id, split, *sentences):
    return {
        "sent_ids": [s["sent_id"] for s in sentences],
        "file_name": f"COCO_train2014_{image_id:012d}_{ann_id}.jpg",
        "ann_id": ann_id,
        "ref_id": ref_id,
        "image_id": image_id,
        "split": split,
        "sentences": list(sentences),
        "category_id": 1,
    }


REFS = [
    reference(0, 11, 581857, "train", sentence(0, "the lady with the blue shirt"), sentence(1, " lady  back ")),
    reference(1, 12, 581857, "testA", sentence(2, "man on the café's left")),
    reference(2, 13, 581857, "train", sentence(3, "a line")),
    reference(3, 99, 581857, "train", sentence(4, "not there")),
    reference(4, 14, 5, "train", sentence(5, "a"), sentence(6, "b")),
    reference(5, 11, 581857, "train", sentence(7, "  ")),
]
INSTANCES = {
    "info": {},
    "images": [
        {"id": 581857, "file_name": "COCO_train2014_000000581857.jpg", "height": 427, "width": 640},
        {"id": 5, "file_name": "COCO_train2014_000000000005.jpg", "height": 100, "width": 100},
    ],
    "annotations": [
        {
            "id": 11,
            "image_id": 581857,
            "category_id": 1,
            "bbox": [103.93, 299.99, 134.22, 177.42],
            "segmentation": [[1]],
        },
        {"id": 12, "image_id": 581857, "category_id": 1, "bbox": [0.0, 10.0, 20.0, 30.0]},
        {"id": 13, "image_id": 581857, "category_id": 1, "bbox": [0.0, 10.0, 20.0, 0.5]},
        {"id": 14, "image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4]},
    ],
    "categories": [{"id": 1, "name": "person", "supercategory": "person"}],
}


@pytest.fixture
def refcoco(tmp_path, picture_file, json_file):
    """The folder data/refcoco+, and COCO's images where the refer API has them."""
    folder = tmp_path / "data" / "refcoco+"
    images = folder.parent / "images" / "mscoco" / "images" / "train2014"
    picture_file(images / "COCO_train2014_000000581857.jpg", (640, 427))
    json_file(folder / "instances.json", INSTANCES)
    (folder / "refs(unc).p").write_bytes(pickle.dumps(REFS, protocol=2))
    return folder


def test_one_record_for_each_sentence(convert, refcoco):
    done = convert("refcoco", refcoco)
    assert done.task == "rec"
    assert done.image_root == refcoco.parent / "images/mscoco/images/train2014"
    # 103.93 + 134.22 = 238.15; 299.99 + 177.42 = 477.41, clipped to the height of 427
    assert done.rows[0] == {
        "id": "refcoco+-unc-0",
        "image": "COCO_train2014_000000581857.jpg",
        "conversations": [
            {"from": "human", "value": "<image>the lady with the blue shirt"},
            {"from": "gpt", "value": [103.93, 299.99, 238.15, 427]},
        ],
        "size": [640, 427],
    }
    assert done.questions() == {"refcoco+-unc-0": "the lady with the blue shirt", "refcoco+-unc-1": "lady back"}
    assert done.dropped == {
        "sentence: its box is thinner than 1 px": 1,
        "sentence: of an object that instances.json lacks": 1,
        "sentence: image not found": 2,
        "sentence: empty": 1,
    }
    assert done.tally.notes == {"box reached more than 1 px over its image, clipped": 2}  # of refs 0 and 5


def test_splits(convert, refcoco):
    assert convert("refcoco", refcoco, split="testA").questions() == {"refcoco+-unc-2": "man on the café's left"}
    with pytest.raises(DataError, match=r"no split 'testB'; it has train \(5\), testA \(1\)"):
        convert("refcoco", refcoco, split="testB")


def test_json_is_the_same(convert, refcoco, json_file):
    from_pickle = convert("refcoco", refcoco).text
    (refcoco / "refs(unc).p").unlink()
    json_file(refcoco / "refs(unc).json", REFS)
    assert convert("refcoco", refcoco).text == from_pickle


def test_several_splitters(convert, refcoco):
    google = [reference(9, 12, 581857, "train", sentence(70, "man"))]
    (refcoco / "refs(google).p").write_bytes(pickle.dumps(google, protocol=0))
    with pytest.raises(DataError, match=r"split by several: google, unc. Choose one by --by"):
        convert("refcoco", refcoco)
    assert convert("refcoco", refcoco, by="google").questions() == {"refcoco+-google-70": "man"}
    with pytest.raises(DataError, match=r"no refs\(umd\).p or .json; found refs\(google\).p, refs\(unc\).p"):
        convert("refcoco", refcoco, by="umd")


class Runs:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_pickle_with_a_program_in_it(convert, refcoco):
    trace = refcoco / "it ran"
    (refcoco / "refs(unc).p").write_bytes(pickle.dumps([*REFS, Runs(f"touch '{trace}'")]))
    with pytest.raises(DataError, match=r"refs\(unc\).p: names posix.system, which is not read"):
        convert("refcoco", refcoco)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("refs", "message"),
    [
        pytest.param({"refs": []}, r"refs\(unc\).p: got {'refs': \[\]}, wanted a list", id="not a list"),
        pytest.param([{"ref_id": 1}], r"refs\(unc\).p: \[0\].split: missing, got the keys ref_id", id="no split"),
        pytest.param(
            [{**REFS[0], "sentences": [{"sent_id": 1}]}],
            r"refs\(unc\).p: \[0\].sentences\[0\].sent: missing, got the keys sent_id; wanted a text",
            id="no sentence",
        ),
    ],
)
def test_bad_references_are_named(convert, refcoco, refs, message):
    (refcoco / "refs(unc).p").write_bytes(pickle.dumps(refs))
    with pytest.raises(DataError, match=message):
        convert("refcoco", refcoco)


def test_grefcoco_has_several_targets_or_none(convert, refcoco, json_file):
    (refcoco / "refs(unc).p").unlink()
    several = {**reference(0, 0, 581857, "val", sentence(0, "both")), "ann_id": [11, 12], "no_target": False}
    none = {**reference(1, 0, 581857, "val", sentence(1, "the zebra")), "ann_id": [-1], "no_target": True}
    json_file(refcoco / "grefs(unc).json", [several, none])
    done = convert("refcoco", refcoco, split="val")
    assert done.task == "multi_rec"
    assert done.answers() == {
        "refcoco+-unc-0": [[103.93, 299.99, 238.15, 427], [0, 10, 20, 40]],
        "refcoco+-unc-1": "None",
    }


@pytest.mark.parametrize("odd", [None, "a text", {"ref_id": 9}, {**REFS[0], "split": None}])
def test_one_odd_reference_is_counted(convert, refcoco, odd):
    (refcoco / "refs(unc).p").write_bytes(pickle.dumps([odd, REFS[0]]))
    done = convert("refcoco", refcoco)
    assert done.dropped == {"reference: its reference cannot be read": 1}
    assert len(done.rows) == 2  # REFS[0] has two sentences


def test_ids_that_stand_twice_are_said(convert, refcoco):
    (refcoco / "refs(unc).p").write_bytes(pickle.dumps([REFS[0], REFS[0]]))
    assert convert("refcoco", refcoco).tally.notes["record whose id another one has too"] == 2
