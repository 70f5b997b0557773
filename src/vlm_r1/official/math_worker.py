"""The original's comparison of mathematics, unchanged. `rewards/math_server.py` loads this file in a helper process.

`official/mathematics.py` asks. The processor time is limited from outside, since the original's own limits are signals,
which cannot interrupt one long instruction.
"""

from __future__ import annotations

from typing import Any, cast

from math_verify import parse, verify

CPU_LIMIT_S = 20.0  # limit of one comparison: the original allows 5 s of wall time for each of its three steps


def reply(answer: str, gold: str) -> bytes:
    """Compare two texts by math-verify with its default options, like the original.

    The byte is `1` for equal, `0` for different, `?` if memory ran out.

    >>> reply("so $0.5$", "\\\\frac{1}{2}"), reply("$12\\\\pi$", "12\\\\pi")  # without dollar signs it reads 12
    (b'1', b'0')
    """
    try:
        left, right = cast(list[Any], parse(answer)), cast(list[Any], parse(gold))  # it says no more than `list`
        return b"1" if verify(left, right) else b"0"
    except (MemoryError, RecursionError):
        return b"?"


SAMPLE = ("$0.5$", "\\frac{1}{2}")
