import json
from dataclasses import replace
from pathlib import Path

import pytest

from testing_tasks import GOLD
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.rewards import REWARDS
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, check_gold, check_rewards, judge
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import BoxFormat, ImageFrame, Record, Score

WEIGHTS = {"accuracy": 1.0, "format": 0.5}
FRAMES = (ImageFrame(original_wh=(640, 480), input_wh=(1280, 960)),)
BOX_GOLD = {"rec": [10, 20, 110, 220], "ovd": [{"bbox_2d": [10, 20, 110, 220], "label": "cat"}]}


def _record(task="rec", reward=None, answer=None):
    return Record(
        "1", task, "<image>?", ("a.png",), answer or {**GOLD, **BOX_GOLD}[task], reward=reward, source="f.jsonl:7"
    )


def _judge(text, record, template="r1", frames=FRAMES, box_format=BoxFormat.INPUT_PIXELS, rewards=WEIGHTS):
    attempt = Attempt(text, record, frames, get_task(record.task), TEMPLATES[template])
    return judge([attempt], box_format, rewards)[0]


@pytest.mark.parametrize(
    ("task", "template", "text", "expected"),
    [
        pytest.param(
            "rec",
            "r1",
            '<think>left</think><answer>{"bbox_2d": [20, 40, 220, 240]}</answer>',  # half of the gold box
            Score(
                reward=0.5 * 1.0 + 1.0 * 0.5,
                parts={"accuracy": 0.5, "format": 1.0},
                answer=[10.0, 20.0, 110.0, 120.0],
                reason=None,
                metrics={"accuracy_iou50": 0.0, "iou": 0.5},
            ),
            id="rec_half_a_box",
        ),
        pytest.param(
            "rec",
            "r1",
            "I say <answer>[20, 40, 220, 440]</answer>",
            Score(
                1.0,
                {"accuracy": 1.0, "format": 0.0},
                [10.0, 20.0, 110.0, 220.0],
                None,
                {"accuracy_iou50": 1.0, "iou": 1.0},
            ),
            id="rec_right_in_the_wrong_form",
        ),
        pytest.param(
            "rec",
            "r1",
            "[20, 40, 220, 440]",
            Score(0.0, {"accuracy": 0.0, "format": 0.0}, None, "no_answer_tag", {"accuracy_iou50": 0.0, "iou": 0.0}),
            id="rec_tags_missing",
        ),
        pytest.param(
            "rec",
            "direct",
            "[20, 40, 220, 440]",
            Score(
                1.5,
                {"accuracy": 1.0, "format": 1.0},
                [10.0, 20.0, 110.0, 220.0],
                None,
                {"accuracy_iou50": 1.0, "iou": 1.0},
            ),
            id="rec_bare_as_asked",
        ),
        pytest.param(
            "rec",
            "direct",
            "<think>left</think><answer>[20, 40, 220, 440]</answer>",
            Score(
                1.0,
                {"accuracy": 1.0, "format": 0.0},
                [10.0, 20.0, 110.0, 220.0],
                None,
                {"accuracy_iou50": 1.0, "iou": 1.0},
            ),
            id="rec_tags_not_asked_for",
        ),
        pytest.param(
            "rec",
            "r1",
            "<think>left</think><answer>[1, 2]</answer>",
            Score(0.0, {"accuracy": 0.0, "format": 0.0}, None, "wrong_arity", {"accuracy_iou50": 0.0, "iou": 0.0}),
            id="rec_wrong_arity",
        ),
        pytest.param(
            "counting",
            "paper",
            "<think>1, 2, 3</think><answer>There are 3.</answer>",
            Score(1.5, {"accuracy": 1.0, "format": 1.0}, 3, None, {"accuracy": 1.0}),
            id="counting_right",
        ),
        pytest.param(
            "counting",
            "paper",
            "<think>1, 2</think><answer>2.5</answer>",
            Score(0.0, {"accuracy": 0.0, "format": 0.0}, None, "not_an_integer", {"accuracy": 0.0}),
            id="counting_fraction",
        ),
        pytest.param(
            "vqa",
            "r1",
            "<think></think><answer>Defect</answer>",
            Score(0.5, {"accuracy": 0.0, "format": 1.0}, "Defect", None, {"accuracy": 0.0}),
            id="vqa_wrong_in_form",
        ),
        pytest.param(
            "ovd",
            "r1",
            '<think></think><answer>[{"bbox_2d": [20, 40, 220, 440], "label": "cat"}, '
            '{"bbox_2d": [20, 40, 220, 440], "label": "dog"}]</answer>',
            Score(
                reward=0.5 * 1.0 + 1.0 * 0.5,
                parts={"accuracy": 0.5, "format": 1.0},  # one gold box for two boxes
                answer=[
                    {"bbox_2d": [10.0, 20.0, 110.0, 220.0], "label": "cat"},
                    {"bbox_2d": [10.0, 20.0, 110.0, 220.0], "label": "dog"},
                ],
                reason=None,
                metrics={
                    "map": 1.0,
                    "ap50": 1.0,
                    "precision_iou50": 0.5,
                    "recall_iou50": 1.0,
                    "label_precision": 0.5,
                    "label_recall": 1.0,
                },
            ),
            id="ovd_one_box_too_many",
        ),
        pytest.param(
            "ovd",
            "r1",
            "<think></think><answer>None</answer>",
            Score(
                0.5,
                {"accuracy": 0.0, "format": 1.0},
                [],
                None,
                dict.fromkeys(get_task("ovd").metrics(None, ()), 0.0),
            ),
            id="ovd_nothing_seen",
        ),
        pytest.param(
            "math",
            "r1",
            "<think>2/4</think><answer>0.5</answer>",
            Score(1.5, {"accuracy": 1.0, "format": 1.0}, "0.5", None, {"accuracy": 1.0}),
            id="math_right_in_another_form",
        ),
        pytest.param(
            "multi_rec",
            "r1",
            "<think></think><answer>[[2, 4, 60, 80]]</answer>",  # one of two boxes: F1 = 2 · 1 / (1 + 2)
            Score(
                reward=0.5 * 1.0 + 1.0 * (2 / 3),
                parts={"accuracy": 2 / 3, "format": 1.0},
                answer=[[1.0, 2.0, 30.0, 40.0]],
                reason=None,
                metrics={
                    "f1_iou50": 2 / 3,
                    "precision_iou50": 1.0,
                    "recall_iou50": 1 / 2,
                    "all_right_iou50": 0.0,
                    "t_acc": 1.0,
                },
            ),
            id="multi_rec_one_of_two",
        ),
        pytest.param(
            "gui_click",
            "free",
            "<answer>(60, 80)</answer>",  # the corner of the region [1, 2, 30, 40]
            Score(1.5, {"accuracy": 1.0, "format": 1.0}, [30.0, 40.0], None, {"accuracy": 1.0}),
            id="gui_click_on_the_edge",
        ),
        pytest.param(
            "gui_click",
            "free",
            "<answer>(61, 80)</answer>",
            Score(0.5, {"accuracy": 0.0, "format": 1.0}, [30.5, 40.0], None, {"accuracy": 0.0}),
            id="gui_click_beside_it",
        ),
        pytest.param(
            "choice",
            "direct",
            "(b) the dog",
            Score(1.5, {"accuracy": 1.0, "format": 1.0}, "B", None, {"accuracy": 1.0}),
            id="choice_letter_and_text",
        ),
        pytest.param(
            "yes_no",
            "direct",
            "I do not know",
            Score(0.0, {"accuracy": 0.0, "format": 0.0}, None, "no_yes_or_no", {"accuracy": 0.0}),
            id="yes_no_within_a_word",
        ),
        pytest.param(
            "gui_defect",
            "direct",
            "Operation No Response",
            Score(
                0.5,
                {"accuracy": 0.0, "format": 1.0},
                "Operation No Response",
                None,
                {"accuracy": 0.0, "presence_accuracy": 0.0},
            ),
            id="gui_defect_seen_where_none_is",
        ),
        pytest.param(
            "document",
            "direct",
            "2024-05-13",  # one of ten characters is wrong
            Score(0.5 + 0.9, {"accuracy": 0.9, "format": 1.0}, "2024-05-13", None, {"anls": 0.9, "accuracy": 0.0}),
            id="document_one_letter_off",
        ),
    ],
)
def test_scores_by_hand(task, template, text, expected):
    assert _judge(text, _record(task), template) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param(_record("vqa", None, "3"), 0.0, id="the_tasks_own"),
        pytest.param(_record("vqa", "numeric", "3"), 1.0, id="the_records_own"),
    ],
)
def test_accuracy_is_routed_by_the_record(record, expected):
    score = _judge("<think></think><answer>3.0</answer>", record)
    assert score.parts == {"accuracy": expected, "format": 1.0}


