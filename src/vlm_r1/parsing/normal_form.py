"""The normal form in which texts and labels are compared.

Two texts are the same if a reader sees no difference, or if they differ only by choices of a keyboard or tokenizer:

* composed and decomposed letters, by canonical composition (Unicode's NFC): é is one letter or e and an accent;
* full-width, half-width and plain forms: ＡＢＣ１２３ and ABC123, ｶﾞ and ガ, the wide space and a space;
* quotation marks and apostrophes of any shape: “dog”, „dog“, «dog» and "dog"; don’t and don't;
* hyphens, the minus sign and the en dash: T‑shirt and T-shirt, −5 and -5;
* any amount of white space, and one space.

It is not Unicode's compatibility folding (NFKC): ① is not 1, x² is not x2, ½ is not 1/2. Accents count (café is not
cafe), and so do letters of another script that look alike (Cyrillic В is not B). Case counts for labels, which are
names, but not for texts (`normalize_text`).
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache


def _folded_characters() -> dict[int, str]:
    """Make the table of characters that are replaced in addition to NFC."""
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
    """Return the normal form of a text, with its case and white space.

    >>> fold("Ｂ．“ｶﾞ”"), fold("①x²")
    ('B."ガ"', '①x²')
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text.translate(_FOLDED))


@lru_cache(maxsize=4096)  # few names, compared with each of many boxes
def normalize_label(text: str) -> str:
    """Return the form in which names are compared: normal form with single spaces; case counts.

    >>> normalize_label(" Red　car "), normalize_label("Red car") == normalize_label("red car")
    ('Red car', False)
    """
    return " ".join(fold(text).split())


def normalize_text(text: str) -> str:
    """Return the form in which texts are compared: normal form with single spaces, without case and final full stops.

    >>> normalize_text("  No   Defect. "), normalize_text("Ｎｏ　Defect。")
    ('no defect', 'no defect')
    """
    return " ".join((text.casefold() if text.isascii() else lower(text)).split()).rstrip(". 。")


def lower(text: str) -> str:
    """Return the normal form of a text without case, with its white space.

    >>> lower("ＳＴＲＡＳＳＥ") == lower("Straße")
    True
    """
    if text.isascii():
        return text.casefold()
    # Unicode 3.13, D145: case is folded between a decomposition and a composition
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", fold(text)).casefold())
