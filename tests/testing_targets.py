"""Sound inputs of every reader, and the command or function that reads each."""

from __future__ import annotations

import html
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

from testing_annotations import BOX, PICTURE, PLACES_OF_PICTURES, SOURCES, TWO_RECORDS
from testing_folders import (
    ASKING,
    HISTORY,
    LORA,
    TRAINER,
    manifest_of,
    pictures,
    read_asking,
    read_history,
    read_lora,
    read_manifest,
    read_trainer,
)
from testing_measures import COCO_FILES, asked_twice, read_and_measure, read_coco
from testing_mutations import written
from testing_tasks import GOLD, WRITTEN
from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.converters import CONVERTERS, Job, Tally, run_conversion
from vlm_r1.converters.base import NOTE
from vlm_r1.data.formats import FORMATS
from vlm_r1.evaluation.runner import summarize_evaluation, write_evaluation
from vlm_r1.report.build import build_report
from vlm_r1.runtime.metrics_log import append_metrics
from vlm_r1.runtime.rollout_log import rollouts_path, write_rollouts
from vlm_r1.scoring.files import check_file, score_file
from vlm_r1.scoring.rows import Scoring
from vlm_r1.types import BoxFormat, Completion, EncodedPrompt, Group, ImageFrame, Record, Rollout, Score, StopReason


@dataclass(frozen=True)
class Target:
    """What is tried.

    Attributes:
        files: path → a tree to be damaged and written in the form of its name, or bytes.
        read: reads the folder that holds the files; returns what a user sees of it, or raises a VlmR1Error.
        sound: what must come of the files as they are: the whole of it, or its last line.
        pictures: paths of pictures of 64×60 pixels in the folder, which are sound.
    """

    files: Mapping[str, Any]
    read: Callable[[Path], str]
    sound: str
    pictures: tuple[str, ...] = (PICTURE,)

    def write(self, folder: Path, changed: Mapping[str, bytes]) -> None:
        """Write all files, the changed ones as they were changed."""
        for picture in self.pictures:
            (folder / picture).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 60)).save(folder / picture)
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(changed.get(name, content if isinstance(content, bytes) else written(name, content)))


def command(*arguments: str) -> str:
    """Run a command; returns its output and its status. A status beyond 2 is no answer of ours."""
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown):
        status = main(arguments)
    assert status in (0, 1, 2)
    return f"{shown.getvalue()}\nstatus {status}"


# ---- data ----------------------------------------------------------------------------------------------------------

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "vlm_r1": (
        "rec",
        {
            "id": 7,
            "image": PICTURE,
            "conversations": [{"from": "human", "value": "<image>the cat"}, {"from": "gpt", "value": BOX}],
            "accu_reward_method": "iou",
            "note": "x",
        },
    ),
    "vlm_r1_eval": ("rec", {"image": PICTURE, "problem": "the cat", "solution": BOX, "width": 64, "level": 2.5}),
    "r1_v": (
        "counting",
        {"image": {"path": PICTURE, "bytes": None}, "problem": "How many?", "solution": "<answer>3</answer>"},
    ),
    "easy_r1": ("vqa", {"images": [PICTURE], "problem": "<image>Same?", "answer": "no", "solution": "They differ."}),
    "ms_swift": (
        "rec",
        {
            "messages": [
                {"role": "user", "content": "<image>where is <ref-object>?"},
                {"role": "assistant", "content": "<bbox>"},
            ],
            "images": [PICTURE],
            "objects": {"ref": ["cat"], "bbox": [BOX]},
        },
    ),
    "conversational": (
        "vqa",
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": "who?"}]},
                {"role": "assistant", "content": "<think>m</think><answer>I</answer>"},
            ]
        },
    ),
    "question_answer": ("choice", {"image": PICTURE, "question": "Which?", "answer": "B", "options": ["a", "b"]}),
}


IN_COLUMNS: dict[str, dict[str, Any]] = {
    "vlm_r1": {"conversations": [{"from": "human", "value": "<image>cat"}, {"from": "gpt", "value": str(BOX)}]},
    "conversational": {
        "messages": [{"role": "user", "content": "<image>who?"}, {"role": "assistant", "content": "I"}],
        "images": [{"path": PICTURE, "bytes": None}],
    },
}
"""What the rows have instead in Parquet, where all values of a column are of one kind."""


def data(name: str, suffix: str) -> Target:
    task, row = ROWS[name]
    if suffix == "parquet":
        row = row | IN_COLUMNS.get(name, {})

    return Target({f"in.{suffix}": [row, row | {"note": "y"}]}, checked(f"in.{suffix}", task), "status 0")


def checked(name: str, task: str) -> Callable[[Path], str]:
    """What `data check` does with a file, with a page of its records."""

    def read(folder: Path) -> str:
        with mock.patch.dict(os.environ, XDG_CACHE_HOME=str(folder / "cache")):
            return command("data", "check", str(folder / name), "--task", task, "--page", str(folder / "page.html"))

    return read


