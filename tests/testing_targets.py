"""Sound inputs of every reader, and the command or function that reads each."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from testing_annotations import BOX, PICTURE, PLACES_OF_PICTURES, SOURCES
from testing_mutations import written
from testing_tasks import GOLD, WRITTEN
from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.converters import CONVERTERS, Job, run_conversion
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
        read: reads the folder that holds the files; returns, or raises a VlmR1Error.
        pictures: paths of pictures of 64×60 pixels in the folder, which are sound.
    """

    files: Mapping[str, Any]
    read: Callable[[Path], object]
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


def command(*arguments: str) -> int:
    """Run a command without its output; a status beyond 2 is no answer of ours."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        status = main(arguments)
    assert status in (0, 1, 2)
    return status


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

    def read(folder: Path) -> None:
        command("data", "check", str(folder / f"in.{suffix}"), "--task", task, "--page", str(folder / "page.html"))

    return Target({f"in.{suffix}": [row, row | {"note": "y"}]}, read)


# ---- converters ----------------------------------------------------------------------------------------------------


def conversion(name: str) -> Target:
    source, files, options = SOURCES[name]

    def read(folder: Path) -> None:
        converter = CONVERTERS[name]
        chosen = options | ({"negatives": (0, 1)} if "negatives" in converter.options.__dataclass_fields__ else {})
        run_conversion(
            converter, Job(folder / source, folder / "out/out.jsonl", verify=True), converter.options(**chosen)
        )

    return Target(files, read, PLACES_OF_PICTURES)


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


def read_recipe(folder: Path) -> None:
    from vlm_r1.config import save_config

    overrides = (folder / "overrides.txt").read_bytes().decode("utf-8", "replace").split("\n")
    config = load_config(folder / "recipe.yaml", [line for line in overrides if line])
    save_config(config, folder / "config.yaml")
    load_config(folder / "config.yaml")


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


def read_report(folder: Path) -> None:
    page = build_report(folder).read_text(encoding="utf-8")  # any error is a fault: a report always comes out
    assert page.endswith("</html>")


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


def scores(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        check_file(folder / name, Scoring())
        score_file(folder / name, folder / "scores.jsonl", Scoring())

    return read


# ---- evaluations ---------------------------------------------------------------------------------------------------

COCO_FILES: dict[str, Any] = {
    "results.json": [
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.9},
        {"image_id": 8, "category_id": 2, "bbox": [1.5, 2.5, 20, 20], "score": 1},
    ],
    "truth.json": {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0},
            {"id": 2, "image_id": 8, "category_id": 2, "bbox": [10, 10, 20, 20], "iscrowd": 1},
        ],
    },
}


def read_coco(folder: Path) -> None:
    command("metrics", "--truth", str(folder / "truth.json"), "--predictions", str(folder / "results.json"))


def read_and_measure(folder: Path) -> None:
    """Measure samples in every way that a protocol has."""
    from vlm_r1.evaluation.measures import measure
    from vlm_r1.evaluation.protocol import DataSet, Protocol
    from vlm_r1.evaluation.samples import read_samples

    samples = list(read_samples(folder / "samples.jsonl"))
    for more in (
        {"several": "largest", "level": "object", "subsets_by": ("x",), "aspects": {"all": ("t",)}},
        {"reading": "official"},
    ):
        result = measure(samples, Protocol(name="test", title="", data=DataSet(set=""), **more), seed=0)
        json.dumps(result)


def make_targets(run_files: Mapping[str, bytes]) -> dict[str, Target]:
    """All targets by name."""
    trees = trees_of(run_files)
    samples, rollouts = "eval/after-held.samples.jsonl", "rollouts/step-000001.parquet"
    targets = {
        f"data {name} {suffix}": data(name, suffix) for name in FORMATS for suffix in ("jsonl", "json", "parquet")
    }
    targets |= {f"convert {name}": conversion(name) for name in CONVERTERS}
    targets["recipe"] = Target({"recipe.yaml": RECIPE, "overrides.txt": OVERRIDES}, read_recipe)
    targets["score cases"] = Target({"cases.jsonl": CASES}, scores("cases.jsonl"))
    targets["score samples"] = Target({samples: trees[samples]}, scores(samples))
    several = trees[samples][0] | {"text": f"<answer>{BOX} [1, 2, 3, 4]</answer>", "reason": "several_boxes"}
    asked_twice = trees[samples] + [row | {"draw": 1} for row in trees[samples]]
    targets["measure"] = Target({"samples.jsonl": [*asked_twice, several | {"record_id": "s"}]}, read_and_measure)
    targets["metrics"] = Target(COCO_FILES, read_coco)
    targets["score rollouts"] = Target({rollouts: trees[rollouts]}, scores(rollouts))
    targets |= {
        f"report {name}": Target({name: tree} | {n: t for n, t in trees.items() if n != name}, read_report)
        for name, tree in trees.items()
    }
    return targets
