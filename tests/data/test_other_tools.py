"""Data of other tools where a data file was wanted: the sentence is right, and its command runs as it is printed."""

import argparse
import json
import shlex
from pathlib import Path

import pytest

import testing_datasets
import testing_tools
from vlm_r1.cli import data
from vlm_r1.config import DataSource
from vlm_r1.converters import CONVERTERS
from vlm_r1.data.annotations import recognise_file, xml_contents
from vlm_r1.data.other_tools import sentence_about
from vlm_r1.data.records import RecordFile
from vlm_r1.data.sources import load_sources
from vlm_r1.errors import DataError


def refcoco(root: Path) -> Path:
    testing_datasets._refer(root, "refcoco", "unc", ("train", "val"))
    return root / "refcoco/refs(unc).p"


def published(name: str, path: str):
    """A maker of a published data set: what is opened is this path of its folder."""

    def make(root: Path) -> Path:
        testing_datasets.MAKERS[name](root)
        return root / path

    return make


CASES = {
    "COCO": (testing_tools.coco, "COCO instances (2 pictures, 3 names)", "coco"),
    "RefCOCO, a pickle": (refcoco, "RefCOCO", "refcoco"),
    "RefCOCO, its folder": (lambda root: refcoco(root).parent, "RefCOCO", "refcoco"),
    "RefCOCO, its instances": (lambda root: refcoco(root).with_name("instances.json"), "RefCOCO", "refcoco"),
    "LVIS": (published("lvis_ovd", "lvis_v1_val.json"), "LVIS (2 pictures, 5 names)", "lvis"),
    "D3": (published("d3", "d3_pkl"), "D³", "d3"),
    "D3, a pickle": (published("d3", "d3_pkl/images.pkl"), "D³", "d3"),
    "OVDEval": (published("ovdeval", "annotations/color.json"), "OVDEval (1 picture", "ovdeval"),
    "ReasonSeg": (published("lisa_grounding", "ReasonSeg/val"), "ReasonSeg (2 pictures)", "reasonseg"),
    "ReasonSeg, a file": (published("lisa_grounding", "ReasonSeg/val/a.json"), "ReasonSeg (2 pict", "reasonseg"),
    "ScreenSpot": (published("screenspot", "screenspot/screenspot_web.json"), "ScreenSpot (1 picture)", "screenspot"),
    "PixMo-Count": (published("pixmo_count", "test-00000-of-00001.parquet"), "PixMo-Count (", "pixmo-count"),
    "CountBench": (published("countbench", "train-00000-of-00001.parquet"), "CountBench (", "countbench"),
    "COCO in the folders of splits": (testing_tools.roboflow, "COCO instances in folders (4 pictures)", "odinw"),
    "COCO, its folder": (lambda root: testing_tools.coco(root).parent, "COCO instances (2 pictures, 3 names)", "coco"),
    "YOLO, data.yaml": (testing_tools.yolo, "YOLO (2 pictures, 2 names)", "yolo"),
    "YOLO, its folder": (lambda root: testing_tools.yolo(root).parent, "YOLO (2 pictures, 2 names)", "yolo"),
    "YOLO, a label file": (lambda root: testing_tools.yolo(root).parent / "labels/val/b.txt", "YOLO (2 p", "yolo"),
    "YOLO with classes.txt": (testing_tools.yolo_flat, "YOLO (2 pictures, 2 names)", "yolo"),
    "Pascal VOC": (testing_tools.voc, "Pascal VOC (2 pictures, 2 names)", "voc"),
    "Pascal VOC, a file": (lambda root: testing_tools.voc(root) / "Annotations/a.xml", "Pascal VOC (2 p", "voc"),
    "labelme": (testing_tools.labelme, "labelme (2 pictures, 2 names)", "labelme"),
    "labelme, a file": (
        lambda root: testing_tools.labelme(root) / "b.json",
        "labelme (2 pictures, 2 names)",
        "labelme",
    ),
    "CVAT": (testing_tools.cvat, "CVAT (2 pictures, 2 names)", "cvat"),
    "Label Studio": (testing_tools.label_studio, "Label Studio (2 pictures, 2 names)", "label-studio"),
    "CreateML": (testing_tools.createml, "CreateML (2 pictures, 2 names)", "createml"),
    "a table": (testing_tools.table, "a table of boxes (2 pictures, 2 names)", "csv"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_said_and_the_command_runs_as_it_is_printed(case, tmp_path, capsys, monkeypatch):
    make, what, converter = CASES[case]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = make(tmp_path)
    with pytest.raises(DataError) as raised:
        RecordFile(DataSource(path=str(path), task="ovd"))
    said = str(raised.value)
    assert said.startswith(f"this is {what}")
    command = shlex.split(said[said.index(": vlm-r1 ") + 2 :])
    assert command[:4] == ["vlm-r1", "data", "convert", converter]
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    assert data.run(parser.parse_args(command[2:])) == 0
    assert "check it     vlm-r1 data check" in capsys.readouterr().out
    out = Path(command[command.index("--out") + 1])
    assert len(RecordFile(DataSource(path=str(out), task="ovd"))) >= 1
    assert sentence_about(str(path)) != said, "the next command would overwrite what this one wrote"


def test_every_converter_is_named_by_some_case():
    """Except `negatives`, whose source is a data file."""
    assert {converter for _, _, converter in CASES.values()} == {*CONVERTERS} - {"negatives"}


def row(**keys: object) -> str:
    return json.dumps({"image": "a.jpg", **keys})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("a.jsonl", row(problem="the cat", answer=[1, 2, 3, 4]), id="our lines"),
        pytest.param("a.jsonl", row(data={"image": "a.jpg"}, annotations=[]), id="lines with keys of a tool"),
        pytest.param("a.json", f"[{row(problem='the cat', answer=[1, 2, 3, 4])}]", id="a list of rows"),
        pytest.param("a.json", row(question="?", annotations=[], data={}), id="one row with keys of a tool"),
        pytest.param("a.json", '{"images": [], "annotations": []}', id="without categories"),
        pytest.param(
            "a.json",
            '{"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "a cat"}], "categories": []}',
            id="COCO captions",
        ),
        pytest.param("a.json", f"[{row(annotations=[])}]", id="CreateML without a label"),
        pytest.param("a.json", "[" * 5000, id="nested without end"),
        pytest.param("a.json", '{"shapes": 3, "imagePath": 4}', id="shapes that are none"),
        pytest.param("a.json", '[{"data": {}, "annotations": 3}, 4]', id="annotations that are none, and no row"),
        pytest.param("a.xml", "<annotations/>", id="an empty XML"),
        pytest.param("a.xml", "<annotation>", id="a broken XML"),
        pytest.param("a.xml", "<html><image/></html>", id="another XML"),
        pytest.param("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', id="an XML with a DTD"),
        pytest.param("a.yaml", "train: a.jsonl\nmodel: b", id="a recipe"),
        pytest.param("a.yaml", "a: &a [*a]", id="a YAML in itself"),
        pytest.param("a.csv", "question,answer\n1,2", id="a table without boxes"),
        pytest.param("a.csv", "x1,y1,x2,y2\n1,2,3,4", id="a table without pictures"),
        pytest.param("a.csv", "", id="an empty table"),
        pytest.param("a.txt", "0 0.5 0.5 cat 0.1", id="a text"),
        pytest.param("a.txt", "", id="an empty text"),
        pytest.param("refs.p", "", id="another pickle"),
        pytest.param("images.pkl", "", id="a pickle without the three others"),
        pytest.param("a.csv", "filename,xmin,ymin,xmax,ymax\n\udcff", id="a table that is no text"),
    ],
)
def test_other_files_are_not_taken_for_a_tools(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    assert sentence_about(str(tmp_path / name)) is None


def test_the_same_sentence_where_a_run_loads_its_data(tmp_path):
    path = testing_tools.coco(tmp_path)
    with pytest.raises(
        DataError, match=r"instances\.json: this is COCO instances \(2 pictures, 3 names\): vlm-r1 data"
    ):
        load_sources([DataSource(path=str(path), task="rec")])


def test_a_format_that_is_named_is_believed(tmp_path):
    path = testing_tools.createml(tmp_path)
    file = RecordFile(DataSource(path=str(path), task="rec", format="question_answer"))
    assert len(file) == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param({}, None, id="an empty folder"),
        pytest.param({"notes.md": "a"}, None, id="other files"),
        pytest.param(
            {"b.jsonl": "", "a.jsonl": "", "c/d.parquet": "", "e.jsonl": "", "x.jpg": ""},
            "this is a folder, wanted a data file. Name one of those in it: {}/a.jsonl, {}/b.jsonl, {}/c/d.parquet and "
            "1 more",
            id="data files",
        ),
        pytest.param(
            {"a/x.JPG": "", "b.png": "", ".c.png": ""}, "this is a folder of 2 pictures without", id="pictures"
        ),
        pytest.param(
            {"x.jpg": "", "x.txt": "0 0.5 0.5 0.1 0.1"},
            "this is YOLO without the names of its classes (write them into classes.txt, one a line) (1 picture): vlm",
            id="YOLO without names",
        ),
        pytest.param({"x.jpg": "", "x.txt": "a cat"}, "this is a folder of 1 picture without", id="captions"),
    ],
)
def test_folders(tmp_path, files, said):
    for name, text in files.items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = sentence_about(str(tmp_path / "set"))
    assert (found is None) == (said is None)
    assert (found or "").startswith((said or "").format(*[tmp_path / "set"] * 3))


