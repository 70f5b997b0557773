"""The chunked head against one plain log-softmax over all logits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vlm_r1.policy import head as head_module
from vlm_r1.policy.head import PLAIN, AfterHead, LogitRule, tempered_logits, token_logprobs

K, H, V = 23, 6, 50  # tokens, hidden size, vocabulary
BANNED = (3, 49)
TEMPERATURE = 0.7


def problem(dtype: torch.dtype = torch.float64, bias: bool = True) -> tuple[Tensor, nn.Linear, Tensor, Tensor]:
    """(hidden, head, ids that are not banned, cotangent)."""
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(H, V, bias=bias, dtype=dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    hidden = torch.randn(K, H, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    ids = torch.randint(4, 49, (K,), generator=generator)
    return hidden, head, ids, torch.randn(K, generator=generator, dtype=torch.float64)


def obvious(
    hidden: Tensor, head: nn.Module, ids: Tensor, banned: Sequence[int], after: AfterHead = PLAIN
) -> tuple[Tensor, Tensor]:
    logits = head(hidden).to(torch.promote_types(hidden.dtype, torch.float32)) * after.scale
    logits = logits if after.cap is None else after.cap * torch.tanh(logits / after.cap)
    logits = logits / TEMPERATURE
    logits = logits.index_fill(-1, torch.tensor(banned, dtype=torch.long), float("-inf"))
    logprobs = logits.log_softmax(-1)
    terms = logprobs.exp() * logprobs.masked_fill(logprobs == float("-inf"), 0.0)
    return logprobs.gather(1, ids[:, None])[:, 0], -terms.sum(-1)


class WrappedLinear(nn.Module):
    """A head that is not a plain linear layer, as LoRA's is not; `weight` tells the vocabulary."""

    def __init__(self, inner: nn.Linear):
        super().__init__()
        self.inner = inner

    @property
    def weight(self) -> Tensor:
        return self.inner.weight

    def forward(self, hidden: Tensor) -> Tensor:
        return self.inner(hidden)


@pytest.fixture(params=[7, 1000], ids=["4 chunks", "one chunk"])
def chunk(request, monkeypatch) -> int:
    """Tokens of a chunk; 23 tokens are not a multiple of 7."""
    monkeypatch.setattr(head_module, "CHUNK_LOGITS", request.param * V)
    return request.param


@pytest.mark.parametrize("banned", [BANNED, ()], ids=["banned", "none banned"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("wrap", [lambda head: head, WrappedLinear], ids=["linear", "wrapped"])
def test_equals_full_log_softmax(wrap, bias: bool, banned: tuple[int, ...], chunk: int) -> None:
    hidden, head, ids, grad = problem(bias=bias)
    expected, expected_entropies = obvious(hidden, head, ids, banned)
    scored, entropies = token_logprobs(hidden, wrap(head), ids, LogitRule(TEMPERATURE, banned))
    leaves = [hidden, *head.parameters()]
    torch.testing.assert_close(scored, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(entropies, expected_entropies, atol=1e-12, rtol=0)
    assert not entropies.requires_grad
    mine, theirs = (torch.autograd.grad(values, leaves, grad) for values in (scored, expected))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("banned", [BANNED, ()], ids=["banned", "none banned"])
@pytest.mark.parametrize("wrap", [lambda head: head, WrappedLinear], ids=["linear", "wrapped"])
def test_the_gradient_of_entropies_is_autograds(wrap, banned: tuple[int, ...], chunk: int) -> None:
    """Of both outputs together, as a loss with a bonus asks for it."""
    hidden, head, ids, grad = problem()
    entropy_grad = grad.flip(0) ** 2
    leaves = [hidden, *head.parameters()]
    expected = obvious(hidden, head, ids, banned)
    found = token_logprobs(hidden, wrap(head), ids, LogitRule(TEMPERATURE, banned), entropy_gradient=True)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)
    for cotangents in ((grad, entropy_grad), (0 * grad, entropy_grad), (grad, 0 * grad)):
        pairs = (torch.autograd.grad(values, leaves, cotangents, retain_graph=True) for values in (found, expected))
        for a, b in zip(*pairs, strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
    without = torch.autograd.grad(
        token_logprobs(hidden, wrap(head), ids, LogitRule(TEMPERATURE, banned))[0], leaves, grad
    )
    control = torch.autograd.grad(found, leaves, (grad, entropy_grad))
    assert (without[0] - control[0]).abs().max() > 1e-3


def test_the_gradient_of_an_entropy_by_hand() -> None:
    # probabilities 1/3 and 2/3, H = ln 3 − 2/3 ln 2; ∂H/∂z = −p (log p + H) = ∓2/9 ln 2, halved by the temperature
    head = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [4.0]]).log())
    _, entropies = token_logprobs(torch.ones(1, 1), head, torch.tensor([0]), LogitRule(2.0, ()), entropy_gradient=True)
    (gradient,) = torch.autograd.grad(entropies, head.weight)
    ln_2 = 0.6931472
    torch.testing.assert_close(gradient, torch.tensor([[2 / 9 * ln_2 / 2], [-2 / 9 * ln_2 / 2]]), atol=1e-6, rtol=0)


