"""The order in which records are learnt from: a function of the seed and one integer, on any number of processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from vlm_r1.errors import CheckpointError, ConfigError, DataError
from vlm_r1.types import Record

T = TypeVar("T")


class PromptStream:
    """An endless stream over epochs; each epoch is a permutation of the records. All its state is `position`.

    Every process draws the same prompts of a step and picks its own by `shard`.

    Args:
        records: at least one.
        seed: seeds the order of each epoch.
        shuffle: a new order in each epoch; False: always the order given.

    Raises:
        DataError: there are no records.
    """

    def __init__(self, records: Sequence[Record], seed: int, shuffle: bool = True) -> None:
        if not records:
            raise DataError("there are no records to draw prompts from; name a file with records in data.train")
        self.position = 0
        self._records, self._seed, self._shuffle = records, seed, shuffle
        self._cached_epoch, self._cached_order = -1, np.arange(0)

    def take(self, n: int) -> list[Record]:
        """Draw the next n records, over as many epochs as that takes, and move on."""
        epochs_and_places = [divmod(i, len(self._records)) for i in range(self.position, self.position + n)]
        self.position += n
        return [self._records[self._order(epoch)[place]] for epoch, place in epochs_and_places]

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps; the number of records is there to notice changed data."""
        return {"position": self.position, "records": len(self._records)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue where the stream was that gave `state`.

        Raises:
            CheckpointError: the data has another number of records than it had then.
        """
        if state["records"] != len(self._records):
            raise CheckpointError(
                f"the checkpoint was made with {state['records']} training records, but data.train now holds "
                f"{len(self._records)}; restore the files, or start a new run"
            )
        self.position = state["position"]

    def _order(self, epoch: int) -> np.ndarray:
        if epoch != self._cached_epoch:
            self._cached_epoch, self._cached_order = epoch, _order(len(self._records), self._seed, epoch, self._shuffle)
        return self._cached_order


def shard(items: Sequence[T], rank: int, world: int) -> Sequence[T]:
    """The part of `items` that process `rank` of `world` works on: contiguous and equal.

    Raises:
        ConfigError: the items cannot be split equally.

    >>> shard(["a", "b", "c", "d"], rank=1, world=2)
    ['c', 'd']
    """
    if len(items) % world:
        raise ConfigError(
            f"{len(items)} prompts cannot be split equally over {world} processes; "
            f"wanted training.prompts_per_step to be a multiple of {world}"
        )
    each = len(items) // world
    return items[rank * each : (rank + 1) * each]


def _order(n: int, seed: int, epoch: int, shuffle: bool) -> np.ndarray:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(n) if shuffle else np.arange(n)
