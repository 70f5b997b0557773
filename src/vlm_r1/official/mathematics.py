"""The original's comparison of mathematics: math-verify on the unchanged texts, then equality of normalised texts.

math-verify runs in a separate process (see `math_worker.py`), since some texts keep it busy for hours.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from vlm_r1.official.gold import Gold
from vlm_r1.official.texts import clean_text
from vlm_r1.rewards.math_process import MathProcess

_TIDIED = {  # in this order
    "\n": "",
    "\\!": "",
    "\\\\": "\\",
    "tfrac": "frac",
    "dfrac": "frac",
    "\\left": "",
    "\\right": "",
    "^{\\circ}": "",
    "^\\circ": "",
    "\\$": "",
}
_UNIT = "\\text{ "
_BOXED = "\\boxed"


def same_mathematics(completion: str, gold: Gold) -> float | None:
    """`math`: 1 for equal texts, equal values by math-verify, or equal normalised texts; else 0.

    A formula without dollar signs is read as its last number. The result is None if the comparison does not end.
    """
    answer, truth = clean_text(completion), clean_text(gold.text)
    if answer == truth:
        return 1.0
    same = verify(answer, truth)
    if same is None:
        return None
    boxed = _last_boxed(answer)
    return float(same or (boxed is not None and _equal_when_tidied(boxed, truth)))


@lru_cache(maxsize=4096)
def verify(answer: str, truth: str) -> bool | None:
    """Return whether math-verify reads the same value from both; None if it takes too much time or memory."""
    return {b"1": True, b"0": False}.get(_PROCESS.ask(answer, truth))


_PROCESS = MathProcess(Path(__file__).with_name("math_worker.py"))


def _last_boxed(text: str) -> str | None:
    """The content of the last \\boxed{…} or \\boxed …, or the text itself without any; None if it is not closed.

    >>> _last_boxed("so \\\\boxed{a{b}}."), _last_boxed("12"), _last_boxed("\\\\fbox{1}")
    ('a{b}', '12', None)
    """
    spaced = f"{_BOXED} "
    if spaced in text:
        return text.rpartition(spaced)[2].partition("$")[0]
    start = text.rfind(_BOXED)
    if start < 0:
        return None if "\\fbox" in text and _closing(text, text.rfind("\\fbox")) else text
    end = _closing(text, start)
    if end is None:
        return text
    inside = text[start + len(_BOXED) : end]
    return inside[1:] if inside.startswith("{") else None


def _closing(text: str, start: int) -> int | None:
    """Index at which the first group that opens at or after `start` closes."""
    depth = 0
    for found in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if found[0] == "{" else -1
        if depth == 0:
            return found.start()
    return None


def _equal_when_tidied(a: str, b: str) -> bool:
    """Return whether the tidied texts are equal; if one cannot be tidied, the raw texts are compared."""
    try:
        return _tidied(a) == _tidied(b)
    except (ValueError, IndexError):
        return a == b


def _tidied(text: str) -> str:
    """The normalisation of the MATH data set's own checker: fractions, roots, units, percent signs.

    Raises:
        ValueError, IndexError: there are two units, a slash without integers, or an empty root or fraction.

    >>> _tidied("x = .5 \\\\text{ cm}"), _tidied("1/2"), _tidied("\\\\sqrt3"), _tidied("\\\\frac12")
    ('\\\\frac{1}{2}', '\\\\frac{1}{2}', '\\\\sqrt{3}', '\\\\frac{1}{2}')
    """
    for old, new in _TIDIED.items():
        text = text.replace(old, new)
    if _UNIT in text:
        text, _ = text.split(_UNIT)
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    text = f"0{text}" if text.startswith(".") else text
    sides = text.split("=")
    text = sides[1] if len(sides) == 2 and len(sides[0]) <= 2 else text
    head, *roots = text.split("\\sqrt")
    text = head + "".join("\\sqrt" + (root if root[0] == "{" else f"{{{root[0]}}}{root[1:]}") for root in roots)
    text = _braced_fractions(text.replace(" ", ""))
    text = "\\frac{1}{2}" if text == "0.5" else text
    return _slash_as_fraction(text)


def _braced_fractions(text: str) -> str:
    head, *fractions = text.split("\\frac")
    braced = head
    for fraction in fractions:
        if fraction[0] == "{":
            braced += f"\\frac{fraction}"
        elif len(fraction) < 2:
            return text
        else:
            below = fraction[1] if fraction[1] == "{" else f"{{{fraction[1]}}}"
            braced += f"\\frac{{{fraction[0]}}}{below}{fraction[2:]}"
    return braced


def _slash_as_fraction(text: str) -> str:
    sides = text.split("/")
    if len(sides) != 2:
        return text
    above, below = int(sides[0]), int(sides[1])
    return f"\\frac{{{above}}}{{{below}}}" if text == f"{above}/{below}" else text