def test_the_gradient_of_entropies_makes_no_larger_tensor_and_only_if_asked(monkeypatch) -> None:
    monkeypatch.setattr(head_module, "CHUNK_LOGITS", 7 * V)
    hidden, head, ids, _ = problem()
    made: list[int] = []
    for asked in (False, True):
        values = token_logprobs(hidden, head, ids, LogitRule(TEMPERATURE, BANNED), entropy_gradient=asked)
        with Sizes() as sizes:
            torch.autograd.grad(sum(values).sum() if asked else values[0].sum(), hidden)
        made.append(max(shape.numel() for shape in sizes.shapes))
        assert values[1].requires_grad is asked
    assert made == [7 * V, 7 * V]


def test_by_hand() -> None:
    # weights 1, 4, 100 to the power 1/2 without the last: 1/3 and 2/3; ln 3 − 2/3 ln 2 = 0.6365 nats
    head = nn.Linear(1, 3, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [4.0], [100.0]]).log())
    scored, entropies = token_logprobs(torch.ones(2, 1), head, torch.tensor([0, 1]), LogitRule(2.0, (2,)))
    torch.testing.assert_close(scored.exp(), torch.tensor([1 / 3, 2 / 3]))
    torch.testing.assert_close(entropies, torch.full((2,), 0.6365), atol=1e-4, rtol=0)


def test_a_banned_token_has_no_probability() -> None:
    hidden, head, ids, _ = problem()
    ids[5] = BANNED[0]
    scored, _ = token_logprobs(hidden, head, ids, LogitRule(TEMPERATURE, BANNED))
    assert (scored == float("-inf")).nonzero().tolist() == [[5]]


@pytest.mark.parametrize("wrap", [lambda head: head, WrappedLinear], ids=["linear", "wrapped"])
def test_nothing_of_vocabulary_times_tokens_is_kept(wrap, monkeypatch) -> None:
    monkeypatch.setattr(head_module, "CHUNK_LOGITS", 7 * V)
    hidden, head, ids, _ = problem()
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        token_logprobs(hidden, wrap(head), ids, LogitRule(TEMPERATURE, BANNED))
        small = max(saved)
        saved.clear()
        obvious(hidden, head, ids, BANNED)
    assert small <= V * H  # the weight itself
    assert max(saved) == K * V, "the plain way keeps all logits: the hook sees them"


