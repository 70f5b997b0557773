"""Filters against transformers' own, and the inverse transform by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from vlm_r1.sampling import SamplingParams
from vlm_r1.sampling.filters import draw, filter_logprobs, uniforms

FILTERS = {
    "none": SamplingParams(1),
    "top_k": SamplingParams(1, top_k=5),
    "top_k larger than the vocabulary": SamplingParams(1, top_k=1000),
    "top_p": SamplingParams(1, top_p=0.7),
    "tiny top_p keeps the likeliest": SamplingParams(1, top_p=1e-6),
    "min_p": SamplingParams(1, min_p=0.2),
    "all": SamplingParams(1, top_k=20, top_p=0.9, min_p=0.05),
}


@pytest.mark.parametrize("name", FILTERS)
def test_equals_transformers(name: str) -> None:
    params = FILTERS[name]
    scores = torch.randn((64, 50), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    expected = scores
    if params.top_k:
        expected = TopKLogitsWarper(params.top_k)(None, expected)  # type: ignore[arg-type]
    if params.top_p < 1:
        expected = TopPLogitsWarper(params.top_p)(None, expected)  # type: ignore[arg-type]
    if params.min_p:
        expected = MinPLogitsWarper(params.min_p)(None, expected)  # type: ignore[arg-type]
    torch.testing.assert_close(filter_logprobs(scores.log_softmax(-1), params), expected.log_softmax(-1))


def test_draw_by_hand() -> None:
    # cumulative (0.2, 0.2, 0.7, 1.0): the second token has probability 0 and is never drawn
    logprobs = torch.tensor([[0.2, 0.0, 0.5, 0.3]]).log().expand(6, -1)
    drawn = draw(logprobs, torch.tensor([0.0, 0.1999, 0.2001, 0.6999, 0.7001, 1 - 1e-12], dtype=torch.float64))
    assert drawn.tolist() == [0, 0, 2, 2, 3, 3]


def test_draw_has_the_right_frequencies() -> None:
    probabilities = torch.tensor([0.05, 0.6, 0.35])
    drawn = draw(probabilities.log().expand(20_000, -1), uniforms([3], 20_000)[0])
    frequencies = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(frequencies, probabilities, atol=0.015, rtol=0)  # 4 standard errors


def test_uniforms_belong_to_the_seed_and_not_to_the_row() -> None:
    both, alone = uniforms([7, 2**127 + 5], 9), uniforms([2**127 + 5], 4)
    assert torch.equal(both[1, :4], alone[0])
    assert not torch.equal(both[0], both[1])
    assert ((both >= 0) & (both < 1)).all()
