"""The rows of a file that a `sampling_strategy` keeps. Rows are not parsed, and keep their order."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

from vlm_r1.config.strategy import parse_strategy
from vlm_r1.data.jsonl import RowOffsets


def select_rows(offsets: RowOffsets, strategy: str, seed: int, lines: Iterable[bytes]) -> RowOffsets:
    """Select the first, the last or random rows.

    A random choice of N keeps the rows with the N least hashes of the seed and their bytes, without white space at the
    ends. So it is the same on every machine, in every process and after a resumption, wherever the file lies. A
    smaller choice is part of a larger one, and a row that is mended or added leaves the choice among the others as it
    is, but for one row.

    Args:
        strategy: e.g. "random:1000" (`config.strategy`).
        seed: seeds a random choice.
        lines: the bytes of the rows, the same on every machine; read for a random choice only.
    """
    wanted = parse_strategy(strategy)
    n, kept = len(offsets), wanted.count(len(offsets))
    match wanted.kind:
        case "all":
            return offsets
        case "first":
            return offsets.take(np.arange(kept))
        case "last":
            return offsets.take(np.arange(n - kept, n))
        case "random":
            keys_N = np.fromiter((_key(line, seed) for line in lines), dtype=np.uint64, count=n)
            return offsets.take(np.sort(np.argsort(keys_N, kind="stable")[:kept]))


def _key(line: bytes, seed: int) -> int:
    return int.from_bytes(blake2b(line.strip(), digest_size=8, key=str(seed).encode()).digest(), "big")
