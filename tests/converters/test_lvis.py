"""LVIS v1: addresses instead of file names, verified negatives, categories that are not exhaustive."""

CATEGORIES = [
    {"id": 1, "name": "bow_(weapon)", "synset": "bow.n.04", "synonyms": ["bow"], "frequency": "r"},
    {"id": 2, "name": "fire_hydrant", "synset": "x", "synonyms": ["fireplug"], "frequency": "c"},
    {"id": 3, "name": "cat", "synset": "x", "synonyms": ["cat"], "frequency": "f"},
    {"id": 4, "name": "dog", "synset": "x", "synonyms": ["dog"], "frequency": "f"},
    {"id": 5, "name": "tree", "synset": "x", "synonyms": ["tree"], "frequency": "f"},
]


def image(id_, folder, negative, not_exhaustive):
    return {
        "id": id_,
        "width": 640,
        "height": 480,
        "coco_url": f"http://images.cocodataset.org/{folder}/{id_:012d}.jpg",
        "flickr_url": "",
        "neg_category_ids": negative,
        "not_exhaustive_category_ids": not_exhaustive,
    }


def annotation(id_, image_id, category_id, bbox):
    return {
        "id": id_,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": bbox,
        "segmentation": [[1, 2]],
        "area": 1,
    }


def test_lvis(convert, tmp_path, picture_file, json_file):
    picture_file(tmp_path / "coco" / "val2017" / f"{7:012d}.jpg")
    picture_file(tmp_path / "coco" / "train2017" / f"{8:012d}.jpg")
    annotations = [
        annotation(1, 7, 2, [10, 20, 30, 40]),
        annotation(2, 7, 3, [10, 20, 300, 40]),
        annotation(3, 8, 1, [0, 0, 50, 60]),
    ]
    images = [image(7, "val2017", [4], [3]), image(8, "train2017", [], [])]
    value = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    done = convert("lvis", json_file(tmp_path / "lvis" / "lvis_v1_val.json", value))
    assert done.image_root == tmp_path / "coco"
    # 7: the cats are not exhaustive; only the dog is known to be absent, so it is the one negative, the tree is none.
    # 8: nothing is known to be absent.
    assert {row["image"]: sorted(row["targets"]) for row in done.rows} == {
        "val2017/000000000007.jpg": ["dog", "fire hydrant"],
        "train2017/000000000008.jpg": ["bow (weapon)"],
    }
    assert done.answers()["lvis_v1_val-7"] == [{"bbox_2d": [10, 20, 40, 60], "label": "fire hydrant"}]
    assert done.dropped == {"box: its category is not boxed completely in the image": 1}
