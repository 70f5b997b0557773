"""Mathematics is compared as a whole: as people and models write it, and never by a part."""

import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.parsing.limits import MAX_EXPRESSION_CHARS
from vlm_r1.rewards.math import same_mathematics, values_read
from vlm_r1.rewards.math_text import read


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        pytest.param("2√{3}", "2\\sqrt{3}", id="root_sign_with_braces"),
        pytest.param("2√{3}", "\\boxed{2\\sqrt{3}}", id="root_sign_and_box"),
        pytest.param("2√{3}", "2sqrt(3)", id="root_typed"),
        pytest.param("2√{3}", "3.4641016", id="root_as_a_decimal"),  # 2 · 1.7320508…
        pytest.param("\\frac{√{3}}{2}", "√3/2", id="root_in_a_fraction"),
        pytest.param("√12", "2√3", id="root_of_two_digits"),
        pytest.param("\\sqrt{x+1}", "√(x+1)", id="root_of_a_bracket"),
        pytest.param("4$\\sqrt{3}$", "4\\sqrt{3}", id="formula_in_part_between_dollars"),
        pytest.param("1/2", "½", id="fraction_sign"),
        pytest.param("5/2", "2½", id="mixed_fraction_sign"),
        pytest.param("5/2", "2 1/2", id="mixed_fraction_typed"),
        pytest.param("12", "3×4", id="times_sign"),
        pytest.param("6", "2·3", id="middle_dot"),
        pytest.param("3", "6÷2", id="division_sign"),
        pytest.param("-5", "−5", id="minus_sign"),
        pytest.param("x^2+1", "x²+1", id="superscript"),
        pytest.param("x^{10}", "x¹⁰", id="superscripts"),
        pytest.param("x_1=2", "x₁=2", id="subscript"),
        pytest.param("x\\geq 2", "x ≥ 2", id="order_sign"),
        pytest.param("(-\\infty, 2]", "(−∞, 2]", id="infinity_sign"),
        pytest.param("60^\\circ", "60°", id="degree_sign"),
        pytest.param("60°", "60 degrees", id="degrees_in_words"),
        pytest.param("1024", "2**10", id="power_as_programs_write_it"),
        pytest.param("6.63e-34", "6.63\\times 10^{-34}", id="exponent"),
        pytest.param("$2\\mathrm{e}$", "2e", id="upright_e"),
        pytest.param("$3 - \\mathrm{i}$", "3-i", id="upright_i"),
        pytest.param("73", "**73**", id="bold"),
        pytest.param("73", "*73*", id="italic"),
        pytest.param("12", "**12 cm**", id="bold_with_a_unit"),
        pytest.param("73", "Final Answer: **73**", id="bold_after_words"),
        pytest.param("4πcm", "4\\pi", id="unit_behind_pi"),
        pytest.param("9πcm^{2}", "9π", id="square_unit_behind_pi"),
        pytest.param("16π平方米", "16π", id="chinese_unit_behind_pi"),
        pytest.param("27cm^{2}", "27", id="square_unit"),
        pytest.param("\\frac{4}{3}米", "4/3", id="chinese_unit_behind_a_fraction"),
        pytest.param("\\frac{1}{2}cm²", "1/2", id="square_unit_behind_a_fraction"),
        pytest.param("12\\text{ cm}", "12", id="unit_as_text"),
        pytest.param("9.8\\mathrm{~m}/\\mathrm{s}^2", "9.8", id="upright_units"),
        pytest.param("10 m/s", "10", id="unit_of_two"),
        pytest.param("100√3m", "100√3", id="unit_of_a_letter"),
        pytest.param("3", "3个", id="counter"),
        pytest.param("12", "12(cm²)", id="unit_in_brackets"),
        pytest.param("25㎡", "25", id="unit_of_one_sign"),
        pytest.param("30℃", "30", id="degrees_celsius"),
        pytest.param("5 kg·m/s", "5", id="unit_of_three"),
        pytest.param("10\\ \\Omega", "10 Ω", id="ohm"),
        pytest.param("3mn", "3nm", id="factors_that_are_a_unit_elsewhere"),
        pytest.param("73", '"73"', id="quoted"),
        pytest.param("2√3", "2*3^(1/2)", id="power_of_one_half"),
        pytest.param("6.63×10^-34", "6.63 x 10^-34", id="times_typed_as_x"),
        pytest.param("3.14", "约为3.14", id="chinese_about"),
        pytest.param("x>3且x≠4", "x > 3 and x ≠ 4", id="chinese_and"),
        pytest.param("73", "**Answer**: $\\boxed{73}$", id="bold_word_and_box"),
        pytest.param("5", "$5", id="price"),
        pytest.param("1000", "1 000", id="thousands_by_spaces"),
        pytest.param("1000", "1\\,000", id="thousands_by_thin_spaces"),
        pytest.param("1,234.5", "1234.5", id="thousands_by_commas"),
        pytest.param("6 or 2 or 10", "2, 6, 10", id="list_in_another_order"),
        pytest.param("x=3 or x=4", "3, 4", id="two_solutions"),
        pytest.param("$$7$$ $$10$$", "7\n10", id="two_formulas"),
        pytest.param("9\n19\n5\n9", "9; 19; 5; 9", id="lines"),
        pytest.param("60°; 60°; 120°.", "60; 60; 120", id="semicolons"),
        pytest.param("x < −2 or 0 < x < 1.", "$x<-2$ or $0<x<1$", id="two_inequalities"),
        pytest.param("3或4", "4或3", id="chinese_or"),
        pytest.param("\\pm 2", "2 or -2", id="plus_or_minus"),
        pytest.param("\\{1,2\\}", "2, 1", id="set"),
        pytest.param("5", "The value of x is 5.", id="predicate"),
        pytest.param("5", "AB = 5 cm", id="length_of_a_side"),
        pytest.param("5", "Area = 5 cm^2", id="named_quantity"),
        pytest.param("12", "There are 12 apples.", id="sentence_with_one_number"),
        pytest.param("5", "答案是5", id="chinese_sentence"),
        pytest.param("2xy+ab", "ab+2xy", id="letters_side_by_side"),
        pytest.param("$xy$", "$yx$", id="factors"),
        pytest.param(
            "\\begin{pmatrix}1 & 2\\\\ 3 & 4\\end{pmatrix}",
            "\\boxed{\n\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}}",
            id="matrix",
        ),
        pytest.param("No solution", "no solution.", id="words"),
        pytest.param("\\text{Evelyn}", "Evelyn", id="name"),
        pytest.param("5 \\foo 3", "$5 \\foo 3$", id="the_same_text_that_nobody_reads"),
        pytest.param("\\frac{1}{3}", "0.333333", id="six_decimals"),
        pytest.param("\\frac{1}{12}", "0.083333", id="six_decimals_of_a_smaller_number"),
        pytest.param("10^{-20}", "1.0e-20", id="tiny_numbers"),
        pytest.param("3!", "6", id="factorial"),
        pytest.param("\\log_2 8", "3", id="logarithm"),
    ],
)
def test_the_same_in_other_words(gold, answer):
    assert same_mathematics(gold, answer)
    assert same_mathematics(answer, answer)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        pytest.param("2√{3}", "2", id="factor_before_a_root"),
        pytest.param("2√{3}", "2.0", id="factor_as_a_decimal"),
        pytest.param("16π平方米", "16", id="factor_before_pi"),
        pytest.param("4$\\sqrt{3}$", "4", id="number_before_the_dollars"),
        pytest.param("6 or 2 or 10", "10", id="last_of_a_list"),
        pytest.param("6 or 2 or 10", "6", id="first_of_a_list"),
        pytest.param("6 or 2 or 10", "6 or 2", id="two_of_a_list"),
        pytest.param("$$7$$ $$10$$", "10", id="last_of_two_formulas"),
        pytest.param("$$7$$ $$10$$", "10; 7", id="two_formulas_exchanged"),
        pytest.param("9\n19\n5\n9", "9", id="one_of_the_lines"),
        pytest.param("60°; 60°; 120°.", "120", id="last_of_the_angles"),
        pytest.param("x < −2 or 0 < x < 1.", "1", id="number_of_an_inequality"),
        pytest.param("x=3 or x=4", "4", id="one_of_two_solutions"),
        pytest.param("\\pm 2", "2", id="one_sign"),
        pytest.param("(1,2)", "2", id="one_coordinate"),
        pytest.param("3", "3 or 4", id="answer_with_a_spare_value"),
        pytest.param("6", "(1) 5 (2) 6", id="numbered_answers"),
        pytest.param("6", "1. 5\n2. 6", id="numbered_lines"),
        pytest.param("6", "A: 5, B: 6", id="named_answers"),
        pytest.param("2+3i", "2-3i", id="conjugate"),
        pytest.param("3√5-2", "3√5", id="first_term"),
        pytest.param("4", "3 cm, 4 cm", id="answer_with_two_lengths"),
        pytest.param("20", "3 hours 20 minutes", id="hours_and_minutes"),
        pytest.param("2", "$2\\mathrm{e}$", id="upright_e"),
        pytest.param("$2\\mathrm{e}$", "2", id="upright_e_in_the_gold"),
        pytest.param("$3 - \\mathrm{i}$", "$3 + \\mathrm{i}$", id="another_sign_of_i"),
        pytest.param("$\\sqrt{2", "2", id="unclosed_dollar_and_brace"),
        pytest.param("\\frac{1}{2", "1", id="unclosed_fraction"),
        pytest.param("2 \\foo", "2", id="unknown_command"),
        pytest.param("2x", "2", id="factor_of_a_variable"),
        pytest.param("2", "2 times x", id="product_in_words"),
        pytest.param("5", "5 million", id="millions"),
        pytest.param("3", "3万", id="chinese_ten_thousands"),
        pytest.param("5", "not 5", id="negated"),
        pytest.param("5", "at least 5", id="bound"),
        pytest.param("5", "In 3 steps, 5", id="two_numbers_in_prose"),
        pytest.param("204_5", "204", id="another_base"),
        pytest.param("1, 2, \\ldots", "1, 2", id="and_so_on"),
        pytest.param("f'(x)=2x", "f(x)=2x", id="derivative"),
        pytest.param("3", "1 2", id="digits_apart"),
        pytest.param("5", "−5", id="another_sign"),
        pytest.param("73", "**74**", id="bold"),
        pytest.param("$6.63\\times10^{-34}$", "$1.0\\times10^{-20}$", id="tiny_numbers"),
        pytest.param("6.63e-34", "6.64e-34", id="tiny_numbers_near_each_other"),
        pytest.param("$\\frac{1}{2^{99}}$", "$\\frac{1}{2^{98}}$", id="tiny_fractions"),
        pytest.param("0", "1e-20", id="nearly_nothing"),
        pytest.param("\\{1, 10^{-20}\\}", "\\{1, 10^{-30}\\}", id="tiny_number_in_a_set"),
        pytest.param("10^{-20}x", "10^{-30}x", id="tiny_coefficient"),
        pytest.param("0.001234", "0.0012344", id="small_numbers"),
        pytest.param("No solution", "5", id="words"),
        pytest.param("cat", "act", id="letters_of_a_word"),
    ],
)
def test_never_by_a_part(gold, answer):
    assert not same_mathematics(gold, answer)


