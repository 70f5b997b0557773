"""Completion log-probabilities against the obvious computation: each row alone, through a plain call of the model."""

from __future__ import annotations

import pytest
import torch

from testing_policy import TEMPERATURE, TOLERANCE, completions
from vlm_r1.config.schema import LoraSection, ModelSection
from vlm_r1.models import load_model
from vlm_r1.policy.logprobs import CompletionBatch, Policy


def obvious_row(model, adapter, prompt, ids_T) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probs, entropies) of one completion: one unpadded row, positions made by transformers, full logits."""
    ids_1L = torch.tensor([[*prompt.ids_L, *ids_T]])
    types = (ids_1L == adapter.config.image_token_id).int()
    logits = model(
        input_ids=ids_1L, attention_mask=torch.ones_like(ids_1L), mm_token_type_ids=types, **prompt.vision
    ).logits[0]
    logits[:, list(adapter.banned_ids())] = float("-inf")
    logprobs = (logits / TEMPERATURE).log_softmax(-1)[len(prompt.ids_L) - 1 : -1]
    entropies = torch.stack([torch.distributions.Categorical(logits=row).entropy() for row in logprobs])
    return logprobs.gather(1, torch.tensor(ids_T)[:, None])[:, 0], entropies


def obvious(model, adapter, batch: CompletionBatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    pairs = zip(batch.prompts, batch.ids_P_G_T, strict=True)
    return [obvious_row(model, adapter, prompt, ids_T) for prompt, ids_G_T in pairs for ids_T in ids_G_T]


def largest_difference(scored, rows) -> float:
    return max(float((scored.logprobs_NT[n, : len(lp)] - lp).abs().max()) for n, (lp, _) in enumerate(rows))


BATCHES = {
    "one image, G=1": (["one"], [[5]]),
    "one image, G=8, ragged": (["one"], [[1, 2, 3, 9, 20, 4, 4, 7]]),
    "several images, G=2": (["several"], [[6, 11]]),
    "no image": (["none"], [[4, 8]]),
    "mixed groups": (["wide", "none", "several", "one"], [[3, 12], [5], [7, 2, 2], [1, 30]]),
    "equal text, other pixels": (["one", "twin"], [[6, 6], [6, 6]]),
}


@pytest.mark.parametrize("layout", ["packed", "rows"])
@pytest.mark.parametrize("name", BATCHES)
def test_equals_the_obvious_rows_in_values_and_gradients(name: str, layout, model64, adapter, prompts) -> None:
    kinds, lengths = BATCHES[name]
    batch = CompletionBatch(
        [prompts[kind] for kind in kinds], [completions(adapter, n, seed=i) for i, n in enumerate(lengths)]
    )
    weights = torch.Generator().manual_seed(1)
    scored = Policy(model64, adapter, TEMPERATURE, layout)(batch)
    coefficients = torch.randn(scored.logprobs_NT.shape, generator=weights, dtype=torch.float64)
    (scored.logprobs_NT * coefficients).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model64.named_parameters() if p.grad is not None}
    model64.zero_grad()
    rows = obvious(model64, adapter, batch)
    torch.stack([(lp * coefficients[n, : len(lp)]).sum() for n, (lp, _) in enumerate(rows)]).sum().backward()

    for n, (logprobs, entropies) in enumerate(rows):
        torch.testing.assert_close(scored.logprobs_NT[n, : len(logprobs)], logprobs, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(scored.entropies_NT[n, : len(logprobs)], entropies, atol=TOLERANCE, rtol=0)
        assert scored.mask_NT[n].sum() == len(logprobs)
        assert not scored.logprobs_NT[n, len(logprobs) :].any()
    expected = {n: p.grad for n, p in model64.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    for parameter, gradient in gradients.items():
        scale = max(1.0, float(expected[parameter].abs().max()))
        torch.testing.assert_close(gradient / scale, expected[parameter] / scale, atol=TOLERANCE, rtol=0, msg=parameter)


def test_controls_that_must_differ(model64, adapter, prompts) -> None:
    batch = CompletionBatch([prompts["one"], prompts["twin"]], [completions(adapter, [6, 9])] * 2)
    policy = Policy(model64, adapter, TEMPERATURE)
    with torch.no_grad():
        rows = obvious(model64, adapter, batch)
        assert largest_difference(policy(batch), rows) < TOLERANCE
        swapped = CompletionBatch([prompts["twin"], prompts["one"]], batch.ids_P_G_T)
        assert largest_difference(policy(swapped), rows) > 1e-3, "the images of two groups of equal text were swapped"
        warmer = Policy(model64, adapter, TEMPERATURE + 0.1)
        assert largest_difference(warmer(batch), rows) > 1e-3, "another temperature"
        shifted = type(adapter)(adapter.config, adapter.tokenizer, adapter.image_processor)
        right = shifted.positions
        shifted.positions = lambda *a: [p + (p >= p.max()) for p in right(*a)]  # type: ignore[method-assign]
        assert largest_difference(Policy(model64, shifted, TEMPERATURE)(batch), rows) > 1e-4, "positions off by one"


def test_each_image_and_each_prompt_goes_through_the_model_once(model64, adapter, prompts) -> None:
    seen: dict[str, list[int]] = {"images": [], "positions": []}
    model64.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: seen["images"].append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    model64.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen["positions"].append(kwargs["inputs_embeds"][..., 0].numel()), with_kwargs=True
    )
    batch = CompletionBatch(
        [prompts["several"], prompts["one"]], [completions(adapter, [5, 3, 4]), completions(adapter, [2, 2, 2])]
    )
    Policy(model64, adapter)(batch)
    assert seen == {
        "images": [2 + 1],
        "positions": [len(prompts["several"].ids_L) + 12 + len(prompts["one"].ids_L) + 6],
    }


def test_gradient_checkpointing_changes_nothing(tiny_checkpoint, model64, adapter, prompts) -> None:
    section = ModelSection(path=str(tiny_checkpoint), dtype="float64", gradient_checkpointing=True)
    checkpointed = load_model(section, adapter).train()
    batch = CompletionBatch(
        [prompts["wide"], prompts["none"]], [completions(adapter, [4, 6]), completions(adapter, [3, 3])]
    )
    for model in (model64.train(), checkpointed):
        Policy(model, adapter, TEMPERATURE)(batch).logprobs_NT.sum().backward()
    for (name, a), b in zip(model64.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_lora_starts_as_the_base_and_its_reference_stays_there(tiny_checkpoint, model64, adapter, prompts) -> None:
    section = ModelSection(
        path=str(tiny_checkpoint), dtype="float64", lora=LoraSection(r=4, lora_alpha=8, lora_dropout=0.0)
    )
    lora = load_model(section, adapter).double()
    batch = CompletionBatch([prompts["one"]], [completions(adapter, [6, 3])])
    with torch.no_grad():
        base = Policy(model64, adapter)(batch).logprobs_NT
        torch.testing.assert_close(Policy(lora, adapter)(batch).logprobs_NT, base)
        for name, parameter in lora.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
        assert float((Policy(lora, adapter)(batch).logprobs_NT - base).abs().max()) > 1e-3
        with lora.disable_adapter():
            torch.testing.assert_close(Policy(lora, adapter)(batch).logprobs_NT, base)
