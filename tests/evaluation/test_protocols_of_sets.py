"""Every shipped data set from its published folder to a result: its protocol's command, our reader, judge and measures.

The small folders are those of tests/converters. The answers are written as a perfect model, a wrong one, one that finds
nothing, and one that babbles would write them, on pictures that the model sees at twice their size.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from testing_datasets import MAKERS
from testing_samples import sample
from vlm_r1.cli.main import main
from vlm_r1.config.schema import DataSource
from vlm_r1.data.images import image_size
from vlm_r1.data.sources import load_sources
from vlm_r1.evaluation.measures import measure
from vlm_r1.evaluation.protocol import load_protocol, protocol_names
from vlm_r1.evaluation.samples import Sample
from vlm_r1.tasks import get_task
from vlm_r1.tasks.templates import get_template, gold_completion
from vlm_r1.types import BoxFormat, ImageFrame, Record

FAR = [390, 250, 392, 253]
"""A box far from all gold boxes of the small folders but the one that is a whole picture."""

CONVERTED = [name for name in protocol_names() if any(re.fullmatch(rf"{maker}(_[a-zA-Z]+)?", name) for maker in MAKERS)]


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    """`convert("refcoco")`: write the small folder, run the protocol's command there, and read its file."""

    def run(name: str) -> Sequence[Record]:
        protocol = load_protocol(name)
        maker = name if name in MAKERS else name.rpartition("_")[0]
        monkeypatch.chdir(tmp_path)
        MAKERS[maker](tmp_path)
        assert protocol.data.convert
        words = shlex.split(protocol.data.convert)
        assert main(words[1:]) == 0
        printed = capsys.readouterr().out
        root = re.search(r"--image-root (\S+)", printed)
        path = words[words.index("--out") + 1]
        source = DataSource(path=path, image_root=root[1] if root else str(tmp_path), task=protocol.task)
        return load_sources([source])

    return run


def answers(records: Sequence[Record], texts: Sequence[str]) -> list[Sample]:
    """The samples of these texts, as a model writes them that sees each picture at twice its size."""
    return [_answer(record, text) for record, text in zip(records, texts, strict=True)]


def _answer(record: Record, text: str, template: str = "r1") -> Sample:
    frame = _frame(record)
    return sample(
        record.task,
        record.answer,
        text,
        image=record.images[0],
        record_id=record.id,
        source=record.source,
        problem=record.problem,
        columns=record.columns,
        size=frame.original_wh,
        input_size=frame.input_wh,
        box_format="input_pixels",
        template=template,
    )


def _frame(record: Record) -> ImageFrame:
    width, height = image_size(Path(record.images[0]))
    return ImageFrame((width, height), (2 * width, 2 * height))


def perfect(record: Record) -> str:
    task = get_task(record.task)
    return gold_completion(task, record, (_frame(record),), BoxFormat.INPUT_PIXELS, get_template("r1"))


def wrong(record: Record) -> str:
    """Boxes far away, one more than there are, a point in the corner."""
    gold = get_task(record.task).gold(record)
    far = [{"bbox_2d": FAR, "label": item.label} for item in gold] if record.task == "ovd" else []
    values = {
        "rec": str(FAR),
        "multi_rec": f"[{FAR}]",
        "ovd": json.dumps(far),
        "counting": str(gold + 1) if record.task == "counting" else "",
        "gui_click": "[1, 1]",
    }
    return tagged(values[record.task])


def tagged(text: str) -> str:
    return f"<think></think><answer>{text}</answer>"


def means(samples: Sequence[Sample], name: str) -> dict[str, float]:
    return {key: own["mean"] for key, own in measure(samples, load_protocol(name), seed=0)["metrics"].items()}


def test_all_sets_with_a_converter_are_here():
    assert len(CONVERTED) == 27
    named = {name for name in protocol_names() if load_protocol(name).data.convert}
    twins = {"paper_ovd", "strict_ovd", "paper_ovdeval", "strict_ovdeval"}
    assert named - twins - {"synthetic"} == set(CONVERTED)


@pytest.mark.parametrize("name", CONVERTED)
def test_from_convert_to_result(convert, name):
    records, protocol = convert(name), load_protocol(name)
    main_metric, n = protocol.metrics[0], len(records)
    result = measure(answers(records, [perfect(record) for record in records]), protocol, seed=0)
    found = result["metrics"][main_metric]
    assert (found["mean"], found["ci95"], found["n"]) == (pytest.approx(1.0), pytest.approx([1.0, 1.0]), n)
    assert list(result["metrics"])[: len(protocol.metrics)] == [
        metric for metric in protocol.metrics if metric not in result["unmeasured"]
    ]
    assert (result["parse_failures"], result["format_rate"]) == ({}, 1.0)
    # only the measures of answers that reject are undefined if all records have targets
    assert set(result["unmeasured"]) <= {"rejection_precision", "rejection_recall"}
    assert set(protocol.subsets_by) <= set(result["subsets"])

    babble = measure(answers(records, [tagged("over there") for _ in records]), protocol, seed=0)
    assert sum(babble["parse_failures"].values()) == n
    assert babble["metrics"].get(main_metric, {"mean": 0.0})["mean"] == 0.0
    assert means(answers(records, [wrong(record) for record in records]), name)[main_metric] == 0.0