def of_pictures() -> dict[str, Target]:
    """Pictures that a data row names."""
    row = ROWS["vlm_r1"][1]
    return {
        f"picture {name}": Target(
            {name: content, "in.jsonl": [row | {"image": name}]}, checked("in.jsonl", "rec"), "status 0"
        )
        for name, content in pictures().items()
    }


# ---- converters ----------------------------------------------------------------------------------------------------


def conversion(name: str) -> Target:
    source, files, options = SOURCES[name]
    converter = CONVERTERS[name.partition(" ")[0]]

    def read(folder: Path) -> str:
        chosen = options | ({"negatives": (0, 1)} if "negatives" in converter.options.__dataclass_fields__ else {})
        if "questions" in chosen:
            chosen["questions"] = str(folder / options["questions"])
        job = Job(folder / source, folder / "out/out.jsonl", verify=True)
        run_conversion(converter, job, converter.options(**chosen))
        return _told(job.tally)

    return Target(files, read, f"{2 if name in TWO_RECORDS else 1} × record: kept", PLACES_OF_PICTURES)


def _told(tally: Tally) -> str:
    """A line for everything that was dropped or noted, and last the number of the records."""
    dropped = [f"{n} × {what}: {why} ({tally.examples.get((what, why))})" for (what, why), n in tally.dropped.items()]
    notes = [f"{n} × note: {note} ({tally.examples.get((NOTE, note))})" for note, n in tally.notes.items()]
    return "\n".join([*dropped, *notes, f"{tally.kept['record']} × record: kept"])


# ---- recipes -------------------------------------------------------------------------------------------------------

RECIPE = {
    "output_dir": "run",
    "seed": 1,
    "model": {"path": "x", "lora": {"r": 4, "peft": {"use_dora": True}}, "freeze": ["vision"]},
    "data": {
        "train": [{"path": "a.jsonl", "task": "rec", "weight": 1}, {"path": "b.jsonl", "weight": 2, "reward": "iou"}],
        "eval": {"held": {"path": "c.jsonl", "split_range": [0.5, 1]}},
        "template": "own",
        "templates": {"own": {"thinking": "free", "instruction": "x"}},
    },
    "rewards": {"accuracy": 1.0, "format": 0.5},
    "sampling": {"temperature": 1.0, "max_completion_length": 8},
    "grpo": {"num_generations": 4, "epsilon_high": None},
    "training": {"max_steps": 3, "learning_rates": {"language": 1e-3}, "eval_steps": 1},
}


def read_recipe(folder: Path) -> str:
    from vlm_r1.config import save_config

    overrides = (folder / "overrides.txt").read_bytes().decode("utf-8", "replace").split("\n")
    config = load_config(folder / "recipe.yaml", [line for line in overrides if line])
    save_config(config, folder / "config.yaml")
    assert load_config(folder / "config.yaml") == config
    return f"read: {len(config.data.train)} sources"


OVERRIDES = (
    b"--data.train.0.path=x.jsonl\n--training.max_steps=5\n--rewards={accuracy: 1, format: 1}\n--data.train.1.task=vqa"
)

# ---- runs and scores -----------------------------------------------------------------------------------------------


def _groups(image: str) -> list[Group]:
    groups: list[Group] = []
    for task in ("rec", "ovd", "counting"):
        record = Record(task, task, "<image>what", (image,), GOLD[task], source=f"t.jsonl:{task}")
        frame = ImageFrame((64, 60), (64, 60))
        encoded = EncodedPrompt((5,), {}, (frame,), "<|user|>what", None, "r1", BoxFormat.INPUT_PIXELS)
        text = f"<think>so</think><answer>{WRITTEN[task]}</answer>"
        score = Score(1.5, {"accuracy": 0.5, "format": 1.0}, GOLD[task], None, {"iou": 0.5}, {"note": "x"})
        rollout = Rollout(Completion.sampled((8, 9), (-0.5, -0.25), text, StopReason.STOP), score, 0.5)
        groups.append(Group(record, encoded, (rollout,)))
    return groups


