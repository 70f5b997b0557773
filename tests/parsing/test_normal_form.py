"""One normal form for texts and labels; what it makes equal, and what it leaves apart."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.parsing.normal_form import fold, normalize_label, normalize_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("No Defect", "no defect", id="case"),
        pytest.param(" no \n  defect ", "no defect", id="white_space"),
        pytest.param("No Defect.", "no defect", id="full_stop"),
        pytest.param("STRASSE", normalize_text("Straße"), id="case_folding"),
        pytest.param(".5", ".5", id="leading_point_stays"),
        pytest.param("no!", "no!", id="other_punctuation_stays"),
        pytest.param("...", "", id="nothing_left"),
    ],
)
def test_normalize_text(text, expected):
    assert normalize_text(text) == expected


@given(st.text())
def test_normalizing_twice_changes_nothing(text):
    once = normalize_text(text)
    assert normalize_text(once) == once


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param("ＡＢＣ１２３", "ABC123", id="full_width_letters_and_digits"),
        pytest.param("５０％（約）", "50%(約)", id="full_width_signs"),
        pytest.param("ｶﾞｲﾄﾞ", "ガイド", id="half_width_kana"),
        pytest.param("red\u3000car", "red car", id="wide_space"),
        pytest.param("red\u00a0car", "red car", id="no_break_space"),
        pytest.param("cafe\u0301", "caf\u00e9", id="decomposed_accent"),
        pytest.param("\u1112\u1161\u11ab", "한", id="decomposed_hangul"),
        pytest.param("\u212b", "\u00c5", id="angstrom_sign"),
        pytest.param("don’t", "don't", id="apostrophe"),
        pytest.param("“stop”", '"stop"', id="curly_quotes"),
        pytest.param("«stop»", "„stop“", id="quotes_of_other_languages"),
        pytest.param("T‑shirt", "T-shirt", id="no_break_hyphen"),
        pytest.param("−5", "-5", id="minus_sign"),
        pytest.param("停止。", "停止", id="ideographic_full_stop"),
    ],
)
def test_the_same_text_in_other_code_points(a, b):
    assert normalize_text(a) == normalize_text(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param("①", "1", id="circled_digit"),
        pytest.param("x²", "x2", id="superscript"),
        pytest.param("H₂O", "H2O", id="subscript"),
        pytest.param("½", "1/2", id="fraction"),
        pytest.param("㎏", "kg", id="square_unit"),
        pytest.param("Ⅳ", "IV", id="roman_numeral"),
        pytest.param("™", "TM", id="trade_mark"),
        pytest.param("café", "cafe", id="accent"),
        pytest.param("В", "B", id="cyrillic_letter"),
        pytest.param("٣", "3", id="arabic_digit"),
        pytest.param("don't", "dont", id="apostrophe_missing"),
    ],
)
def test_what_no_canonical_rule_makes_equal_stays_apart(a, b):
    assert normalize_text(a) != normalize_text(b)
    assert normalize_label(a) != normalize_label(b)


def test_case_counts_for_labels_alone():
    assert normalize_label("Ｃat") == normalize_label("Cat") != normalize_label("cat")
    assert normalize_text("Cat") == normalize_text("cat")


@given(st.text())
def test_folding_is_stable_and_canonical(text):
    once = fold(text)
    assert fold(once) == once == unicodedata.normalize("NFC", once)
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))
