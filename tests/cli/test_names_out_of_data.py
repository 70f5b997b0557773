"""Names that stand in data, or in a folder that came with data: none is imported or called unless the user allows it.

Each test plants a module that leaves a mark when it is imported. The controls show that the mark is left once the name
is allowed, so that a test without a mark means that nothing was imported.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.config.data import Allowed, DataSource
from vlm_r1.data.formats import FORMATS
from vlm_r1.data.records import RecordFile, iter_records
from vlm_r1.data.rows import Problem
from vlm_r1.data.sources import load_sources
from vlm_r1.errors import ConfigError
from vlm_r1.evaluation.asking import FILE
from vlm_r1.runtime.rollout_log import rollouts_path, write_rollouts
from vlm_r1.types import BoxFormat, Completion, EncodedPrompt, Group, ImageFrame, Record, Rollout, Score, StopReason

MARK = """
def leave(word):
    with open({mark!r}, "a") as file:
        file.write(word + " ")
leave("imported")
class Reward:
    def __init__(self, **options):
        leave("made")
    def __call__(self, given):
        return 1.0
"""
NUMBERS = itertools.count()


class Planted:
    """A module `name` that nobody has imported yet, and the file `mark` that it writes."""

    def __init__(self, folder: Path) -> None:
        self.mark, self.name = folder / "mark", f"planted_{next(NUMBERS)}"
        (folder / f"{self.name}.py").write_text(MARK.format(mark=str(self.mark)))
        self.reward = f"{self.name}:Reward"

    def ran(self) -> bool:
        return self.mark.exists()


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planted:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "2000")
    return Planted(tmp_path)


def program(folder: Path, maker: str = "Popen") -> str:
    return f"subprocess:{maker}(args=['touch', {str(folder / 'mark')!r}])"


# ---- readers and formats -------------------------------------------------------------------------------------------

USER, BOT = {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}
ROWS: dict[str, dict[str, Any]] = {
    "vlm_r1": {"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]},
    "vlm_r1_eval": {"problem": "1 + 1?", "solution": "2", "normalized_solution": [1, 2, 3, 4]},
    "easy_r1": {"problem": "1 + 1?", "answer": "2"},
    "r1_v": {"problem": "1 + 1?", "solution": "2"},
    "ms_swift": {"messages": [USER, BOT], "objects": {"ref": [], "bbox": []}},
    "conversational": {"messages": [USER, BOT]},
    "question_answer": {"question": "1 + 1?", "label": "2"},
    "verl": {"prompt": [USER], "reward_model": {"style": "rule", "ground_truth": "2"}, "data_source": "x"},
    "TRL": {"prompt": [USER], "completion": [BOT]},
}


def test_every_format_has_a_row():
    assert ROWS.keys() >= FORMATS.keys()


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    file = path.with_suffix(".jsonl")
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def write_json(path: Path, rows: list[dict[str, Any]]) -> Path:
    file = path.with_suffix(".json")
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def write_json_object(path: Path, rows: list[dict[str, Any]]) -> Path:
    file = path.with_suffix(".json")
    file.write_text(json.dumps({"data": rows}), encoding="utf-8")
    return file


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    file = path.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def write_saved(path: Path, rows: list[dict[str, Any]]) -> Path:
    pytest.importorskip("datasets").Dataset.from_list(rows).save_to_disk(str(path))
    return path


WRITERS = (write_jsonl, write_json, write_json_object, write_parquet, write_saved)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("layout", ROWS)
def test_no_reader_imports_what_a_row_names(layout: str, write: Callable, planted: Planted, tmp_path: Path):
    names = [planted.reward, f"{planted.reward}(size=3)", program(tmp_path), "iou"]
    names = names[:-1] if "normalized_solution" in ROWS[layout] else [*names[:-1], "exact_match"]
    file = write(tmp_path / "rows", [{**ROWS[layout], "accu_reward_method": name} for name in names])
    source = DataSource(path=str(file), task="vqa")
    found = list(iter_records(source))
    problems = [item for item in found if isinstance(item, Problem)]
    assert [problem.source for problem in problems] == [f"{file}:{n}" for n in (1, 2, 3)]
    for problem, name in zip(problems, (planted.reward, planted.reward, "subprocess:Popen"), strict=True):
        assert f"data.allowed_rewards: ['{name}'] in a recipe, --allow-reward {name} on the command" in str(problem)
    assert [item.reward for item in found if isinstance(item, Record)] == names[3:]
    with pytest.raises(Exception, match=f"(?s)rows.*:1: .*{planted.name}"):
        load_sources([source])
    with pytest.raises(Exception, match=f"rows.*:2: .*{planted.name}"):
        RecordFile(source)[1]
    allowed = Allowed(allowed_rewards=[planted.reward])
    assert [type(item) for item in iter_records(source, allowed=allowed)][:3] == [Record, Record, Problem]
    assert not planted.ran()  # reading never imports: judging does


# ---- commands that read data ---------------------------------------------------------------------------------------


@pytest.fixture
def data(rec_files: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """`data(name)`: records of rec, of which the second names that reward."""

    def write(name: str) -> Path:
        rows = [json.loads(line) for line in rec_files["train"].read_text(encoding="utf-8").splitlines()[:8]]
        rows[1]["accu_reward_method"] = name
        return write_jsonl(tmp_path / "stranger", rows)

    return write


def command(words: str, file: Path, *, images: Path, checkpoint: Path, recipe: Callable) -> list[str]:
    """The arguments of a command that reads the data file."""
    folder = file.parent
    if words in ("data check", "eval", "data rate"):
        model = [] if words == "data check" else [str(checkpoint)]
        out = ["--out", str(folder / "out")] if model else []
        return [*words.split(), *model, str(file), "--image-root", str(images), *out]
    path = recipe(**{"data.train": [{"path": str(file), "image_root": str(images)}], "training.max_steps": 1})
    return [*words.split(), str(path), *(["--gpu", "80GB"] if words == "plan" else [])]


COMMANDS = ("data check", "data rate", "eval", "train", "train --dry-run", "sft", "sft --dry-run", "trace", "plan")


@pytest.mark.parametrize("words", COMMANDS)
def test_no_command_runs_what_a_row_names(words, planted, data, rec_files, tiny_checkpoint, recipe, capsys, tmp_path):
    options = {"images": rec_files["train"].parent, "checkpoint": tiny_checkpoint, "recipe": recipe}
    for name in (planted.reward, program(tmp_path), program(tmp_path, "check_call")):
        status = main(command(words, data(name), **options))
        printed = "".join(capsys.readouterr())
        assert status == (1 if words == "data check" else 2)
        assert f"stranger.jsonl:2: the reward {json.dumps(name)[:90]}" in printed
        assert f"--allow-reward {name.partition('(')[0]} on the command line" in printed
    time.sleep(0.05)  # a program that was started would take as long
    assert not planted.ran()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", ["data check", "data rate", "eval", "train --dry-run", "trace"])
def test_the_same_runs_if_it_is_allowed(words, planted, data, rec_files, tiny_checkpoint, recipe):
    options = {"images": rec_files["train"].parent, "checkpoint": tiny_checkpoint, "recipe": recipe}
    arguments = command(words, data(f"{planted.reward}(size=3)"), **options)
    if words.startswith(("train", "trace")):
        arguments += [f"--data.allowed_rewards=[{planted.reward}]", *(["--record", "1"] if words == "trace" else [])]
    else:
        arguments += ["--allow-reward", planted.reward]
    if words == "data rate":
        arguments += ["--num-generations", "2"]
    assert main(arguments) == 0
    assert planted.mark.read_text() == "imported made "


def test_a_program_is_not_started_even_if_it_is_allowed(data, rec_files, planted, tmp_path, capsys):
    """It is no reward: its objects cannot be called. What is wrong is the command, not the row."""
    arguments = ["data", "check", str(data(program(tmp_path))), "--image-root", str(rec_files["train"].parent)]
    assert main([*arguments, "--allow-reward", "subprocess:Popen"]) == 1
    assert "a class whose objects are no functions, so none was made" in "".join(capsys.readouterr())
    time.sleep(0.05)
    assert not planted.ran()


def test_a_row_may_repeat_what_the_recipe_itself_names_and_no_more(planted, data, rec_files, recipe, capsys):
    """With the same options, as another source or the rewards of the recipe have them."""
    name = f"{planted.reward}(size=3)"
    source = {"path": str(data(name)), "image_root": str(rec_files["train"].parent)}
    named = {"data.train": [source, {**source, "path": str(rec_files["train"]), "reward": name}]}
    assert load_config(recipe(**named)).allowed.allowed_rewards == ["testing_rewards:letters()", name]
    assert main(["train", str(recipe(**named)), "--dry-run"]) == 0
    assert planted.ran()
    data(f"{planted.reward}(size=4)")
    assert main(["train", str(recipe(**named)), "--dry-run"]) == 2
    assert "stranger.jsonl:2: the reward" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["iou", "", ":", "a:", ":a", "a b:c", "a.b", "a:b(", "a:b(1)", "a:b c", ".a:b"])
def test_what_allows_nothing_is_an_error(name, recipe, data, capsys):
    path = recipe(**{"data.allowed_rewards": [name]})
    with pytest.raises(ConfigError, match=r"data\.allowed_rewards: .* reads like no package\.module:Name"):
        load_config(path)
    with pytest.raises(SystemExit) as caught:
        main(["data", "check", str(data("iou")), "--allow-reward", name])
    assert caught.value.code == 2
    assert "wanted package.module:Name" in capsys.readouterr().err


def test_wrong_options_of_our_rewards_are_said_with_their_line(data, rec_files, capsys):
    for name in ("iou_threshold(at='x')", "iou_threshold(at=2)", "iou_threshold(at=" + "9" * 400 + ")"):
        file = data(name)
        assert main(["data", "check", str(file), "--image-root", str(rec_files["train"].parent)]) == 1
        assert 'stranger.jsonl:2: reward "iou_threshold' in capsys.readouterr().out.replace("\n", " ")


# ---- score ---------------------------------------------------------------------------------------------------------


def rollouts(folder: Path, task: str = "vqa", reward: str | None = None, template: str = "r1") -> Path:
    frames = (ImageFrame((9, 9), (9, 9)),) * 2
    record = Record("1", task, "<image><image>?", ("a.png", "b.png"), "left", reward=reward, source="t.jsonl:1")
    completion = Completion.sampled((1,), (-0.1,), "<think>a</think><answer>left</answer>", StopReason.STOP)
    rollout = Rollout(completion, Score(1.0, {"accuracy": 1.0}, "left", None, {}))
    encoded = EncodedPrompt((1,), {}, frames, "?", template=template, box_format=BoxFormat.INPUT_PIXELS)
    path = rollouts_path(folder, 1)
    write_rollouts(path, 1, [Group(record, encoded, (rollout,))])
    return path


def cases(folder: Path, task: str = "vqa", reward: str | None = None, template: str = "r1") -> Path:
    row = {"completion": "<answer>left</answer>", "solution": "left", "task": task, "template": template}
    return write_jsonl(folder / "cases", [{**row, **({"reward": reward} if reward else {})}])


def samples(folder: Path, task: str = "vqa", reward: str | None = None, template: str = "r1") -> Path:
    row = {"text": "<answer>left</answer>", "gold": "left", "reward": 1.0, "reward_name": reward, "task": task}
    sizes = {"image_sizes": [[9, 9]], "input_sizes": [[9, 9]], "box_format": "norm_1000"}
    return write_jsonl(folder / "samples", [{**row, **sizes, "template": template}])


@pytest.mark.parametrize("write", [rollouts, cases, samples])
@pytest.mark.parametrize("kind", ["reward", "task", "template"])
def test_score_imports_nothing_that_only_a_row_names(kind, write, planted, tmp_path, capsys):
    file = write(tmp_path, **{kind: planted.reward})
    arguments = ["score", str(file), "--out", str(tmp_path / "scores.jsonl")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert f'{file}:{0 if write is rollouts else 1}: the {kind} "{planted.reward}" is code' in error
    assert f"--allow-{kind} {planted.reward} on the command line" in error
    assert not planted.ran()
    main([*arguments, f"--allow-{kind}", planted.reward])
    assert planted.ran()


@pytest.mark.parametrize(
    "kind", ["reward", "reward_name", "task", "template", "box_format", "images", "tokens", "input_sizes", "official"]
)
@pytest.mark.parametrize(
    "value", [[], ["x"], {}, {"a": 1}, True, 3.5, 10**299, 10**400, "\ud800", "x" * 100_000, [[[]]]]
)
@pytest.mark.parametrize("write", [cases, samples])
def test_score_says_what_is_no_name(write, value, kind, tmp_path, capsys):
    """Any value of JSON gives a score, a reason or an error of one line; never an exception of ours."""
    file = write(tmp_path)
    row = {**json.loads(file.read_text(encoding="utf-8")), kind: value}
    file.write_text(json.dumps(row), encoding="utf-8")
    status = main(["score", str(file), "--out", str(tmp_path / "scores.jsonl")])
    error = capsys.readouterr().err
    assert status in (0, 2)
    assert len(error) < 2000
    if kind in ("task", "template", "reward_name") and not isinstance(value, str):
        refused = "the row holds an integer" if value == 10**400 else f'"{kind}" is '  # which no float holds
        assert error.startswith(f"DataError: {file}:1: {refused}")


def test_names_of_the_command_line_and_of_the_recipe_are_allowed(planted, recipe, rec_files, tmp_path):
    file, out = cases(tmp_path, reward=f"{planted.reward}(size=3)"), str(tmp_path / "scores.jsonl")
    assert main(["score", str(file), "--out", out, "--reward", planted.reward]) == 2
    assert not planted.ran()
    assert main(["score", str(file), "--out", out, "--reward", f"{planted.reward}(size=3)"]) == 0
    assert planted.ran()
    planted.mark.unlink()
    again = Planted(tmp_path)
    source = {"path": str(rec_files["train"]), "reward": again.reward, "task": "vqa"}
    path = recipe(**{"data.train": [source], "rewards": {"accuracy": 1.0}})
    assert main(["score", str(cases(tmp_path, reward=again.reward)), "--out", out, "--recipe", str(path)]) == 0
    assert again.ran()


# ---- a folder that came with data ----------------------------------------------------------------------------------


@pytest.fixture
def foreign_run(recipe, planted: Planted, tiny_checkpoint: Path, rec_files, tmp_path: Path) -> Path:
    """A run folder whose recipe names code in every place where a recipe can, with a model and a page of rollouts."""
    source = {"path": str(rec_files["train"]), "task": planted.reward, "reward": planted.reward}
    tree = yaml.safe_load(
        recipe(
            **{
                "data.train": [{**source, "template": planted.reward}],
                "data.template": planted.reward,
                "data.allowed_rewards": [planted.reward],
                "model.adapter": planted.reward,
                "rewards": {planted.reward: 1.0, "accuracy": 1.0},
                "sampling.engine": planted.reward,
                "grpo.loss_type": planted.reward,
                "grpo.scale_rewards": planted.reward,
                "training.optim": planted.reward,
            }
        ).read_text(encoding="utf-8")
    )
    folder = tmp_path / "foreign"
    rollouts(folder, planted.reward, planted.reward)
    (folder / "config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    (folder / "metrics.jsonl").write_text('{"step": 1, "stage": "grpo"}\n', encoding="utf-8")
    shutil.copytree(tiny_checkpoint, folder / "model")
    return folder


FOREIGN = {
    "report": (["report", "{run}"], ["--allow-task"], 0),
    "score": (["score", "{run}", "--out", "{run}/out.jsonl"], ["--allow-task"], 2),
    "eval": (["eval", "{run}/model", "{data}", "--out", "{run}/out"], ["--task"], 2),
    "data rate": (["data", "rate", "{run}/model", "{data}", "--out", "{run}/out"], ["--adapter"], 2),
    "check-model": (["check-model", "{run}/model", "--only", "frames"], ["--adapter"], 0),
    "export": (
        ["export", "{run}", "--to", "{run}/out"],
        ["--allow-adapter", "--allow-task", "--allow-template"],
        2,
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_from_a_stranger_runs_nothing(name, foreign_run, planted, rec_files, capsys):
    words, _, expected = FOREIGN[name]
    arguments = [word.format(run=foreign_run, data=rec_files["in_domain"]) for word in words]
    assert main(arguments) == expected
    printed = "".join(capsys.readouterr())
    page = foreign_run / "report.html"
    said = page.read_text(encoding="utf-8") if page.exists() else printed
    assert planted.reward in said or name == "check-model"
    assert not planted.ran()


@pytest.mark.parametrize("name", FOREIGN)
def test_its_code_runs_if_the_user_names_it(name, foreign_run, planted, rec_files):
    words, options, _ = FOREIGN[name]
    arguments = [word.format(run=foreign_run, data=rec_files["in_domain"]) for word in words]
    options = [*options, "--allow-reward"] if name == "score" else options
    if name in ("eval", "data rate"):
        options = ["--task", "--template", "--adapter"]
    main([*arguments, *itertools.chain.from_iterable((option, planted.reward) for option in options)])
    assert planted.ran()


def test_a_model_folder_from_a_stranger_runs_nothing(foreign_run, planted, rec_files, tmp_path, capsys):
    (foreign_run / "config.yaml").unlink()
    for key in ("task", "template", "adapter"):
        (foreign_run / "model" / FILE).write_text(json.dumps({key: planted.reward}), encoding="utf-8")
        assert main(["eval", str(foreign_run / "model"), str(rec_files["in_domain"]), "--out", str(tmp_path)]) == 2
        assert f'{key} "{planted.reward}" is code, and a model folder may not run code' in capsys.readouterr().err
    assert not planted.ran()
