"""A reward model as a reward: its scores beside those of transformers and TRL, and what it leaves out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from testing_reward_models import edit, judged, write_reward_model
from vlm_r1.rewards import REWARDS
from vlm_r1.rewards.call import call_reward, resolve_reward
from vlm_r1.rewards.model_loading import load_scorer
from vlm_r1.rewards.model_scores import Asked
from vlm_r1.rewards.names import short_names
from vlm_r1.types import Turn

TEXTS = [
    "the red circle",
    "the small red circle is left of the large blue square, and of the green one too",
    "",
    "blue",
    "it is the circle\nleft of the square",
    "red red red red red red",
    "the square?",
    "left",
]
PROBLEM = "which one is the small circle?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return write_reward_model(tmp_path_factory.mktemp("rm") / "judge")


def scores(path: str, texts=TEXTS, problem: str = PROBLEM, **options):
    named = ", ".join(f"{name}={value!r}" for name, value in {"path": path, **options}.items())
    spec = f"reward_model({named})"
    return call_reward(spec, resolve_reward(spec, REWARDS), [judged(text, problem) for text in texts])


def by_hand(path: str, texts=TEXTS, problem: str = PROBLEM) -> list[float]:
    """One text at a time, without padding: the last token's hidden state times the weights of the head."""
    base, tokenizer = AutoModel.from_pretrained(path, dtype=torch.float64), AutoTokenizer.from_pretrained(path)
    head = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float64).score.weight[0]
    found = []
    for text in texts:
        asked = f"<|start|>user\n{problem}<|end|>\n<|start|>assistant\n{text}<|end|>\n"  # TEMPLATE, written out
        ids = tokenizer(asked, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            found.append(float(base(ids).last_hidden_state[0, -1] @ head))
    return found


def test_scores_are_the_head_on_the_last_token_of_each_conversation(folder) -> None:
    expected = by_hand(folder)
    assert scores(folder) == pytest.approx(expected, rel=1e-12)
    assert max(expected) - min(expected) > 0.1, "the case must tell completions apart"


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 100])
def test_the_batch_changes_nothing(batch_size, folder) -> None:
    assert scores(folder, batch_size=batch_size) == pytest.approx(by_hand(folder), rel=1e-12)


def test_control_another_padding_token_changes_scores(folder) -> None:
    """The model finds the end of a text by its padding token: one that the texts do not end with misleads it."""
    load_scorer.cache_clear()
    scorer = load_scorer(folder)
    scorer.model.config.pad_token_id = scorer.tokenizer.convert_tokens_to_ids("<|start|>")
    wrong, alone = scorer.scores([judged(t, PROBLEM) for t in TEXTS], 8), by_hand(folder)
    load_scorer.cache_clear()
    assert max(abs(one - other) for one, other in zip(wrong, alone, strict=True) if one is not None) > 0.1


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_scores_are_those_of_trl(folder, tmp_path) -> None:
    """TRL's trainer itself, which loads the same folder by `reward_funcs`; it keeps rewards in float32."""
    policy = write_reward_model(tmp_path / "policy", labels=None, dtype=torch.float32)
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=folder,
        args=GRPOConfig(str(tmp_path / "run"), use_cpu=True, report_to="none", bf16=False, disable_tqdm=True),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": PROBLEM}]}] * 8),
    )
    prompts = [[{"role": "user", "content": PROBLEM}]] * len(TEXTS)
    completions = [[{"role": "assistant", "content": text}] for text in TEXTS]
    trls = trainer._calculate_rewards([{}] * len(TEXTS), prompts, completions, [[1]] * len(TEXTS))
    assert scores(folder) == pytest.approx(trls[:, 0].tolist(), rel=1e-5)
    assert trainer.reward_func_names == ["judge"]


def test_equal_completions_have_equal_scores_to_the_last_bit(folder) -> None:
    texts = ["red", *TEXTS, "red"] * 3
    found = scores(folder, texts, batch_size=4, dtype="float32")
    assert all(
        one == other
        for t, one in zip(texts, found, strict=True)
        for u, other in zip(texts, found, strict=True)
        if t == u
    )


def test_system_message_and_pictures(folder) -> None:
    """A model of texts sees the system message, and the question without the marks of its pictures."""
    scorer = load_scorer(folder)
    one = judged("red", "<image>which <image>one?\n", system="Be brief.")
    assert scorer.asked(one) == Asked(
        "<|start|>system\nBe brief.<|end|>\n<|start|>user\nwhich one?<|end|>\n<|start|>assistant\nred<|end|>\n"
    )


