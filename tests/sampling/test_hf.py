"""The sampler against `generate` on duplicated rows: same greedy tokens, same log-probabilities; each prompt and image
once.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import vlm_r1.sampling.decoding as decoding_module
from vlm_r1.config.schema import ModelSection
from vlm_r1.models import load_model
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.sampling import SamplingParams, completion_seed, greedy
from vlm_r1.sampling.decoding import choose_decoding, expanded, shared
from vlm_r1.sampling.filters import filter_logprobs
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.training.differences import difference
from vlm_r1.types import Record, StopReason

G, T = 3, 12
TOLERANCE = 2e-6  # transformers' norms compute in float32 whatever the type of the weights
KINDS = ("one", "wide", "several", "none")


def seeds(n_prompts: int, n: int = G, start: int = 0) -> list[list[int]]:
    return [[start + 100 * p + g for g in range(n)] for p in range(n_prompts)]


def generate_duplicated(model, adapter, prompt):
    """transformers' generate on G copies of the prompt and its images; (tokens, log-probs over the vocabulary)."""
    ids = torch.tensor([prompt.ids_L] * G)
    vision = {name: tensor.repeat(G, *[1] * (tensor.ndim - 1)) for name, tensor in prompt.vision.items()}
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == adapter.config.image_token_id).int(),
        **vision,
        do_sample=False,
        max_new_tokens=T,
        suppress_tokens=list(adapter.banned_ids()),
        return_dict_in_generate=True,
        output_scores=True,
    )
    return out.sequences[:, ids.shape[1] :], torch.stack(out.scores, 1).double().log_softmax(-1)  # scores are float32


@pytest.mark.parametrize("decoding", [shared, expanded])
def test_greedy_equals_generate_on_duplicated_rows(decoding, model64, adapter, prompts) -> None:
    model64.eval()
    sampled = HFSampler(model64, adapter, decoding).sample([prompts[k] for k in KINDS], seeds(len(KINDS)), greedy(T))
    distinct = set()
    for kind, completions in zip(KINDS, sampled, strict=True):
        tokens, logprobs = generate_duplicated(model64, adapter, prompts[kind])
        for row, completion in enumerate(completions):
            length = len(completion.ids_T)
            assert list(completion.ids_T) == tokens[row, :length].tolist()
            assert length == T or completion.ids_T[-1] == adapter.tokenizer.eos_token_id
            expected = logprobs[row, range(length), completion.ids_T]
            torch.testing.assert_close(
                torch.tensor(completion.logprobs_T, dtype=torch.float64), expected, atol=1e-5, rtol=0
            )
            distinct |= set(completion.ids_T)
    assert len(distinct) >= 4, "a model that repeats one token proves little"


@pytest.mark.parametrize(
    "params",
    [
        pytest.param(SamplingParams(T), id="plain"),
        pytest.param(SamplingParams(T, temperature=0.6), id="temperature"),
        pytest.param(SamplingParams(T, temperature=1.3, top_p=0.8, top_k=40, min_p=0.02), id="all filters"),
    ],
)
def test_logprobs_are_those_of_the_sampling_distribution(params, model64, adapter, prompts) -> None:
    chosen = [prompts[k] for k in KINDS]
    sampled = HFSampler(model64, adapter).sample(chosen, seeds(len(KINDS)), params)
    for prompt, completions in zip(chosen, sampled, strict=True):
        for completion in completions:
            ids = torch.tensor([[*prompt.ids_L, *completion.ids_T]])
            types = (ids == adapter.config.image_token_id).int()
            with torch.no_grad():
                logits = model64(input_ids=ids, mm_token_type_ids=types, **prompt.vision).logits[
                    0, len(prompt.ids_L) - 1 : -1
                ]
            logits[:, list(adapter.banned_ids())] = float("-inf")
            logprobs = filter_logprobs((logits / params.temperature).log_softmax(-1), params)
            expected = logprobs[range(len(completion.ids_T)), completion.ids_T]
            torch.testing.assert_close(
                torch.tensor(completion.logprobs_T, dtype=torch.float64), expected, atol=TOLERANCE, rtol=0
            )


def test_sampler_and_trainer_agree(model64, adapter, prompts) -> None:
    chosen = [prompts[k] for k in KINDS]
    sampled = HFSampler(model64, adapter).sample(chosen, seeds(len(KINDS)), SamplingParams(T, temperature=0.9))
    with torch.no_grad():
        scored = Policy(model64, adapter, temperature=0.9)(
            CompletionBatch(chosen, [[c.ids_T for c in g] for g in sampled])
        )
    for row, completion in enumerate(c for g in sampled for c in g):
        expected = torch.tensor(completion.logprobs_T, dtype=torch.float64)
        torch.testing.assert_close(scored.logprobs_NT[row, : len(expected)], expected, atol=TOLERANCE, rtol=0)


def test_a_completion_does_not_depend_on_its_neighbours(model64, adapter, prompts) -> None:
    sampler, params = HFSampler(model64, adapter), SamplingParams(T)
    together = sampler.sample([prompts[k] for k in KINDS], seeds(len(KINDS)), params)
    for p, kind in enumerate(KINDS):
        alone = sampler.sample([prompts[kind]], [[seeds(len(KINDS))[p][1]]], params)
        assert alone[0][0].ids_T == together[p][1].ids_T
    other = sampler.sample([prompts[k] for k in KINDS], seeds(len(KINDS), start=7), params)
    assert [c.ids_T for g in other for c in g] != [c.ids_T for g in together for c in g]


