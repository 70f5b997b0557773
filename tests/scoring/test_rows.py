"""Scoring of rows of each kind, by hand; files in order whatever the number of processes; bad rows before any work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlm_r1.errors import ConfigError, DataError, RewardError
from vlm_r1.evaluation.runner import summarize_evaluation, write_evaluation
from vlm_r1.official import OFFICIAL
from vlm_r1.rewards import REWARDS
from vlm_r1.runtime.rollout_log import rollouts_path, write_rollouts
from vlm_r1.scoring.files import check_file, read_rows, score_file
from vlm_r1.scoring.rows import RowScore, check_row, score_rows
from vlm_r1.scoring.settings import REWARD_SETTINGS, Scoring
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import TEMPLATES, make_templates
from vlm_r1.types import BoxFormat, Completion, EncodedPrompt, Group, ImageFrame, Record, Rollout, StopReason

ROOT = Path(__file__).resolve().parents[2]
BOX = [5, 0, 15, 10]
HALF = "<think>a</think><answer>[0, 0, 10, 10]</answer>"  # IoU with BOX: 50 / 150
WORDS = "<think>a</think><answer>on the left</answer>"
DEFAULTS = Scoring()


def score(row, scoring=DEFAULTS):
    check_row("f.jsonl:1", row, scoring)
    return score_rows([("f.jsonl:1", row)], scoring)[0]


RECIPE = Scoring(weights={"accuracy": 3.0, "format": 0.5}, templates=make_templates("r1"))


@pytest.mark.parametrize(
    ("row", "scoring", "expected"),
    [
        pytest.param({"reward": "iou"}, DEFAULTS, 1 / 3, id="our name"),
        pytest.param({"reward": "iou_threshold(at=0.3)", "task": "rec"}, DEFAULTS, 1, id="with an option"),
        pytest.param({"reward": "rec_iou/raw_pixels"}, DEFAULTS, 1 / 3, id="the original's name"),
        pytest.param({}, Scoring(reward="iou_power(exponent=2)", task="rec"), 1 / 9, id="as the command says"),
        pytest.param({}, Scoring(task="rec"), 1 / 3, id="the task's own reward"),
        pytest.param({"reward": "iou"}, Scoring(reward="map"), 1 / 3, id="the row's name goes first"),
        # half of it on the image on disk, [0, 0, 5, 5], which touches BOX
        pytest.param(
            {"reward": "iou", "image_size": [64, 64], "model_input_size": [128, 128]}, DEFAULTS, 0, id="input"
        ),
        # [0, 0, 20, 10], of which BOX is a half
        pytest.param(
            {"reward": "iou", "image_size": [[2000, 1000]]}, Scoring(box_format=BoxFormat.NORM_1000), 1 / 2, id="norm"
        ),
        pytest.param({"reward": "format", "task": "rec"}, DEFAULTS, 1, id="form"),
        pytest.param({"reward": "iou"}, RECIPE, 3 / 3 + 0.5, id="a recipe's weights"),
        pytest.param({"reward": "iou", "completion": "[0, 0, 10, 10]"}, DEFAULTS, 0, id="tags were asked for"),
        pytest.param({"reward": "iou", "completion": "[0, 0, 10, 10]"}, Scoring(template="direct"), 1 / 3, id="bare"),
        pytest.param(
            {"reward": "cosine_length", "task": "rec", "tokens": 9}, Scoring(), ConfigError, id="needs accuracy"
        ),
    ],
)
def test_cases_by_hand(row, scoring, expected):
    case = {"completion": HALF, "solution": BOX, **row}
    if isinstance(expected, type):
        with pytest.raises(expected):
            score(case, scoring)
    else:
        assert score(case, scoring).score == pytest.approx(expected)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param({"reward": "iou", "solution": "left"}, "is no box", id="gold"),
        pytest.param({"reward": "iou", "task": "vqa"}, "compares boxes", id="gold of another task"),
        pytest.param({"reward": "iou"}, 'the key "solution" is missing', id="no gold"),
        pytest.param({"reward": "rec_iou/qwen2.5-vl", "solution": BOX}, '"image_size" is missing', id="no size"),
        pytest.param(
            {"reward": "rec_iou/qwen2.5-vl", "solution": BOX, "image_size": [9, 9]}, '"model_input_size"', id="one size"
        ),
    ],
)
def test_no_score_has_a_reason_with_its_line(row, reason):
    row = {"solution": "left"} | row if "vqa" in row.values() else row
    result = score({"completion": HALF, **row})
    assert result.score is None
    assert result.reason is not None
    assert result.reason.startswith("f.jsonl:1: ")
    assert reason in result.reason


CASES = ROOT / "../shared/cases"
CASES_OF_ANSWERS = (
    "choice-option-text",
    "math-small-values",
    "math-formula-read-in-part",
    "math-marked-up-answer",
    "number-minus-sign",
    "number-with-unit-attached",
    "boxes-with-round-brackets",
    "same-text-other-code-points",
    "fenced-json-beside-brackets",
)


@pytest.mark.skipif(not CASES.exists(), reason="the handed cases are not here")
@pytest.mark.parametrize("name", CASES_OF_ANSWERS)
def test_handed_cases_score_what_they_say(name):
    rows = [json.loads(line) for line in (CASES / name / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
    wrong = [row for row in rows if row["want"] is not None and score(row).score != row["want"]]
    assert rows
    assert wrong == []


CHOSEN = "<think>a</think><answer>Vitamin C</answer>"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param({"options": ["Vitamin A", "Vitamin C"]}, 1, id="column"),
        pytest.param({"options": "['Vitamin A', 'Vitamin C']"}, 1, id="column as one text"),
        pytest.param({"problem": "Which?\nA. Vitamin A\nB. Vitamin C"}, 1, id="problem"),
        pytest.param({"prompt": "user: Which?\nA. Vitamin A\nB. Vitamin C\nThink."}, 1, id="logged prompt"),
        pytest.param({"options": ["Vitamin C", "Vitamin A"]}, 0, id="another order"),
        pytest.param({}, 0, id="not known"),
    ],
)
def test_choices_are_read_with_the_options_of_their_row(row, expected):
    assert score({"task": "choice", "completion": CHOSEN, "solution": "B", **row}).score == expected


def test_a_bad_row_does_not_spoil_its_neighbours():
    rows = [{"reward": "iou", "completion": HALF, "solution": gold} for gold in (BOX, "left", BOX)]
    unsuited = {"reward": "iou", "task": "vqa", "completion": WORDS, "solution": "left"}  # found by the reward alone
    scores = score_rows([(f"f.jsonl:{i}", row) for i, row in enumerate([*rows, unsuited, rows[0]])], DEFAULTS)
    assert [s.score and round(s.score, 6) for s in scores] == [0.333333, None, 0.333333, None, 0.333333]


@pytest.mark.parametrize(
    ("row", "scoring", "error", "message"),
    [
        pytest.param({"text": 3}, DEFAULTS, DataError, "f.jsonl:1: no text to score", id="no text"),
        pytest.param({"text": "a", "reward": 1.0}, DEFAULTS, DataError, '"gold" is missing', id="no gold"),
        pytest.param(
            {"completion": "", "reward": "iouu"}, DEFAULTS, DataError, 'f.jsonl:1: unknown reward "iouu"', id="reward"
        ),
        pytest.param({"completion": "", "reward": "giou"}, DEFAULTS, ConfigError, "Say --task", id="which task"),
        pytest.param({"completion": ""}, DEFAULTS, ConfigError, "no reward is named", id="nothing"),
        pytest.param({"completion": "", "task": "recc"}, DEFAULTS, DataError, 'unknown task "recc"', id="task"),
        pytest.param(
            {"completion": "", "reward": "iou"}, Scoring(template="r2"), ConfigError, "unknown template", id="template"
        ),
        pytest.param(
            {"completion": "", "reward": "iou", "image_size": [0, 4]}, DEFAULTS, DataError, r"wanted \[width", id="size"
        ),
        pytest.param(
            {"completion": "", "reward": "iou", "image_size": "4x4"}, DEFAULTS, DataError, r"wanted \[width", id="words"
        ),
        pytest.param(
            {"completion": "", "reward": "od_app"},
            Scoring(official=True),
            ConfigError,
            'Did you mean "od_ap"',
            id="theirs",
        ),
        pytest.param({"completion": ""}, Scoring(official=True), ConfigError, "not named", id="theirs, not named"),
    ],
)
def test_what_cannot_be_scored_is_said_before(row, scoring, error, message):
    with pytest.raises(error, match=message):
        check_row("f.jsonl:1", row, scoring)


def test_official():
    row = {"reward": "rec_iou/raw_pixels", "completion": HALF, "solution": BOX}
    assert score(row, Scoring(official=True)).score == pytest.approx(1 / 3)
    words = {"reward": "numeric", "completion": "three", "solution": "3"}
    assert score(words).score == 0
    result = score(words, Scoring(official=True))
    assert result.score is None
    assert result.reason == 'f.jsonl:1: the original\'s "numeric" returns nothing here'


def test_names_mean_what_exists():
    assert REWARD_SETTINGS.keys() == OFFICIAL.keys()
    for row in REWARD_SETTINGS.values():
        assert (row.task in TASKS, row.reward in REWARDS, row.template in TEMPLATES) == (True, True, True)


# ---- what a run logged ---------------------------------------------------------------------------------------------

FRAME = ImageFrame((64, 64), (128, 128))


def group(task, gold, texts, images=("a.png",)):
    """As a model that writes pixels of the processed image: boxes twice as large as on disk."""
    record = Record("7", task, "<image>?" * len(images), tuple(images), gold, source="train.jsonl:7")
    frames = (FRAME,) * len(images)
    attempts = [Attempt(text, record, frames, get_task(task), TEMPLATES["r1"]) for text in texts]
    scores = judge(attempts, BoxFormat.INPUT_PIXELS, {"accuracy": 1.0, "format": 1.0})
    completions = [Completion.sampled((1, 2), (-0.1, -0.1), text, StopReason.STOP) for text in texts]
    rollouts = tuple(Rollout(c, s) for c, s in zip(completions, scores, strict=True))
    return Group(
        record, EncodedPrompt((1,), {}, frames, "?", template="r1", box_format=BoxFormat.INPUT_PIXELS), rollouts
    )


REC_TEXTS = ["<think>a</think><answer>[0, 0, 20, 20]</answer>", WORDS, "[0, 0, 20, 20]"]
OVD_TEXT = '<think>a</think><answer>```json\n[{"bbox_2d": [10, 0, 30, 20], "label": "cat"}]\n```</answer>'
CAT = [{"bbox_2d": BOX, "label": "cat"}]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_rollouts(rollouts_path(tmp_path, 2), 2, [group("ovd", CAT, [OVD_TEXT])])
    write_rollouts(rollouts_path(tmp_path, 1), 1, [group("rec", BOX, REC_TEXTS), group("vqa", "left", [WORDS])])
    return tmp_path


def scores_of(path, scoring):
    check_file(path, scoring)
    return [s.score for s in score_rows([(source, row) for source, row in read_rows(path)], scoring)]


def test_rollouts_are_scored_again_without_their_model(run):
    logged = [row["parts"]["accuracy"] for _, row in read_rows(run)]
    assert logged == pytest.approx([1 / 3, 0, 0, 0, 1])
    assert scores_of(run, DEFAULTS) == pytest.approx(logged)
    both = Scoring(weights={"accuracy": 1.0, "format": 1.0})
    assert scores_of(run / "rollouts", both) == pytest.approx([row["reward"] for _, row in read_rows(run)])


def test_rollouts_by_another_reward(run):
    first = rollouts_path(run, 1)
    assert scores_of(first, Scoring(reward="iou_threshold(at=0.3)"))[:3] == [1, 0, 0]
    assert scores_of(first, Scoring(reward="default"))[3:] == pytest.approx([2 * 4 / 15])  # "left" in "on the left"
    assert scores_of(rollouts_path(run, 2), Scoring(reward="set_f1")) == [1]


def test_samples_of_an_evaluation(tmp_path, picture):
    groups = [group("rec", BOX, REC_TEXTS[:1], [picture(64, 64)]), group("rec", BOX, [WORDS], [picture(64, 64)])]
    summary = summarize_evaluation(groups, name="val", data="val.jsonl", step=0, seed=0)
    write_evaluation(tmp_path, summary, groups)
    path = tmp_path / "val.samples.jsonl"
    Path(picture(64, 64)).unlink()  # neither the model nor the images are needed
    assert scores_of(path, DEFAULTS) == pytest.approx([1 / 3, 0])


def progress(completions, trainer_state, **columns):
    return [trainer_state.global_step / trainer_state.max_steps] * len(completions)


def by_ids(completions, completion_ids, **columns):
    return [None if len(ids) > 2 else float(len(ids)) for ids in completion_ids]


def test_rollouts_are_judged_as_in_their_step(run, monkeypatch):
    monkeypatch.setitem(REWARDS, "progress", progress)  # type: ignore[arg-type]
    assert scores_of(run, Scoring(reward="progress", max_steps=4)) == [0, 0, 0, 0, 1 / 4]
    rows = [("f.jsonl:1", {"completion": "a", "solution": "a", "task": "vqa"})]
    assert score_rows(rows, Scoring(reward="progress"))[0].score == 1  # after training, which no step is
    with pytest.raises(TypeError):  # a number of steps that nobody knows is not made up
        scores_of(run, Scoring(reward="progress"))


def test_token_ids_come_from_the_row_and_none_is_null_with_a_reason(monkeypatch):
    monkeypatch.setitem(REWARDS, "by_ids", by_ids)  # type: ignore[arg-type]
    row = {"completion": "a", "solution": "a", "task": "vqa"}
    short, long = (row | {"completion_ids": ids} for ids in ([5, 6], [5, 6, 7]))
    scoring = Scoring(reward="by_ids")
    assert score(short, scoring).score == 2
    assert score(long, scoring) == RowScore(None, "f.jsonl:1: every reward leaves this row out (None)")
    with pytest.raises(RewardError, match="without a tokenizer: give the rows a key"):
        score(row, scoring)


# ---- files ---------------------------------------------------------------------------------------------------------


def write_lines(path: Path, lines) -> Path:
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def test_lines_come_back_with_their_score_in_order_whatever_the_workers(tmp_path):
    rows = [{"reward": "iou", "completion": f"<answer>[0, 0, {i}, 9]</answer>", "solution": BOX} for i in range(600)]
    rows[7] |= {"completion": "x" * 3_000_000, "note": "é 字 \ud800", "score": "old", "official": 0.0}
    path = write_lines(tmp_path / "in.jsonl", rows)
    assert check_file(path, DEFAULTS) == 600
    done = []
    summary = score_file(path, tmp_path / "one.jsonl", DEFAULTS, workers=1, advance=done.append)
    score_file(path, tmp_path / "two.jsonl", DEFAULTS, workers=2)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    written = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text(encoding="utf-8").splitlines()]
    rows[7]["note"] = "é 字 ?"  # half a surrogate pair cannot be written (runtime/text.py)
    assert [{**row, "score": None} for row in written] == [{**row, "score": None} for row in rows]
    assert [row["score"] for row in written[:7]] == [0] * 6 + [9 / (54 + 100 - 9)]
    assert sum(done) == 600
    tally = summary.tallies["iou"]
    assert (tally.rows, tally.scored, tally.compared, tally.equal) == (600, 600, 1, 1)


GOOD = {"reward": "iou", "completion": HALF, "solution": BOX}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param([GOOD, b"{", GOOD, b"[1]"], r"in.jsonl:2: not valid JSON(.|\n)*in.jsonl:4: got \[1\]", id="lines"),
        pytest.param([GOOD, b"\xff\xfe"], "in.jsonl:2: not valid JSON in UTF-8", id="bytes"),
        pytest.param([b"[" * 100_000], "in.jsonl:1: not valid JSON", id="depth"),
        pytest.param([{}] * 30, "… and 10 more, 30 in all", id="many"),
        pytest.param([b"", b"  "], "holds nothing to score", id="nothing"),
    ],
)
def test_bad_lines_are_named_before_anything_is_written(lines, message, tmp_path):
    with pytest.raises(DataError, match=message):
        check_file(write_lines(tmp_path / "in.jsonl", lines), DEFAULTS)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        check_file(tmp_path / "in.jsonl", DEFAULTS)
    with pytest.raises(DataError, match="holds nothing to score"):
        check_file(tmp_path, DEFAULTS)
