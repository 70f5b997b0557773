"""Reward models that take pictures: each completion is judged with the pictures of its own record."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoProcessor

from testing_families import picture_of
from testing_reward_models import judged, write_judge
from vlm_r1.errors import ModelError, RewardError
from vlm_r1.models import load_adapter
from vlm_r1.models.stock import stock_processor
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.model_loading import load_scorer
from vlm_r1.rewards.model_scores import Scorer

PICTURES = {"red.png": picture_of(56, 56, 1), "blue.png": picture_of(84, 60, 2), "green.png": picture_of(60, 112, 3)}

CASES = [  # completion, question, its pictures
    ("the red circle", "<image>which one?", ("red.png",)),
    ("the red circle", "<image>which one?", ("blue.png",)),
    ("it is left of the large blue square", "<image>which one?", ("green.png",)),
    ("both", "this <image> and that <image>: which one?", ("red.png", "blue.png")),
    ("none", "which one?", ()),
]


@pytest.fixture(scope="module")
def gemma(tmp_path_factory) -> str:
    return write_judge(tmp_path_factory.mktemp("rm") / "gemma3", "gemma3")


def given(text: str, problem: str, pictures: tuple[str, ...], opened: list[str] | None = None) -> RewardInput:
    def load():
        if opened is not None:
            opened.append("+".join(pictures))
        return [PICTURES[name] for name in pictures]

    return judged(text, problem, pictures=pictures, load_images=load)


def by_hand(model, processor, text: str, problem: str, pictures: tuple[str, ...]) -> float:
    """The processor's own conversation of one completion, with the pictures in it."""
    parts = [{"type": "text", "text": part} for part in problem.split("<image>")]
    for place, name in reversed(list(enumerate(pictures, start=1))):
        parts.insert(place, {"type": "image", "image": PICTURES[name]})
    messages = [
        {"role": "user", "content": [part for part in parts if part.get("text") != ""]},
        {"role": "assistant", "content": [{"type": "text", "text": text}]},
    ]
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    wide = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
    with torch.no_grad():
        return float(model(**wide).logits)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_scores_are_those_of_the_processors_own_inputs(batch_size, gemma) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(gemma)
    processor = AutoProcessor.from_pretrained(gemma)
    expected = [by_hand(model, processor, *case) for case in CASES]
    found = load_scorer(gemma).scores([given(*case) for case in CASES], batch_size)
    assert found == pytest.approx(expected, rel=1e-9)
    assert abs(expected[0] - expected[1]) > 1e-4, "the picture must count"


def test_a_family_whose_processor_needs_torchvision(tmp_path) -> None:
    """Qwen3.5 without a video processor, as the trust checks build it: the same inputs, the same scores."""
    path = write_judge(tmp_path / "qwen", "qwen3_5")
    adapter = load_adapter(path)
    model = AutoModelForSequenceClassification.from_pretrained(path)
    processor = stock_processor(adapter)
    model.config.get_text_config().pad_token_id = adapter.tokenizer.pad_token_id
    expected = [by_hand(model, processor, *case) for case in CASES]
    scorer = Scorer(path, model, adapter.tokenizer, None, processor)
    assert scorer.scores([given(*case) for case in CASES], 8) == pytest.approx(expected, rel=1e-9)
    assert abs(expected[0] - expected[1]) > 1e-4, "the picture must count"


def test_pictures_are_opened_once_and_only_if_the_model_looks(gemma) -> None:
    opened: list[str] = []
    load_scorer(gemma).scores([given(*case, opened) for case in CASES * 3], 4)
    assert sorted(opened) == ["blue.png", "green.png", "red.png", "red.png+blue.png"]


def test_the_tokens_of_pictures_count(gemma) -> None:
    """A conversation that is short enough alone, and too long with its picture, is left out."""
    scorer = load_scorer(gemma)
    text = len(scorer.tokenizer(scorer.asked(given(*CASES[0])).text, add_special_tokens=False)["input_ids"])
    both = [given(*CASES[4]), given(*CASES[0])]
    assert scorer.scores(both, 8, max_length=text)[1] is None
    longer = scorer.scores(both, 8, max_length=text + 20)
    assert longer[1] is not None
    assert scorer.scores(both, 8, max_length=text)[0] == longer[0]


def test_where_no_picture_can_be_opened_it_is_an_error(gemma) -> None:
    with pytest.raises(RewardError, match=r"here:1: reward model .* looks at pictures, and this command opens none"):
        load_scorer(gemma).scores([judged("red", "<image>which?")], 8)


def test_a_folder_without_an_image_processor(gemma, tmp_path) -> None:
    folder = Path(shutil.copytree(gemma, tmp_path / "judge"))
    for file in ("preprocessor_config.json", "processor_config.json"):
        (folder / file).unlink()
    with pytest.raises(ModelError, match=r"cannot load the processor of the reward model|has no image processor"):
        load_scorer(str(folder))


def test_a_processor_that_cannot_be_built_here(tmp_path) -> None:
    path = write_judge(tmp_path / "qwen", "qwen3_5")
    if importlib.util.find_spec("torchvision") is None:
        with pytest.raises(ModelError, match=r"cannot load the processor .*torchvision"):
            load_scorer(path)
    else:
        assert load_scorer(path).processor is not None