@pytest.mark.parametrize("name", [name for name in CONVERTED if load_protocol(name).task in ("rec", "gui_click")])
def test_a_share_of_right_answers(convert, name):
    records = convert(name)
    texts = [perfect(record) if n % 2 else wrong(record) for n, record in enumerate(records)]
    assert means(answers(records, texts), name)[load_protocol(name).metrics[0]] == (len(records) // 2) / len(records)


def test_grefcoco_with_and_without_targets(convert):
    _, man, _ = records = convert("grefcoco")
    assert [len(get_task("multi_rec").gold(record)) for record in records] == [2, 1, 0]
    nothing = means(answers(records, [tagged("None")] * 3), "grefcoco")
    # all are rejected, of which one had no target; only that one is right
    assert nothing["all_right_iou50"] == pytest.approx(1 / 3)
    assert (nothing["n_acc"], nothing["t_acc"]) == (1.0, 0.0)
    assert (nothing["rejection_precision"], nothing["rejection_recall"]) == (pytest.approx(1 / 3), 1.0)
    one_of_two = tagged("[[0, 20, 40, 80]]")  # the man at [0, 10, 20, 40], on a picture of twice the size
    some = means(answers(records, [one_of_two, perfect(man), tagged(f"[{FAR}]")]), "grefcoco")
    # half of the boxes of the first are found: F1 = 2·1·½ / 1½ = 2/3, so it is not all right; the zebra is invented
    assert some["all_right_iou50"] == pytest.approx(1 / 3)
    assert some["f1_iou50"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert (some["n_acc"], some["t_acc"], some["rejection_recall"]) == (0.0, 1.0, 0.0)


def test_detection_that_finds_nothing_or_too_much(convert):
    records = convert("coco_filtered")
    nothing = measure(answers(records, [tagged("None")] * 2), load_protocol("coco_filtered"), seed=0)
    assert (nothing["dataset"]["ap"], nothing["dataset"]["gr"], nothing["dataset"]["gp"]) == (0.0, 0.0, -1.0)
    items = [re.search(r"\[(\{.*\})]", perfect(record), flags=re.DOTALL) for record in records]
    doubled = means(answers(records, [tagged(f"[{one[1]}, {one[1]}]") for one in items if one]), "coco_filtered")
    # every object is boxed twice: all are found, half of the boxes are right
    assert (doubled["gr"], doubled["gp"]) == (1.0, 0.5)


def test_ovdeval_overall_is_the_mean_of_aspects(convert):
    records = convert("ovdeval")
    right = {"celebrity", "logo", "landmark", "color"}
    texts = [perfect(record) if record.columns["subset"] in right else wrong(record) for record in records]
    result = measure(answers(records, texts), load_protocol("ovdeval"), seed=0)
    # (1 + (1 + 0) / 2 + 0 + 0 + 0) / 5, and not the mean of the sets, 4 / 8
    assert result["metrics"]["overall"]["mean"] == pytest.approx(0.3)
    assert result["dataset"]["aspects"]["attribute"] == {"color": pytest.approx(1.0), "material": pytest.approx(0.0)}


def test_counting_errors(convert):
    records = convert("pixmo_count")  # 2, 4 and 5
    found = means(answers(records, [tagged("2"), tagged("6"), tagged("some")]), "pixmo_count")
    assert found["accuracy"] == pytest.approx(1 / 3)
    # of the two that can be read: 0 and 2 of 4
    assert (found["absolute_error"], found["relative_error"]) == (1.0, 0.25)


def test_screenspot_is_split_by_kind_and_platform(convert):
    records = convert("screenspot")
    texts = [perfect(record) if "web" in record.id else wrong(record) for record in records]
    subsets = measure(answers(records, texts), load_protocol("screenspot"), seed=0)["subsets"]
    assert {key: own["metrics"]["accuracy"]["mean"] for key, own in subsets["data_type"].items()} == {
        "icon": 0.0,
        "text": 1.0,
    }
    assert {key: own["n"] for key, own in subsets["data_source"].items()} == {"ios": 2, "shop": 1}


def test_answers_in_another_box_space_are_wrong(convert):
    """The control: a model that writes pixels of the original image, read as one that writes those of the larger."""
    records = convert("refcoco")
    halved = [tagged(str([round(side) for side in get_task("rec").gold(record)])) for record in records]
    assert means(answers(records, halved), "refcoco")["accuracy_iou50"] == 0.0


WORLDS = {
    "rec": ("rec", "iou"),
    "ovd": ("ovd", "map"),
    "counting": ("counting", "accuracy"),
    "click": ("gui_click", "accuracy"),
}


@pytest.mark.parametrize("world", WORLDS)
def test_synthetic_worlds(tmp_path, world):
    task, metric = WORLDS[world]
    few = ["--train", "2", "--warmup", "2", "--in-domain", "3", "--out-of-domain", "2"]
    assert main(["data", "synth", "--world", world, "--out", str(tmp_path), *few]) == 0
    records = load_sources([DataSource(path=str(tmp_path / "in_domain.jsonl"), task=task)])
    found = means(answers(records, [perfect(record) for record in records]), "synthetic")
    assert found[metric] == pytest.approx(1.0, abs=0.05)  # a box of whole numbers may be a little smaller
    assert means(answers(records, [tagged("?")] * len(records)), "synthetic")[metric] == 0.0