class Sizes(TorchDispatchMode):
    """Shapes of all tensors that any operator makes, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.shapes += [x.shape for x in tree_leaves(result) if isinstance(x, Tensor)]
        return result


def test_no_operator_makes_more_than_one_chunk_of_logits(monkeypatch) -> None:
    monkeypatch.setattr(head_module, "CHUNK_LOGITS", 7 * V)
    hidden, head, ids, grad = problem()
    with Sizes() as ours:
        token_logprobs(hidden, head, ids, LogitRule(TEMPERATURE, BANNED))[0].backward(grad)
    with Sizes() as plain:
        obvious(hidden, head, ids, BANNED)[0].backward(grad)
    assert max(shape.numel() for shape in ours.shapes) == 7 * V
    assert max(shape.numel() for shape in plain.shapes) == K * V


def test_a_frozen_head_gets_no_gradient_and_no_buffer_for_one() -> None:
    hidden, head, ids, grad = problem()
    expected = torch.autograd.grad(obvious(hidden, head, ids, BANNED)[0], hidden, grad)[0]
    head.requires_grad_(False)
    scored, _ = token_logprobs(hidden, head, ids, LogitRule(TEMPERATURE, BANNED))
    with Sizes() as sizes:
        scored.backward(grad)
    torch.testing.assert_close(hidden.grad, expected, atol=1e-12, rtol=0)
    assert head.weight.grad is None
    assert torch.Size([V, H]) not in sizes.shapes


def test_a_gradient_in_bfloat16_is_about_as_good_as_autograds(chunk: int) -> None:
    """Distance to float64 on the same rounded weights. Chunks are rounded one by one, and their sum once more."""
    hidden, head, ids, grad = problem(torch.bfloat16)
    exact_head = nn.Linear(H, V, dtype=torch.float64)
    exact_head.load_state_dict(head.state_dict())
    exact_hidden = hidden.detach().double().requires_grad_()
    exact = obvious(exact_hidden, exact_head, ids, BANNED)[0]
    autograds = obvious(hidden, head, ids, BANNED)[0]
    mine = token_logprobs(hidden, head, ids, LogitRule(TEMPERATURE, BANNED))[0]
    assert mine.dtype == torch.float32
    assert error(mine, exact) <= 1.01 * error(autograds, exact)

    leaves, exact_leaves = [hidden, *head.parameters()], [exact_hidden, *exact_head.parameters()]
    true_grads = torch.autograd.grad(exact, exact_leaves, grad)
    pairs = [torch.autograd.grad(values, leaves, grad.float()) for values in (mine, autograds)]
    for ours, theirs, true in zip(*pairs, true_grads, strict=True):
        assert ours.dtype == torch.bfloat16
        assert error(ours, true) <= 1.1 * error(theirs, true)


def error(values: Tensor, exact: Tensor) -> float:
    return float((values.detach().double() - exact.detach()).norm())


def test_autocast_multiplies_in_bfloat16_and_sums_in_float32() -> None:
    hidden, head, ids, grad = problem(torch.float32)
    exact = torch.autograd.grad(obvious(hidden, head, ids, BANNED)[0], [hidden, head.weight], grad.float())
    with torch.autocast("cpu", torch.bfloat16), Sizes() as sizes:
        scored, entropies = token_logprobs(hidden, head, ids, LogitRule(TEMPERATURE, BANNED))
    assert torch.Size([K, V]) in sizes.shapes
    assert scored.dtype == entropies.dtype == torch.float32
    for mine, true in zip(torch.autograd.grad(scored, [hidden, head.weight], grad.float()), exact, strict=True):
        assert mine.dtype == torch.float32
        assert 1e-4 < error(mine, true) / float(true.norm()) < 0.02  # bfloat16 has 8 bits: 0.4 % of each number


def test_tempered_logits_by_hand() -> None:
    # logits (0, ln 4, ln 100) at temperature 2 without the last: weights (1, 2), so log(1/3), log(2/3)
    logits = torch.tensor([1.0, 4.0, 100.0]).log()
    expected = torch.tensor([1 / 3, 2 / 3, 0.0]).log()
    torch.testing.assert_close(tempered_logits(logits, 2.0, (2,)).log_softmax(-1), expected)


# What models do to their logits after the head ------------------------------------------------------------------------

AFTER = {
    "scaled, as Cohere's": AfterHead(0.25),
    "capped, as Gemma's": AfterHead(cap=1.5),
    "scaled, then capped": AfterHead(2.0, 1.5),
}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
@pytest.mark.parametrize("wrap", [lambda head: head, WrappedLinear], ids=["linear", "wrapped"])
def test_scaled_and_capped_logits_equal_the_obvious_way(wrap, after: AfterHead, chunk: int) -> None:
    hidden, head, ids, grad = problem()
    leaves = [hidden, *head.parameters()]
    expected, expected_entropies = obvious(hidden, head, ids, BANNED, after)
    gradients = torch.autograd.grad(expected, leaves, grad)
    scored, entropies = token_logprobs(hidden, wrap(head), ids, LogitRule(TEMPERATURE, BANNED, after))
    torch.testing.assert_close(scored, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(entropies, expected_entropies, atol=1e-12, rtol=0)
    for mine, due in zip(torch.autograd.grad(scored, leaves, grad), gradients, strict=True):
        torch.testing.assert_close(mine, due, atol=1e-12, rtol=0)
    plain, _ = token_logprobs(hidden, wrap(head), ids, LogitRule(TEMPERATURE, BANNED))
    assert float((plain - expected).detach().abs().max()) > 0.1, "without it the numbers are others"


def test_after_the_head_by_hand() -> None:
    """Scale 0.5, cap 2: 4 → 2 → 2 tanh(1) = 1.5232. Its slope is 0.5 (1 − tanh²(1)) = 0.5 · 0.41997 = 0.2100."""
    after, logits = AfterHead(0.5, 2.0), torch.tensor([0.0, 4.0, -4.0])
    capped = after(logits)
    torch.testing.assert_close(capped, torch.tensor([0.0, 1.5232, -1.5232]), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.slope(capped), torch.tensor([0.5, 0.2100, 0.2100]), atol=1e-4, rtol=0)
    assert after(torch.tensor([1e4], dtype=torch.bfloat16)).tolist() == [2.0], "no logit is above the cap"
    assert PLAIN(logits) is logits