def write_run(folder: Path) -> dict[str, bytes]:
    """Write a small run by the package's own writers; returns its files."""
    groups = _groups("a.png")
    write_rollouts(rollouts_path(folder, 1), 1, groups)
    for moment in ("before", "after"):
        summary = summarize_evaluation(groups, name=f"{moment}-held", data="c.jsonl", step=1, seed=0)
        write_evaluation(folder / "eval", summary, groups)
    for step in (1, 2):
        numbers = {"reward/mean": 1.0, "rewards/accuracy/mean": 0.5, "metrics/iou/mean": 0.5, "loss": 0.1}
        numbers |= {"time/step_s": 1.0, "time/sample_s": 0.5, "tokens/sample": 9.0, "parse_failures/no_box": 1.0}
        append_metrics(folder / "metrics.jsonl", {"step": step, "stage": "grpo", **numbers, "eval/held/iou": 0.5})
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def trees_of(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The files of a run as trees, so that their values can be damaged."""
    import pyarrow.parquet as pq

    found: dict[str, Any] = {}
    for name, content in files.items():
        if name.endswith(".jsonl"):
            found[name] = [json.loads(line) for line in content.splitlines()]
        elif name.endswith(".json"):
            found[name] = json.loads(content)
        else:
            found[name] = pq.read_table(io.BytesIO(content)).to_pylist()
    found["config.yaml"] = RECIPE
    found["environment.json"] = {"packages": {"torch": "2"}, "cpu": {"model": "x", "cores": 2}, "gpus": ["y"]}
    side = {"held": {"accuracy_iou50": 0.5, "mean_iou": 0.5, "ci95": [0.4, 0.6], "n": 3}}
    found["summary.json"] = {"before": side, "after": side, "seconds": {"train": 9.5}, "seed": 1}
    return found


def read_report(folder: Path) -> str:
    """The text of the report, without that of its curves. Any error is a fault: a report always comes out."""
    page = build_report(folder).read_text(encoding="utf-8")
    assert page.endswith("</html>")
    shown = html.unescape(re.sub(r"<(style|svg).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL))
    left_out = "something is left out" if 'id="left-out"' in page else "all is shown"
    lines = [" ".join(line.split()) for line in shown.splitlines() if line.strip()]
    return "\n".join([*lines, left_out])


OWN = "(the task's own)"
CASES = [
    {
        "reward": "iou",
        "completion": f"<answer>{BOX}</answer>",
        "solution": BOX,
        "image_size": [64, 60],
        "model_input_size": [64, 60],
    },
    {
        "task": "vqa",
        "completion": "<answer>x</answer>",
        "solution": "x",
        "template": "r1",
        "official": 1.0,
        "problem": "who?",
    },
]


def scores(name: str) -> Callable[[Path], str]:
    def read(folder: Path) -> str:
        check_file(folder / name, Scoring())
        summary = score_file(folder / name, folder / "scores.jsonl", Scoring())
        scored = {reward: tally.scored for reward, tally in summary.tallies.items()}
        return "\n".join([*summary.reasons, f"scored: {scored}"])

    return read


def make_targets(run_files: Mapping[str, bytes]) -> dict[str, Target]:
    """All targets by name."""
    trees = trees_of(run_files)
    samples, rollouts = "eval/after-held.samples.jsonl", "rollouts/step-000001.parquet"
    targets = {
        f"data {name} {suffix}": data(name, suffix) for name in FORMATS for suffix in ("jsonl", "json", "parquet")
    }
    targets |= of_pictures()
    targets |= {f"convert {name}": conversion(name) for name in SOURCES}
    targets["recipe"] = Target({"recipe.yaml": RECIPE, "overrides.txt": OVERRIDES}, read_recipe, "read: 2 sources")
    targets["score cases"] = Target({"cases.jsonl": CASES}, scores("cases.jsonl"), f"scored: {{'iou': 1, {OWN!r}: 1}}")
    targets["score samples"] = Target({samples: trees[samples]}, scores(samples), f"scored: {{{OWN!r}: 3}}")
    targets["measure"] = Target({"samples.jsonl": asked_twice(trees[samples])}, read_and_measure, "ap 1 of 4 records")
    targets["metrics"] = Target(COCO_FILES, read_coco, "ap 1, nms_ap 1, gp 1, gr 1")
    targets["score rollouts"] = Target({rollouts: trees[rollouts]}, scores(rollouts), f"scored: {{{OWN!r}: 3}}")
    targets |= {
        f"report {name}": Target(
            {name: tree} | {n: t for n, t in trees.items() if n != name}, read_report, "all is shown"
        )
        for name, tree in trees.items()
    }
    return targets | of_folders(trees)


def of_folders(trees: Mapping[str, Any]) -> dict[str, Target]:
    """Files of model folders and of checkpoints."""
    weights, adapter = {"model.safetensors": b"weights"}, "adapter_config.json"
    manifest = json.loads(manifest_of(weights))
    history, logged = "checkpoints/step-000001/state/history.json", "metrics.jsonl"
    files = {name: trees[name] for name in (logged, "config.yaml", "eval/before-held.json", "environment.json")}
    return {
        "model vlm_r1.json": Target(
            {"vlm_r1.json": ASKING}, read_asking, "asked with own as in vlm_r1.json, 1 templates"
        ),
        "model manifest.json": Target({"manifest.json": manifest} | weights, read_manifest, "whole, of step 1"),
        f"model {adapter}": Target({adapter: LORA}, read_lora, "loaded: 1 adapters"),
        "checkpoint history.json": Target({history: HISTORY} | files, read_history, f"changed: {list(HISTORY)}"),
        "checkpoint trainer.json": Target({"trainer.json": TRAINER}, read_trainer, f"read: {sorted(TRAINER)}"),
    }
