"""`vlm-r1 plan`: what it says, and that what it proposes fits."""

from __future__ import annotations

import re

import pytest

from vlm_r1.cli.main import main
from vlm_r1.planning.plan import CONTEXT

QUICK = (
    "--training.trust_checks=false",
    "--training.prompts_per_step=2",
    "--grpo.num_generations=2",
    "--sampling.max_completion_length=64",
)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def plan(recipe, capsys):
    """`plan(*arguments)`: exit status and output for the small recipe."""

    def run(*arguments: str) -> tuple[int, str]:
        status = main(["plan", str(recipe()), *QUICK, *arguments])
        return status, capsys.readouterr().out

    return run


def test_it_fits(plan) -> None:
    status, shown = plan("--gpu", "2GB")
    assert status == 0
    assert "prompts of 1 image, " in shown, "the longest of the data"
    assert re.search(r"policy pass +1\.\d\d +at its peak", shown)
    assert re.search(r"fits in 2 GB: yes, 1\.\d GB free", shown)
    assert re.search(r"largest training.max_tokens_per_micro_batch that fits: \d+, a whole step", shown)
    assert "sharded" not in shown


def test_made_up_prompts_on_gpus_that_are_too_small(plan) -> None:
    made_up = ("--image", "560x560", "--images", "2", "--text-tokens", "30")
    status, shown = plan("--gpu", "0.5GB", "--gpus", "2", *made_up)
    assert status == 1
    match = re.search(r"prompts of 2 images, (\d+) tokens, (\d+) of them image tokens", shown)
    assert match
    assert int(match[2]) == 2 * 64, "the processor's limit of pixels"
    assert 128 + 30 < int(match[1]) < 128 + 100
    assert re.search(r"fits in 0.5 GB: no, 1\.\d GB over", shown)
    assert re.search(r"sharded over the 2 GPUs: ZeRO-2 2\.\d GB, ZeRO-3, FSDP 2\.\d GB", shown)
    assert "nothing that a recipe can change makes it fit" in shown


@pytest.mark.long
def test_what_is_proposed_fits(plan) -> None:
    """A GPU that has, beside what CUDA takes, half of what the recipe needs."""
    image = (
        "--image",
        "560x560",
        "--training.max_tokens_per_micro_batch=4096",
        "--sampling.max_completion_length=1024",
    )
    _, roomy = plan("--gpu", "2GB", *image)
    need = max(float(found) for found in re.findall(r"([\d.]+) +at its peak", roomy))
    tight = f"{CONTEXT / 1e9 + 0.5 * (need - CONTEXT / 1e9):.4f}GB"
    status, shown = plan("--gpu", tight, *image)
    assert status == 1
    assert re.search(r"no, 0\.\d GB over", shown)
    match = re.search(r"it fits, 0\.\d GB free, with:\n  (.+)", shown)
    assert match
    status, shown = plan("--gpu", tight, *image, *match[1].split())
    assert status == 0, shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--gpu", "80"), "wanted a size like 80GB", id="no unit"),
        pytest.param(("--gpu", "0GB"), "wanted a size like 80GB", id="nothing"),
        pytest.param(("--gpu", "80GB", "--image", "640"), "wanted width and height in pixels like 640x480", id="side"),
        pytest.param(("--gpu", "80GB", "--gpus", "0"), "wanted a whole number of at least 1", id="no gpus"),
        pytest.param(("--gpu", "80GB", "--images", "2"), "--images and --text-tokens describe prompts", id="no image"),
        pytest.param(("--gpu", "80GB", "--gpus", "3"), "to be a multiple of 3", id="prompts that cannot be shared"),
        pytest.param(("--gpu", "80GB", "--data.train=[]"), "or say with --image WxH", id="no data"),
        pytest.param(("--gpu", "80GB", "--model.path=nowhere"), "nowhere: cannot load the config", id="no checkpoint"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], said: str, recipe, capsys) -> None:
    try:
        status: object = main(["plan", str(recipe()), *arguments])
    except SystemExit as error:  # argparse
        status = error.code
    assert status == 2
    assert said in capsys.readouterr().err
