"""`vlm-r1 new`: the recipe loads, can be tried and rehearsed, holds pictures out, and says what the plan says."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from testing_rehearsals import Done, call
from vlm_r1.config import Config, load_config
from vlm_r1.data.sources import shared_pictures
from vlm_r1.planning.recipe_text import recipe_text
from vlm_r1.planning.recommend import MODELS, recommend
from vlm_r1.rehearsal.family import family_of_name
from vlm_r1.training.run import load_checked_records


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, rec_files, tiny_checkpoint) -> tuple[Done, Path]:
    """The output of the command for 48 records and a tiny checkpoint, and its recipe."""
    recipe = tmp_path_factory.mktemp("new") / "my.yaml"
    done = call("new", recipe, "--data", rec_files["train"], "--gpu", "2GB", "--model", tiny_checkpoint)
    assert done.status == 0, done.errors
    return done, recipe


def loaded(path: Path) -> Config:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_config(path)


def test_it_loads_and_holds_pictures_out(written) -> None:
    config = loaded(written[1])
    records, held_out = load_checked_records(config)
    assert len(records) + len(held_out["held_out"]) == 48
    assert 3 <= len(held_out["held_out"]) <= 18, "a fifth of 48 by a hash"
    assert shared_pictures(records, held_out) == {"held_out": 0}


PLANNED = re.compile(r"`vlm-r1 plan` says (\d\.\d) of 2 GB at the peak \((.+)\), (\d\.\d) GB free")


def test_the_plan_s_numbers_are_in_it(written) -> None:
    done, recipe = written
    said = PLANNED.search(recipe.read_text())
    assert said
    assert f"memory      {said[1]} of 2 GB at the peak ({said[2]})" in done.shown


@pytest.mark.long
def test_the_command_plan_says_the_same(written) -> None:
    said = PLANNED.search(written[1].read_text())
    assert said
    assert f"fits in 2 GB: yes, {said[3]} GB free" in call("plan", written[1], "--gpu", "2GB").shown


def test_every_option_has_a_comment(written) -> None:
    above = ""
    for line in written[1].read_text().splitlines():
        if re.match(r"( {2})?\w+: .|  (train|eval):$", line):
            assert above.lstrip().startswith("#"), line
        above = line


def test_dry_run_and_rehearsal_work_on_it(written, tmp_path) -> None:
    recipe, place = written[1], f"--output_dir={tmp_path / 'run'}"
    assert "all checks passed" in call("train", recipe, "--dry-run", place).shown
    rehearsed = call("train", recipe, "--rehearse", place)
    assert rehearsed.shown.splitlines()[-1] == "rehearsed: everything works but the weights", rehearsed.errors


def test_nothing_is_overwritten(written, rec_files) -> None:
    before = written[1].read_bytes()
    done = call("new", written[1], "--data", rec_files["train"], "--gpu", "2GB")
    assert done.status == 2
    assert "is there already, and nothing is overwritten" in done.errors
    assert written[1].read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--eval", "train"], "held-out records show pictures that are trained on", id="the same pictures"),
        pytest.param(["--task", "recc"], 'Did you mean "rec"', id="task"),
        pytest.param(["--data", "no.jsonl"], "no.jsonl", id="no data"),
        pytest.param(["--task", "counting"], "is no count", id="answers of another task"),
    ],
)
def test_errors(arguments, message, rec_files, tmp_path, tiny_checkpoint) -> None:
    options = ["--data", rec_files["train"], "--gpu", "2GB", "--model", tiny_checkpoint]
    done = call("new", tmp_path / "my.yaml", *options, *(rec_files.get(word, word) for word in arguments))
    assert done.status == 2
    assert message in done.errors
    assert not (tmp_path / "my.yaml").exists()


@pytest.fixture
def facts(tmp_path: Path, picture):
    """Facts about 30 questions about one picture of 1600 × 1200, so that none can be held out."""
    from vlm_r1.config.data import DataSource
    from vlm_r1.planning.data_facts import look_at_data

    path, image = tmp_path / "one: picture.jsonl", Path(picture(1600, 1200))
    rows: list[dict[str, Any]] = [
        {"problem": f"<image>What is number {n}?", "images": [image.name], "answer": "x" * 1000} for n in range(30)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return look_at_data(DataSource(path=str(path), image_root=str(image.parent)), "vqa")


def test_a_model_that_is_not_at_hand_and_one_picture(facts, tmp_path) -> None:
    """No plan and no held-out set: the recipe says both, and loads; of 1000 characters 400 + 500 tokens become 1024."""
    found = recommend(facts, gpu=24 * 10**9, output_dir="runs/x", model="my/Qwen2.5-VL-9B", held_out=None, say=print)
    assert found.plan is None
    path = tmp_path / "x.yaml"
    path.write_text(recipe_text(found, str(path), 24 * 10**9))
    assert re.search(r"# Memory +Not planned: my/Qwen2\.5-VL-9B", path.read_text())
    assert f"vlm-r1 plan {path} --gpu 24GB" in " ".join(path.read_text().replace("#", "").split())
    assert "Nothing is held out" in path.read_text()
    config = loaded(path)
    assert config.data.eval == {}
    assert config.sampling.max_completion_length == 1024
    assert config.model.max_pixels == 1280 * 28 * 28
    assert config.data.train[0].path == facts.source.path, "a path with a colon stays whole"
    assert config.training.max_steps == 100


def test_the_default_models_are_of_known_families() -> None:
    assert [least for least, _ in MODELS] == sorted((least for least, _ in MODELS), reverse=True)
    assert MODELS[-1][0] == 0
    assert all(family_of_name(name) for _, name in MODELS)
