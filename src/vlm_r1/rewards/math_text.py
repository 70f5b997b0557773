"""Split a text into its formulas in LaTeX; the result is None if anything in the text would be left out.

This module reads what people and models write around and instead of LaTeX: signs (√, π, ², ½, ×, ÷, −, °), bold type,
units after numbers and formulas, and thousands separators. It also reads sentences with one formula ("The answer is
0.5 cm.") and several values ("6 or 2", "60°; 120°", or one on each line). math-verify reads the formulas themselves.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from vlm_r1.parsing.normal_form import fold, normalize_text
from vlm_r1.parsing.units import UNIT_NAMES

MAX_VALUES = 16
"""Texts with more values are compared as text only."""


class Reading(NamedTuple):
    """The values of a text.

    Attributes:
        formulas: LaTeX, one for each value.
        ordered: whether their order counts: in lines or with semicolons it does, in "3 or 4" or "3, 4" it does not.
    """

    formulas: tuple[str, ...]
    ordered: bool


_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "λ": "lambda", "μ": "mu",
    "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ω": "omega", "Δ": "Delta",
}  # fmt: skip
_OPERATORS = {
    "×": "times", "✕": "times", "·": "cdot", "⋅": "cdot", "∙": "cdot", "÷": "div", "±": "pm", "≤": "leq", "⩽": "leq",
    "≥": "geq", "⩾": "geq", "≠": "neq", "≈": "approx", "∞": "infty", "∪": "cup", "∩": "cap", "∈": "in",
    "∅": "emptyset", "∠": "angle", "△": "triangle",
}  # fmt: skip
_OVER_UNDER = "12 13 23 14 34 15 25 35 45 16 56 18 38 58 78"
_FRACTIONS = zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", _OVER_UNDER.split(), strict=True)
_SIGNS = (
    {sign: f"\\{name} " for sign, name in (_GREEK | _OPERATORS).items()}
    | {sign: f"\\frac{{{over}}}{{{under}}}" for sign, (over, under) in _FRACTIONS}
    | {"°": r"^{\circ}", "º": r"^{\circ}", "∶": ":", "√": r"\sqrt"}
)
_AS_LATEX = str.maketrans(_SIGNS)
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "₀₁₂₃₄₅₆₇₈₉₋₊ₙ"
_LEVEL = str.maketrans(_RAISED + _LOWERED, "0123456789-+n" * 2)
_AT_LEVEL = re.compile(rf"([{_RAISED}]+)|([{_LOWERED}]+)")

_LETTER_UNITS = "mghLlsNJWVACt"  # units of one letter, which may be variables elsewhere

# ---- text around formulas
_BOLD = re.compile(r"(?<![\w)\]}*])(\*{1,3}|_{2})(?=[^\s*_])([^*\n]+?)(?<=[^\s*_])\1(?![\w(*])")
_LINE_MARK = re.compile(r"^\s*+(?:[#>•]++\s*+|\*\s++)", re.MULTILINE)
_LEAD_IN = re.compile(r"^(?:so|thus|therefore|hence|then|finally|we (?:get|have|find))\b[\s,:]*+", re.IGNORECASE)
_ANCHOR = re.compile(r"(?:\banswer(?:\s++is\b|\s++would\s++be\b|\s*+[:=])|答案[是为:])[\s:]*+", re.IGNORECASE)
_DELIMITER = re.compile(r"\$\$|\\[()\[\]]")
_BOXED = re.compile(r"\\f?boxe?d?\s*+\{")
_TEXT = re.compile(
    r"\\(?:text|mathrm|textrm|textbf|mathbf|textit|mathit|mbox|textnormal)\s*+\{([^{}]*)\}|\{\\rm\s*+([^{}]*)\}"
)
_SPACE = re.compile(r"(?<!\\)\\[,;:! ]|~|\\q?quad(?![A-Za-z])|\\(?:displaystyle|left|right|[bB]ig)(?![A-Za-z])")

# ---- several values
_SEPARATOR = re.compile(r"(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])|[或和与及且、,;\n]|\\text\s*+\{\s*+(?:or|and)\s*+\}")
_BRACKET_OR_SEPARATOR = re.compile(rf"([()\[\]{{}}])|{_SEPARATOR.pattern}")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,|\{,\}| |\\,|\\ |~|\u00a0|\u2009|\u202f)\d{3})+(?![\d,])")
_UNREADABLE = re.compile(r"\d\s++\d|\d\s*+_|\.\d*\.|…|\\[lc]?dots|['\"]")  # or misread by math-verify

# ---- words and units
_CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_UNITS = UNIT_NAMES - {"nm", "ha", "mp", "pc", "pt", "um"}  # these are more often factors
_NAMES = "|".join(sorted((re.escape(name) for name in _UNITS if len(name) > 1), key=len, reverse=True))
_POWER = r"(?:\s*+\^\s*+(?:\{\s*+-?[123]\s*+\}|-?[123]))?"
_ONE_UNIT = rf"(?:{_NAMES}|[{_LETTER_UNITS}](?![A-Za-z])){_POWER}"
_MORE_UNITS = rf"(?:\s*+(?:/|\\cdot|per\b)\s*+{_ONE_UNIT}){{0,3}}"
_UNIT = rf"(?:{_NAMES}){_POWER}{_MORE_UNITS}"
_SIGN_UNIT = rf"[{_CJK}㎀-㏟℃℉Ω]++{_POWER}"
_TRAILING_UNIT = re.compile(
    rf"(?:(?<=[\d\s}})!]){_UNIT}|{_SIGN_UNIT}|\(\s*+(?:{_UNIT}|{_SIGN_UNIT})\s*+\)|(?<=[\d\s])\\Omega"
    rf"|(?<=\^\{{\\circ\}})\s*+[CF]|[€£¥₹])\s*+\Z"
)
_LETTER_UNIT = re.compile(
    rf"(.*[\d)}}])(?:[mghLs]|\s++[{_LETTER_UNITS}]){_POWER}{_MORE_UNITS}",
    re.DOTALL,
)
_COMMAND = re.compile(r"\\[A-Za-z]++")
_CURRENCY = re.compile(r"^(?:US|C|A)?[€£¥₹]\s*+(?=[\d.])")
_FUNCTION = re.compile(
    r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|lg|exp|pi|theta|alpha|beta|infty|"
    r"max|min|gcd|lcm|det)(?![A-Za-z])"
)
_RUN = re.compile(rf"{_TEXT.pattern}|\\(?:begin|end)\{{\w+\*?\}}|\\[A-Za-z]++|[A-Za-z]{{2,}}")
_FACTORS = re.compile(
    r"(?<![\\A-Za-z])(?:[A-Z]{2,4}|[a-z]{2,3})(?=\s*+[=+\-*/^<>)])|"
    r"(?:(?<=[=+\-*/^<>(])\s*+|(?<=[\d)}]))(?:[A-Z]{2,4}|[a-z]{2,3})(?![A-Za-z(])"
)
_WORD = re.compile(rf"(?<![\\A-Za-z])(?<!begin\{{)(?<!end\{{)[A-Za-z]{{2,}}|[{_CJK}]+")
_PREDICATE = re.compile(r"\b(?:is|are|was|equals|equal\s++to|becomes)\b|等于|[是为]", re.IGNORECASE)
_CHANGES = re.compile(
    r"\b(?:not|no|never|none|n?either|nor|times|plus|minus|over|squared|cubed|divided|multiplied|half|third|quarter|"
    r"hundred|thousand|million|billion|trillion|dozen|twice|double|triple|less|more|fewer|greater|smaller|least|most|"
    r"between|to|from|except|without|point|negative|mod)\b|[不非万亿千百兆倍]|大于|小于|至少|至多|超过",
    re.IGNORECASE,
)
"""Words that change the meaning of a number next to them."""

# ---- formulas as people type them
_ROOT = re.compile(r"([√∛∜])\s*+(?:\(([^()√]*)\)|(\d+(?:\.\d+)?|[A-Za-z]|π))")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_SCIENTIFIC = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([+-]?\d+)(?![\w.])")
_TIMES_TEN = re.compile(r"(?<=\d)\s*+[xX]\s*+(?=10\s*+\^)")
_QUOTED = re.compile(r"\s*+([\"'])([^\"']*+)\1[\s.]*+")
_MIXED = re.compile(r"(?<![\d./])(\d+)\s++(\d+)/(\d+)(?![\d./])")
_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ]")  # not guessed at, as in numbers
_EDGES = " \t\r\n:?。"


def read(text: str) -> Reading | None:
    """Read the values of a text; None if it does not consist of formulas alone.

    >>> read("**2√3** cm"), read("The answer is $x = 5$.")
    (Reading(formulas=('2\\\\sqrt{3}',), ordered=False), Reading(formulas=('x = 5',), ordered=False))
    >>> read("6 or 2").formulas, read("No solution"), read("$\\\\frac{1}{2")
    (('6', '2'), None, None)
    """
    content = None if _WIDE.search(text) else _answer_of(_signs_as_latex(text))
    split = None if content is None else _split(content)
    if split is None or not 0 < len(split[0]) <= MAX_VALUES:
        return None
    formulas = tuple(map(_formula, split[0]))
    whole = tuple(formula for formula in formulas if formula is not None)
    return Reading(whole, split[1]) if len(whole) == len(formulas) else None


def plain(text: str) -> str:
    """Return a text in the form for comparison: the normal form without case, `$`, `\\text{…}` and bold type.

    >>> plain(" **$2x$**. "), plain("\\\\text{No solution}")
    ('2x', 'no solution')
    """
    text = "\n".join(dict.fromkeys(_boxes(text) or [])) or text
    if _WIDE.search(text):
        return text.strip()
    return normalize_text(_DELIMITER.sub("", _BOLD.sub(r"\2", _TEXT.sub(r"\1", fold(text)))).replace("$", ""))


def _signs_as_latex(text: str) -> str:
    """Replace signs by LaTeX commands, and remove marks of bold type and the like."""
    text = fold(text).replace("`", "").replace("—", "-")
    quoted = _QUOTED.fullmatch(text)
    text = quoted[2] if quoted else text
    text = text.replace("\\degree", "^{\\circ}").replace("^\\circ", "^{\\circ}")
    text = _BOLD.sub(r"\2", _BOLD.sub(r"\2", _LINE_MARK.sub("", text)))
    text = re.sub(r"(?<=[\w)\]}])\s*+\*\*\s*+(?=[\w(\\{-])", "^", text)
    text = re.sub(r"(?<![\\A-Za-z])sqrt(?=[\s({\d])", "√", text)
    for _ in range(4):  # nested ones, from the inside
        text = _ROOT.sub(lambda m: f"{_ROOTS[m[1]]}{{{m[2] or m[3]}}}", text)
    text = _AT_LEVEL.sub(lambda m: f"{'^' if m[1] else '_'}{{{m[0].translate(_LEVEL)}}}", text)
    text = _TIMES_TEN.sub(r"\\times ", text)
    return re.sub(r"(?<!\\)%|\s*+\b(?:percent|pct)\b", r"\\%", text.translate(_AS_LATEX))


def _answer_of(text: str) -> str | None:
    """Find the answer in a text, without `$`: boxes, or the text after "answer is"; separate formulas go on new lines.

    Returns None if a formula is not closed.
    """
    if _BOXED.search(text):
        boxes = _boxes(text)
        return None if boxes is None else "\n".join(_in_formula(box) for box in dict.fromkeys(boxes))
    starts = [match.end() for match in _ANCHOR.finditer(text) if text[match.end() :].strip(_EDGES + ".$")]
    text = _DELIMITER.sub("$", text[starts[-1] if starts else 0 :]).strip(" \n*").replace("\\$", "")
    pieces = _LEAD_IN.sub("", text).split("$")
    if len(pieces) == 2 and (re.match(r"\.?\d", pieces[1]) or not pieces[1].strip(_EDGES + ".")):
        return "".join(pieces)  # a price: $12
    if len(pieces) % 2 == 0:
        return None
    pieces[1::2] = map(_in_formula, pieces[1::2])
    pieces[2:-1:2] = [piece if piece.strip() else "\n" for piece in pieces[2:-1:2]]
    return "".join(pieces)


def _boxes(text: str) -> list[str] | None:
    """The contents of all `\\boxed{…}`; None if one is not closed."""
    boxes: list[str] = []
    for match in _BOXED.finditer(text):
        depth, at = 1, match.end()
        while depth and at < len(text):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        if depth:
            return None
        boxes.append(text[match.end() : at - 1])
    return boxes


def _in_formula(formula: str) -> str:
    """Write a formula on one line; adjacent letters become factors, except in a unit at its end."""
    formula = formula.replace("\n", " ").replace("$", "")
    unit = _TRAILING_UNIT.search(formula)
    end = unit.start() if unit else len(formula)
    return _RUN.sub(_spread, formula[:end]) + formula[end:]


def _spread(run: re.Match[str]) -> str:
    kept = run[0].startswith(("\\", "{")) or run[0] in ("or", "and", "percent") or _FUNCTION.fullmatch(run[0])
    return run[0] if kept else " ".join(run[0])


def _split(content: str) -> tuple[list[str], bool] | None:
    """Split at separators outside brackets; returns the values and whether their order counts, or None.

    It is None if brackets do not match.
    """
    content = _THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), content)
    values: list[str] = []
    start, depth, ordered = 0, 0, False
    for match in _BRACKET_OR_SEPARATOR.finditer(content):
        if match[1]:
            depth += 1 if match[1] in "([{" else -1
            if depth < 0:
                return None
        elif not depth:
            values.append(content[start : match.start()])
            start, ordered = match.end(), ordered or match[0] in ";\n"
    values = [value for value in (*values, content[start:]) if value.strip(_EDGES + ".")]
    return None if depth else (values, ordered and len(values) > 1)


def _formula(value: str) -> str | None:
    """Turn one value into LaTeX; None if something else would be left."""
    formula = _CURRENCY.sub("", _trim(_SPACE.sub(" ", _TEXT.sub(_as_words, value))))
    formula = _FUNCTION.sub(r"\\\1 ", _FACTORS.sub(_as_factors, _without_unit(formula)))
    if _WORD.search(formula):
        formula = _without_unit(_formula_of_sentence(formula))
    formula = re.sub(r"^(?:=|\\approx)\s*+", "", _trim(formula))
    formula = _MIXED.sub(r"\1\\frac{\2}{\3}", _SCIENTIFIC.sub(r"\1\\times 10^{\2}", formula))
    formula = re.sub(r"([\^_])\s*+(-?\d+(?:\.\d+)?|-\w)", r"\1{\2}", formula).strip()
    return None if not formula or _UNREADABLE.search(formula) else formula


def _trim(text: str) -> str:
    """Strip full stops and colons, but keep the point of ".5"."""
    return re.sub(r"\A\.(?!\d)|\.+\Z", "", text.strip(_EDGES)).strip(_EDGES)


def _without_unit(formula: str) -> str:
    """Remove the unit after a formula: the name of a unit, or a single letter if the formula has no other letter."""
    for _ in range(2):
        formula = _trim(_TRAILING_UNIT.sub(_drop_unit, formula))
    letter = _LETTER_UNIT.fullmatch(formula)
    return letter[1] if letter and not re.search("[A-Za-z]", _COMMAND.sub("", letter[1])) else formula


def _drop_unit(unit: re.Match[str]) -> str:
    return unit[0] if _CHANGES.search(unit[0]) else ""


def _as_factors(letters: re.Match[str]) -> str:
    run = letters[0].strip()
    return letters[0] if run in _UNITS or _FUNCTION.fullmatch(run) else " ".join(run)


def _as_words(match: re.Match[str]) -> str:
    """The content of `\\text{…}`: a single letter is a factor, as e in `2\\mathrm{e}`, unless it is a unit."""
    text = (match[1] or match[2] or "").replace("~", " ")
    return f"{{{text}}}" if len(text) == 1 and text not in _LETTER_UNITS else f" {text} "


def _formula_of_sentence(text: str) -> str:
    """The only formula of a sentence; "" if there is not exactly one, or if words change its meaning."""
    if _CHANGES.search(text):
        return ""
    *_, predicate = [None, *_PREDICATE.finditer(text)]
    if predicate:
        tail = text[predicate.end() :]
        text = tail if re.search(r"[\d\\]", tail) else text[: predicate.start()]
    pieces = [
        piece.strip(_EDGES + "-") if not re.search(r"\d", piece) else piece.strip(_EDGES) for piece in _WORD.split(text)
    ]
    pieces = [piece for piece in pieces if piece and piece not in ("a", "A", "I")]
    return pieces[0] if len(pieces) == 1 else ""
