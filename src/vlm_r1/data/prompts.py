"""The order in which records are learnt from: a function of the seed and of how many were drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from vlm_r1.errors import CheckpointError, ConfigError, DataError
from vlm_r1.types import Record

T = TypeVar("T")


class PromptStream:
    """An endless stream of records. All its state is how many were drawn from each file.

    Without weights the files are one long list, and each epoch is a permutation of it. With weights each file has
    epochs of its own, and the next record comes from the file that lags most behind its share: after any number of
    draws each file has had its share, to within one record for each other file.

    Every process draws the same prompts of a step and picks its own by `shard`.

    Args:
        parts: the records of each file, at least one in all, and in each if there are weights.
        seed: seeds the order of each epoch.
        shuffle: a new order in each epoch; False: always the order given.
        weights: relative shares of the parts, positive; None: no shares.

    Raises:
        DataError: there are no records.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[Record]],
        seed: int,
        shuffle: bool = True,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not any(map(len, parts)) or (weights is not None and not all(map(len, parts))):
            raise DataError("there are no records to draw prompts from; name a file with records in data.train")
        self._decks = [_Deck(parts, (seed,), shuffle)]
        self._shares = [1.0]
        if weights is not None:
            self._decks = [_Deck([part], (seed, place), shuffle) for place, part in enumerate(parts)]
            self._shares = [weight / sum(weights) for weight in weights]
        self.drawn = [0 for _ in self._decks]

    def take(self, n: int) -> list[Record]:
        """Draw the next n records, over as many epochs as that takes, and move on."""
        records, self.drawn = self._draw(n)
        return records

    def peek(self, n: int) -> list[Record]:
        """The n records that `take(n)` would draw."""
        return self._draw(n)[0]

    def state_dict(self) -> dict[str, list[int]]:
        """What a checkpoint keeps; the numbers of records are there to notice changed data."""
        return {"drawn": list(self.drawn), "records": [len(deck) for deck in self._decks]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the stream was that gave `state`.

        Raises:
            CheckpointError: the data has another number of records than it had then.
        """
        now = [len(deck) for deck in self._decks]
        if state["records"] != now:
            raise CheckpointError(
                f"the checkpoint was made with {_listed(state['records'])} training records, but data.train now holds "
                f"{_listed(now)}; restore the files, or start a new run"
            )
        self.drawn = list(state["drawn"])

    def _draw(self, n: int) -> tuple[list[Record], list[int]]:
        """The next n records, and the numbers drawn after them."""
        records, drawn = [], list(self.drawn)
        for _ in range(n):
            total = sum(drawn) + 1
            lags = [share * total - count for share, count in zip(self._shares, drawn, strict=True)]
            place = lags.index(max(lags))
            records.append(self._decks[place].record(drawn[place]))
            drawn[place] += 1
        return records, drawn


class _Deck:
    """Lists of records, one after another, as an endless stream with random access."""

    def __init__(self, parts: Sequence[Sequence[Record]], seed: tuple[int, ...], shuffle: bool) -> None:
        self._parts, self._seed, self._shuffle = parts, seed, shuffle
        self._ends = np.cumsum([len(part) for part in parts])
        self._epoch, self._order = -1, np.arange(0)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def record(self, number: int) -> Record:
        """The record drawn after `number` others."""
        epoch, place = divmod(number, len(self))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._permutation(epoch)
        index = int(self._order[place])
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self._parts[part][index - (int(self._ends[part - 1]) if part else 0)]

    def _permutation(self, epoch: int) -> np.ndarray:
        if not self._shuffle:
            return np.arange(len(self))
        seed, *place = self._seed
        return np.random.Generator(np.random.PCG64([seed, epoch, *place])).permutation(len(self))


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


def _listed(numbers: Sequence[int]) -> str:
    return " + ".join(str(number) for number in numbers)
