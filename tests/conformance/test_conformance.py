"""The suite passes a sound checkpoint, and fails a broken adapter in exactly the rows that say what is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm_r1.config.schema import LoraSection, ModelSection
from vlm_r1.conformance import CHECKS, Context, Finding, Result, Status, run_checks, select_checks
from vlm_r1.conformance.base import Check
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.models import load_adapter, load_model
from vlm_r1.testing import TinySize, write_tiny_qwen2_5_vl

CORPUS = ["where is the small red circle? at [12, 34, 56, 78], not there"] * 4

FAULTS = {
    "SwapsSides": ["frames"],
    "LosesAToken": [
        *("encode", "banned", "positions", "processor", "prefix", "sampler", "generate", "images"),
        *("freeze", "step", "lora", "save"),
    ],
    "CountsPatches": ["encode"],
    "SmallestImageRules": ["encode", "neighbours", "processor"],
    "ShufflesImages": ["neighbours", "positions", "processor", "prefix", "generate"],
    "SeesThroughNoise": ["neighbours", "positions", "processor", "prefix", "sampler", "generate"],
    "FlatPositions": ["positions", "processor", "generate"],
    "DropsFeatures": ["positions", "processor", "generate", "images", "step"],
    "BlanksNothing": ["images"],
    "BansNothing": ["banned"],
    "BansTheStop": ["stop", "positions", "processor", "prefix", "images", "save"],  # their completions end with it
    "DetachesFeatures": ["freeze", "step", "lora"],
    "FreezesTooLittle": ["freeze", "step", "lora"],
    "FreezesTooMuch": ["freeze", "step"],
    "CopiesWeights": ["save"],
    "SavesAnotherProcessor": ["save"],
    "Raises": ["images"],
}
"""Adapters of testing_adapters.py, and the checks that each fails."""

EXPLANATIONS = {
    "SwapsSides": "input_wh (84, 112) of an image whose pixels became (112, 84)",
    "LosesAToken": "one image: 11 placeholder tokens for image features [12]",
    "CountsPatches": "one image: image_tokens says 48, encode wrote 12",
    "ShufflesImages": "encode_images() must return them in the order of prompts and images",
    "FlatPositions": "positions(), encode_images() or vision_arguments() do not say what the model's forward makes",
    "DropsFeatures": "does vision_arguments() drop the features?",
    "BansNothing": "stand for images and were drawn: return them from banned_ids",
    "DetachesFeatures": "image features carry no gradient",
    "FreezesTooLittle": "are not frozen, add their modules to vision_modules: model.visual.merger.ln_q.weight",
    "FreezesTooMuch": "are frozen, take them out of vision_modules: model.language_model.norm.weight",
    "SavesAnotherProcessor": "one image: the saved tokenizer and image processor encode it otherwise",
    "Raises": "NotImplementedError: to do (testing_adapters.py:",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smaller than the one that other tests share: it is loaded often."""
    size = TinySize(num_hidden_layers=1, num_key_value_heads=2, vision_depth=1, hidden_size=32, vision_hidden_size=32)
    return write_tiny_qwen2_5_vl(tmp_path_factory.mktemp("tiniest") / "model", CORPUS, seed=1, size=size)


def check(path: Path, *names: str, **options) -> dict[str, Result]:
    return {result.name: result for result in run_checks(Context(str(path), **options), select_checks(names))}


def failed(results: dict[str, Result]) -> list[str]:
    return [name for name, result in results.items() if result.status is Status.FAILED]


@pytest.fixture(scope="module")
def sound(checkpoint) -> dict[str, Result]:
    return check(checkpoint)


def test_a_sound_checkpoint_passes_every_check(sound) -> None:
    assert list(sound) == [one.name for one in CHECKS]
    assert {name: result.message for name, result in sound.items() if result.status is not Status.OK} == {}


