"""The order of records in training: a function of the seed and of the number of records drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from vlm_r1.errors import CheckpointError, ConfigError, DataError
from vlm_r1.types import Record

T = TypeVar("T")


class PromptStream:
    """An endless stream of records. Its only state is the number of records drawn from each source.

    Without weights the sources are one long list, and each epoch is a permutation of it. With weights each source has
    its own epochs, and the next record comes from the source that is farthest below its share. After any number of
    draws, each source has had its share to within one record for each other source.

    Every process draws the same prompts of a step and picks its own by `shard`.

    Args:
        sources: the records of each data file: at least one in all; with weights, at least one in each.
        seed: seeds the order of each epoch.
        shuffle: draw a new order in each epoch; False: always keep the given order.
        weights: relative shares of the sources, positive; None: no shares.

    Raises:
        DataError: there are no records.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Record]],
        seed: int,
        shuffle: bool = True,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not any(map(len, sources)) or (weights is not None and not all(map(len, sources))):
            raise DataError("there are no records to draw prompts from; name a file with records in data.train")
        self._streams = [_EndlessStream(sources, (seed,), shuffle)]
        self._shares = [1.0]
        if weights is not None:
            self._streams = [_EndlessStream([source], (seed, place), shuffle) for place, source in enumerate(sources)]
            self._shares = [weight / sum(weights) for weight in weights]
        self.drawn = [0 for _ in self._streams]

    def draw(self, n: int) -> list[Draw]:
        """Draw the next n records, over as many epochs as needed, and advance. They are not read yet."""
        draws, self.drawn = self._draw(n)
        return draws

    def upcoming(self, n: int) -> list[Draw]:
        """Return what `draw(n)` would, without advancing."""
        return self._draw(n)[0]

    def __len__(self) -> int:
        """Return the number of records in all sources."""
        return sum(map(len, self._streams))

    def state_dict(self) -> dict[str, list[int]]:
        """Return the state for a checkpoint; the numbers of records serve to notice changed data."""
        return {"drawn": list(self.drawn), "records": [len(stream) for stream in self._streams]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at the position of the stream that returned `state`.

        Raises:
            CheckpointError: the data has another number of records now.
        """
        now = [len(stream) for stream in self._streams]
        if state["records"] != now:
            raise CheckpointError(
                f"the checkpoint was made with {_listed(state['records'])} training records, but data.train now holds "
                f"{_listed(now)}; restore the files, or start a new run"
            )
        self.drawn = list(state["drawn"])

    def _draw(self, n: int) -> tuple[list[Draw], list[int]]:
        """Return the next n draws, and the numbers drawn after them."""
        draws: list[Draw] = []
        drawn = list(self.drawn)
        for _ in range(n):
            total = sum(drawn) + 1
            lags = [share * total - count for share, count in zip(self._shares, drawn, strict=True)]
            place = lags.index(max(lags))
            draws.append(Draw(total - 1, partial(self._streams[place].record, drawn[place])))
            drawn[place] += 1
        return draws, drawn


@dataclass(frozen=True)
class Draw:
    """A record that is drawn but perhaps not read yet.

    Attributes:
        number: how many records the run drew before it.
        read: reads the record; a bad row is a DataError.
    """

    number: int
    read: Callable[[], Record]


class _EndlessStream:
    """Epoch after epoch of several concatenated lists of records, with random access."""

    def __init__(self, sources: Sequence[Sequence[Record]], seed: tuple[int, ...], shuffle: bool) -> None:
        self._sources, self._seed, self._shuffle = sources, seed, shuffle
        self._ends = np.cumsum([len(source) for source in sources])
        self._epoch, self._order = -1, np.arange(0)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def record(self, number: int) -> Record:
        """Return the record that is drawn after `number` others."""
        epoch, place = divmod(number, len(self))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._permutation(epoch)
        index = int(self._order[place])
        source = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[source][index - (int(self._ends[source - 1]) if source else 0)]

    def _permutation(self, epoch: int) -> np.ndarray:
        if not self._shuffle:
            return np.arange(len(self))
        seed, *place = self._seed
        return np.random.Generator(np.random.PCG64([seed, epoch, *place])).permutation(len(self))


def shard(items: Sequence[T], rank: int, world: int) -> Sequence[T]:
    """Return the share of `items` of process `rank` of `world`; shares are contiguous and equal.

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


def _listed(numbers: Sequence[int]) -> str:
    return " + ".join(str(number) for number in numbers)
