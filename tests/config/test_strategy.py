"""The texts of `sampling_strategy`: what they mean, and what is refused."""

import pytest

from vlm_r1.config import DataSource
from vlm_r1.config.load import load_config
from vlm_r1.config.strategy import Strategy, parse_strategy
from vlm_r1.errors import ConfigError

READ = [
    pytest.param("all", Strategy("all"), 7, id="all"),
    pytest.param("first:3", Strategy("first", 3), 3, id="first"),
    pytest.param("end:3", Strategy("last", 3), 3, id="the original's end"),
    pytest.param("last:3", Strategy("last", 3), 3, id="last"),
    pytest.param("random:3", Strategy("random", 3), 3, id="random"),
    pytest.param("random:9", Strategy("random", 9), 7, id="more than there are"),
    pytest.param("first:10%", Strategy("first", 10, True), 1, id="0.7 records are 1: rounded up, as in the original"),
    pytest.param("random:43%", Strategy("random", 43, True), 4, id="3.01 records are 4"),
    pytest.param("end:100%", Strategy("last", 100, True), 7, id="all by percentage"),
]


@pytest.mark.parametrize(("text", "strategy", "kept_of_7"), READ)
def test_what_a_strategy_means(text, strategy, kept_of_7):
    assert parse_strategy(text) == strategy
    assert strategy.count(7) == kept_of_7
    assert strategy.asks_for_more(7) == (text == "random:9")


def test_a_percentage_is_exact_for_whole_numbers():
    # in floats, 7 % of 100 records would be 7.000000000000001, and so 8
    assert [Strategy("first", n, True).count(100) for n in range(1, 101)] == list(range(1, 101))
    assert Strategy("first", 7, True).count(10**17) == 7 * 10**15


BAD = [
    pytest.param("", id="empty"),
    pytest.param("first", id="no number"),
    pytest.param("first:", id="colon without number"),
    pytest.param("first:0", id="zero"),
    pytest.param("first:0%", id="zero percent"),
    pytest.param("first:007", id="leading zeros"),
    pytest.param("random:-3", id="negative"),
    pytest.param("first:+3", id="plus"),
    pytest.param("first:120%", id="more than 100 percent"),
    pytest.param("first:0.5%", id="fraction"),
    pytest.param("first:1e3", id="exponent"),
    pytest.param("first:1_000", id="underscore"),
    pytest.param("first:1,000", id="comma"),
    pytest.param("first: 10", id="space inside"),
    pytest.param(" first:10", id="space before"),
    pytest.param("first:10 %", id="space before the percent sign"),
    pytest.param("first:10\n", id="line break"),
    pytest.param("first:%", id="percent sign alone"),
    pytest.param("first:10%%", id="two percent signs"),
    pytest.param("first:٣", id="an Arabic digit"),
    pytest.param("first:1０", id="a wide digit"),
    pytest.param("first:²", id="a raised digit"),
    pytest.param("first:10％", id="a wide percent sign"),
    pytest.param("first：10", id="a wide colon"),
    pytest.param("first:3:4", id="two numbers"),
    pytest.param("First:10", id="capital"),
    pytest.param("all:10", id="all with a number"),
    pytest.param("10%", id="number alone"),
    pytest.param("first:" + "9" * 19, id="longer than a 64-bit number"),
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_strategy_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"^sampling_strategy is \".*wanted all, first:N, last:N \(or end:N\)") as one:
        parse_strategy(text)
    assert str(one.value).isascii()
    with pytest.raises(ValueError, match="sampling_strategy"):
        DataSource(path="a.jsonl", sampling_strategy=text)


def test_a_recipe_names_the_option_and_suggests(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {train: [{path: a.jsonl, sampling_strategy: randon:1000}]}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r'data\.train\.0\.sampling_strategy.*Did you mean "random"\?'):
        load_config(recipe)
    recipe.write_text("data: {train: [{path: a.jsonl, sampling_strategy: 1000}]}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data\.train\.0\.sampling_strategy"):
        load_config(recipe)
    recipe.write_text(
        "output_dir: o\nmodel: {path: m}\ndata: {train: [{path: a.jsonl, sampling_strategy: random:10%}]}\n",
        encoding="utf-8",
    )
    assert load_config(recipe).data.train[0].sampling_strategy == "random:10%"
