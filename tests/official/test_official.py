"""The original's rewards by hand, defects included; on its own 1,452 cases in tests/parity."""

from __future__ import annotations

import time

import pytest

from vlm_r1.official import OFFICIAL, official_score

DOG = {"bbox_2d": [0, 0, 10, 10], "label": "dog"}
CAT = {"bbox_2d": [20, 20, 30, 40], "label": "cat"}


def fenced(items: str) -> str:
    return f"<answer>```json\n{items}\n```</answer>"


DOG_TEXT = '{"bbox_2d": [0, 0, 10, 10], "label": "dog"}'
DOG_BELOW = '{"bbox_2d": [0, 2, 10, 12], "label": "dog"}'  # shares 80 of 120 pixels with DOG
BARE_DOG = '{"bbox_2d": [0, 0, 10, 10]}'


@pytest.mark.parametrize(
    ("name", "completion", "solution", "score"),
    [
        # IoU: 5 · 10 / (100 + 100 − 50)
        pytest.param("rec_iou/raw_pixels", "<answer>[0, 0, 10, 10]</answer>", [5, 0, 15, 10], 1 / 3, id="iou"),
        pytest.param("rec_iou/raw_pixels", "<answer>[0, 0, 10, 10]</answer>", [9, 0, 19, 10], 0, id="iou: one pixel"),
        pytest.param("rec_iou/raw_pixels", "<answer>[5, 5, 5, 5]</answer>", [7, 7, 7, 7], 0, id="iou: no area"),
        pytest.param("rec_iou/raw_pixels", "[0, 0, 10, 10]", [0, 0, 10, 10], 0, id="iou: no tags"),
        pytest.param("rec_iou/raw_pixels", "<answer>[0.0, 0, 10, 10]</answer>", [0, 0, 10, 10], 0, id="iou: decimals"),
        pytest.param(
            "rec_iou/raw_pixels",
            "<think><answer>[0, 0, 10, 10]</answer></think><answer>[0, 0, 1, 1]</answer>",
            [0, 0, 10, 10],
            1,
            id="iou: the first answer, in the thinking too",
        ),
        pytest.param("rec_iou/raw_pixels", "<answer>[0, 0, 10, 10]</answer>", "no box", None, id="iou: no gold"),
        pytest.param("rec_iou/qwen2.5-vl", "<answer>[0, 0, 10, 10]</answer>", [0, 0, 9, 9], None, id="iou: no sizes"),
        pytest.param("format", "<think>a</think>\n<answer>b</answer>", None, 1, id="format"),
        pytest.param("format", "<think>a</think><answer>b</answer>.", None, 0, id="format: more after"),
        pytest.param("format", "<think></think><answer><answer></answer>", None, 1, id="format: a tag twice"),
        pytest.param("rec_format/qwen", "<think></think><answer>{[1,2,3,4]}</answer>!", None, 1, id="qwen: more after"),
        pytest.param("rec_format/qwen", "<think></think><answer>[1,2,3,4]</answer>", None, 0, id="qwen: no braces"),
        pytest.param("rec_format/internvl", "<think></think><answer>[1,2,3,4]</answer>", None, 1, id="internvl"),
        pytest.param("rec_format/glm", "<think><answer>None</answer>", None, 1, id="glm: thought not closed"),
        # thresholds 0.5, 0.55, 0.6, 0.65 of ten are reached by 80 / 120
        pytest.param("od_ap", fenced(f"[{DOG_BELOW}]"), [DOG], 0.4, id="ap"),
        pytest.param("od_ap50", fenced(f"[{DOG_BELOW}]"), [DOG], 1, id="ap50"),
        pytest.param("od_ap", fenced(f'[{DOG_TEXT}, {{"bbox_2d": [1, 2, 3, 4], "label": "x"}}]'), [DOG], 1, id="hack"),
        pytest.param("od_length", fenced(f'[{DOG_TEXT}, {{"label": "dog"}}]'), [DOG], 0.5, id="length: no box counts"),
        pytest.param("od_length", fenced(f"[{DOG_TEXT}]"), [DOG, CAT], 0.5, id="length: too few cost nothing more"),
        pytest.param("od_ap", f"<answer>[{DOG_TEXT}]</answer>", [DOG], 0, id="ap: no fence is nothing"),
        pytest.param("od_ap", f"<answer>[{DOG_TEXT}]</answer>", [], 1, id="ap: no fence is None"),
        pytest.param("od_ap", "<answer>None</answer>", [], 1, id="ap: None"),
        pytest.param("od_ap", "None", [], 0, id="ap: no tags"),
        pytest.param("od_ap", fenced("[3, null]"), [DOG], 0, id="ap: items of the wrong shape"),
        pytest.param("od_ap", fenced("3"), [], 1, id="ap: a number is an empty list"),
        pytest.param("od_ap", fenced(f"[{DOG_TEXT}]"), "```json\n[}\n```", None, id="ap: broken gold"),
        pytest.param("od_ap", fenced(f"[{DOG_TEXT}]"), [{"label": "dog"}], None, id="ap: gold without box"),
        # found dog matches with IoU 80 / 120, cat is missed: 0.7 · (2/3) / 2 + 0.3 · (1 − (1/2 + 0) / 2)
        pytest.param("weighted_sum", fenced(f"[{DOG_BELOW}]"), [DOG, CAT], 0.7 / 3 + 0.225, id="weighted_sum"),
        pytest.param("weighted_sum", fenced(f"[{BARE_DOG}]"), [DOG], None, id="weighted_sum: no label, an error"),
        pytest.param("weighted_sum", fenced(f"[{BARE_DOG}]"), [CAT], 0, id="weighted_sum: no label, no pair"),
        pytest.param(
            "weighted_sum",
            fenced(f'[{DOG_TEXT}, {{"bbox_2d": [20, 20, 30, 40]}}]'),
            [DOG, {**CAT, "label": "dog"}],
            1,
            id="weighted_sum: no label, that of the pair before",
        ),
        pytest.param("weighted_sum", "none.", [], 1, id="weighted_sum: None"),
        pytest.param("weighted_sum", fenced("[]"), [], 0, id="weighted_sum: an empty list is not None"),
        # two of three boxes differ; of the words' nine 6-grams three
        pytest.param("repetition", fenced(f"[{DOG_TEXT}, {DOG_TEXT}, {DOG_BELOW}]"), None, -1 / 3, id="repetition"),
        pytest.param("repetition", "a B c " * 4 + "a b", None, -6 / 9, id="repetition of words"),
        pytest.param("repetition", "a a a a a", None, 0, id="repetition: five words"),
        pytest.param("repetition", f"[{DOG_TEXT}, {DOG_TEXT}]", None, -0.5, id="repetition: no fence"),
        pytest.param("repetition", f"```\n[{DOG_TEXT}, {DOG_TEXT},\n```", None, -0.5, id="repetition: repaired"),
        pytest.param("repetition", fenced("[1, 2]"), None, None, id="repetition: numbers, an error"),
        pytest.param("mcq", "<answer>(A)</answer>", "A", 0, id="mcq: brackets"),
        pytest.param("mcq", "A or B?", "B. the dog", 1, id="mcq: two letters"),
        pytest.param("yes_no", "<answer>I know</answer>", "no", 1, id="yes_no: inside a word"),
        pytest.param("yes_no", "perhaps", "unclear", 1, id="yes_no: neither side"),
        pytest.param("numeric", " 3.0 ", 3, 1, id="numeric"),
        pytest.param("numeric", "3 apples", 3, None, id="numeric: words"),
        pytest.param("math", "<answer>0.5</answer>", "\\frac{1}{2}", 1, id="math"),
        pytest.param("math", "<answer>$12\\pi$</answer>", "12\\pi", 0, id="math: the gold is read as 12"),
        pytest.param("math", "\\boxed{x=\\frac12}", "\\frac{1}{2}", 1, id="math: tidied"),
        pytest.param("all_match", "<answer>No\nDefect.</answer>", "no defect", 1, id="all_match"),
        pytest.param("all_match", "no  defect", "no defect", 0, id="all_match: two spaces"),
        pytest.param("default", "red bus", "a red bus", 2 * 7 / 16, id="default: similarity"),
        pytest.param("default", "B", "A", 0, id="default: a letter"),
        pytest.param("default", "<answer>13</answer>", "12", 0, id="default: a number"),
    ],
)
def test_by_hand(name, completion, solution, score):
    assert official_score(name, completion, solution) == (score if score is None else pytest.approx(score, abs=1e-9))