def test_parts_are_named_as_in_the_recipe():
    score = _judge("<think></think><answer>[20, 40, 220, 240]</answer>", _record(), rewards={"iou": 2.0})
    assert (score.parts, score.reward) == ({"iou": 0.5}, 1.0)


def _of_rows(completions, level, **columns):
    return [None if value is None else float(value) for value in level]


@pytest.mark.parametrize(
    ("level", "parts", "reward"),
    [
        pytest.param(0.25, {"accuracy": 1.0, "of_rows": 0.25}, 1.0 + 2 * 0.25, id="judged"),
        pytest.param(None, {"accuracy": 1.0, "of_rows": None}, 1.0, id="left_out"),
    ],
)
def test_a_part_is_left_out_of_the_sum(level, parts, reward, monkeypatch):
    monkeypatch.setitem(REWARDS, "of_rows", _of_rows)  # type: ignore[arg-type]
    record = replace(_record("vqa"), columns={"level": level})
    text = f"<think>a</think><answer>{GOLD['vqa']}</answer>"
    score = _judge(text, record, rewards={"accuracy": 1.0, "of_rows": 2.0})
    assert (score.parts, score.reward) == (parts, reward)
    alone = _judge(text, record, rewards={"of_rows": 2.0})
    assert alone.reward == (None if level is None else 0.5)