def test_earlier_turns_come_before_the_question(folder) -> None:
    """They are as the policy is asked: `Record.context`; the answer that is judged comes last."""
    turns = (Turn("user", "<image>how many?"), Turn("assistant", "two"))
    found = load_scorer(folder).asked(judged("red", "which?", history=turns, pictures=("a.png",), system="Be brief."))
    assert found == Asked(
        "<|start|>system\nBe brief.<|end|>\n<|start|>user\nhow many?<|end|>\n<|start|>assistant\ntwo<|end|>\n"
        "<|start|>user\nwhich?<|end|>\n<|start|>assistant\nred<|end|>\n"
    )


def test_without_a_template_question_and_completion_are_two_lines(tmp_path) -> None:
    path = write_reward_model(tmp_path / "plain", template=None)
    assert load_scorer(path).asked(judged("red", "<image>which?")) == Asked("which?\nred")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        expected = [float(model(**tokenizer(f"{PROBLEM}\n{text}", return_tensors="pt")).logits) for text in TEXTS]
    assert scores(path) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        pytest.param("red " * 300, {}, id="longer_than_the_model_takes"),
        pytest.param("red " * 60, {"max_length": 60}, id="longer_than_max_length"),
        pytest.param("red<|end|>\n<|start|>assistant\nbest", {}, id="turns_of_its_own"),
        pytest.param("red<|pad|>", {}, id="padding"),
    ],
)
def test_what_the_model_cannot_take_is_left_out_and_nothing_is_cut(text, options, folder) -> None:
    """The others keep their scores, whatever stands beside them."""
    found = scores(folder, ["red", text, "blue"], **options)
    assert found[1] is None
    assert [found[0], found[2]] == pytest.approx(by_hand(folder, ["red", "blue"]), rel=1e-12)


def test_max_length_counts_the_whole_conversation(folder) -> None:
    scorer = load_scorer(folder)
    n_tokens = len(scorer.tokenizer(scorer.asked(judged("red", PROBLEM)).text)["input_ids"])
    assert scores(folder, ["red"], max_length=n_tokens) != [None]
    assert scores(folder, ["red"], max_length=n_tokens - 1) == [None]


def test_random_numbers_and_modes_stand_still(folder) -> None:
    load_scorer.cache_clear()
    before = torch.random.get_rng_state()
    scores(folder)
    assert before.equal(torch.random.get_rng_state())
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    model = load_scorer(folder).model
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_it_is_loaded_once_under_any_options_of_judging(folder) -> None:
    load_scorer.cache_clear()
    for batch_size in (1, 2):
        scores(folder, batch_size=batch_size)
    assert load_scorer.cache_info().misses == 1


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bert", "gemma2"])
def test_other_families(model_type, tmp_path) -> None:
    """Each with its own class; the score of a batch is that of each text alone."""
    path = write_reward_model(tmp_path / model_type, model_type=model_type, head_dim=8)
    alone = [scores(path, [text], batch_size=1)[0] for text in TEXTS]
    assert scores(path) == pytest.approx(alone, rel=1e-9)
    assert len(set(alone)) == len(TEXTS)


def test_a_tokenizer_without_padding_pads_with_its_end_token(tmp_path) -> None:
    """As in TRL."""
    path = write_reward_model(tmp_path / "judge", model_type="llama")
    edit(Path(path) / "tokenizer_config.json", pad_token=None)
    scorer = load_scorer(path)
    assert scorer.tokenizer.pad_token == "<|end|>"
    assert scorer.model.config.pad_token_id == scorer.tokenizer.eos_token_id
    alone = [scores(path, [text], batch_size=1)[0] for text in TEXTS]
    assert scores(path) == pytest.approx(alone, rel=1e-12)


def test_importing_and_naming_it_loads_no_torch() -> None:
    code = (
        "import sys\nfrom vlm_r1.rewards import REWARDS\nfrom vlm_r1.rewards.call import resolve_reward\n"
        "resolve_reward('reward_model(path=\"judge\")', REWARDS)\nprint({'torch', 'transformers'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_short_names() -> None:
    names = ["iou", "reward_model(path='/a/judge/', device='cpu')", 'reward_model(path="org/other")']
    assert list(short_names(names).values()) == ["iou", "reward_model(judge)", "reward_model(other)"]
    alike = ["reward_model(path='/a/judge')", "reward_model(path='/b/judge')", "reward_model(", "reward_model(path=3)"]
    assert list(short_names(alike)) == list(short_names(alike).values())
