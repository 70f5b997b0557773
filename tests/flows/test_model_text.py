"""Whatever a model writes, every file, page and terminal holds it, and no run ends of it (docs/security.md)."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from testing_tasks import GOLD, WRITTEN
from vlm_r1.cli.trace import _rollout_table, _stage
from vlm_r1.data.lines import vlm_r1_line
from vlm_r1.evaluation.runner import summarize_evaluation, write_evaluation
from vlm_r1.report.build import build_report
from vlm_r1.runtime.metrics_log import append_metrics, read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path, write_rollouts
from vlm_r1.runtime.run_folder import write_json
from vlm_r1.runtime.terminal import Terminal
from vlm_r1.runtime.text import json_text, visible, writable
from vlm_r1.scoring.files import check_file, score_file
from vlm_r1.scoring.rows import Scoring
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import BoxFormat, Completion, EncodedPrompt, Group, ImageFrame, Record, Rollout, Score, StopReason

HALF = "\ud83d"
WHOLE_OF_UNICODE = st.text(st.characters(exclude_categories=()), max_size=30)
"""Half surrogate pairs, controls and unassigned characters too."""

PLACES = {
    "ovd": '[{"bbox_2d": [1, 2, 30, 40], "label": %s}]',
    "multi_rec": '[{"bbox_2d": [1, 2, 30, 40], "label": %s}]',
    "rec": '{"bbox_2d": [1, 2, 30, 40], "label": %s}',
    "gui_click": '{"point_2d": [15, 20], "label": %s}',
    "gui_defect": "%s",
    "vqa": "%s",
    "classification": "%s",
    "document": "%s",
    "math": "1/2 %s",
    "choice": "(B) %s",
    "yes_no": "Yes. %s",
    "counting": "3 %s",
}
"""An answer of each task with a place for any text: as JSON writes it where the answer is JSON."""


def groups_of(task: str, text: str, image: str) -> list[Group]:
    """Judge answers with the text in the place where the task reads or skips one, raw and as JSON escapes."""
    record = Record("1", task, "<image>what", (image,), GOLD[task], source="train.jsonl:1")
    frame = ImageFrame((64, 60), (64, 60))
    quoted = '"' in PLACES[task] or "{" in PLACES[task]
    written = [json.dumps(text), json.dumps(text, ensure_ascii=False)] if quoted else [text]
    answers = [PLACES[task].replace("%s", one) for one in written] + [text]
    texts = [f"<think>{text}</think><answer>{answer}</answer>" for answer in answers]
    attempts = [Attempt(one, record, (frame,), get_task(task), TEMPLATES["r1"], n_tokens=2) for one in texts]
    scores = judge(attempts, BoxFormat.INPUT_PIXELS, {"accuracy": 1.0, "format": 1.0})
    encoded = EncodedPrompt((5,), {}, (frame,), f"<|user|>{text}", None, "r1", BoxFormat.INPUT_PIXELS)
    rollouts = [
        Rollout(Completion.sampled((8, 9), (-0.5, -0.25), one, StopReason.STOP), score, advantage=0.5)
        for one, score in zip(texts, scores, strict=True)
    ]
    return [Group(record, encoded, (rollout,)) for rollout in rollouts]


def write_everything(folder: Path, groups: Sequence[Group], text: str) -> None:
    """Write what a run, an evaluation, a scoring and a rating write of these groups."""
    (folder / "config.yaml").write_text("seed: 1\n", encoding="utf-8")
    for old in (folder / "metrics.jsonl", *folder.glob("eval/*")):
        old.unlink(missing_ok=True)
    write_rollouts(rollouts_path(folder, 1), 1, groups)
    name = "before-held"
    summary = summarize_evaluation(groups, name=name, data="held.jsonl", step=0, seed=0)
    summary["parse_failures"][text] = 1  # a reason of a task from outside may quote the answer
    write_evaluation(folder / "eval", summary, groups)
    append_metrics(folder / "metrics.jsonl", {"step": 1, "stage": "grpo", f"parse_failures/{text}": 1.0, text: 0.5})
    write_json(folder / "summary.json", {"before": {"held": {text: 0.5, "n": 1}}, "after": {}, "seed": 1})
    samples = folder / f"eval/{name}.samples.jsonl"
    check_file(samples, Scoring())
    score_file(samples, folder / "scores.jsonl", Scoring())
    score_file(rollouts_path(folder, 1), folder / "scores_of_rollouts.jsonl", Scoring())
    line = json_text(vlm_r1_line(groups[0].record) | {"note": groups[0].rollouts[0].completion.text})
    (folder / "rated.jsonl").write_text(line + "\n", encoding="utf-8")
    build_report(folder)


def terminal_output(group: Group, encoding: str) -> bytes:
    """What `vlm-r1 trace` prints of a group on a terminal of this encoding."""
    raw = io.BytesIO()
    console = Terminal(file=io.TextIOWrapper(raw, encoding=encoding, write_through=True), width=200)
    console.print(_rollout_table(group, [0.0]))
    _stage(console, "stage 1", text=group.rollouts[0].completion.text, answer=group.rollouts[0].score.answer)
    return raw.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    Image.new("RGB", (64, 60)).save(path / "a.png")
    return path


def test_every_task_is_tried():
    assert set(PLACES) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_the_answers_around_the_text_are_read(task: str):
    scores = [group.rollouts[0].score for group in groups_of(task, "word", "a.png")]
    assert scores[0].reason is None


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=WHOLE_OF_UNICODE, end=st.sampled_from(["", HALF, "\U0001f600\ude00\x1b[31m[/x]"]))
@example(text="", end=HALF)
def test_any_text_goes_through_every_writer(folder: Path, task: str, text: str, end: str):
    shown = text + end
    groups = groups_of(task, shown, str(folder / "a.png"))
    write_everything(folder, groups, shown)
    assert [row.text for row in read_rollouts(rollouts_path(folder, 1))] == [
        writable(group.rollouts[0].completion.text) for group in groups
    ]
    assert writable(shown) in read_metrics(folder / "metrics.jsonl")[0]
    for file in folder.rglob("*.json*"):
        for line in file.read_text(encoding="utf-8").split("\n") if file.suffix == ".jsonl" else [file.read_text()]:
            assert not line or json.loads(line)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.endswith("</html>")
    for encoding in ("utf-8", "ascii", "latin-1"):
        printed = terminal_output(groups[0], encoding).decode(encoding)
        assert "\x1b" not in printed
        assert visible(printed) == printed


def test_control_an_answer_that_is_read_and_holds_half_a_pair_cannot_be_written_as_it_is(folder: Path):
    """Without `writable`, the evaluation file of such an answer ends the run."""
    (group, *_) = groups_of("ovd", HALF, str(folder / "a.png"))
    score = group.rollouts[0].score
    assert score.answer == [{"bbox_2d": [1, 2, 30, 40], "label": HALF}]
    with pytest.raises(UnicodeEncodeError):
        json.dumps(score.answer, ensure_ascii=False).encode()
    write_evaluation(folder / "eval", summarize_evaluation([group], name="x", data="", step=0, seed=0), [group])
    assert json.loads((folder / "eval/x.samples.jsonl").read_text())["answer"][0]["label"] == "?"


def test_control_the_terminal_of_the_library_passes_escape_sequences_on():
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=80).print("\x1b]0;title\x07", markup=False)
    assert "\x1b" in out.getvalue()
    out = io.StringIO()
    Terminal(file=out, width=80).print("\x1b]0;title\x07")
    assert out.getvalue() == "␛]0;title␇\n"


def test_numbers_that_json_lacks_are_null_and_extra_values_are_kept(folder: Path):
    (group, *_) = groups_of("counting", "", str(folder / "a.png"))
    score = Score(None, {"accuracy": None}, 10**5000, None, {"iou": float("nan")}, {HALF: [float("inf")]})
    rollout = Rollout(group.rollouts[0].completion, score)
    write_evaluation(folder / "eval", {"name": "y"}, [Group(group.record, group.encoded, (rollout,))])
    sample = json.loads((folder / "eval/y.samples.jsonl").read_text())
    assert (sample["answer"], sample["metrics"], sample["extra"]) == (None, {"iou": None}, {"?": [None]})
    assert WRITTEN.keys() == set(TASKS)
