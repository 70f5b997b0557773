"""`vlm_r1.load_run` reads the files of a real run into frames."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vlm_r1
from vlm_r1.cli.main import main
from vlm_r1.errors import CheckpointError, DataError, VlmR1Error


@pytest.fixture
def run(recipe, rec_files, tmp_path):
    options = {"training.max_steps": 2, "data.eval": {"held": {"path": str(rec_files["in_domain"])}}}
    assert main(["train", str(recipe(**options))]) == 0
    return vlm_r1.load_run(tmp_path / "run")


def test_frames(run) -> None:
    assert list(run.metrics.step) == [1, 2]
    assert len(run.rollouts) == 2 * 4 * 4
    assert {"step", "group", "completion", "text", "reward", "advantage"} <= set(run.rollouts.columns)
    means = run.rollouts.groupby("step").reward.mean()
    assert list(means) == pytest.approx(list(run.metrics["reward/mean"]), rel=1e-6)
    assert set(run.evaluations.evaluation) == {"before-held", "after-held"}
    assert len(run.samples) == 2 * 12
    iou = run.samples[run.samples.evaluation == "after-held"].metrics.map(lambda metrics: metrics["iou"]).mean()
    after = run.evaluations.query("evaluation == 'after-held' and metric == 'iou'")
    assert after["mean"].item() == pytest.approx(iou)
    assert run.config["training"]["max_steps"] == 2


def test_groups(run) -> None:
    group = run.group(2, 3)
    assert [row.completion for row in group] == [0, 1, 2, 3]
    assert "truth: " in str(vlm_r1.show(group))
    with pytest.raises(DataError, match="no rollouts of step 3; there are 1 to 2"):
        run.group(3)
    with pytest.raises(DataError, match="no group 4; there are 0 to 3"):
        run.group(1, 4)


def test_a_folder_without_a_run(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="holds no run"):
        vlm_r1.load_run(tmp_path)


def test_a_damaged_run_is_an_error_with_its_file(run) -> None:
    (run.path / "eval/after-held.json").write_text("{")
    with pytest.raises(VlmR1Error, match=r"after-held\.json"):
        _ = run.evaluations


def test_importing_the_package_loads_nothing_large() -> None:
    program = (
        "import sys, vlm_r1; print([name for name in ('torch', 'pandas', 'PIL', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(dir(vlm_r1)) >= {"evaluate", "load_run", "show"}
    with pytest.raises(AttributeError, match="has no attribute 'train_it'"):
        _ = vlm_r1.train_it