def test_a_length_is_worth_nothing_where_the_accuracy_is_left_out(monkeypatch):
    monkeypatch.setitem(REWARDS, "of_rows", _of_rows)  # type: ignore[arg-type]
    record = replace(_record("vqa", reward="of_rows"), columns={"level": None})
    attempt = Attempt("a", record, FRAMES, get_task("vqa"), TEMPLATES["r1"], n_tokens=5)
    score = judge([attempt], BoxFormat.INPUT_PIXELS, {"accuracy": 1.0, "cosine_length": 1.0})[0]
    assert (score.parts, score.reward) == ({"accuracy": None, "cosine_length": 0.0}, 0.0)


def test_check_rewards_looks_for_the_columns_that_a_reward_takes(monkeypatch):
    monkeypatch.setitem(REWARDS, "of_rows", _of_rows)  # type: ignore[arg-type]
    with_level = replace(_record("vqa"), row={"id": 1, "level": 0.5})
    without = replace(_record("vqa"), row={"id": 2})
    check_rewards({"of_rows": 1.0}, [without, with_level])  # None where a record lacks it
    with pytest.raises(ConfigError, match=r'reward "of_rows" takes "level", and no line .* got id, and beside them'):
        check_rewards({"of_rows": 1.0}, [without])
    with pytest.raises(ConfigError, match='takes "level"'):
        check_rewards({"accuracy": 1.0}, [with_level, replace(without, reward="of_rows")])


def test_a_reward_that_does_not_fit_the_task_names_the_record():
    with pytest.raises(DataError, match=r'^f\.jsonl:7: reward "iou" compares boxes'):
        _judge("anything", _record("counting", "iou"))


@pytest.mark.parametrize(
    ("rewards", "record", "message"),
    [
        pytest.param({"formt": 1.0}, _record(), r'^unknown reward "formt"\. Did you mean "format"', id="part"),
        pytest.param(
            WEIGHTS, _record(reward="iuo"), r'^f\.jsonl:7: unknown reward "iuo"\. Did you mean "iou"', id="record"
        ),
        pytest.param(
            WEIGHTS,
            Record("1", "recc", "?", (), 1, source="f:1"),
            r'^f:1: unknown task "recc"\. Did you mean "rec"',
            id="task",
        ),
        pytest.param({"format": float("nan")}, _record(), r"^rewards\.format: the weight is nan", id="weight"),
        pytest.param({"no_such_module:reward": 1.0}, _record(), "cannot be imported", id="plug_in"),
    ],
)
def test_check_rewards(rewards, record, message):
    check_rewards(WEIGHTS, [_record("rec"), _record("vqa", "numeric", "3")])
    with pytest.raises(ConfigError, match=message):
        check_rewards(rewards, [_record(), record])


@pytest.mark.parametrize(
    "box",
    [
        pytest.param([0, 0, 640, 480], id="the_whole_image"),
        pytest.param([-0.5, 0, 641, 480.9], id="within_a_pixel"),
    ],
)
def test_check_gold_accepts(box):
    check_gold(_record(answer=box), FRAMES)
    check_gold(_record("vqa"), FRAMES)


OUTSIDE = pytest.mark.parametrize(
    "box",
    [
        pytest.param([-2, 0, 10, 10], id="left"),
        pytest.param([0, -2, 10, 10], id="above"),
        pytest.param([0, 0, 642, 10], id="right"),
        pytest.param([0, 0, 10, 482], id="below"),
    ],
)


def test_check_gold_compares_a_region_with_its_own_image():
    small, large = ImageFrame((10, 10), (10, 10)), FRAMES[0]
    record = Record("1", "gui_click", "<image><image>OK", ("a.png", "b.png"), [10, 20, 30, 40], source="f.jsonl:7")
    check_gold(record, (small, large))  # the last one
    with pytest.raises(DataError, match="outside its image of 10 × 10 pixels"):
        check_gold(record, (large, small))


@OUTSIDE
def test_check_gold_refuses_a_box_outside_its_image(box):
    with pytest.raises(DataError, match=r"^f\.jsonl:7: the gold box .* reaches outside its image of 640 × 480 pixels"):
        check_gold(_record(answer=box), FRAMES)


REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/rewards_golden.jsonl"


@pytest.mark.skipif(not REFERENCE.exists(), reason="the original's reward values are not here")
def test_rec_iou_equals_the_original():
    """Two kinds of cases differ: we read decimals (it gave 0), and refuse two different boxes (it took the first)."""
    compared = 0
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        text = case["completion"]
        if not case["reward"].startswith("rec_iou/") or ".0, " in text or "first [1, 2, 30, 40] then" in text:
            continue
        resized = "model_input_size" in case
        frame = ImageFrame(
            *([tuple(case["image_size"]), tuple(case["model_input_size"])] if resized else [(1, 1), (1, 1)])
        )
        box_format = BoxFormat.INPUT_PIXELS if resized else BoxFormat.ORIGINAL_PIXELS
        record = _record(answer=case["solution"])
        score = _judge(text, record, frames=(frame,), box_format=box_format, rewards={"accuracy": 1.0})
        assert score.reward == pytest.approx(case["official"], abs=1e-6), case
        compared += 1
    assert compared == 186
