"""Counts the bytes of all tensors that exist while a program runs, tensors without data included.

Torch's fake tensors have shape, type and device but no data. An operator that gets a fake tensor returns one. Operators
on real tensors (positions, lengths, masks) are computed, so that code which looks at their values runs unchanged.
"""

# pyright: standard

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_aten: Any = torch.ops.aten
_DEVICE: Any = (
    torch.ops.prim.device.default
)  # by far the most frequent operator: twice as frequent as all others together
_GROUPED = _aten._grouped_mm.default  # used by experts; its fake version accepts bfloat16 only
_INDEXING = (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default)


class Meter(TorchDispatchMode):
    """Counts the tensors that are made inside `with Meter() as meter:`, and those that `hold` is called with.

    Attributes:
        live: bytes of storages that exist now.
        peak: the most there have been since `restart`.
        weight_copies: bytes of copies of held tensors in another type that exist now; autocast makes them.
        weight_copies_at_peak: bytes of those that existed at the peak.
    """

    def __init__(self, fake: FakeTensorMode | None = None) -> None:
        super().__init__()
        self.live = self.peak = self.weight_copies = self.weight_copies_at_peak = 0
        self._fake = fake
        self._times, self._looking = 1, True
        self._known: dict[int, Any] = {}  # by address: storages that exist, and twins of real ones that were counted
        self._held: set[int] = set()

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor that exists already, e.g. a weight."""
        self._held.add(_address(tensor))
        self._count(tensor, copied=False)

    def restart(self) -> None:
        """Forget the peak and start from what exists now."""
        self.peak, self.weight_copies_at_peak = self.live, self.weight_copies

    def stand_for(self, times: int, looking: bool = True) -> None:
        """Count every new storage `times` times from now on; with `looking` False, the peak stays as it is."""
        self._times, self._looking = times, looking

    def count_once(self, tensor: Tensor) -> None:
        """Count a storage once from now on, even if it counted several times before."""
        if isinstance(known := self._known.get(_address(tensor)), _Storage):
            self.live -= known.size * (known.times - 1)
            known.times = 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DEVICE:
            return args[0].fake_device if isinstance(args[0], FakeTensor) else func(*args)
        out = self._compute(func, args, kwargs or {})
        copied = func is _aten._to_copy.default and _address(args[0]) in self._held
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor, copied)
        return out

    def _compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        if not any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        assert self._fake is not None
        if func in _INDEXING:  # the size of the result depends on how many places a mask chooses
            args = (args[0], _places(args[1]), *args[2:])
        args, kwargs = tree_map_only(Tensor, self._without_data, (args, kwargs))
        with self._fake:
            return _grouped_product(*args, **kwargs) if func is _GROUPED else func(*args, **kwargs)

    def _without_data(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        assert self._fake is not None
        twin = self._fake.from_tensor(tensor)
        if (address := _address(twin)) not in self._known:
            self._known[address] = weakref.ref(twin.untyped_storage(), lambda _: self._known.pop(address))
        return twin

    def _count(self, tensor: Tensor, copied: bool) -> None:
        if (address := _address(tensor)) in self._known:
            return
        storage = tensor.untyped_storage()
        known = _Storage(storage.nbytes(), self._times, copied)

        def freed(_: Any) -> None:
            self._known.pop(address)
            self._add(known, -1)

        known.exists = weakref.ref(storage, freed)
        self._known[address] = known
        self._add(known, 1)
        if self._looking and self.live > self.peak:
            self.restart()

    def _add(self, known: _Storage, sign: int) -> None:
        self.live += sign * known.size * known.times
        self.weight_copies += sign * known.size * known.times * known.copied


@dataclass
class _Storage:
    size: int
    times: int
    copied: bool
    exists: Any = None


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _places(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Replace boolean masks by the indices that they choose."""
    places: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype is torch.bool and not isinstance(index, FakeTensor):
            places += index.nonzero(as_tuple=True)
        else:
            places.append(index)
    return places


def _grouped_product(a: Tensor, b: Tensor, offs: Tensor, **_: Any) -> Tensor:
    """An empty result of the experts' product: rows of `a`, or in a backward pass one matrix for each expert."""
    shape = (len(offs), a.shape[0], b.shape[1]) if a.ndim == b.ndim == 2 else (a.shape[0], b.shape[-1])
    return a.new_empty(shape)