def test_what_is_measured(sound) -> None:
    """Of the picture of 112 × 84 pixels: (112 / 28) × (84 / 28) = 12 tokens, and 60 × 56 is seen as 56 × 56."""
    numbers = {name: result.numbers for name, result in sound.items()}
    assert numbers["loads"]["type"] == "float64 on cpu"
    assert numbers["loads"]["adapter"] == "Qwen25VL for qwen2_5_vl"
    assert numbers["encode"]["one image"].endswith("12 of images")
    assert numbers["encode"]["several images"].endswith(f"{12 + 15 + 4} of images")
    assert (numbers["frames"]["boxes"], numbers["frames"]["60×56 seen as"]) == ("input_pixels", "56×56")
    assert numbers["stop"]["tokens"] == "<|im_end|>"
    for name in ("positions", "prefix", "sampler", "generate", "save"):
        assert float(numbers[name]["largest difference"]) < 2e-6
    assert float(numbers["prefix"]["of 12 gradients"]) < 2e-6
    assert numbers["generate"]["equal completions"] == "3 of 3"
    assert min(numbers["images"].values()) > 0.1
    counts = numbers["freeze"]
    assert counts["frozen"] == counts["of them make features"]
    total = counts["frozen"] + counts["train"]
    assert numbers["step"]["all"] == f"{total} of {total} changed"
    assert numbers["step"]["vision frozen"] == f"{counts['train']} of {total} changed"


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_adapter_fails_in_its_rows(name: str, checkpoint) -> None:
    results = check(checkpoint, adapter=f"testing_adapters:{name}")
    assert list(results) == [one.name for one in CHECKS], "whatever fails, the others run"
    assert failed(results) == FAULTS[name]
    said = "\n".join(results[row].message for row in FAULTS[name])
    assert EXPLANATIONS.get(name, "") in said
    assert all(result.message for result in results.values() if result.status is Status.FAILED)


def test_every_check_can_fail() -> None:
    assert {row for rows in FAULTS.values() for row in rows} | {"loads"} == {one.name for one in CHECKS}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_types(dtype: str, checkpoint) -> None:
    results = check(checkpoint, dtype=dtype)
    assert failed(results) == []
    assert results["loads"].numbers["type"] == f"{dtype} on cpu"
    wrong = check(checkpoint, "positions", "frames", dtype=dtype, adapter="testing_adapters:DropsFeatures")
    assert failed(wrong) == ["positions"]


def test_what_does_not_load_ends_the_checks(checkpoint, tmp_path) -> None:
    (only,) = run_checks(Context(str(tmp_path)))
    assert (only.name, only.status) == ("loads", Status.FAILED)
    assert "cannot load the config" in only.message


def test_adapters_without_their_model(checkpoint, tmp_path) -> None:
    section = ModelSection(path=str(checkpoint), lora=LoraSection(r=2))
    load_model(section, load_adapter(checkpoint)).save_pretrained(tmp_path)
    (only,) = run_checks(Context(str(tmp_path)))
    assert (only.status, "Merge them first" in only.message) == (Status.FAILED, True)


def test_own_pictures(checkpoint, picture) -> None:
    results = check(checkpoint, "encode", "frames", images=[picture(140, 56)])
    assert results["encode"].numbers["one image"].endswith("10 of images")  # 5 × 2
    assert "140×56 seen as" in results["frames"].numbers
    with pytest.raises(DataError, match="nowhere"):
        Context(str(checkpoint), images=["nowhere.png"])
    with pytest.raises(ConfigError, match="4 images: wanted at most 3"):
        Context(str(checkpoint), images=[picture(56, 56)] * 4)


def test_names_select_checks() -> None:
    assert [one.name for one in select_checks(["save", "encode"])] == ["encode", "save"]
    assert [one.name for one in select_checks(skip=["save"])] == [one.name for one in CHECKS[:-1]]
    with pytest.raises(ConfigError, match=r'unknown check "sav"\. Did you mean "save"\?'):
        select_checks(["sav"])
    with pytest.raises(ConfigError, match="no check is left"):
        select_checks(["save"], skip=["save"])


@pytest.mark.parametrize(
    ("finding", "status", "message"),
    [
        pytest.param(Finding({"n": 1.0}), Status.OK, "", id="ok"),
        pytest.param(Finding(problems=("a", "b")), Status.FAILED, "a\nb", id="problems"),
        pytest.param(Finding(not_applicable="too large"), Status.NOT_APPLICABLE, "too large", id="not applicable"),
    ],
)
def test_a_finding_becomes_a_row(finding: Finding, status: Status, message: str, checkpoint) -> None:
    begun = []
    row = Check("row", "?", lambda context: finding)
    (result,) = run_checks(Context(str(checkpoint)), [row], begun.append)
    assert (result.name, result.status, result.message, result.numbers) == ("row", status, message, finding.numbers)
    assert (begun, result.seconds >= 0) == ([row], True)
