"""What sets GLM-V apart: answers in boxes, several stop tokens, areas of two frames."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import AddedToken

from testing_families import encode, picture_of
from vlm_r1.errors import ModelError
from vlm_r1.geometry.frames import from_original, to_original
from vlm_r1.models import load_adapter
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import make_templates
from vlm_r1.types import BoxFormat, Record

every_family = pytest.mark.parametrize("family", ["glm4v", "glm4v_moe", "glm46v", "glmga"])


@every_family
def test_boxes_run_from_0_to_1000(family: str, family_adapter) -> None:
    adapter = family_adapter(family)
    (frame,) = encode(adapter, "<image>the square", [picture_of(400, 280)]).frames
    # max 64 tokens of 28 × 28 px: 400 × 280 shrinks by 1.494 to 267.7 × 187.4, down to multiples of 28
    assert frame.input_wh == (252, 168)
    written = from_original((100.0, 70.0, 200.0, 140.0), frame, adapter.box_format)
    assert written == pytest.approx((250.0, 250.0, 500.0, 500.0))
    assert to_original(written, frame, BoxFormat.NORM_1000) == pytest.approx((100.0, 70.0, 200.0, 140.0))


@pytest.mark.parametrize("special", [True, False], ids=["special tokens", "plain tokens"])
def test_an_answer_in_a_box_is_read_like_any_other(special: bool, family_checkpoint) -> None:
    adapter = load_adapter(family_checkpoint("glm4v"))
    adapter.tokenizer.add_tokens([AddedToken(token, special=special) for token in adapter.answer_wrappers])
    ids_T = adapter.tokenize(
        "<think>left</think><answer><|begin_of_box|>[[250,250,500,500]]<|end_of_box|></answer><|user|>"
    )
    text = adapter.decode(ids_T)
    assert text == "<think>left</think><answer>[[250,250,500,500]]</answer>"
    assert adapter.decode(adapter.tokenize("<|begin_of_box|>cat<|end_of_box|>")) == "cat"
    assert adapter.decode(adapter.tokenize("<|end_of_box|><|begin_of_box|>cat")) == "cat", "whatever a model writes"
    record = Record("1", "rec", "the square", ("a.png",), [100, 70, 200, 140], source="here")
    frames = encode(adapter, "<image>the square", [picture_of(400, 280)]).frames
    attempt = Attempt(text, record, frames, get_task("rec"), make_templates("r1").of(record))
    (score,) = judge([attempt], adapter.box_format, {"accuracy": 1.0})
    assert score.reward == pytest.approx(1.0)


@every_family
def test_stop_tokens_come_from_the_generation_config(family: str, family_adapter, family_model64) -> None:
    adapter = family_adapter(family)
    stop = adapter.tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|user|>", "<|observation|>"])
    assert adapter.stop_ids(family_model64(family)) == tuple(stop)
    assert adapter.tokenizer.eos_token_id in stop, "a gold answer ends with one of them"
    image_tokens = [
        "<|image|>",
        "<|video|>",
        *(f"<|{end}_of_{k}|>" for end in ("begin", "end") for k in ("image", "video")),
    ]
    assert set(adapter.banned_ids()) == set(adapter.tokenizer.convert_tokens_to_ids(image_tokens))


def test_the_processors_area_is_that_of_two_frames(family_checkpoint) -> None:
    """A limit of 50 tokens: 50 · 28² = 39,200 px of image, 78,400 of its two frames together."""
    adapter = load_adapter(family_checkpoint("glm4v"), min_pixels=28 * 28, max_pixels=50 * 28 * 28)
    assert adapter.image_processor.size["longest_edge"] == 78_400
    assert adapter.image_tokens(1000, 1000) == 49  # 7 × 7 of 28 px; 196 px of the 198 that would fit
    assert encode(adapter, "<image>", [picture_of(300, 300)]).frames[0].input_wh == (196, 196)


def test_a_small_side_is_first_enlarged_to_one_token(family_adapter) -> None:
    """10 × 40 px → 28 × 112 at one scale; Qwen's processors would round the 10 px down to nothing first."""
    adapter = family_adapter("glm4v")
    assert encode(adapter, "<image>", [picture_of(10, 40)]).frames[0].input_wh == (28, 112)


def test_a_factor_by_which_the_stock_processors_differ_is_refused(family_checkpoint, tmp_path) -> None:
    """GLM-GA's `patch_expand_factor` enlarges the grid with torchvision, and without it does nothing."""
    folder = Path(shutil.copytree(family_checkpoint("glmga"), tmp_path / "copy"))
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    for factor, fits in ((1, True), (2, False)):
        settings["patch_expand_factor"] = factor
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        if fits:
            assert load_adapter(folder).factor == 28
            continue
        with pytest.raises(ModelError, match=r"patch_expand_factor 2, by which .* differ: set it to 1"):
            load_adapter(folder)
