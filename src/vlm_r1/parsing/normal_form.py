"""The one normal form under which texts and labels are compared.

Two texts that a reader cannot tell apart, or that differ only in what a keyboard or a tokenizer chose, are the same:

* composed and decomposed letters, by canonical composition (Unicode's NFC): é is one letter or e and an accent;
* full-width and half-width forms and the plain ones: ＡＢＣ１２３ and ABC123, ｶﾞ and ガ, the wide space and a space;
* quotation marks and apostrophes of any shape: “dog”, „dog“, «dog» and "dog"; don’t and don't;
* hyphens, the minus sign and the en dash, all one stroke long: T‑shirt and T-shirt, −5 and -5;
* any amount of white space, and one space.

It is not Unicode's compatibility folding (NFKC): ① is not 1, x² not x2, ½ not 1/2. An accent counts (café is not cafe),
and so does a sign of another script that looks alike (Cyrillic В is not B). Case counts for labels, which
are names; texts are compared without it, by `normalize_text`.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache


def _folded_characters() -> dict[int, str]:
    """What becomes of one character, where NFC leaves it as it is."""
    alike = {"'": "‘’‚‛ʼ´‹›", '"': "“”„‟«»「」『』", "-": "‐‑‒–−﹣"}
    table = {ord(mark): plain for plain, marks in alike.items() for mark in marks}
    for code in (0x3000, *range(0xFF01, 0xFFEF)):
        width, _, plain = unicodedata.decomposition(chr(code)).partition(" ")
        if width in ("<wide>", "<narrow>"):
            character = chr(int(plain, 16))
            table[code] = table.get(ord(character), character)
    return table


_FOLDED = _folded_characters()


def fold(text: str) -> str:
    """The normal form of a text, case and white space as they are.

    >>> fold("Ｂ．“ｶﾞ”"), fold("①x²")
    ('B."ガ"', '①x²')
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text.translate(_FOLDED))


@lru_cache(maxsize=4096)  # few names, compared with each of many boxes
def normalize_label(text: str) -> str:
    """Make names equal that have one normal form; case counts.

    >>> normalize_label(" Red　car "), normalize_label("Red car") == normalize_label("red car")
    ('Red car', False)
    """
    return " ".join(fold(text).split())


def normalize_text(text: str) -> str:
    """Make texts equal that have one normal form, up to case and full stops at the end.

    >>> normalize_text("  No   Defect. "), normalize_text("Ｎｏ　Defect。")
    ('no defect', 'no defect')
    """
    return " ".join((text.casefold() if text.isascii() else lower(text)).split()).rstrip(". 。")


def lower(text: str) -> str:
    """The normal form of a text without case, white space as it is.

    >>> lower("ＳＴＲＡＳＳＥ") == lower("Straße")
    True
    """
    if text.isascii():
        return text.casefold()
    # Unicode 3.13, D145: case is folded between a decomposition and a composition
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", fold(text)).casefold())
