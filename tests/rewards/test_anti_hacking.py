"""What attacks on boxes and points earn: texts here, numbers in the tables of docs/rewards.md.

Rows are attacks on a fixed scene, columns are rewards; all go through `judge`, from the text to the Score. Who pays for
what stands there as it is; who withstands is said by the tests further down.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.parsing.tags import TAGS
from vlm_r1.rewards import COMBINATIONS
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import TEMPLATES, build_prompt
from vlm_r1.types import AnswerValue, BoxFormat, ImageFrame, Record

DOCS = "\n\n".join(file.read_text("utf-8") for file in Path(__file__).resolve().parents[2].glob("docs/rewards.md"))

A, B, C = [100, 100, 200, 200], [300, 100, 400, 200], [100, 300, 200, 400]  # on an image of 640 × 480, diagonal 800
NEARLY_B = [300, 100, 400, 193]  # IoU 0.93
WHOLE, NEGATIVE, OUTSIDE = [0, 0, 640, 480], [-200, -200, -100, -100], [700, 500, 800, 600]
HUGE = [100, 100, 1_000_000, 1_000_000]
WRONG = [[420 + i, 250, 430 + i, 260] for i in range(0, 200, 10)]  # twenty, on nothing


@dataclass(frozen=True)
class Scene:
    """A question, and the rewards of its answers."""

    task: str
    problem: str
    answer: AnswerValue
    rewards: tuple[str, ...]

    @property
    def record(self) -> Record:
        return Record("1", self.task, f"<image>{self.problem}", ("a.png",), self.answer, source="f.jsonl:7")

    def judge(self, text: str, template: str = "r1") -> dict[str, float]:
        frames = (ImageFrame((640, 480), (644, 476)),)
        attempt = Attempt(text, self.record, frames, get_task(self.task), TEMPLATES[template], n_tokens=100)
        [score] = judge([attempt], BoxFormat.ORIGINAL_PIXELS, dict.fromkeys(self.rewards, 1.0))
        return dict(score.parts)


def labelled(*items: tuple[str, list[int]]) -> str:
    return json.dumps([{"bbox_2d": box, "label": label} for label, box in items])


def unlabelled(*boxes: list[int]) -> str:
    return json.dumps([{"bbox_2d": box} for box in boxes])


def completion(answer: str) -> str:
    return f"<think>so</think><answer>{answer}</answer>"


def read_table(title: str) -> list[tuple[str, dict[str, float]]]:
    """(attack, reward → what it earns) of each row of the table with that first heading in docs/rewards.md."""
    start = DOCS.index(f"| {title} |")
    header, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in DOCS[start:].split("\n\n")[0].splitlines()
    ]
    return [(name, dict(zip(header[1:], map(float, cells), strict=True))) for name, *cells in rows]


BOX_REWARDS = ("iou", "iou_threshold", "iou_power", "giou", "diou", "ciou", "point_in_box", "point_distance")
SET_REWARDS = ("map", "ap50", "odlength", "nms_ap", "set_f1", "weighted_sum", "count_penalty")
REC = Scene("rec", "the dog", A, (*BOX_REWARDS, "format"))
CATS = [{"bbox_2d": A, "label": "cat"}, {"bbox_2d": B, "label": "cat"}, {"bbox_2d": C, "label": "dog"}]
OVD = Scene("ovd", "cat, dog, zebra, horse", CATS, (*SET_REWARDS, "format"))
NOTHING = Scene("ovd", "cat, dog", "None", (*SET_REWARDS, "format"))
MULTI = Scene("multi_rec", "what has four legs", [A, B, C], (*SET_REWARDS, "format"))
CLICK = Scene("gui_click", "close the window", A, ("point_in_region", "point_distance", "format"))
SCENES = {"rec": REC, "ovd": OVD, "nothing": NOTHING, "multi_rec": MULTI, "click": CLICK}

# ---- one box -------------------------------------------------------------------------------------------------------

REC_ATTACKS = {
    "right": completion(str(A)),
    "whole image": completion(str(WHOLE)),
    "twice as wide and high": completion("[50, 50, 250, 250]"),
    "box spam": completion(f"{WHOLE} {B} {A}"),
    "duplicated box": completion(f"{A} {A} {A}"),
    "swapped corners": completion("[200, 200, 100, 100]"),
    "zero area": completion("[150, 150, 150, 150]"),
    "negative box": completion(str(NEGATIVE)),
    "outside the image": completion(str(OUTSIDE)),
    "far beyond the image": completion(str(HUGE)),
    "None with a box": completion(f"None {A}"),
    "two answers": completion(str(WHOLE)) + f"<answer>{A}</answer>",
    "right one in the thinking": f"<think><answer>{A}</answer></think><answer>{WHOLE}</answer>",
}

# ---- sets of boxes -------------------------------------------------------------------------------------------------

ALL = [("cat", A), ("cat", B), ("dog", C)]
PARTIAL = labelled(("cat", A), ("dog", C))
SPAM = labelled(("cat", A), ("cat", NEARLY_B), ("cat", B), ("dog", C), *(("cat", box) for box in WRONG))
OVD_ATTACKS = {
    "right": completion(labelled(*ALL)),
    "two of three": completion(PARTIAL),
    "rough boxes": completion(labelled(*((label, [x, y, x2, y + 62]) for label, (x, y, x2, _) in ALL))),
    "whole image": completion(labelled(("cat", WHOLE), ("dog", WHOLE))),
    "24 boxes (paper)": completion(SPAM),
    "box spam first": completion(labelled(*(("cat", box) for box in WRONG), *ALL)),
    "absent labels too": completion(labelled(*ALL, *((label, box) for label in ("zebra", "horse") for _, box in ALL))),
    "both labels everywhere": completion(labelled(*((label, box) for _, box in ALL for label in ("cat", "dog")))),
    "labels exchanged": completion(labelled(("dog", A), ("dog", B), ("cat", C))),
    "duplicated boxes": completion(labelled(*ALL, *ALL, *ALL, *ALL)),
    "swapped corners": completion(labelled(*((label, box[2:] + box[:2]) for label, box in ALL))),
    "zero area": completion(labelled(*((label, [x, y, x, y2]) for label, (x, y, _, y2) in ALL))),
    "negative boxes": completion(labelled(("cat", NEGATIVE), ("cat", NEGATIVE), ("dog", NEGATIVE))),
    "outside the image": completion(labelled(("cat", OUTSIDE), ("cat", OUTSIDE), ("dog", HUGE))),
    "None": completion("None"),
    "None with boxes": completion(f"None {labelled(*ALL)} None"),
    "two answers": completion("None") + f"<answer>{labelled(*ALL)}</answer>",
    "right one in the thinking": f"<think><answer>{labelled(*ALL)}</answer></think><answer>None</answer>",
}
NOTHING_ATTACKS = {
    "None": completion("None"),
    "empty list": completion("[]"),
    "one box": completion(labelled(("cat", A))),
    "None with boxes": completion(f"None {labelled(*ALL)} None"),
    "zero area": completion(labelled(("cat", [5, 5, 5, 5]))),
    "box, then None": completion(labelled(("cat", A))) + "<answer>None</answer>",
}
MULTI_ATTACKS = {
    "right": completion(unlabelled(A, B, C)),
    "two of three": completion(unlabelled(A, C)),
    "whole image": completion(unlabelled(WHOLE)),
    "24 boxes": completion(unlabelled(A, NEARLY_B, B, C, *WRONG)),
    "duplicated boxes": completion(unlabelled(*[A, B, C] * 4)),
    "swapped corners": completion(unlabelled(*(box[2:] + box[:2] for box in (A, B, C)))),
    "zero area": completion(unlabelled(*[[150, 150, 150, 150]] * 3)),
    "None": completion("None"),
    "None with boxes": completion(f"None {unlabelled(A, B, C)}"),
}

# ---- a point -------------------------------------------------------------------------------------------------------

CLICK_ATTACKS = {
    "right": completion("[150, 150]"),
    "on the edge": completion("[200, 150]"),
    "a pixel beside it": completion("[201, 150]"),
    "image centre": completion("[320, 240]"),
    "image corner": completion("[0, 0]"),
    "outside the image": completion("[-3000, 150]"),
    "whole image": completion(str(WHOLE)),
    "two points": completion("[150, 150] or [320, 240]"),
    "swapped axes": completion("[100, 350]"),
    "same point twice": completion("[150, 150] [150, 150]"),
    "two answers": completion("[320, 240]") + "<answer>[150, 150]</answer>",
}

# ---- the tables are so ---------------------------------------------------------------------------------------------

TABLES = {
    "attack on one box": (REC, REC_ATTACKS),
    "attack on labelled boxes": (OVD, OVD_ATTACKS),
    "attack where nothing is": (NOTHING, NOTHING_ATTACKS),
    "attack on boxes": (MULTI, MULTI_ATTACKS),
    "attack on a point": (CLICK, CLICK_ATTACKS),
}


@pytest.mark.parametrize(
    ("scene", "text", "expected"),
    [
        pytest.param(scene, attacks[name], expected, id=f"{title[10:]}: {name}")
        for title, (scene, attacks) in TABLES.items()
        for name, expected in read_table(title)
    ],
)
def test_attacks_earn_what_the_tables_say(scene, text, expected):
    assert scene.judge(text) == pytest.approx(expected, abs=5.1e-4)


@pytest.mark.parametrize("title", TABLES)
def test_every_attack_has_a_row(title):
    assert [name for name, _ in read_table(title)] == list(TABLES[title][1])


def test_the_example_of_the_paper():
    """24 boxes where 3 are: mAP reward 0.99, odLength 0.12 (3 / 24 · 0.99)."""
    parts = OVD.judge(OVD_ATTACKS["24 boxes (paper)"])
    assert (round(parts["map"], 2), round(parts["odlength"], 2)) == (0.99, 0.12)


# ---- what cannot be read is worth the least ------------------------------------------------------------------------

RIGHT = {
    "rec": str(A),
    "ovd": labelled(*ALL),
    "nothing": "None",
    "multi_rec": unlabelled(A, B, C),
    "click": "[150, 150]",
}
NUMBERS = {
    "NaN": "NaN",
    "infinity": "Infinity",
    "minus infinity": "-Infinity",
    "1e308": "1e308",
    "overflow": "1e999",
    "5000 digits": "9" * 5000,
    "full-width digits": "１００",
    "arabic digits": "١٠٠",
    "a word": "left",
    "a formula": "10**2",
}
UNREADABLE = {
    **{
        name: completion(f'[{{"bbox_2d": [{number}, 100, 200, 200], "label": "cat"}}]')
        for name, number in NUMBERS.items()
    },
    "three numbers": completion('[{"bbox_2d": [100, 100, 200], "label": "cat"}]'),
    "empty answer": completion(" "),
    "never closed": completion('[{"bbox_2d": [100, 100, 200, 200'),
    "10 MB of brackets": completion("[" * 10_000_000),
    "10 MB of brackets, no tags": "[" * 10_000_000,
    "10 MB of boxes": completion(f"{A}, " * 500_000),
    "deep nesting": completion("[" * 9_000 + "]" * 9_000),
    "deep objects": completion('{"a": ' * 3_000 + "}" * 3_000),
    "regex bait: commas": completion("[" + "1," * 9_000),
    "regex bait: digits": completion("[" + "1" * 19_000),
    "regex bait: spaces": completion("[1" + " " * 19_000 + ","),
    "regex bait: exponents": completion("[" + "1e" * 9_000 + "]"),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_worth_the_least(scene, name):
    _assert_least(SCENES[scene], UNREADABLE[name])


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(
    "form",
    [
        pytest.param("<think><answer>{}</answer></think>", id="in the thinking"),
        pytest.param("<think><answer>{}</answer>", id="in a thought without end"),
        pytest.param("<think>so</think>{}", id="without tags"),
        pytest.param("<think>so</think><answer>{}", id="never closed"),
        pytest.param("<think>so</think><Answer>{}</Answer>", id="other tags"),
    ],
)
def test_the_right_answer_in_the_wrong_place_is_none(scene, form):
    _assert_least(SCENES[scene], form.format(RIGHT[scene]))
    assert SCENES[scene].judge(completion(RIGHT[scene]))["format"] == 1.0


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("template", ["r1", "r1_ovd", "paper", "direct"])
def test_the_prompt_copied_is_no_answer(scene, template):
    prompt = build_prompt(get_task(SCENES[scene].task), SCENES[scene].record, TEMPLATES[template]).text
    _assert_least(SCENES[scene], prompt, template)
    _assert_least(SCENES[scene], completion(prompt))


def _assert_least(scene, text, template="r1"):
    parts = scene.judge(text, template)
    assert parts == {name: -1.0 if name == "count_penalty" else 0.0 for name in scene.rewards}


WORDS = [*RIGHT.values(), *NUMBERS.values(), *TAGS, *"[]{},: ", '"bbox_2d"', '"label"', "```json", "None"]


@pytest.mark.parametrize("scene", SCENES)
@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join), st.booleans())
def test_whatever_is_written_no_reward_leaves_its_range(scene, text, tagged):
    for name, part in SCENES[scene].judge(completion(text) if tagged else text).items():
        least = -1.0 if name == "count_penalty" else 0.0
        assert least <= part <= least + 1.0


# ---- who withstands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "paying"),
    [
        pytest.param("24 boxes (paper)", {"map", "ap50", "nms_ap", "weighted_sum"}, id="boxes_for_good_luck"),
        pytest.param("duplicated boxes", {"map", "ap50", "nms_ap", "weighted_sum"}, id="every_box_four_times"),
        pytest.param("absent labels too", {"map", "ap50", "weighted_sum"}, id="every_category_claimed"),
        pytest.param("both labels everywhere", {"weighted_sum"}, id="every_label_everywhere"),
        pytest.param("box spam first", {"weighted_sum"}, id="spam_before_the_right_ones"),
        pytest.param("rough boxes", {"ap50", "set_f1", "weighted_sum"}, id="rough_boxes"),
        pytest.param("whole image", set(), id="the_whole_image"),
        pytest.param("None", set(), id="nothing_claimed"),
    ],
)
def test_who_pays_more_for_an_attack_than_for_two_of_three(attack, paying):
    """Two exact boxes of three and nothing else: an honest answer, which an attack should not beat."""
    honest, hacked = OVD.judge(completion(PARTIAL)), OVD.judge(OVD_ATTACKS[attack])
    assert {name for name in SET_REWARDS if hacked[name] > honest[name] + 1e-9} - {"count_penalty"} == paying


@pytest.mark.parametrize("attack", ["24 boxes (paper)", "duplicated boxes", "absent labels too"])
@pytest.mark.parametrize("accuracy", ["map", "ap50", "nms_ap"])
def test_a_count_penalty_beside_them_helps(accuracy, attack):
    honest, hacked = OVD.judge(completion(PARTIAL)), OVD.judge(OVD_ATTACKS[attack])
    assert hacked[accuracy] + hacked["count_penalty"] < honest[accuracy] + honest["count_penalty"]


@pytest.mark.parametrize("accuracy", ["map", "ap50", "odlength", "set_f1"])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(OVD_ATTACKS["two answers"], id="two answers"),
        pytest.param(f"<answer>{RIGHT['ovd']}</answer>", id="no thinking"),
        pytest.param(completion(RIGHT["ovd"]) + " so it is", id="text outside"),
        pytest.param(f"<think>None? <answer>None</answer></think><answer>{RIGHT['ovd']}</answer>", id="hedged"),
    ],
)
def test_gates_put_the_form_first(accuracy, text):
    weights = {accuracy: 1.0, "format": 0.5}
    wrong, right = (
        {name: parts[name] for name in weights} for parts in map(OVD.judge, [text, completion(RIGHT["ovd"])])
    )
    combined = {name: (combine(wrong, weights), combine(right, weights)) for name, combine in COMBINATIONS.items()}
    assert combined == {"sum": (1.0, 1.5), "gate": (0.0, 1.5), "product": (0.0, 0.5)}


# ---- in what time --------------------------------------------------------------------------------------------------

PIECES = {
    "brackets": "[",
    "closed brackets": "[]",
    "nested objects": '{"a":[',
    "tags": "<think></think><answer>",
    "answers": "<answer>[1, 2, 3, 4]</answer>",
    "boxes": "[100, 100, 200, 200], ",
    "labelled boxes": '{"bbox_2d": [100, 100, 200, 200], "label": "cat"}, ',
    "numbers": "1,",
    "digits": "1",
    "exponents": "1e",
    "spaces": "1 ,\t\n",
    "quotes": '\\"',
    "fences": "```json\n",
    "none": "None ",
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("piece", PIECES)
def test_a_megabyte_in_50_ms(scene, piece):
    """All rewards of a scene together; the last text is as long as an answer may be, so it is read to its end."""
    megabyte, readable = (PIECES[piece] * (length // len(PIECES[piece])) for length in (1_000_000, 19_990))
    for text, template in [(megabyte, "direct"), (completion(megabyte), "r1"), (completion(f"[{readable}]"), "r1")]:
        assert min(_seconds(SCENES[scene], text, template) for _ in range(3)) < 0.05


def _seconds(scene, text, template):
    start = time.process_time()
    scene.judge(text, template)
    return time.process_time() - start
