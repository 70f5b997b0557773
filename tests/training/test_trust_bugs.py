"""Bugs injected into a run: each is caught by the checks of the step, in float32 and where passes are bfloat16.

A bug is a function of the run and pytest's monkeypatch. It is put in before anything is encoded or sampled, so that it
is on all sides that it touches, as it would be in earnest.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import vlm_r1.models.adapter as adapter_module
import vlm_r1.policy.attention as attention_module
import vlm_r1.policy.head as head_module
import vlm_r1.policy.packed as packed_module
from testing_runs import sample_step
from vlm_r1.config import load_config
from vlm_r1.errors import ModelError
from vlm_r1.grpo.trainer import train
from vlm_r1.policy.attention import PackedGroup, PackedLayout
from vlm_r1.rollouts.env import Env
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.sampling import SamplingParams, hf
from vlm_r1.sampling.decoding import PrefixCache
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.run import TrainingRun, open_training
from vlm_r1.training.trust import check_sampled
from vlm_r1.types import EncodedPrompt, Segment, StopReason

PARAMS = SamplingParams(max_completion_length=16)
Bug = Callable[[TrainingRun, pytest.MonkeyPatch], None]


def no_bug(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    """The control."""


# positions and tokens, on all sides


def completions_one_place_later(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    positions = run.env.adapter.positions

    def shifted(model: Any, prompts: Any) -> list[Tensor]:
        found = positions(model, prompts)
        for one in found:
            one[:, -1] += 1
        return found

    patch.setattr(run.env.adapter, "positions", shifted)


def positions_of_text(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        run.env.adapter,
        "positions",
        lambda model, prompts: [torch.arange(len(p.ids_L)).expand(3, -1).clone() for p in prompts],
    )


def no_token_types(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run.env.adapter, "token_types", lambda ids_NL: {})


def last_token_of_the_prompt_dropped(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    encode = run.env.adapter.encode
    patch.setattr(run.env.adapter, "encode", lambda *a: (e := encode(*a), replace(e, ids_L=e.ids_L[:-1]))[1])


def last_token_dropped_by_the_policy_alone(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    forward = type(run.learner.policy).forward

    def shorter(self: Any, batch: Any, layout: Any = None) -> Any:
        prompts = [replace(p, ids_L=p.ids_L[:-1]) for p in batch.prompts]
        return forward(self, batch._replace(prompts=prompts), layout)

    patch.setattr(type(run.learner.policy), "forward", shorter)


def completions_one_place_later_when_packed(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    make = packed_module._positions

    def shifted(prompts_P: Any, layout: PackedLayout) -> Tensor:
        found, end = make(prompts_P, layout).clone(), 0
        for group in layout.groups:
            start, end = end + group.prompt, end + group.prompt + sum(group.completions)
            found[:, start:end] += 1
        return found

    patch.setattr(packed_module, "_positions", shifted)


# images


def images_of_the_neighbour(
    run: TrainingRun, patch: pytest.MonkeyPatch, when: Callable[[], bool] = lambda: True
) -> None:
    """Features of equally large images, each given to the next prompt."""
    see = adapter_module.Adapter.image_features

    def rolled(self: Any, model: Any, prompts: Any) -> Any:
        found = see(self, model, prompts)
        return [*found[1:], found[0]] if when() and len({tuple(map(len, f)) for f in found}) == 1 else found

    patch.setattr(adapter_module.Adapter, "image_features", rolled)


def images_of_the_neighbour_in_passes_with_gradient(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    images_of_the_neighbour(run, patch, torch.is_grad_enabled)


def pixels_of_the_record_before(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    encode, seen = run.env.adapter.encode, []

    def late(prompt: Any, images: Any) -> EncodedPrompt:
        seen.append(images)
        return encode(prompt, seen[-2] if len(seen) > 1 else images)

    patch.setattr(run.env.adapter, "encode", late)


# sampler and temperature


def warmer_on_both_sides(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run.learner.accelerator.unwrap_model(run.learner.policy), "temperature", 1.1)
    warmer_sampler(run, patch)


def warmer_sampler(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    sample = run.sampler.sample
    patch.setattr(run.sampler, "sample", lambda p, s, params: sample(p, s, replace(params, temperature=1.1)))


def sampler_with_other_weights(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    model = copy.deepcopy(run.learner.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 3e-3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    patch.setattr(run, "sampler", HFSampler(model, run.env.adapter))


def draws_colder_than_it_says(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    choose = hf.choose_tokens

    def lie(logits_NV: Tensor, uniforms_N: Tensor, params: SamplingParams, *rest: Any) -> tuple[Tensor, Tensor]:
        token_N, _ = choose(logits_NV * 2, uniforms_N, params, *rest)
        told = logits_NV.index_fill(-1, torch.tensor(run.env.adapter.banned_ids()), float("-inf")).float()
        return token_N, told.log_softmax(-1).gather(1, token_N[:, None])[:, 0]

    patch.setattr(hf, "choose_tokens", lie)


def padding_is_seen_when_decoding(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PrefixCache, "_padding_of", lambda self, k: torch.zeros(len(k), 1, 1, k.shape[2], dtype=torch.bool))


def stop_token_cut_off(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    complete = run.sampler._completion
    patch.setattr(run.env.adapter, "stop_ids", lambda model: tuple(range(60)))  # so that many do stop

    def cut(ids: Any, logprobs: Any, stop_ids: Any) -> Any:
        whole = complete(ids, logprobs, stop_ids)
        if whole.stop_reason is StopReason.LENGTH or len(whole.ids_T) == 1:
            return whole
        return replace(whole, segments=(Segment(whole.ids_T[:-1], whole.logprobs_T[:-1]),))

    patch.setattr(run.sampler, "_completion", cut)


# attention and gradients


def siblings_see_each_other(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    attend = PackedLayout.attend

    def merged(self: PackedLayout, *args: Any) -> Tensor:
        groups = tuple(PackedGroup(group.prompt, (sum(group.completions),)) for group in self.groups)
        return attend(PackedLayout(groups, self.served), *args)

    patch.setattr(PackedLayout, "attend", merged)


def no_gradient_to_the_prompts_keys(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    add = attention_module._add
    patch.setattr(
        attention_module, "_add", lambda x, slices, values: add(x, slices, values) if x.shape[1] == 4 else None
    )


def negated_gradient_of_the_head(run: TrainingRun, patch: pytest.MonkeyPatch) -> None:
    backward = head_module._ChunkedLogProbs.backward

    def negated(ctx: Any, *grads: Tensor) -> Any:
        d_hidden, *others = backward(ctx, *grads)
        return -d_hidden, *others

    patch.setattr(head_module._ChunkedLogProbs, "backward", staticmethod(negated))


BUGS: dict[Bug, str] = {
    completions_one_place_later: "from those of the stock model",
    positions_of_text: "from those of the stock model",
    last_token_of_the_prompt_dropped: "the checkpoint's own processor makes",
    last_token_dropped_by_the_policy_alone: "from those of the stock model",
    completions_one_place_later_when_packed: "differ from those of plain rows",
    images_of_the_neighbour: "from those of the stock model",
    images_of_the_neighbour_in_passes_with_gradient: "from those of the stock model",
    pixels_of_the_record_before: "from those of the stock model",
    warmer_on_both_sides: "at temperature 1:",
    warmer_sampler: "the sampler's log-probabilities differ",
    sampler_with_other_weights: "the sampler's log-probabilities differ",
    draws_colder_than_it_says: "outside its token's share",
    padding_is_seen_when_decoding: "the sampler's log-probabilities differ",
    stop_token_cut_off: "says that it ended by stop, but has stop tokens at",
    siblings_see_each_other: "differ from those of plain rows",
    no_gradient_to_the_prompts_keys: "the backward pass of layout packed is wrong",
    negated_gradient_of_the_head: "the backward pass of layout packed is wrong",
}
"""What each message must say. (One is of a family of its own: token types.)"""


@pytest.fixture
def checked(recipe):
    """`checked(bug, **options)`: what the checks say of a step's groups, or the error."""

    def check(bug: Bug, patch: pytest.MonkeyPatch, params: SamplingParams = PARAMS, **options: Any) -> str:
        options = {"training.prompts_per_step": 6, "sampling.max_completion_length": 16, **options}
        run = open_training(load_config(recipe(**options)), stage="grpo", resume=False)
        run.learner.begin_step()
        bug(run, patch)
        groups = sample_step(run, params)
        # the first two have images of one size, so that a neighbour's fit
        by_size: dict[Any, list] = {}
        for group in groups:
            by_size.setdefault(group.encoded.frames[0].input_wh, []).append(group)
        alike = max(by_size.values(), key=len)
        others = [group for group in groups if not any(group is one for one in alike)]
        assert len(alike) > 1
        return check_sampled([*alike, *others], run.learner, run.env, run.sampler, params)

    return check


