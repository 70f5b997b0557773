"""Small source folders of the data sets that protocols are about, in the published layouts.

Each function writes one into a folder, so that the command of the protocol, `data.convert`, can be run in that folder.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from converters import test_coco, test_counting, test_d3, test_lvis, test_odinw, test_ovdeval, test_reasonseg
from converters.test_refcoco import INSTANCES, reference, sentence
from converters.test_screenspot import item

COCO_IMAGE = "COCO_train2014_000000581857.jpg"
SUBSETS = ("celebrity", "color", "landmark", "logo", "material", "negation", "position", "relationship")


def picture(path: Path, wh: tuple[int, int] = (640, 480)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", wh).save(path)


def as_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _refer(root: Path, name: str, by: str, splits: tuple[str, ...], images: str = "train2014") -> None:
    """Two objects in one image for each split; the first has two sentences."""
    picture(root / images / COCO_IMAGE, (640, 427))
    as_json(root / name / "instances.json", INSTANCES)
    refs = []
    for n, split in enumerate(splits):
        two = sentence(9 * n, "the lady with the blue shirt"), sentence(9 * n + 1, "lady back")
        man = sentence(9 * n + 2, "man")
        refs += [reference(2 * n, 11, 581857, split, *two), reference(2 * n + 1, 12, 581857, split, man)]
    (root / name / f"refs({by}).p").write_bytes(pickle.dumps(refs, protocol=2))


def refcoco(root: Path) -> None:
    _refer(root, "refcoco", "unc", ("val", "testA", "testB"))


def refcocop(root: Path) -> None:
    _refer(root, "refcoco+", "unc", ("val", "testA", "testB"))


def refcocog(root: Path) -> None:
    _refer(root, "refcocog", "umd", ("val", "test"))


def refgta(root: Path) -> None:
    _refer(root, "refgta", "utokyo", ("val", "test"), "gta_image")


def grefcoco(root: Path) -> None:
    """For each split an expression for two objects, one for one object, and one for none."""
    picture(root / "train2014" / COCO_IMAGE, (640, 427))
    as_json(root / "grefcoco" / "instances.json", INSTANCES)
    refs = []
    for n, split in enumerate(("val", "testA", "testB")):
        for m, (text, objects) in enumerate((("both", [11, 12]), ("the man", [12]), ("the zebra", [-1]))):
            ref = reference(3 * n + m, 0, 581857, split, sentence(3 * n + m, text))
            refs.append({**ref, "ann_id": objects, "no_target": objects == [-1]})
    as_json(root / "grefcoco" / "grefs(unc).json", refs)


def reasonseg(root: Path) -> None:
    """For each split a question and a phrase about one region, and a question about another picture's region."""
    for split in ("test", "val"):
        for name, texts, is_sentence in (("a", ["what barks?"], True), ("b", ["the dog", "the animal"], False)):
            picture(root / "ReasonSeg" / split / f"{name}.jpg", (200, 100))
            value = {"text": texts, "is_sentence": is_sentence, "shapes": [test_reasonseg.TARGET]}
            as_json(root / "ReasonSeg" / split / f"{name}.json", value)


def coco(root: Path) -> None:
    for id_ in (139, 285):
        picture(root / "val2017" / f"{id_:012d}.jpg")
    rows = [row for row in test_coco.ANNOTATIONS if row["image_id"] in (139, 285)]
    images = [test_coco.image(139), test_coco.image(285)]
    value = {"images": images, "annotations": rows, "categories": test_coco.CATEGORIES}
    as_json(root / "annotations" / "instances_val2017.json", value)


