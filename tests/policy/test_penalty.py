"""The penalty for repetition against transformers' own: in the head, the policy, the sampler and a run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import RepetitionPenaltyLogitsProcessor

from testing_policy import TEMPERATURE, TOLERANCE, completions, largest_difference, score
from vlm_r1.config import load_config
from vlm_r1.evaluation.protocol import Decoding
from vlm_r1.grpo.trainer import train
from vlm_r1.models.stock import inputs_of
from vlm_r1.policy import head as head_module
from vlm_r1.policy.head import LogitRule, token_logprobs
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.penalty import Seen, penalised
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.sampling import SamplingParams, greedy
from vlm_r1.sampling.endpoint_chat import chat_request
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.training.held_out import decoding_of
from vlm_r1.training.witness import Witness, policy_side

PENALTY = 1.7
PROMPTS = [(1, 2, 2), (5,)]
IDS_P_G_T = [[(3, 2, 3), (4,)], [(5, 6, 7, 6)]]


def test_logits_equal_those_of_transformers() -> None:
    """Also if the temperature came first: it divides all logits, so it does not change which are negative."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 50, generator=generator, dtype=torch.float64)
    ids = torch.randint(0, 50, (4, 30), generator=generator)
    seen = torch.zeros(4, 50, dtype=torch.bool).scatter_(1, ids, True)
    theirs = RepetitionPenaltyLogitsProcessor(PENALTY)(ids, logits)
    torch.testing.assert_close(penalised(logits, seen, PENALTY), theirs, rtol=1e-14, atol=0)
    torch.testing.assert_close(penalised(logits / 0.6, seen, PENALTY), theirs / 0.6, rtol=1e-14, atol=0)
    assert not torch.equal(theirs, logits)


@pytest.mark.parametrize(
    ("scored", "expected"),
    [
        pytest.param(
            [True] * 8,
            [{1, 2}, {1, 2, 3}, {1, 2, 3}, {1, 2}, {5}, {5}, {5, 6}, {5, 6, 7}],
            id="a prompt's own completions, each from its start",
        ),
        pytest.param(
            [True, False, True, True, False, False, True, True],
            [{1, 2}, {1, 2, 3}, {1, 2}, {5, 6}, {5, 6, 7}],
            id="given tokens are not scored, but they were seen",
        ),
    ],
)
def test_which_tokens_were_seen(scored, expected) -> None:
    seen = Seen.of(PENALTY, PROMPTS, IDS_P_G_T, torch.tensor(scored), torch.device("cpu"))
    assert [set(row.nonzero()[:, 0].tolist()) for row in seen.mask(8)] == expected
    assert [set(row.nonzero()[:, 0].tolist()) for row in seen.chunk(slice(1, 3)).mask(8)] == expected[1:3]