PRECISIONS = pytest.mark.parametrize("mixed_precision", ["no", "bf16"])


@PRECISIONS
@pytest.mark.parametrize("layout", ["packed", "rows"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointed"])
def test_without_a_bug_nothing_is_found(mixed_precision, layout, checkpointing, checked, monkeypatch) -> None:
    options = {"training.layout": layout, "model.gradient_checkpointing": checkpointing}
    found = checked(no_bug, monkeypatch, **options, **{"training.mixed_precision": mixed_precision})
    assert "tokens = processor's" in found
    assert f"{layout} = transformers in float32" in found
    assert (f"{layout} = transformers in bfloat16" in found) == (mixed_precision == "bf16")


@PRECISIONS
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__.replace("_", " "))
def test_a_bug_is_caught(bug: Bug, mixed_precision: str, checked, monkeypatch) -> None:
    with pytest.raises(ModelError, match=rf"trust check failed on .*train\.jsonl:\d+: .*{BUGS[bug]}"):
        checked(bug, monkeypatch, **{"training.mixed_precision": mixed_precision})


@pytest.mark.parametrize("bug", [no_bug, no_token_types], ids=["control", "no token types"])
def test_types_of_tokens_on_all_sides(bug: Bug, checked, monkeypatch, family_checkpoint) -> None:
    """Gemma's images see both ways, and the types say where they are."""
    options = {"model.path": str(family_checkpoint("gemma3"))}
    if bug is no_bug:
        assert "packed = transformers" in checked(bug, monkeypatch, **options)
        return
    with pytest.raises(ModelError, match="from those of the stock model"):
        checked(bug, monkeypatch, **options)


def test_weights_in_bfloat16_are_checked_against_the_noise(checked, monkeypatch, tmp_path) -> None:
    """They cannot be computed with in float32; what is coarse is found all the same."""
    options = {"model.dtype": "bfloat16", "model.lora": {"r": 2}}
    assert "packed = transformers in bfloat16" in checked(no_bug, monkeypatch, **options)
    for bug in (positions_of_text, pixels_of_the_record_before, siblings_see_each_other):
        with monkeypatch.context() as patch, pytest.raises(ModelError, match="trust check failed"):
            checked(bug, patch, **options, output_dir=str(tmp_path / bug.__name__))


NARROW = {"model.dtype": "bfloat16", "model.lora": {"r": 2}, "training.mixed_precision": "bf16"}


@pytest.mark.parametrize(
    ("bug", "params"),
    [
        pytest.param(draws_colder_than_it_says, PARAMS, id="tokens drawn colder than the sampler says"),
        pytest.param(warmer_sampler, replace(PARAMS, top_p=0.9), id="another temperature, where top-p cuts"),
        pytest.param(sampler_with_other_weights, replace(PARAMS, top_k=20), id="other weights, where top-k cuts"),
    ],
)
def test_a_sampler_is_looked_at_where_weights_are_narrow(bug: Bug, params, checked, monkeypatch, tmp_path) -> None:
    """What the check draws is compared in bfloat16 too; of what was cut there is nothing else to compare."""
    assert "drawn anew = policy" in checked(no_bug, monkeypatch, params=params, **NARROW)
    with pytest.raises(ModelError, match="trust check failed"):
        checked(bug, monkeypatch, params=params, **NARROW, output_dir=str(tmp_path / "bug"))


@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_5_moe"])
@pytest.mark.parametrize("options", [NARROW, {"training.mixed_precision": "bf16"}], ids=["weights", "autocast"])
def test_a_state_that_runs_through_the_tokens_is_no_false_alarm(
    family: str, options: dict, checked, monkeypatch, family_checkpoint
) -> None:
    """Linear attention computes chunks in training and single tokens in sampling: ten times the noise of attention."""
    options = {**options, "model.path": str(family_checkpoint(family))}
    assert "rows = transformers in bfloat16" in checked(no_bug, monkeypatch, **options)


@pytest.mark.parametrize("options", [NARROW, {"training.mixed_precision": "bf16"}], ids=["weights", "autocast"])
def test_nor_when_only_text_is_taught(options: dict, recipe, family_checkpoint, tmp_path) -> None:
    """Rows of other lengths than the witness's one at a time: last bits differ in every layer, not in attention."""
    rows = [json.dumps({"problem": f"How many are red {n}?\n  Say so.  ", "answer": str(n)}) for n in range(12)]
    (tmp_path / "text.jsonl").write_text("\n".join(rows), encoding="utf-8")
    source = {"path": str(tmp_path / "text.jsonl"), "task": "counting"}
    changes = {"data.train": [source], "data.template": "r1", "rewards": {"accuracy": 1.0}, "training.max_steps": 1}
    train_sft(load_config(recipe(**{**options, **changes, "model.path": str(family_checkpoint("qwen3_5"))})))


def test_a_sampler_that_stays_behind_is_caught_at_the_second_step(recipe, tmp_path, monkeypatch) -> None:
    make = HFSampler.__init__

    def with_a_copy(self: HFSampler, model: Any, *args: Any) -> None:
        make(self, copy.deepcopy(model), *args)

    monkeypatch.setattr(HFSampler, "__init__", with_a_copy)
    with pytest.raises(ModelError, match="the sampler's log-probabilities differ"):
        train(load_config(recipe()))
    assert len(read_metrics(tmp_path / "run/metrics.jsonl")) == 1, "the first step is as it should be"


def test_supervised_training_has_a_witness_too(recipe, adapter, monkeypatch) -> None:
    positions = type(adapter).positions

    def shifted(self: Any, model: Any, prompts: Any) -> list[Tensor]:
        found = positions(self, model, prompts)
        for one in found:
            one[:, -1] += 1
        return found

    monkeypatch.setattr(type(adapter), "positions", shifted)
    with pytest.raises(ModelError, match="from those of the stock model"):
        train_sft(load_config(recipe()))


def test_a_gold_answer_without_its_stop_token(recipe, monkeypatch) -> None:
    gold_ids = Env.gold_ids
    monkeypatch.setattr(Env, "gold_ids", lambda self, *args: gold_ids(self, *args)[:-1])
    with pytest.raises(ModelError, match=r"says that it ended by stop, but has stop tokens at \[\]"):
        train_sft(load_config(recipe()))