def test_a_box_on_the_resized_image():
    sizes = {"image_size": [640, 480], "model_input_size": [1280, 960]}
    completion = "<answer>[20, 40, 220, 440]</answer>"  # [10, 20, 110, 220] on disk
    assert official_score("rec_iou/qwen2.5-vl", completion, [10, 20, 110, 220], **sizes) == 1


HOSTILE = {
    "open tags": "<answer>" * 100_000,
    "closed tags": "<think></think><answer>" + "</answer>" * 100_000,
    "brackets": "<answer>```json\n" + "[" * 1_000_000 + "\n```</answer>",
    "a long number": "<answer>```json\n[" + "9" * 5_000 + "]\n```</answer>",
    "lines": "\n" * 1_000_000,
    "letters": "A." * 500_000,
    "half a pair": "<answer>\ud800</answer>",
    "nothing": "",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", [name for name in OFFICIAL if name not in ("math", "default")])
def test_hostile_texts_take_linear_time(name, text):
    solution = [DOG] if name.startswith(("od", "weighted")) else [1, 2, 3, 4] if name.startswith("rec") else "A"
    sizes = {"image_size": [640, 480], "model_input_size": [1280, 960]}
    start = time.process_time()
    score = official_score(name, text, solution, **sizes)
    assert score is None or -1 <= score <= 1
    assert time.process_time() - start < 2


def test_mathematics_that_comes_to_no_end():
    # math-verify gives up by itself here; what matters is that the next question is answered as usual
    assert official_score("math", "<answer>$(((((((((((9^9)^9)^9)^9)^9)^9)^9)^9)^9)^9)$</answer>", "3") in (0, None)
    assert official_score("math", "<answer>1/2</answer>", "0.5") == 1


def test_unknown_name():
    with pytest.raises(KeyError):
        official_score("iou", "", [])
