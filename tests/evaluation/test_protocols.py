"""The shipped protocols: they load, and the paper's differ from their strict twins where the original reads otherwise.

Every answer is constructed, and its result under both readings is known by hand.
"""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from testing_samples import gold_objects, sample
from vlm_r1.config.schema import DataSource
from vlm_r1.data.sources import load_sources
from vlm_r1.errors import ConfigError
from vlm_r1.evaluation.evaluate import choose_records
from vlm_r1.evaluation.measures import measure
from vlm_r1.evaluation.protocol import as_protocol, differences, load_protocol, protocol_names
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.templates import TEMPLATES, build_prompt
from vlm_r1.types import Record

SHARED = Path(__file__).resolve().parents[3] / "shared" / "reference"


@pytest.mark.parametrize("name", protocol_names())
def test_every_shipped_protocol_loads(name):
    protocol = load_protocol(name)
    assert protocol.name == name
    assert protocol.title
    assert protocol.data.splits == {}
    assert "{" not in (protocol.data.convert or "")
    assert protocol.template is None or protocol.template in TEMPLATES
    if name != "synthetic":  # each of its records names its task
        assert protocol.task in TASKS
        assert protocol.metrics
    assert as_protocol(protocol.model_dump(mode="json"), "again") == protocol


def test_splits_have_protocols_of_their_own():
    val, test_a = load_protocol("refcoco"), load_protocol("refcoco_testA")
    assert (val.data.split, val.data.records) == ("val", 10834)
    assert list(differences(val.model_dump(mode="json"), test_a.model_dump(mode="json"))) == [
        "name: 'refcoco' and 'refcoco_testA'",
        "title: 'RefCOCO, a box for each expression (val)' and 'RefCOCO, a box for each expression (testA)'",
        "data.split: 'val' and 'testA'",
        "data.records: 10834 and 5657",
        "data.convert: 'vlm-r1 data convert refcoco refcoco/ --by unc --split val --out refcoco_val.jsonl' and 'vlm-r1 "
        "data convert refcoco refcoco/ --by unc --split testA --out refcoco_testA.jsonl'",
    ]
    with pytest.raises(ConfigError, match=r'there is no such protocol. Did you mean "refcoco_testA"'):
        load_protocol("refcoco_tstA")


@pytest.mark.parametrize(
    ("paper", "strict"),
    [("paper_rec", "strict_rec"), ("paper_ovd", "strict_ovd"), ("paper_ovdeval", "strict_ovdeval")],
)
def test_the_twins_of_the_papers_protocols_differ_in_the_reading_alone(paper, strict):
    pair = (load_protocol(name).model_dump(mode="json") for name in (paper, strict))
    assert [line.partition(":")[0] for line in differences(*pair)] == ["name", "title", "reading"]


@pytest.mark.parametrize(
    ("task", "reading", "message"),
    [
        ("counting", "official", "reading official is for task rec or ovd, got counting"),
        ("ovd", "official_baseline", "reading official_baseline is for task rec, got ovd"),
    ],
)
def test_a_reading_that_a_task_does_not_have(task, reading, message):
    content = {"name": "mine", "title": "Mine", "data": {"set": "mine"}, "task": task, "reading": reading}
    with pytest.raises(ConfigError, match=message):
        as_protocol(content, "mine.yaml")


def metrics(samples, name):
    return {key: own["mean"] for key, own in measure(samples, load_protocol(name), seed=0)["metrics"].items()}


# ---- one box -------------------------------------------------------------------------------------------------------

GOLD = [100, 100, 200, 200]
WRONG = "[300, 300, 400, 400]"
RIGHT = str(GOLD)


def tagged(text):
    return f"<think>…</think><answer>{text}</answer>"


