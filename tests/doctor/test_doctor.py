"""Each sign fires on rows that have it, and is silent beside its threshold."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from vlm_r1.doctor.answers import Answers
from vlm_r1.doctor.base import Finding, HeldOut, Seen, Settings, change_of
from vlm_r1.doctor.examine import SIGNS, examine, loss_note

SETTINGS = Settings("grpo", 64, completions=32, prompts=4, weights={"accuracy": 1.0, "format": 0.5}, rewards=("map",))
PAGE = (Path(__file__).resolve().parents[2] / "docs/doctor.md").read_text(encoding="utf-8")


def run_of(steps, settings=SETTINGS, **columns):
    """A run whose metrics are numbers, or functions of the step; `__` in a name stands for "/"."""
    rows = [
        {"step": s, "stage": "grpo", **{k.replace("__", "/"): v(s) if callable(v) else v for k, v in columns.items()}}
        for s in range(1, steps + 1)
    ]
    return Seen(settings, rows)


def names(seen):
    return [finding.name for finding in examine(seen)]


def rising(first, last, steps=40):
    """From `first` to `last`, in equal steps."""
    return lambda s: first + (last - first) * (s - 1) / (steps - 1)


def late(value, usual, since):
    return lambda s: value if s >= since else usual


REWARD = {"reward__mean": rising(0.2, 0.6)}
FLAT = {"reward__mean": 0.4}


def traded(precision, recall, reward=REWARD):
    """A run of 40 steps, whose reward rises by default."""
    return run_of(40, metrics__precision_iou50__mean=precision, metrics__recall_iou50__mean=recall, **reward)


LONG = {"completions__mean_length": rising(20, 60), "completions__truncated": 0.0}

METRICS = [
    # 3 steps of 4 groups are 12, below 16; 4 steps are 16
    pytest.param(run_of(3, groups__no_signal=1.0), [], id="12 groups without signal"),
    pytest.param(run_of(4, groups__no_signal=1.0), ["no-spread-at-start"], id="16 groups without signal"),
    pytest.param(run_of(9, groups__no_signal=late(1.0, 0.75, 2)), [], id="one group had a signal"),
    pytest.param(run_of(20, groups__no_signal=late(0.8, 0.5, 11)), ["no-signal"], id="0.8 without signal"),
    pytest.param(run_of(20, groups__no_signal=late(0.79, 0.5, 11)), [], id="0.79 without signal"),
    pytest.param(run_of(9, rewards__accuracy__mean=0.0, rewards__accuracy__std=0.0), [], id="accuracy 0 for 9 steps"),
    pytest.param(
        run_of(10, rewards__accuracy__mean=0.0, rewards__accuracy__std=0.0), ["dead-reward"], id="accuracy 0 for 10"
    ),
    pytest.param(
        run_of(10, rewards__accuracy__mean=late(0.0, 0.1, 2), rewards__accuracy__std=late(0.0, 0.2, 2)),
        [],
        id="accuracy 0 for 9 of 10",
    ),
    pytest.param(
        run_of(10, rewards__accuracy__mean=1.0, rewards__accuracy__std=0.0), ["dead-reward"], id="accuracy full"
    ),
    pytest.param(
        run_of(
            10,
            rewards__accuracy__mean=0.5,
            rewards__accuracy__std=0.2,
            rewards__format__mean=1.0,
            rewards__format__std=0.0,
        ),
        [],
        id="format full: it is learnt",
    ),
    pytest.param(
        run_of(10, rewards__overlong__mean=0.0, rewards__overlong__std=0.0), [], id="a penalty that nobody earns"
    ),
    pytest.param(
        run_of(10, replace(SETTINGS, weights={"length": 0.0}), rewards__length__mean=0.0, rewards__length__std=0.0),
        [],
        id="a component of weight 0",
    ),
    pytest.param(run_of(10, completions__truncated=0.5), ["truncated"], id="half cut off"),
    pytest.param(run_of(10, completions__truncated=0.49), [], id="fewer than half cut off"),
    # windows: steps 1 to 10 and 31 to 40; 20 + 40 · 4.5/39 = 24.6 and 20 + 40 · 34.5/39 = 55.4, a ratio of 2.25
    pytest.param(run_of(40, **LONG, **FLAT), ["length-grows"], id="longer, no better"),
    pytest.param(run_of(40, replace(SETTINGS, rewards=("iou",)), **LONG, **REWARD), [], id="longer and better"),
    pytest.param(
        run_of(40, replace(SETTINGS, rewards=("iou",)), **{**LONG, "completions__truncated": 0.05}, **REWARD),
        ["length-grows"],
        id="longer, better, but cut off",
    ),
    pytest.param(run_of(40, **LONG, **REWARD), ["longer-under-ap"], id="longer and better under map"),
    # 25 / 20 is 1.25
    pytest.param(
        run_of(40, completions__mean_length=late(25.0, 20.0, 31), **REWARD), ["longer-under-ap"], id="map: 1.25 as long"
    ),
    pytest.param(run_of(40, completions__mean_length=late(24.9, 20.0, 31), **REWARD), [], id="map: 1.245 as long"),
    pytest.param(run_of(29, completions__mean_length=rising(20, 60, 29), **FLAT), [], id="too early to compare"),
    pytest.param(run_of(40, completions__mean_length=rising(60, 12)), ["length-collapses"], id="short"),
    pytest.param(
        run_of(40, completions__mean_length=rising(60, 12), completions__truncated=late(0.0, 0.9, 11)),
        [],
        id="short, since it learnt to stop",
    ),
    # 0.4 → 0.04: below 0.05, and 0.04 / 0.4 = 0.1 is below 0.2
    pytest.param(run_of(40, entropy=late(0.04, 0.4, 11)), ["entropy-collapse"], id="entropy 0.4 to 0.04"),
    pytest.param(run_of(40, entropy=late(0.06, 0.4, 11)), [], id="entropy 0.4 to 0.06"),
    pytest.param(run_of(40, entropy=late(0.04, 0.1, 11)), [], id="entropy 0.1 to 0.04: it was low"),
    pytest.param(run_of(10, kl=1.0), ["kl-blow-up"], id="KL of 1"),
    pytest.param(run_of(10, kl=0.9), [], id="KL of 0.9"),
    pytest.param(run_of(40, kl=late(0.2, 0.02, 31)), ["kl-blow-up"], id="KL ten times what it was"),
    pytest.param(run_of(40, kl=late(0.05, 0.001, 31)), [], id="KL fifty times, but small"),
    pytest.param(
        run_of(10, sampling__sampling_logp_difference__mean=0.05), ["sampler-drift"], id="a sampler far from the policy"
    ),
    pytest.param(run_of(10, sampling__sampling_logp_difference__mean=0.02), [], id="rounding in bfloat16"),
    pytest.param(
        run_of(10, replace(SETTINGS, cuts=True), sampling__sampling_logp_difference__mean=0.5), [], id="top-p cuts"
    ),
    # 10 of 32 completions are 31 %
    pytest.param(run_of(10, parse_failures__no_box=10.0), ["parse-failures"], id="31 % cannot be read"),
    pytest.param(run_of(10, parse_failures__no_box=9.0), [], id="28 % cannot be read"),
    pytest.param(run_of(10, parse_failures__no_box=late(12.0, 16.0, 6)), [], id="38 % of 50 %: it gets better"),
    pytest.param(traded(rising(0.5, 0.4), rising(0.3, 0.4)), ["recall-for-precision"], id="recall for precision"),
    pytest.param(traded(rising(0.5, 0.6), rising(0.3, 0.4)), [], id="both rise"),
    pytest.param(traded(rising(0.5, 0.4), rising(0.3, 0.4), FLAT), [], id="recall for precision, without reward"),
    pytest.param(traded(late(0.05, 0.1, 31), late(0.1, 0.05, 31)), ["recall-for-precision"], id="0.05 for 0.05"),
    pytest.param(traded(late(0.051, 0.1, 31), late(0.1, 0.05, 31)), [], id="precision lost 0.049"),
    pytest.param(traded(late(0.05, 0.1, 31), late(0.099, 0.05, 31)), [], id="recall gained 0.049"),
    pytest.param(run_of(40, reward__mean=math.nan, entropy=math.nan, kl=math.inf), [], id="no numbers"),
]


@pytest.mark.parametrize(("seen", "found"), METRICS)
def test_signs_in_metrics(seen, found):
    assert names(seen) == found


def test_a_run_of_which_nothing_is_known_has_no_finding():
    assert examine(Seen(Settings())) == []
    assert examine(Seen(Settings(), [{"step": 1, "stage": "sft"}])) == []


def test_a_change_is_compared_with_its_standard_error():
    # windows 0, 1, 0, 1, … and 1, 2, 1, 2, …: means 0.5 and 1.5, variances 10 · 0.25 / 9, error √(2 · 0.2778 / 10)
    seen = run_of(30, entropy=lambda s: s % 2 + (s > 20))
    change = change_of(seen.rows, "entropy")
    assert (change.first, change.last) == (0.5, 1.5)
    assert change.error == pytest.approx(math.sqrt(2 * (2.5 / 9) / 10))
    assert change.rises
    assert not change.falls
    assert change.ratio == 3


# ---- answers -------------------------------------------------------------------------------------------------------


def answering(**counts):
    """A run of 12 steps whose every step has these counts."""
    return replace(run_of(12), answers={step: Answers(**counts) for step in range(1, 13)})


def fitting(located, own, other):
    """Counts of `located` answers, with the sums of their IoU in the coordinates they are read in, and in others."""
    return {"located": located, "overlap": {"input_pixels": own, "norm_1000": other}, "box_format": "input_pixels"}


ANSWERS = [
    pytest.param({"n": 8, "records": 2, "common": {"None": 8}, "right": {"None": 1}}, ["one-answer"], id="always None"),
    pytest.param({"n": 8, "records": 1, "common": {"None": 8}, "right": {"None": 1}}, [], id="10 records"),
    pytest.param({"n": 8, "records": 2, "common": {"None": 7}, "right": {"None": 1}}, [], id="7 of 8 are below 90 %"),
    pytest.param(
        {"n": 8, "records": 2, "common": {"no": 8}, "right": {"no": 7}}, [], id="the data say no: 7 of 8 are right"
    ),
    pytest.param({"n": 8, "records": 2, "unread": {"no_box": 8}}, [], id="nothing was read"),
    # 20 answers in all: 0.05 as it is read, 0.6 if it is read otherwise
    pytest.param(fitting(2, 0.1, 1.2), ["other-coordinates"], id="other coordinates fit"),
    pytest.param(fitting(2, 0.1, 0.5), [], id="no coordinates fit"),
    pytest.param({"located": 2, "overlap": {"input_pixels": 1.2}, "box_format": "input_pixels"}, [], id="they fit"),
    # 200 answers in all: 30 / 200 = 0.15, 60 / 200 = 0.3, and 75 / 200 = 0.375 is three times 25 / 200 = 0.125
    pytest.param(fitting(20, 2.9, 12.0), ["other-coordinates"], id="0.145 as they are read, 0.6 otherwise"),
    pytest.param(fitting(20, 3.0, 12.0), [], id="0.15 as they are read"),
    pytest.param(fitting(20, 1.0, 6.0), ["other-coordinates"], id="0.3 otherwise"),
    pytest.param(fitting(20, 1.0, 5.9), [], id="0.295 otherwise"),
    pytest.param(fitting(20, 2.5, 7.5), ["other-coordinates"], id="three times better"),
    pytest.param(fitting(20, 2.5, 7.4), [], id="2.96 times better"),
    pytest.param(fitting(1, 0.0, 1.0), [], id="10 answers"),
]


@pytest.mark.parametrize(("counts", "found"), ANSWERS)
def test_signs_in_answers(counts, found):
    assert names(answering(**counts)) == found


@pytest.mark.parametrize(("located", "found"), [(16, ["other-coordinates"]), (15, [])])
def test_boxes_of_sixteen_answers_tell_the_coordinates(located, found):
    answers = {11: Answers(**fitting(8, 0.0, 8.0)), 12: Answers(**fitting(located - 8, 0.0, located - 8.0))}
    assert names(replace(run_of(12), answers=answers)) == found


def test_the_numbers_of_one_answer_are_those_of_the_last_steps():
    (finding,) = examine(answering(n=8, records=2, common={"None": 8}, right={"None": 1}))
    assert finding.evidence == 'the last 10 steps: 80 of 80 answers are "None", of which 10 are right'
    assert (finding.step, finding.about, finding.doubts) == (12, "", True)


def test_only_the_newest_evaluation_of_a_set_is_looked_at():
    stuck = HeldOut(
        0, 64, "map", 0.1, 0.0, 0.2, answers=Answers(n=64, records=64, common={"None": 64}, right={"None": 8})
    )
    well = replace(stuck, step=10, answers=Answers(n=64, records=64, common={"None": 9}, right={"None": 8}))
    seen = run_of(10)
    (finding,) = examine(replace(seen, held_out={"val": [stuck]}))
    assert finding.evidence == 'val, after step 0: 64 of 64 answers are "None", of which 8 are right'
    assert finding.about == "val"
    assert examine(replace(seen, held_out={"val": [stuck, well]})) == []


def boxes(first, last, gold=10):
    """Boxes in steps 1 to 20 and 21 to 40, with `gold` true ones in each."""
    counts = {step: Answers(boxes=first if step <= 20 else last, gold_boxes=gold) for step in range(1, 41)}
    return lambda **columns: replace(run_of(40, **columns), answers=counts)


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        # the paper's experiment in small: 1.44 → 2.51 boxes under AP50, 1.44 → 1.20 under odLength
        pytest.param(boxes(14.4, 25.1)(**REWARD), ["more-boxes"], id="1.44 to 2.51"),
        pytest.param(boxes(14.4, 12.0)(**REWARD), [], id="1.44 to 1.20"),
        pytest.param(boxes(14.4, 17.3)(**REWARD), [], id="1.44 to 1.73, a ratio of 1.2"),
        pytest.param(boxes(5, 10)(**REWARD), [], id="0.5 to 1: it finds them"),
        pytest.param(boxes(14.4, 25.1)(**FLAT), [], id="without reward"),
        pytest.param(boxes(0, 25, gold=0)(**REWARD), [], id="no true boxes"),
    ],
)
def test_boxes_for_each_true_box(seen, found):
    assert names(seen) == found


@pytest.mark.parametrize(
    ("last", "reward", "found"),
    [
        pytest.param((0.30, 0.25, 0.35), REWARD, ["held-out-falls"], id="below the interval"),
        pytest.param((0.30, 0.25, 0.46), REWARD, [], id="the intervals meet"),
        pytest.param((0.70, 0.60, 0.80), REWARD, [], id="above it"),
        pytest.param((0.30, 0.25, 0.35), {"reward__mean": rising(0.6, 0.2)}, [], id="the reward falls too"),
    ],
)
def test_held_out_results(last, reward, found):
    best = HeldOut(0, 64, "f1", 0.5, 0.45, 0.55)
    several = [best, replace(best, step=20, mean=0.4), HeldOut(40, 64, "f1", *last)]
    seen = replace(run_of(40, **reward), held_out={"val": several})
    assert names(seen) == found


@pytest.mark.parametrize(
    ("last", "found"), [((0.30, 0.25, 0.35), []), ((0.70, 0.60, 0.80), ["held-out-falls"])], ids=["smaller", "larger"]
)
def test_of_an_error_less_is_better(last, found):
    several = [HeldOut(0, 64, "relative_error", 0.5, 0.45, 0.55), HeldOut(40, 64, "relative_error", *last)]
    assert names(replace(run_of(40, **REWARD), held_out={"val": several})) == found


@pytest.mark.parametrize(("step", "found"), [(0, []), (40, ["parse-failures"])])
def test_answers_of_a_model_before_training_need_not_be_readable(step, found):
    seen = replace(run_of(40), held_out={"val": [HeldOut(step, 64, "f1", 0.1, 0, 0.2, unread={"no_box": 40})]})
    assert names(seen) == found


# ---- what is said --------------------------------------------------------------------------------------------------


def everything():
    """All findings of the cases above."""
    cases = [case.values[0] for case in METRICS] + [answering(**case.values[0]) for case in ANSWERS]
    fallen = [HeldOut(0, 64, "f1", 0.5, 0.45, 0.55), HeldOut(40, 64, "f1", 0.3, 0.25, 0.35)]
    cases += [boxes(14.4, 25.1)(**REWARD), replace(run_of(40, **REWARD), held_out={"val": fallen})]
    return [finding for seen in cases for finding in examine(seen)]


def test_every_finding_has_a_section_and_every_section_a_finding():
    found = {finding.name for finding in everything()}
    headings = set(re.findall(r"^### (\S+)$", PAGE, flags=re.MULTILINE))
    assert found == headings
    assert set(SIGNS) - {"length"} <= found


def test_every_finding_has_numbers_a_cause_and_a_change():
    for finding in everything():
        assert re.search(r"\d", finding.evidence), finding
        assert finding.cause
        assert finding.change
        assert finding.link == f"docs/doctor.md#{finding.name}"
        assert finding.as_json()["link"] == finding.link
        assert not re.search(r"[.;,]$", finding.evidence + finding.cause + finding.change), finding


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        pytest.param({"loss": 0.001, "groups__no_signal": 0.1}, True, id="near 0"),
        pytest.param({"loss": 0.3, "groups__no_signal": 0.1}, False, id="not near 0"),
        pytest.param({"loss": 0.0, "groups__no_signal": 1.0}, False, id="0 since nothing is learnt"),
        pytest.param({"loss": 0.001}, False, id="supervised"),
    ],
)
def test_a_loss_near_0_is_explained(columns, said):
    assert bool(loss_note(run_of(10, **columns))) == said
    assert "## A loss near 0\n" in PAGE


def test_a_finding_is_known_by_its_name_and_what_it_is_about():
    one = Finding("one-answer", "64 of 64", "", "", 3, "val")
    assert one.key == replace(one, evidence="60 of 64", step=9).key != replace(one, about="test").key