def lvis(root: Path) -> None:
    picture(root / "val2017" / f"{7:012d}.jpg")
    picture(root / "val2017" / f"{8:012d}.jpg")
    rows = [
        test_lvis.annotation(1, 7, 2, [10, 20, 30, 40]),
        test_lvis.annotation(2, 7, 3, [10, 20, 300, 40]),
        test_lvis.annotation(3, 8, 1, [0, 0, 50, 60]),
    ]
    images = [test_lvis.image(7, "val2017", [4], [3]), test_lvis.image(8, "val2017", [], [])]
    as_json(root / "lvis_v1_val.json", {"images": images, "annotations": rows, "categories": test_lvis.CATEGORIES})


def d3(root: Path) -> None:
    for id_ in (0, 1):
        picture(root / "d3_images" / "scene" / f"{id_}.jpg")
    test_d3.pickles(root / "d3_pkl", {0: test_d3.image(0, [10, 11], 0), 1: test_d3.image(1, [], 1)})


def ovdeval(root: Path) -> None:
    """One image for each of the eight sets that the aspects are made of, with pictures that have the same name."""
    image = test_ovdeval.SUBSET["images"][0]
    for subset in SUBSETS:
        picture(root / "images" / subset / image["file_name"], (340, 254))
        as_json(root / "annotations" / f"{subset}.json", {**test_ovdeval.SUBSET, "images": [image]})


def odinw(root: Path) -> None:
    for folder in ("Aquarium/raw/test", "pothole/test"):
        picture(root / "odinw" / folder / "IMG_1.rf.ab12.jpg", (768, 1024))
        as_json(root / "odinw" / folder / "_annotations.coco.json", test_odinw.AQUARIUM)


def screenspot(root: Path) -> None:
    _screenspot(root / "screenspot", "", "screenspot_imgs")


def screenspot_v2(root: Path) -> None:
    _screenspot(root / "screenspot_v2", "_v2", "screenspotv2_image")


def _screenspot(root: Path, version: str, folder: str) -> None:
    picture(root / folder / "mobile_1.png", (400, 800))
    picture(root / folder / "web_1.png", (800, 400))
    as_json(root / f"screenspot_mobile{version}.json", [item("mobile_1.png"), item("mobile_1.png", "close it")])
    as_json(root / f"screenspot_web{version}.json", [item("web_1.png", data_type="text", data_source="shop")])


def screenspot_pro(root: Path) -> None:
    picture(root / "ScreenSpot-Pro" / "images" / "vscode" / "1.png", (3840, 2160))
    more = {"img_size": [3840, 2160], "id": "vscode_macos_0", "application": "vscode", "platform": "macos"}
    row = item("vscode/1.png", bbox=(10, 20, 100, 40), ui_type="icon", group="Dev", **more)
    as_json(root / "ScreenSpot-Pro" / "annotations" / "vscode_macos.json", [row])


def countbench(root: Path) -> None:
    as_json(root / "countbench_paired_questions.json", test_counting.QUESTIONS)
    table = pa.Table.from_pylist(test_counting.COUNTBENCH)
    pq.write_table(table, root / "train-00000-of-00001.parquet")


def pixmo_count(root: Path) -> None:
    for row in test_counting.PIXMO:
        picture(root / "images" / f"{row['image_sha256']}.png")
    for split in ("test", "validation"):
        pq.write_table(pa.Table.from_pylist(test_counting.PIXMO), root / f"{split}-00000-of-00001.parquet")


MAKERS: Mapping[str, Callable[[Path], None]] = {
    "refcoco": refcoco,
    "refcocop": refcocop,
    "refcocog": refcocog,
    "refgta": refgta,
    "grefcoco": grefcoco,
    "lisa_grounding": reasonseg,
    "coco_filtered": coco,
    "coco_ovd": coco,
    "lvis_ovd": lvis,
    "d3": d3,
    "ovdeval": ovdeval,
    "odinw": odinw,
    "screenspot": screenspot,
    "screenspot_v2": screenspot_v2,
    "screenspot_pro": screenspot_pro,
    "countbench": countbench,
    "pixmo_count": pixmo_count,
}
"""Name of a protocol, without its split → what writes its folder."""