def test_the_set_that_trains_is_chosen_where_there_are_several(tmp_path):
    assert "--split train" in str(sentence_about(str(testing_tools.yolo(tmp_path))))
    assert "--split" not in str(sentence_about(str(testing_tools.voc(tmp_path))))
    for split in ("train", "val"):
        path = tmp_path / f"voc/ImageSets/Main/{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a\n", encoding="utf-8")
    assert "--split train" in str(sentence_about(str(tmp_path / "voc")))


def test_negatives_are_not_advised_where_no_other_name_is_known(tmp_path):
    path = testing_tools.table(tmp_path)
    assert "--negatives 1:3" in str(sentence_about(str(path)))
    path.write_text(path.read_text(encoding="utf-8").replace("dog", "cat"), encoding="utf-8")
    assert "(2 pictures, 1 name): vlm-r1 data convert csv" in str(sentence_about(str(path)))
    assert "--negatives" not in str(sentence_about(str(path)))


def test_no_pickle_is_opened(tmp_path):
    path = refcoco(tmp_path)
    path.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    assert recognise_file(path).what == "RefCOCO"
    path.unlink()
    assert recognise_file(path) is None


def test_the_output_is_a_new_file_where_one_can_write(tmp_path, monkeypatch):
    path = testing_tools.coco(tmp_path)
    assert f"'{path.with_suffix('.jsonl')}'" in sentence_about(str(path))  # in quotes: the folder's name has a space
    path.with_suffix(".jsonl").write_text("precious", encoding="utf-8")
    assert "instances-2.jsonl" in sentence_about(str(path))
    monkeypatch.chdir(path.parent)
    assert "--out instances-2.jsonl" in sentence_about("instances.json")
    assert f"--out {shlex.quote(str(path.parent))}-2.jsonl" not in sentence_about(".")


def test_contents_of_an_xml(tmp_path):
    path = testing_tools.cvat(tmp_path)
    assert xml_contents(path) == ("annotations", 2, {"cat", "dog"})
    assert xml_contents(testing_tools.voc(tmp_path) / "Annotations/a.xml") == ("annotation", 0, {"cat", "dog"})
