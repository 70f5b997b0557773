"""What a start says about its files: nothing of a whole file, and how many of how many of another."""

from __future__ import annotations

import json

from vlm_r1.config import DataSource
from vlm_r1.data.sources import load_sources
from vlm_r1.training.data_lines import held_out_lines, source_lines


def source(path, n, **settings):
    path.write_text("".join(json.dumps({"problem": "?", "answer": i}) + "\n" for i in range(n)), encoding="utf-8")
    return DataSource(path=str(path), task="vqa", **settings)


def test_only_files_of_which_records_are_left_out_have_a_line(tmp_path):
    train = load_sources(
        [source(tmp_path / "a.jsonl", 5), source(tmp_path / "b.jsonl", 1200, sampling_strategy="first:1100")]
    )
    assert source_lines(train) == [f"data         {tmp_path}/b.jsonl: 1,100 of 1,200 records (first:1100)"]
    held = {"val": load_sources([source(tmp_path / "c.jsonl", 4, sampling_strategy="last:9")])}
    assert held_out_lines(train, held) == [
        "held out     val: 4 of 4 records (last:9, but there are no more), of which 0 show pictures that are trained on"
    ]
