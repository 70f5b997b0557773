"""Small data sets as labelling tools write them: two pictures with a cat and two dogs, each written into a folder."""

from __future__ import annotations

import json
from pathlib import Path

from testing_datasets import as_json, picture

WH = (100, 80)
CAT, DOG, LOW_DOG = (10, 20, 30, 60), (50, 10, 90, 30), (40, 40, 80, 70)
PICTURES = {"a.jpg": [("cat", CAT), ("dog", DOG)], "b.jpg": [("dog", LOW_DOG)]}


def _pictures(folder: Path) -> None:
    for name in PICTURES:
        picture(folder / name, WH)


def coco(root: Path) -> Path:
    _pictures(root / "my pictures")
    names = ("cat", "dog", "bird")
    boxes = [(i, label, box) for i, found in enumerate(PICTURES.values(), 1) for label, box in found]
    rows = [
        {"id": n, "image_id": i, "category_id": names.index(label) + 1, "bbox": [x, y, x2 - x, y2 - y], "iscrowd": 0}
        for n, (i, label, (x, y, x2, y2)) in enumerate(boxes, 1)
    ]
    images = [{"id": i, "file_name": name, "width": WH[0], "height": WH[1]} for i, name in enumerate(PICTURES, 1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    path = root / "my pictures" / "instances.json"
    as_json(path, {"images": images, "annotations": rows, "categories": categories})
    return path


def yolo(root: Path) -> Path:
    """A folder with data.yaml and two splits."""
    for split, name in zip(("train", "val"), PICTURES, strict=True):
        picture(root / "yolo/images" / split / name, WH)
        lines = [yolo_line(("cat", "dog").index(label), box) for label, box in PICTURES[name]]
        path = (root / "yolo/labels" / split / name).with_suffix(".txt")
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(lines), encoding="utf-8")
    text = "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n"
    (root / "yolo/data.yaml").write_text(text, encoding="utf-8")
    return root / "yolo/data.yaml"


def yolo_line(number: int, box: tuple[int, int, int, int]) -> str:
    x1, y1, x2, y2 = box
    width, height = WH
    numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join(map(str, (number, *numbers)))


def yolo_flat(root: Path) -> Path:
    """Pictures, label files and classes.txt in one folder, as LabelImg writes them."""
    _pictures(root / "flat")
    for name, found in PICTURES.items():
        lines = [yolo_line(("cat", "dog").index(label), box) for label, box in found]
        (root / "flat" / name).with_suffix(".txt").write_text("\n".join(lines), encoding="utf-8")
    (root / "flat/classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    return root / "flat"


def voc(root: Path) -> Path:
    _pictures(root / "voc/JPEGImages")
    for name, found in PICTURES.items():
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>"
            for label, (x1, y1, x2, y2) in found
        )
        size = f"<size><width>{WH[0]}</width><height>{WH[1]}</height><depth>3</depth></size>"
        path = (root / "voc/Annotations" / name).with_suffix(".xml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"<annotation><filename>{name}</filename>{size}{objects}</annotation>", encoding="utf-8")
    return root / "voc"


def labelme(root: Path) -> Path:
    _pictures(root / "labelme")
    for name, found in PICTURES.items():
        shapes = [
            {"label": label, "points": [[x1, y1], [x2, y2]], "shape_type": "rectangle", "flags": {}}
            for label, (x1, y1, x2, y2) in found
        ]
        row = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None}
        as_json((root / "labelme" / name).with_suffix(".json"), {**row, "imageWidth": WH[0], "imageHeight": WH[1]})
    return root / "labelme"


def cvat(root: Path) -> Path:
    _pictures(root / "cvat/images")
    images = "".join(
        f'<image id="{i}" name="{name}" width="{WH[0]}" height="{WH[1]}">'
        + "".join(
            f'<box label="{label}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0"></box>'
            for label, (x1, y1, x2, y2) in found
        )
        + "</image>"
        for i, (name, found) in enumerate(PICTURES.items())
    )
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("cat", "dog"))
    meta = f"<version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    (root / "cvat/annotations.xml").write_text(f"<annotations>{meta}{images}</annotations>", encoding="utf-8")
    return root / "cvat/annotations.xml"


def label_studio(root: Path) -> Path:
    _pictures(root / "studio")
    width, height = WH
    tasks = []
    for i, (name, found) in enumerate(PICTURES.items(), 1):
        results = [
            {
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "value": {
                    "x": 100 * x1 / width,
                    "y": 100 * y1 / height,
                    "width": 100 * (x2 - x1) / width,
                    "height": 100 * (y2 - y1) / height,
                    "rotation": 0,
                    "rectanglelabels": [label],
                },
            }
            for label, (x1, y1, x2, y2) in found
        ]
        image = f"/data/upload/1/{name}"
        tasks.append({"id": i, "data": {"image": image}, "annotations": [{"id": i, "result": results}]})
    as_json(root / "studio/export.json", tasks)
    return root / "studio/export.json"


def createml(root: Path) -> Path:
    _pictures(root / "createml")
    rows = [
        {
            "image": name,
            "annotations": [
                {
                    "label": label,
                    "coordinates": {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1},
                }
                for label, (x1, y1, x2, y2) in found
            ],
        }
        for name, found in PICTURES.items()
    ]
    as_json(root / "createml/_annotations.createml.json", rows)
    return root / "createml/_annotations.createml.json"


def table(root: Path) -> Path:
    _pictures(root / "csv")
    rows = [(name, *WH, label, *box) for name, found in PICTURES.items() for label, box in found]
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax", *(",".join(map(str, row)) for row in rows)]
    (root / "csv/boxes.csv").write_text("\n".join(lines), encoding="utf-8")
    return root / "csv/boxes.csv"


def roboflow(root: Path) -> Path:
    """COCO's form in the folders of two splits."""
    for split in ("train", "valid"):
        path = coco(root / "roboflow" / split / "made")
        value = json.loads(path.read_text(encoding="utf-8"))
        as_json(root / "roboflow" / split / "_annotations.coco.json", value)
        for name in PICTURES:
            (path.parent / name).rename(root / "roboflow" / split / name)
        path.unlink()
        path.parent.rmdir()
        path.parent.parent.rmdir()
    return root / "roboflow"
