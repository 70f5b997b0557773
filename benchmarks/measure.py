"""How the benchmarks of a single pass measure: alternating seconds, memory of a fresh process, operations."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import Seconds, stopwatch

_MB = 1 << 20
_SECONDS_BETWEEN_LOOKS = 0.002

Call = Callable[[], object]


def seconds_of(call: Call) -> Seconds:
    """Seconds of one call; work queued on a GPU is waited for."""
    _wait()
    passed = stopwatch()
    call()
    _wait()
    return passed()


def alternate(calls: Mapping[str, Call], rounds: int) -> dict[str, list[Seconds]]:
    """Seconds of each call by name: after one call each to warm up, all take turns."""
    for call in calls.values():
        call()
    seconds: dict[str, list[Seconds]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(seconds_of(call))
    return seconds


class MemoryGrowth:
    """`with MemoryGrowth() as memory: …`, then `memory.mb`: the peak of this process above what it held at the start.

    Right in a fresh process alone: one that has worked before has room from then.
    """

    def __enter__(self) -> MemoryGrowth:
        self._start = self._peak = psutil.Process().memory_info().rss
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def mb(self) -> float:
        """Megabytes."""
        return (self._peak - self._start) / _MB

    def _look(self) -> None:
        process = psutil.Process()
        while not self._stopped.wait(_SECONDS_BETWEEN_LOOKS):
            self._peak = max(self._peak, process.memory_info().rss)


def fresh_processes() -> ProcessPoolExecutor:
    """Runs one task after the other, each in a process of its own, forked from one that has only imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.groups"])
    return ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1)


def forward_flops(call: Call) -> int:
    """Floating-point operations of the matrix products in a call without gradient, a multiply-add being two.

    Torch's counter, which looks at every operator, with formulas for the kernels of `vlm_r1.policy.kernels`: a causal
    one is counted as the half that it needs. A training pass has three times as many by convention, however much a
    checkpoint or a flash kernel computes again.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with torch.no_grad(), counter:
        call()
    return counter.get_total_flops()


def matmul_rate(size: int, dtype: torch.dtype, device: torch.device | str = "cpu", rounds: int = 7) -> float:
    """Operations per second of the product of two square matrices, the fastest of a few."""
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    out = a @ b
    return 2 * size**3 / min(seconds_of(lambda: torch.mm(a, b, out=out)).wall for _ in range(rounds))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _of_tensors(formula: Any) -> Any:
    """Mark a formula as one that wants tensors, not their shapes: the counter's own sign."""
    formula._get_raw = True
    return formula


@_of_tensors
def _cpu_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, causal: bool = False, **_: Any) -> int:
    batch, heads, queries, width = q.shape
    return 4 * batch * heads * width * _pairs(queries, k.shape[2], causal)


@_of_tensors
def _cuda_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_ends: Tensor | None,
    k_ends: Tensor | None,
    max_q: int,
    max_k: int,
    dropout: float,
    causal: bool,
    *_given: Any,
    **_: Any,
) -> int:
    if q_ends is None or k_ends is None:  # (batch, tokens, heads, width)
        return 4 * q.shape[0] * q.shape[2] * q.shape[3] * _pairs(q.shape[1], k.shape[1], causal)
    segments = zip(q_ends.diff().tolist(), k_ends.diff().tolist(), strict=True)
    return 4 * q.shape[-2] * q.shape[-1] * sum(_pairs(queries, keys, causal) for queries, keys in segments)


def _pairs(queries: int, keys: int, causal: bool) -> int:
    return queries * (queries + 1) // 2 if causal else queries * keys


_FORMULAS: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention,
    torch.ops.aten._flash_attention_forward: _cuda_attention,
}