REC = [
    # text, gold box, right by the paper's protocol, right by the strict one
    pytest.param(tagged(f'{{"bbox_2d": {RIGHT}}}'), GOLD, 1, 1, id="as asked"),
    pytest.param(tagged(f'```json\n[{{"bbox_2d": {RIGHT}}}]\n```'), GOLD, 1, 1, id="fenced"),
    pytest.param(tagged(f'It is {{"bbox_2d": {RIGHT}}}, there.'), GOLD, 1, 1, id="text around"),
    pytest.param(tagged(RIGHT), GOLD, 0, 1, id="a bare list: the paper wants braces"),
    pytest.param(tagged('{"bbox_2d": [100.0, 100.0, 200.0, 200.0]}'), GOLD, 0, 1, id="decimals"),
    pytest.param(tagged('{"bbox_2d": [200, 200, 100, 100]}'), GOLD, 0, 1, id="swapped corners"),
    pytest.param(tagged('{"bbox_2d": [190, 100, 100, 200]}'), GOLD, 0, 1, id="swapped left and right"),
    pytest.param(tagged(f'{{"a": {WRONG}, "b": {RIGHT}}}'), GOLD, 1, 0, id="several boxes, the last one right"),
    pytest.param(tagged(f'{{"a": {RIGHT}, "b": {WRONG}}}'), GOLD, 0, 0, id="several boxes, the first one right"),
    pytest.param(f'{{"bbox_2d": {RIGHT}}}', GOLD, 0, 0, id="no tags"),
    pytest.param(f'<answer>{{"bbox_2d": {RIGHT}}}', GOLD, 0, 0, id="the tag is not closed"),
    pytest.param(f'<answer>{{"bbox_2d": {RIGHT}}}</answer>', GOLD, 1, 1, id="no thought: form is no accuracy"),
    pytest.param(tagged(f"{{{RIGHT}}}") + tagged(f"{{{WRONG}}}"), GOLD, 1, 0, id="two answers, the first one right"),
    pytest.param(f"<think><answer>{{{WRONG}}}</answer></think>" + tagged(f"{{{RIGHT}}}"), GOLD, 0, 1, id="in thought"),
    pytest.param(tagged('{"bbox_2d": [10, 10, 11, 110]}'), [10, 10, 11, 110], 0, 1, id="a target of one pixel"),
    pytest.param(tagged('{"bbox_2d": [100, 100, 150, 200]}'), GOLD, 0, 0, id="IoU of 0.5 is not greater"),
    pytest.param(tagged('{"bbox_2d": [100, 100, 151, 200]}'), GOLD, 1, 1, id="IoU of 0.51"),
    pytest.param(tagged("None"), GOLD, 0, 0, id="None"),
    pytest.param(tagged('{"bbox_2d": [300, 100, 200, 200]}'), GOLD, 0, 0, id="no union: the original stops"),
    pytest.param(tagged(f"{{[{'9' * 5000}, 100, 200, 200]}}"), GOLD, 0, 0, id="too many digits: the original stops"),
]


@pytest.mark.parametrize(("text", "gold", "paper", "strict"), REC)
def test_one_box(text, gold, paper, strict):
    answer = sample("rec", gold, text, template="r1")
    found = (metrics([answer], "paper_rec")["accuracy_iou50"], metrics([answer], "strict_rec")["accuracy_iou50"])
    assert found == (paper, strict)


def test_all_of_them_together():
    answers = [sample("rec", gold, text, template="r1") for text, gold, *_ in (case.values for case in REC)]
    paper, strict = (measure(answers, load_protocol(name), seed=0) for name in ("paper_rec", "strict_rec"))
    assert paper["metrics"]["accuracy_iou50"]["mean"] == pytest.approx(7 / 20)
    assert strict["metrics"]["accuracy_iou50"]["mean"] == pytest.approx(11 / 20)
    # where the original itself stops with an error, it would give no number at all
    assert paper["parse_failures"] == {"official_failed": 2}
    assert strict["parse_failures"]["several_boxes"] == 2


def test_the_papers_sample():
    data = list(range(3000))
    expected = data.copy()
    random.Random(42).shuffle(expected)  # the original: random.seed(42), random.shuffle(data), data[:2000]
    assert choose_records(data, load_protocol("paper_rec").sample) == expected[:2000]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param(
            "paper_rec",
            "First output the thinking process in <think> </think> tags and then output the final answer in <answer> "
            "</answer> tags. Output the final answer in JSON format.",
            id="with thinking",
        ),
        pytest.param("paper_rec_baseline", "Please provide the bounding box coordinate in JSON format.", id="direct"),
    ],
)
def test_the_papers_question(name, words):
    question = "Please provide the bounding box coordinates of the region this sentence describes: the cat."
    record = Record("1", "rec", "<image>the cat", ("a.jpg",), GOLD)
    template = TEMPLATES[load_protocol(name).template or ""]
    assert build_prompt(get_task("rec"), record, template).text == f"<image>{question} {words}"


def test_the_papers_protocol_scales_the_box_that_the_model_saw():
    more = {"box_format": "input_pixels", "size": (640, 480), "input_size": (1288, 952)}  # 2.0125 and 1.9833 times
    answer = sample("rec", GOLD, tagged('{"bbox_2d": [201, 198, 402, 397]}'), template="r1", **more)
    assert metrics([answer], "paper_rec")["iou"] == pytest.approx(metrics([answer], "strict_rec")["iou"], abs=0.01)
    assert metrics([answer], "paper_rec")["iou"] > 0.98


