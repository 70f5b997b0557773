"""Sound annotation files of every converter, as trees, and every form of file that it reads."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

BOX = [10, 20, 40, 50]
PICTURE = "a.png"


NAMES = [{"id": 1, "name": "cat", "supercategory": "animal"}, {"id": 2, "name": "dog", "supercategory": "animal"}]
IMAGES = [{"id": 1, "file_name": PICTURE, "width": 64, "height": 60}]
BOXES = [
    {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [1, 2, 30, 40],
        "iscrowd": 0,
        "area": 9,
        "segmentation": [[1, 2, 3, 4]],
    },
    {"id": 2, "image_id": 1, "category_id": 2, "bbox": [5, 5.5, 20, 20], "iscrowd": 0, "area": 9, "segmentation": []},
]
COCO_TREE = {"info": {}, "images": IMAGES, "annotations": BOXES, "categories": NAMES}
SENTENCE = {"tokens": ["a", "cat"], "raw": "a cat", "sent_id": 1, "sent": "a cat"}
POLYGON = [[10, 20], [40, 20], [40, 50]]
REFERENCE = {
    "sent_ids": [1],
    "file_name": "a_1.png",
    "ann_id": 1,
    "ref_id": 1,
    "image_id": 1,
    "split": "train",
    "sentences": [SENTENCE],
    "category_id": 1,
}
D3_ANNOTATION = {
    "id": 1,
    "sent_id": [1],
    "image_id": 0,
    "bbox": [[1, 2, 30, 40]],
    "group_id": 0,
    "iscrowd": 0,
    "area": [9],
}

COUNTED = {"label": "cats", "count": 2, "points": {"x": [1, 2], "y": [3, 4]}, "image_url": "http://a/1.jpg"}


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 60)).save(buffer, "PNG")
    return buffer.getvalue()


SOURCES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "refcoco": (".", {"refs(unc).p": [REFERENCE], "instances.json": COCO_TREE}, {}),
    "coco": ("annotations/instances_val2017.json", {"annotations/instances_val2017.json": COCO_TREE}, {}),
    "lvis": (
        "lvis_v1_val.json",
        {
            "lvis_v1_val.json": COCO_TREE
            | {
                "images": [
                    {
                        "id": 1,
                        "coco_url": f"http://x/val2017/{PICTURE}",
                        "width": 64,
                        "height": 60,
                        "neg_category_ids": [2],
                        "not_exhaustive_category_ids": [],
                    }
                ]
            }
        },
        {},
    ),
    "d3": (
        "d3_pkl",
        {
            "d3_pkl/sentences.pkl": {
                1: {"id": 1, "anno_id": [1], "group_id": [0], "is_negative": False, "raw_sent": "a cat"},
                2: {"id": 2, "anno_id": [], "group_id": [0], "is_negative": False, "raw_sent": "a dog"},
            },
            "d3_pkl/annotations.pkl": {1: D3_ANNOTATION},
            "d3_pkl/images.pkl": {
                0: {"id": 0, "file_name": PICTURE, "height": 60, "width": 64, "anno_id": [1], "group_id": 0}
            },
            "d3_pkl/groups.pkl": {
                0: {"id": 0, "pos_sent_id": [1], "inner_sent_id": [1, 2], "outer_sent_id": [], "img_id": [0]}
            },
        },
        {},
    ),
    "d3 json": (
        "d3_json/d3_full_annotations.json",
        {"d3_json/d3_full_annotations.json": COCO_TREE},
        {},
    ),
    "ovdeval": (
        "color.json",
        {"color.json": COCO_TREE | {"images": [IMAGES[0] | {"text": ["cat", "dog"], "neg_text": ["lamp"]}]}},
        {},
    ),
    "reasonseg": (
        "val",
        {
            "val/a.json": {
                "text": ["what barks?"],
                "is_sentence": True,
                "shapes": [
                    {"label": "target", "labels": ["target"], "shape_type": "polygon", "points": POLYGON, "flags": {}}
                ],
            }
        },
        {},
    ),
    "odinw": (".", {"fish/test/_annotations.coco.json": COCO_TREE}, {}),
    "screenspot": (
        ".",
        {
            "screenspot_web.json": [
                {"img_filename": PICTURE, "bbox": BOX, "instruction": "go", "data_type": "icon", "data_source": "ios"}
            ]
        },
        {},
    ),
    "countbench": (
        "in.parquet",
        {
            "in.parquet": [
                {
                    "image_url": "http://a/1.jpg",
                    "text": "Three",
                    "number": 3,
                    "question": "How many?",
                    "image": {"bytes": _png(), "path": None},
                }
            ]
        },
        {},
    ),
    "pixmo-count": (
        "in.json",
        {
            "in.json": [
                {
                    "label": "cats",
                    "count": 2,
                    "points": {"x": [1, 2], "y": [3, 4]},
                    "image_url": "http://a/1.jpg",
                    "image_sha256": "x",
                }
            ]
        },
        {},
    ),
    "countbench json": (
        "in.json",
        {
            "in.json": [{"image_url": "http://a/1.jpg", "text": "Three", "number": 3}],
            "questions.json": [{"question": "How many?"}],
        },
        {"questions": "questions.json"},
    ),
    "pixmo-count jsonl": ("in.jsonl", {"in.jsonl": [COUNTED, COUNTED]}, {}),
    "pixmo-count parquet": ("in.parquet", {"in.parquet": [COUNTED]}, {}),
    "negatives": (
        "in.jsonl",
        {
            "in.jsonl": [
                {
                    "id": name,
                    "image": PICTURE,
                    "conversations": [
                        {"from": "human", "value": f"<image>{name}"},
                        {"from": "gpt", "value": [{"bbox_2d": BOX, "label": name}]},
                    ],
                }
                for name in ("cat", "dog")
            ]
        },
        {"per_record": (1, 2)},
    ),
}
SOURCES |= {  # of labelling tools
    "yolo": (
        ".",
        {
            "data.yaml": {"path": ".", "train": ["images"], "names": {0: "cat", 1: "dog"}},
            "labels/a.txt": b"0 .4 .5 .3 .4",
        },
        {},
    ),
    "yolo labels": (
        ".",
        {"labels/a.txt": b"0 .4 .5 .3 .4\n1 .1 .1 .9 .1 .9 .9\n", "classes.txt": b"cat\ndog\n"},
        {"split": "all"},
    ),
    "voc": (
        ".",
        {
            "Annotations/a.xml": b"<annotation><filename>a.png</filename><size><width>64</width><height>60</height>"
            b"</size><object><name>cat</name><difficult>1</difficult><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>40</xmax>"
            b"<ymax>50</ymax></bndbox></object></annotation>",
            "ImageSets/Main/train.txt": b"a\n",
        },
        {"split": "all"},
    ),
    "labelme": (
        ".",
        {
            "images/a.json": {
                "shapes": [
                    {"label": "cat", "points": [[10, 20], [40, 50]], "shape_type": "rectangle", "group_id": None},
                    {"label": "dog", "points": [[10, 20], [15, 22]], "shape_type": "circle", "group_id": 1},
                ],
                "imagePath": PICTURE,
                "imageData": None,
                "imageWidth": 64,
                "imageHeight": 60,
            }
        },
        {"split": "all"},
    ),
    "cvat": (
        "annotations.xml",
        {
            "annotations.xml": b'<annotations><meta><label><name>cat</name></label></meta><image name="a.png" '
            b'width="64" height="60"><box label="cat" xtl="10" ytl="20" xbr="40" ybr="50" rotation="30"/>'
            b'<polygon label="dog" points="1,2;30,4;5,60"/></image></annotations>'
        },
        {},
    ),
    "label-studio": (
        "in.json",
        {
            "in.json": [
                {
                    "data": {"image": f"/data/upload/1/0123abcd-{PICTURE}"},
                    "annotations": [
                        {
                            "was_cancelled": False,
                            "result": [
                                {
                                    "id": "r",
                                    "to_name": "image",
                                    "original_width": 64,
                                    "original_height": 60,
                                    "value": {
                                        "x": 10,
                                        "y": 20,
                                        "width": 30,
                                        "height": 40,
                                        "rotation": 5,
                                        "rectanglelabels": ["cat"],
                                    },
                                }
                            ],
                        }
                    ],
                }
            ]
        },
        {},
    ),
    "createml": (
        "in.json",
        {
            "in.json": [
                {
                    "image": PICTURE,
                    "annotations": [{"label": "cat", "coordinates": {"x": 30, "y": 30, "width": 20, "height": 10}}],
                }
            ]
        },
        {},
    ),
    "csv": (
        "in.csv",
        {"in.csv": b"filename,width,height,class,xmin,ymin,xmax,ymax\na.png,64,60,cat,10,20,40,50\n"},
        {},
    ),
}
_FOLDERS = (
    *("", "val/", "val2017/", "train2014/", "d3_images/", "fish/test/"),
    *("screenspot_imgs/", "color/", "images/"),
)
PLACES_OF_PICTURES = (*(f"{folder}{PICTURE}" for folder in _FOLDERS), "val/a.jpg")

TWO_RECORDS = ("pixmo-count jsonl", "negatives")
"""Those of which two records are made; one is made of each other."""
