"""The states of torch that a function from outside may change and a run needs; see `kept_state.py`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

_State = tuple[str, Callable[[], Any], Callable[[Any], object], Callable[[Any, Any], bool], bool]
"""The fields of `kept_state.Kept`."""

_HELD: list[Any] = []
"""Modes that were entered to leave those in which a reward left torch; one is left when its object goes."""

_BACKENDS: Any = torch.backends
_C: Any = vars(torch)["_C"]
_AUTOGRAD: Any = _C._autograd
_PRODUCTS: tuple[Any, ...] = (
    _BACKENDS.cuda.matmul,
    _BACKENDS.cudnn.conv,
    _BACKENDS.cudnn.rnn,
    _BACKENDS.mkldnn.matmul,
    _BACKENDS.mkldnn.conv,
    _BACKENDS.mkldnn.rnn,
)


def torch_states(on_gpu: bool) -> list[_State]:
    """Return the states, in the order in which they are put back."""
    return list(_states(on_gpu))


def _states(on_gpu: bool) -> Iterator[_State]:
    """Yield the states of the modes first: a default device is a mode of functions too."""
    yield _state("torch's inference mode", torch.is_inference_mode_enabled, _set_inference_mode)
    yield _state("whether torch records gradients", torch.is_grad_enabled, torch.set_grad_enabled)
    yield _state("the number of torch's threads", torch.get_num_threads, torch.set_num_threads)
    yield _state("torch's default type", torch.get_default_dtype, torch.set_default_dtype)
    yield _state("torch's default device", torch.get_default_device, _set_default_device)
    functions, operators = _C._len_torch_function_stack, _C._len_torch_dispatch_stack
    yield _state("torch's modes of functions", functions, partial(_pop, functions, _C._pop_torch_function_stack))
    yield _state("torch's modes of operators", operators, partial(_pop, operators, _C._pop_torch_dispatch_stack))
    yield _state("torch's hooks of saved tensors", _saved_tensors_hooks, _pop_saved_tensors_hooks)
    yield _state("whether torch is deterministic", _determinism, _set_determinism)
    yield _state("torch's search for anomalies", torch.is_anomaly_enabled, torch.set_anomaly_enabled)
    yield _state("the precision of torch's products", _precisions, _set_precisions)
    yield _state("whether torch uses oneDNN and cuDNN", _backends, _set_backends)
    for device in ("cpu", *(("cuda",) if on_gpu else ())):
        read, write = partial(torch.is_autocast_enabled, device), partial(torch.set_autocast_enabled, device)
        yield _state(f"torch's autocast on {device}", read, write)
    yield "the random numbers of torch", torch.get_rng_state, torch.set_rng_state, torch.equal, True
    if on_gpu:
        yield _state("the current GPU", torch.cuda.current_device, torch.cuda.set_device)
        yield "the random numbers of the GPU", torch.cuda.get_rng_state, torch.cuda.set_rng_state, torch.equal, True


def _state(what: str, read: Callable[[], Any], write: Callable[[Any], object]) -> _State:
    return what, read, write, operator.eq, False


def _set_inference_mode(mode: bool) -> None:
    context = torch.inference_mode(mode)
    context.__enter__()
    _HELD.append(context)


def _set_default_device(device: Any) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _pop(length: Callable[[], int], pop: Callable[[], Any], wanted: int) -> None:
    """Leave the modes that a reward entered (`torch.device("cuda").__enter__()`) and did not leave."""
    while length() > wanted:
        pop()


def _saved_tensors_hooks() -> Any:
    return _AUTOGRAD._top_saved_tensors_default_hooks(True)


def _pop_saved_tensors_hooks(wanted: Any) -> None:
    while (top := _saved_tensors_hooks()) is not None and top != wanted:
        _AUTOGRAD._pop_saved_tensors_default_hooks()


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_determinism(state: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(state[0], warn_only=state[1])


def _precisions() -> tuple[Any, ...]:
    """The precision by torch's old interface, if nobody mixed it with the new one, and those by the new one."""
    try:
        old = torch.get_float32_matmul_precision()
    except RuntimeError:
        old = None
    return old, *(backend.fp32_precision for backend in _PRODUCTS)


def _set_precisions(state: tuple[Any, ...]) -> None:
    old, *precisions = state
    if old is not None:
        torch.set_float32_matmul_precision(old)
    for backend, precision in zip(_PRODUCTS, precisions, strict=True):
        backend.fp32_precision = precision


def _backends() -> tuple[bool, ...]:
    cudnn = _BACKENDS.cudnn
    return _BACKENDS.mkldnn.enabled, cudnn.enabled, cudnn.benchmark, cudnn.deterministic


def _set_backends(state: tuple[bool, ...]) -> None:
    cudnn = _BACKENDS.cudnn
    _BACKENDS.mkldnn.enabled, cudnn.enabled, cudnn.benchmark, cudnn.deterministic = state