@pytest.mark.parametrize(
    ("text", "baseline", "paper"),
    [
        pytest.param(RIGHT, 1, 0, id="a bare list"),
        pytest.param(f"<think>{RIGHT}</think><answer>{WRONG}</answer>", 1, 0, id="the first box, even of a thought"),
        pytest.param("[ 100.0, 100.0, 200.0, 200.0 ]", 1, 0, id="decimals"),
        pytest.param(f'```json\n[{{"bbox_2d": {WRONG}}}, {{"bbox_2d": {RIGHT}}}]\n```', 0, 0, id="the second box"),
    ],
)
def test_the_baseline_is_read_by_another_script(text, baseline, paper):
    answer = sample("rec", GOLD, text, template="direct")
    assert metrics([answer], "paper_rec_baseline")["accuracy_iou50"] == baseline
    assert metrics([answer], "paper_rec")["accuracy_iou50"] == paper


# ---- detection -----------------------------------------------------------------------------------------------------

CAT = {"bbox_2d": [0, 0, 100, 100], "label": "cat"}
DOG = {"bbox_2d": [200, 200, 300, 300], "label": "dog"}
FAR = {"bbox_2d": [400, 0, 420, 20], "label": "cat"}
BACK = {"bbox_2d": [100, 100, 0, 0], "label": "cat"}
BIRD = {"bbox_2d": [400, 0, 420, 20], "label": "bird"}


def fenced(*items):
    return tagged(f"```json\n{json.dumps(items)}\n```")


OVD = [
    # text, and (AP of the set, GP, GR) by the paper's protocol and by the strict one; AP is the mean over cat and dog
    pytest.param(fenced(CAT, DOG), (1, 1, 1), (1, 1, 1), id="as asked"),
    pytest.param(tagged(json.dumps([CAT, DOG])), (0, None, 0), (1, 1, 1), id="no fence"),
    pytest.param(json.dumps([CAT, DOG]), (0, None, 0), (0, None, 0), id="no tags"),
    pytest.param(fenced(CAT, DOG, {"label": "cat"}), (1, 1, 1), (0, None, 0), id="a broken item"),
    pytest.param(fenced(BACK, DOG), (1 / 2, 1 / 2, 1 / 2), (1, 1, 1), id="swapped corners"),
    pytest.param(fenced(CAT, {**DOG, "label": "dog "}), (1 / 2, 1, 1 / 2), (1, 1, 1), id="a space in a label"),
    pytest.param(fenced(CAT, {**DOG, "label": "Dog"}), (1 / 2,) * 3, (1 / 2,) * 3, id="a capital letter is a label"),
    pytest.param(fenced(CAT, DOG, BIRD), (1, 2 / 3, 1), (1, 2 / 3, 1), id="a label that is not there is free under AP"),
    # all scores are 1, so boxes count in the order written: one wrong cat before the right one halves its precision
    pytest.param(fenced(FAR, CAT, DOG), (3 / 4, 2 / 3, 1), (3 / 4, 2 / 3, 1), id="a wrong box before"),
    pytest.param(fenced(CAT, FAR, DOG), (1, 2 / 3, 1), (1, 2 / 3, 1), id="a wrong box after"),
    pytest.param(tagged("None"), (0, None, 0), (0, None, 0), id="None"),
]


@pytest.mark.parametrize(("text", "paper", "strict"), OVD)
def test_detection(text, paper, strict):
    gold = gold_objects(("cat", CAT["bbox_2d"]), ("dog", DOG["bbox_2d"]))
    answer = sample("ovd", gold, text, template="paper")
    for name, wanted in (("paper_ovd", paper), ("strict_ovd", strict)):
        found = metrics([answer], name)
        assert [found.get(key) for key in ("dataset_ap", "gp", "gr")] == pytest.approx(wanted), name


def test_nms_ap_is_fooled_by_no_label_at_the_same_place():
    gold = gold_objects(("red car", CAT["bbox_2d"]))
    both = [{**CAT, "label": "blue car"}, {**CAT, "label": "red car"}]
    columns = {"subset": "color"}
    first, second = (
        sample("ovd", gold, fenced(*items), template="paper", columns=columns) for items in (both, both[::-1])
    )
    # of equally sure boxes at one place OVDEval keeps the last written
    assert [metrics([answer], "paper_ovdeval")["dataset_ap"] for answer in (first, second)] == [pytest.approx(1.0)] * 2
    assert [metrics([answer], "paper_ovdeval")["nms_ap"] for answer in (first, second)] == [pytest.approx(1.0), 0.0]


