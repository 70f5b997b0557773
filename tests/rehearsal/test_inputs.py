"""The records of a rehearsal: evenly taken, on the lines of the user's own file; and the texts of its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from vlm_r1.config.load import make_config, validate
from vlm_r1.errors import DataError
from vlm_r1.rehearsal.inputs import corpus, templates_of, write_model, write_records
from vlm_r1.training.run import load_checked_records


def rows_of(n: int, **more: Any) -> list[dict[str, Any]]:
    return [{"problem": f"how much is {k} and {k}?", "answer": str(2 * k), **more} for k in range(1, n + 1)]


def config_of(path: Path, **source: Any):
    data = {"train": [{"path": str(path), "task": "vqa", **source}], "template": "direct"}
    return validate({"output_dir": "x", "model": {"path": "m"}, "data": data}, "recipe")


def written(config, folder: Path) -> tuple[dict[str, Any], list[bytes]]:
    records, held_out = load_checked_records(config)
    options = write_records(config, records, held_out, folder)
    return options, Path(options["data.train.0.path"]).read_bytes().splitlines()


def test_evenly_from_the_first_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(map(json.dumps, rows_of(93))))
    _, lines = written(config_of(path), tmp_path / "out")
    numbers = [n for n, line in enumerate(lines, start=1) if line]
    assert numbers == [1 + 4 * k for k in range(24)], "23 steps of 92 / 23 = 4 from 1 to 93"
    assert [json.loads(lines[n - 1])["answer"] for n in numbers] == [str(2 * n) for n in numbers]


def test_a_list_over_many_lines_becomes_a_row_on_each_line(tmp_path: Path) -> None:
    path = tmp_path / "sums.json"
    path.write_text(json.dumps(rows_of(3), indent=2))
    options, lines = written(config_of(path, split_range=[0.0, 0.999999]), tmp_path / "out")
    assert [json.loads(line) for line in lines] == rows_of(3)
    assert Path(options["data.train.0.path"]).name == "sums.json.jsonl"
    assert options["data.train.0.split_range"] == (0.0, 1.0), "the rows are already chosen"
    assert options["data.train.0.image_root"] == str(tmp_path)


def test_own_columns_stay_own_columns(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps({"q": row["problem"], "a": row["answer"]}) for row in rows_of(3)))
    config = config_of(path, columns={"problem": "q", "answer": "a"})
    options, _ = written(config, tmp_path / "out")
    assert "data.train.0.format" not in options, "columns and a format exclude one another"
    again, _ = load_checked_records(make_config(config, options))
    assert [record.answer for record in again] == ["2", "4", "6"]


def test_rows_that_a_reward_model_judges_are_left_out(tmp_path: Path) -> None:
    judge = 'reward_model(path="org/judge")'
    rows = rows_of(4)
    for row in rows[:3]:
        row["accu_reward_method"] = judge
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    config = config_of(path)
    config = config.model_copy(update={"data": config.data.model_copy(update={"allowed_rewards": [judge]})})
    _, lines = written(config, tmp_path / "out")
    assert [bool(line) for line in lines] == [False, False, False, True]
    path.write_text("\n".join(map(json.dumps, rows[:3])))
    with pytest.raises(DataError, match="no record can be rehearsed"):
        written(config, tmp_path / "other")


def test_the_tokenizer_knows_the_words_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(map(json.dumps, rows_of(40))))
    config = config_of(path, system_prompt="Be a calculator.")
    records, held_out = load_checked_records(config)
    texts = list(corpus(records, held_out, templates_of(config)))
    assert texts[:3] == ["how much is 1 and 1?", "Be a calculator.", "<think></think><answer>2</answer>"]
    tokenizer = AutoTokenizer.from_pretrained(write_model("qwen2_vl", tmp_path / "model", texts, seed=0))
    assert len(tokenizer.tokenize("how much is")) == 3