def test_both_decodings_draw_the_same_far_beyond_the_first_room_of_the_cache(model64, adapter, prompts) -> None:
    assert choose_decoding(model64, adapter) is shared
    chosen, params = [prompts[k] for k in KINDS], SamplingParams(80, temperature=1.2)
    one, other = (HFSampler(model64, adapter, d).sample(chosen, seeds(4), params) for d in (shared, expanded))
    assert max(len(c.ids_T) for g in one for c in g) > 64
    for a, b in zip([c for g in one for c in g], [c for g in other for c in g], strict=True):
        assert a.ids_T == b.ids_T
        assert a.logprobs_T == pytest.approx(b.logprobs_T, abs=TOLERANCE)


def rounded_scores(q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
    """The control: scores in bfloat16, as a plain product has them."""
    return (q * scale @ k.mT).float()


@pytest.mark.parametrize(("scores", "right"), [(None, True), (rounded_scores, False)], ids=["wide", "rounded"])
def test_large_scores_keep_their_digits_in_bfloat16(
    scores, right: bool, tiny_checkpoint, adapter, prompts, monkeypatch
) -> None:
    """Biases of queries and keys make scores of hundreds, as in published Qwen2.5 checkpoints.

    All is relative to the noise of bfloat16 on this machine, which is what the policy differs by from float32.
    """
    if scores is not None:
        monkeypatch.setattr(decoding_module, "wide_scores", scores)
    model = load_model(ModelSection(path=str(tiny_checkpoint)), adapter).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
                projection.bias.copy_(16 * torch.randn(projection.bias.shape, generator=generator))
    prompt = prompts["wide"]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        (sampled,) = HFSampler(model, adapter, shared).sample([prompt], seeds(1, n=16), SamplingParams(24))
    policy, batch = Policy(model, adapter), CompletionBatch.of_groups([prompt], [sampled])
    with torch.no_grad():
        exact = policy(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = policy(batch)
    of_sampler = difference(rounded, batch.sampled_logprobs_NT(rounded.logprobs_NT.device)).mean
    noise = difference(rounded, exact.logprobs_NT).mean
    assert (of_sampler < noise / 4) is right, (of_sampler, noise)


def test_windows_take_the_expanded_cache(model64, adapter) -> None:
    model64.config.text_config.layer_types[0] = "sliding_attention"
    assert choose_decoding(model64, adapter) is expanded


def test_each_prompt_and_image_is_computed_once(model64, adapter, prompts) -> None:
    seen = {"images": 0, "positions": []}

    def count_images(module, args, kwargs):
        seen["images"] += len(kwargs["grid_thw"])

    def count_positions(module, args, kwargs):
        seen["positions"].append(tuple(kwargs["inputs_embeds"].shape[:2]))

    model64.model.visual.register_forward_pre_hook(count_images, with_kwargs=True)
    model64.model.language_model.register_forward_pre_hook(count_positions, with_kwargs=True)
    chosen = [prompts["several"], prompts["one"]]
    HFSampler(model64, adapter).sample(chosen, seeds(2, n=8), SamplingParams(4))
    assert seen["images"] == 2 + 1
    assert seen["positions"][0] == (1, sum(len(prompt.ids_L) for prompt in chosen))
    assert set(seen["positions"][1:]) == {(16, 1)}


def test_placeholders_are_never_drawn(model64, adapter, prompts) -> None:
    with torch.no_grad():  # make them by far the likeliest tokens
        model64.lm_head.weight[list(adapter.banned_ids())] *= 50
    for params in (greedy(T), SamplingParams(T), SamplingParams(T, top_k=3)):
        sampled = HFSampler(model64, adapter).sample([prompts["one"]], seeds(1, n=16), params)
        drawn = {token for completion in sampled[0] for token in completion.ids_T}
        assert not drawn & set(adapter.banned_ids())
    unbanned = type("Unbanned", (type(adapter),), {"banned_ids": lambda self: ()})
    free = unbanned(adapter.config, adapter.tokenizer, adapter.image_processor)
    sampled = HFSampler(model64, free).sample([prompts["one"]], seeds(1, n=16), SamplingParams(T))
    assert {token for completion in sampled[0] for token in completion.ids_T} & set(adapter.banned_ids())


def test_stop_reasons(model64, adapter, prompts) -> None:
    stop = adapter.tokenizer.eos_token_id
    sampled = HFSampler(model64, adapter).sample([prompts["one"]], seeds(1, n=64), SamplingParams(40, temperature=1.5))[
        0
    ]
    reasons = {completion.stop_reason for completion in sampled}
    assert reasons == {StopReason.STOP, StopReason.LENGTH}
    for completion in sampled:
        stopped = completion.stop_reason is StopReason.STOP
        assert (completion.ids_T[-1] == stop) is stopped
        assert stop not in completion.ids_T[:-1]
        assert len(completion.ids_T) == len(completion.logprobs_T) == (len(completion.ids_T) if stopped else 40)
        assert "<|im_end|>" not in completion.text


def test_seeds_name_run_draw_record_and_completion() -> None:
    a, b = (Record(id, "rec", "", (), None, source="f.jsonl:1") for id in "ab")
    base = completion_seed(1, 2, a, 3)
    others = [
        completion_seed(2, 2, a, 3),
        completion_seed(1, 3, a, 3),
        completion_seed(1, 2, b, 3),
        completion_seed(1, 2, a, 4),
    ]
    assert len({base, *others}) == 5
    assert base == completion_seed(1, 2, replace(a, source="elsewhere/f.jsonl:1"), 3)