@pytest.mark.parametrize("bonus", [False, True], ids=["log-probabilities", "and entropies"])
@pytest.mark.parametrize("linear", [True, False], ids=["linear head", "another module"])
def test_the_head_equals_autograd_of_the_naive_formula(linear: bool, bonus: bool, monkeypatch) -> None:
    """In chunks of 3 tokens; token 0 is banned."""
    monkeypatch.setattr(head_module, "CHUNK_LOGITS", 3 * 8 if linear else 3 << 18)
    generator = torch.Generator().manual_seed(1)
    head = nn.Linear(6, 8, dtype=torch.float64)
    seen = Seen.of(PENALTY, PROMPTS, IDS_P_G_T, torch.ones(8, dtype=torch.bool), torch.device("cpu"))
    ids = torch.tensor([token for own in IDS_P_G_T for ids_T in own for token in ids_T])
    weights = torch.randn(8, generator=generator, dtype=torch.float64)
    found = []
    for naive in (True, False):
        hidden = torch.randn(8, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()
        head.zero_grad()
        if naive:
            logits = (head(hidden) / TEMPERATURE).index_fill(1, torch.tensor([0]), float("-inf"))
            prefixes = [
                (*p, *t[:n]) for p, own in zip(PROMPTS, IDS_P_G_T, strict=True) for t in own for n in range(len(t))
            ]
            processor = RepetitionPenaltyLogitsProcessor(PENALTY)
            rows = [
                processor(torch.tensor([sorted(set(ids_T))]), row[None])
                for ids_T, row in zip(prefixes, logits, strict=True)
            ]
            logprobs_KV = torch.cat(rows).log_softmax(-1)
            logprobs = logprobs_KV.gather(1, ids[:, None])[:, 0]
            entropies = -(logprobs_KV.exp() * logprobs_KV.masked_fill(logprobs_KV == -torch.inf, 0.0)).sum(-1)
        else:
            module = head if linear else nn.Sequential(head)
            rule = LogitRule(TEMPERATURE, (0,), seen=seen)
            logprobs, entropies = token_logprobs(hidden, module, ids, rule, entropy_gradient=bonus)
        ((logprobs * weights).sum() + (entropies @ weights.flip(0) if bonus else 0.0)).backward()
        found.append(
            [logprobs.detach(), entropies.detach(), hidden.grad, head.weight.grad.clone(), head.bias.grad.clone()]
        )
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


@pytest.fixture
def batch(adapter, prompts) -> CompletionBatch:
    ids = completions(adapter, [5, 9, 3, 6], seed=4)
    ids[1] = (*ids[1][:4], *ids[1][:4], ids[1][-1])  # repeats itself
    return CompletionBatch([prompts["wide"], prompts["none"]], [ids[:2], ids[2:]])


def policy_of(model, adapter, penalty: float, layout="packed") -> Policy:
    return Policy(model, adapter, TEMPERATURE, layout, penalty)


def test_packed_equals_rows(model64, adapter, batch) -> None:
    policy = policy_of(model64, adapter, PENALTY)
    packed, rows = score(policy, batch), score(policy, batch, "rows")
    assert max(largest_difference(packed, rows)) < TOLERANCE
    plain = score(policy_of(model64, adapter, 1.0), batch)
    assert max(largest_difference(packed, plain)) > 0.1, "control: it makes a difference"


def test_policy_equals_the_stock_model_with_transformers_processor(model64, adapter, batch) -> None:
    """Log-probabilities and gradients, as the trust checks of a run compare them."""
    policy = policy_of(model64, adapter, PENALTY)
    inputs = [inputs_of(prompt, adapter, model64) for prompt in batch.prompts]
    parameters = [p for name, p in model64.named_parameters() if "norm" in name or "lm_head" in name]
    own, _ = policy_side(policy, batch, parameters)
    stock = Witness(policy, inputs, TEMPERATURE, PENALTY).side(batch, parameters)
    torch.testing.assert_close(own.logprobs_NT, stock.logprobs_NT, atol=1e-6, rtol=0)
    for a, b in zip(own.gradients, stock.gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    control = Witness(policy, inputs, TEMPERATURE).side(batch, parameters)
    assert float((own.logprobs_NT - control.logprobs_NT).abs().max()) > 0.1


@pytest.mark.parametrize("name", ["one", "none"])
def test_greedy_tokens_are_those_of_generate(name: str, model64, adapter, prompts) -> None:
    params = replace(greedy(12), repetition_penalty=PENALTY)
    sampler = HFSampler(model64, adapter)
    ((own,),) = sampler.sample([prompts[name]], [[0]], params)
    ((plain,),) = sampler.sample([prompts[name]], [[0]], greedy(12))
    inputs = inputs_of(prompts[name], adapter, model64)
    theirs = adapter.unwrap(model64).generate(
        **inputs,
        do_sample=False,
        max_new_tokens=12,
        repetition_penalty=PENALTY,
        suppress_tokens=list(adapter.banned_ids()),
        eos_token_id=list(adapter.stop_ids(model64)),
        pad_token_id=adapter.pad_id,
    )
    assert own.ids_T == tuple(theirs[0, inputs["input_ids"].shape[1] :].tolist())
    assert own.ids_T != plain.ids_T, "control: without it the tokens are others"


def test_sampled_log_probabilities_are_the_policys(model64, adapter, prompts) -> None:
    params = SamplingParams(10, temperature=TEMPERATURE, repetition_penalty=PENALTY)
    asked = [prompts["one"], prompts["none"]]
    drawn = HFSampler(model64, adapter).sample(asked, [[1, 2], [3, 4]], params)
    batch = CompletionBatch.of_groups(asked, drawn)
    with torch.no_grad():
        scored = policy_of(model64, adapter, PENALTY)(batch)
        unpenalised = policy_of(model64, adapter, 1.0)(batch)
    sampled = batch.sampled_logprobs_NT(scored.logprobs_NT.device)
    assert float((scored.logprobs_NT - sampled).abs().max()) < 1e-5
    assert float((unpenalised.logprobs_NT - sampled).abs().max()) > 0.05, "control"


def test_a_run_trains_the_penalised_policy(recipe, tmp_path) -> None:
    """Trust checks compare it with the stock model; the reference is the same distribution, so the KL starts at 0."""
    options = {"sampling.repetition_penalty": PENALTY, "grpo.beta": 0.1, "training.max_steps": 2}
    train(load_config(recipe(**options)))
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-9)
    assert rows[0]["sampling/sampling_logp_difference/max"] < 1e-4
    assert rows[1]["sampling/sampling_logp_difference/max"] < 1e-4


def test_where_it_is_told(recipe, rec_files) -> None:
    held = {"data.eval": {"in_domain": {"path": str(rec_files["in_domain"])}}, "sampling.repetition_penalty": 1.1}
    assert decoding_of(load_config(recipe(**held))) == Decoding(max_completion_length=8, repetition_penalty=1.1)
    assert "repetition_penalty" not in Decoding().model_dump()
    assert Decoding(repetition_penalty=1.1).model_dump()["repetition_penalty"] == 1.1


@pytest.mark.parametrize(
    ("engine", "penalty", "told"),
    [
        pytest.param("vllm", 1.0, {"repetition_penalty": 1.0}, id="against the checkpoint's own"),
        pytest.param("vllm", 1.1, {"repetition_penalty": 1.1}, id="vllm"),
        pytest.param("llamacpp", 1.1, {"repeat_penalty": 1.1, "repeat_last_n": -1}, id="llama.cpp"),
        pytest.param("", 1.1, {"repetition_penalty": 1.1}, id="a server that does not say what it is"),
        pytest.param("", 1.0, {}, id="nothing to say"),
    ],
)
def test_what_a_server_is_told(engine, penalty, told) -> None:
    params = SamplingParams(8, temperature=0.0, repetition_penalty=penalty)
    request = chat_request("m", [], params, 0, engine)
    assert {key: value for key, value in request.items() if key.startswith("repe")} == told