@pytest.mark.skipif(not SHARED.exists(), reason="the known answers are not here")
@pytest.mark.parametrize("name", ["paper_ovdeval", "strict_ovdeval"])
def test_known_numbers_of_ovdeval(name):
    """Two of the four sets have scores of 1 throughout, as a language model's boxes do."""
    sets = json.loads((SHARED / "ovdeval_golden.json").read_text(encoding="utf-8"))
    measured = 0
    for golden in sets:
        if {row["score"] for row in golden["predictions"]} == {1.0}:
            answers = [_of_image(golden, image["id"]) for image in golden["gt"]["images"]]
            numbers = measure(answers, load_protocol(name), seed=0)["dataset"]
            wanted = golden["coco_stats"][:3], golden["nms_coco_stats"][:3]
            for prefix, known in zip(("", "nms_"), wanted, strict=True):
                found = [numbers[prefix + key] for key in ("ap", "ap50", "ap75")]
                assert found == pytest.approx(known, abs=1e-9)  # as many digits as are written there
            measured += 1
    assert measured == 2


def _of_image(golden, image_id):
    gold, found = (
        [_item(row) for row in rows if row["image_id"] == image_id]
        for rows in (golden["gt"]["annotations"], golden["predictions"])
    )
    return sample("ovd", gold or "None", fenced(*found), template="paper", image=f"{image_id}.jpg")


def _item(row):
    x, y, width, height = row["bbox"]
    return {"bbox_2d": [x, y, x + width, y + height], "label": f"c{row['category_id']}"}


# ---- sets that are read as they are published ----------------------------------------------------------------------


def _picture():
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


PUBLISHED = {
    "document_vqa": (
        {
            "questionId": "337",
            "question": "what is the date?",
            "docId": 279,
            "answers": ["1/8/93"],
            "data_split": "val",
        },
        "1/8/93",
        # one of six letters differs: 1 − 1/6
        ("1/8/95", "anls", 5 / 6),
    ),
    "multiple_choice": (
        {"index": 1, "question": "Which?", "A": "cat", "B": "dog", "C": None, "answer": "B", "category": "animals"},
        "B. dog",
        ("cat", "accuracy", 0.0),
    ),
    "yes_no": (
        {"id": "0", "question": "Is there a snowboard?", "answer": "yes", "category": "adversarial"},
        "Yes.",
        ("I know", "accuracy", 0.0),
    ),
    "open_vqa": (
        {"id": "1", "question": "What is red?", "answer": "the bus", "fullAnswer": "The bus is red."},
        "The bus",
        ("The bus is red", "accuracy", 0.0),
    ),
    "math": ({"id": "1", "question": "How long?", "answer": "1/2"}, "0.5", ("0.51", "accuracy", 0.0)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_tables_with_pictures_need_no_converter(tmp_path, monkeypatch, name):
    """DocVQA, MMBench, POPE and GQA as they are published in Parquet, and a table of formulas."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    row, right, (wrong, metric, value) = PUBLISHED[name]
    pq.write_table(pa.Table.from_pylist([{**row, "image": _picture()}]), tmp_path / "set.parquet")
    protocol = load_protocol(name)
    (record,) = load_sources([DataSource(path=str(tmp_path / "set.parquet"), task=protocol.task)])
    for text, wanted in ((right, 1.0), (wrong, value)):
        answer = sample(record.task, record.answer, tagged(text), template="r1", columns=record.columns)
        result = measure([answer], protocol, seed=0)
        assert result["metrics"][metric]["mean"] == pytest.approx(wanted)
        assert set(protocol.subsets_by) <= set(result["subsets"])


@pytest.mark.skipif(not SHARED.exists(), reason="the known answers are not here")
def test_gui_defects_of_a_real_file():
    lines = (SHARED / "gui_multi-image.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    golds = [json.loads(line)["conversations"][1]["value"] for line in lines]
    always_none = [sample("gui_defect", gold, tagged("No Defect"), template="r1") for gold in golds]
    found = metrics(always_none, "gui_defect")
    bare = [re.sub(r"</?answer>", "", gold).strip() for gold in golds]
    assert found["accuracy"] == found["presence_accuracy"] == pytest.approx(bare.count("No Defect") / len(bare))
    right = [sample("gui_defect", gold, tagged(text), template="r1") for gold, text in zip(golds, bare, strict=True)]
    assert metrics(right, "gui_defect")["accuracy"] == 1.0