@pytest.mark.parametrize(
    ("gold", "values"),
    [
        pytest.param("2√{3}", ("2\\sqrt{3}",), id="formula"),
        pytest.param("60°; 60°", ("60^{\\circ}", "60^{\\circ}"), id="two_values"),
        pytest.param("No solution", None, id="words"),
        pytest.param("3 \\foo 4", None, id="unknown_command"),
        pytest.param("$\\frac{1}{2", None, id="unclosed"),
        pytest.param("1" * (MAX_EXPRESSION_CHARS + 1), None, id="too_long"),
    ],
)
def test_values_read(gold, values):
    assert values_read(gold) == values


PIECES = [
    *("$", "\\frac{", "}", "{", "(", ")", "√", "²", "or ", ";", ",", "1 000", "x", "cm", "**", "\\boxed{", "is ", "万"),
    *("answer: ", "\\text{", "e-3", "½", "\n", "'", "\\", " ", "=", "3"),
]


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=20).map("".join)))
def test_any_text_is_read_or_not(text):
    reading = read(text)
    assert reading is None or all(formula.strip() for formula in reading.formulas)


@pytest.mark.parametrize("piece", [*PIECES, *string.punctuation, "ab ", "1,", "1 ", "√(", "^{2"])
def test_the_longest_formula_is_read_in_no_time(piece):
    text = (piece * MAX_EXPRESSION_CHARS)[:MAX_EXPRESSION_CHARS]
    start = time.process_time()
    read(text)
    read("1" + text[2:] + "x")
    assert time.process_time() - start < 0.5
