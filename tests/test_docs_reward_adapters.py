"""Every adapter of docs/reward_adapters.md, round a function of the signature that it is for."""

from __future__ import annotations

import json
import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from vlm_r1.config.schema import DataSource
from vlm_r1.data.rows import RowReader
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput, TrainerState
from vlm_r1.rewards.call import call_reward, resolve_reward
from vlm_r1.types import ImageFrame, Record, Thinking

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/reward_adapters.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n# my_package/adapters\.py\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def inside(text: str) -> str:
    return re.findall(r"<answer>(.*?)</answer>", text)[-1]


def verl_geo3k_score(predict_str: str, ground_truth: str, use_boxed: bool = True, format_score: float = 0.1) -> float:
    return float(inside(predict_str) == ground_truth)


def verl_score(data_source, solution_str, ground_truth, extra_info=None):
    assert (data_source, extra_info) == ("hiyouga/geometry3k", {"index": 7})
    return {"score": float(inside(solution_str) == ground_truth), "acc": 1.0}


def easyr1_batch_score(reward_inputs: list[dict], format_weight: float = 0.1) -> list[dict]:
    if not isinstance(reward_inputs, list):
        raise ValueError("Please use `reward_type=batch`")
    return [easyr1_single_score(one) for one in reward_inputs]


def easyr1_single_score(reward_input: dict) -> dict:
    assert reward_input["response_length"] == 3
    return {"overall": float(inside(reward_input["response"]) == reward_input["ground_truth"]), "format": 1.0}


class SwiftOrm:
    def __init__(self, args=None, **kwargs):
        self.args = args

    def __call__(self, completions, solution, **kwargs) -> list[float]:
        return [float(inside(text) == gold) for text, gold in zip(completions, solution, strict=True)]


def nemo_rl_score(ground_truth: str, response: str, answer_tag: str = "answer") -> tuple[float, bool | None]:
    right = inside(response) == ground_truth
    return float(right), right


def visual_rft_iou(completions, solution, **kwargs):
    """It finds no answer in a gold text without tags, and hides that it does not."""
    rewards = []
    for completion, gold in zip(completions, solution, strict=True):
        try:
            rewards.append(float(inside(completion[0]["content"]) == inside(gold)))
        except IndexError:
            rewards.append(0.0)
    return rewards


def reward_of_the_step(completions, solution, step, **kwargs):
    """Half of the truth counts from the start, all of it from step 8 on."""
    full = [inside(completion[0]["content"]) == gold for completion, gold in zip(completions, solution, strict=True)]
    return [right * (1.0 if step >= 8 else 0.5) for right in full]


PEERS = {f.__name__: f for f in (verl_geo3k_score, verl_score, easyr1_batch_score, easyr1_single_score, SwiftOrm)}
PEERS |= {f.__name__: f for f in (nemo_rl_score, visual_rft_iou, reward_of_the_step)}
ADAPTERS = ["verl_geo3k", "verl_custom", "easyr1_batch", "easyr1_single", "swift_orm", "nemo_rl", "visual_rft"]

LINE = {"problem": "How many?", "answer": "3", "data_source": "hiyouga/geometry3k", "extra_info": {"index": 7}}


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    peers = types.ModuleType("peers")
    vars(peers).update(PEERS)
    monkeypatch.setitem(sys.modules, "peers", peers)
    (tmp_path / "adapters_of_the_page.py").write_text("\n".join(SNIPPETS), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("adapters_of_the_page", None)


def given(text: str, line: dict) -> RewardInput:
    """As a line of a file is read and its completion judged, `vqa` being the task of a text."""
    record = RowReader(DataSource(path="f.jsonl", task="vqa"), "auto", None).read(json.dumps(line).encode(), 1)
    assert isinstance(record, Record)
    frames = (ImageFrame((640, 480), (644, 476)),)
    tagged = split_tags(text)
    return RewardInput(
        text, tagged, Thinking.FREE, tagged.answer, record.answer, frames, record, 3, completion_ids=(5, 6, 7)
    )


def rewards(name: str, line: dict = LINE) -> list[float | None]:
    right, wrong = given("<answer>3</answer>", line), given("<answer>4</answer>", line)
    return call_reward(name, resolve_reward(name, {}), [right, wrong])


def test_the_page_has_these_adapters():
    assert re.findall(r"^def (\w+)", "\n".join(SNIPPETS), flags=re.MULTILINE) == [
        *("verl_geo3k", "verl_custom", "easyr1_batch", "easyr1_single", "swift_orm", "nemo_rl", "visual_rft"),
        "of_the_step",
    ]


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_tells_right_from_wrong(name):
    assert rewards(f"adapters_of_the_page:{name}") == [1.0, 0.0]


def test_a_reward_of_the_step_is_told_the_step():
    reward = resolve_reward("adapters_of_the_page:of_the_step", {})
    late = replace(given("<answer>3</answer>", LINE), trainer_state=TrainerState(8, 10))
    assert call_reward("of_the_step", reward, [late, given("<answer>3</answer>", LINE)]) == [1.0, 0.5]


def test_visual_rft_works_by_its_name_on_its_own_lines():
    line = {"problem": "Where?", "solution": "<answer>3</answer>"}
    assert rewards("peers:visual_rft_iou", line) == [1.0, 0.0]
    assert rewards("peers:visual_rft_iou") == [0.0, 0.0], "the control: without tags it reads no gold answer"


def test_ms_swift_works_by_its_name_where_prompts_are_plain():
    line = {"prompt": "How many?", "solution": "3"}
    assert rewards("peers:SwiftOrm", line) == [1.0, 0.0]


def test_without_its_adapter_each_is_refused_with_a_line_that_names_the_page():
    for name in ("verl_geo3k_score", "verl_score", "nemo_rl_score"):
        with pytest.raises(Exception, match=r"can never be called.*docs/reward_adapters\.md"):
            resolve_reward(f"peers:{name}", {})
    for name in ("easyr1_batch_score", "easyr1_single_score"):
        with pytest.raises(Exception, match=rf'f\.jsonl:1: reward "peers:{name}" raised .*Error'):
            rewards(f"peers:{name}")


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
