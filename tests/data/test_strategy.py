"""Which rows of a file a `sampling_strategy` keeps: in file order, and at random the same everywhere."""

import json
import shutil
from hashlib import blake2b

import pytest

from vlm_r1.config import DataSource
from vlm_r1.data.records import RecordFile
from vlm_r1.data.sources import load_sources


def written(path, ids, end="\n"):
    lines = [json.dumps({"id": own, "problem": "?", "answer": 1}) for own in ids]
    path.write_bytes((end.join(lines) + end).encode())
    return DataSource(path=str(path), task="vqa")


def chosen(source, strategy, seed=42):
    file = RecordFile(source.model_copy(update={"sampling_strategy": strategy}), seed=seed)
    return [record.id for record in file]


@pytest.mark.parametrize(
    ("strategy", "ids"),
    [
        pytest.param("all", "abcdefg", id="all"),
        pytest.param("first:2", "ab", id="first"),
        pytest.param("first:20%", "ab", id="20 % of 7 are 1.4, rounded up to 2"),
        pytest.param("end:2", "fg", id="end"),
        pytest.param("last:20%", "fg", id="last by percentage"),
        pytest.param("first:9", "abcdefg", id="more than there are"),
        pytest.param("last:9", "abcdefg", id="more of the last than there are"),
        pytest.param("random:7", "abcdefg", id="all at random are in file order"),
    ],
)
def test_which_rows_are_kept(tmp_path, strategy, ids):
    assert "".join(chosen(written(tmp_path / "a.jsonl", "abcdefg"), strategy)) == ids


def test_a_random_choice_by_hand(tmp_path):
    source = written(tmp_path / "a.jsonl", "abcdefg")
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines()
    least = sorted(lines, key=lambda line: blake2b(line, digest_size=8, key=b"42").digest())[:3]
    by_hand = [json.loads(line)["id"] for line in lines if line in least]
    assert chosen(source, "random:3") == by_hand
    assert len(by_hand) == 3


def test_a_random_choice_depends_on_seed_and_rows_alone(tmp_path):
    ids = [f"r{i}" for i in range(400)]
    source = written(tmp_path / "a.jsonl", ids)
    found = chosen(source, "random:100")
    assert found == sorted(found, key=ids.index)  # file order
    assert len(set(found)) == 100
    (tmp_path / "else").mkdir()
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "else/b.jsonl")
    assert chosen(DataSource(path=str(tmp_path / "else/b.jsonl"), task="vqa"), "random:25%") == found
    assert chosen(written(tmp_path / "c.jsonl", ids, end="\r\n"), "random:100") == found
    assert chosen(source, "random:100", seed=43) != found
    assert set(chosen(source, "random:50")) < set(found)  # a smaller choice is part of a larger one
    assert 30 < sum(int(one[1:]) < 200 for one in found) < 70  # both halves of the file: 50 expected, 4.3 deviation


def test_a_row_more_changes_the_choice_by_at_most_one(tmp_path):
    ids = [f"r{i}" for i in range(200)]
    before = set(chosen(written(tmp_path / "a.jsonl", ids), "random:50"))
    after = set(chosen(written(tmp_path / "a.jsonl", ["new", *ids]), "random:50"))
    assert len(before - after) <= 1


def test_equal_rows_are_all_counted(tmp_path):
    assert chosen(written(tmp_path / "a.jsonl", "aaaa"), "random:3") == ["a"] * 3


def test_after_the_split_and_broken_rows_count_too(tmp_path):
    source = written(tmp_path / "a.jsonl", [f"r{i}" for i in range(100)])
    half = source.model_copy(update={"split_range": (0.0, 0.5)})
    in_half = chosen(half, "all")
    assert chosen(half, "first:3") == in_half[:3]
    assert chosen(half, "last:50%") == in_half[len(in_half) // 2 :]  # rounded up
    with open(source.path, "a", encoding="utf-8") as file:
        file.write("{\n")
    broken = RecordFile(source.model_copy(update={"sampling_strategy": "last:2"}))
    assert [problem.source for problem in broken.check()] == [f"{source.path}:101"]


def test_a_list_in_json_and_the_numbers_of_rows_stay_those_of_the_file(tmp_path):
    rows = [{"problem": "?", "answer": i} for i in range(9)]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    listed, lines = (
        RecordFile(DataSource(path=str(tmp_path / name), task="vqa", sampling_strategy="random:4"), seed=1)
        for name in ("a.json", "a.jsonl")
    )
    assert [r.answer for r in listed] == [r.answer for r in lines]
    assert [r.source for r in lines] == [f"{tmp_path}/a.jsonl:{r.answer + 1}" for r in lines]


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        ("all", "7 records"),
        ("first:3", "3 of 7 records (first:3)"),
        ("random:50%", "4 of 7 records (random:50%)"),
        ("end:1000", "7 of 7 records (end:1000, but there are no more)"),
        ("first:100%", "7 of 7 records (first:100%)"),
    ],
)
def test_how_a_choice_is_said(tmp_path, strategy, text):
    source = written(tmp_path / "a.jsonl", "abcdefg").model_copy(update={"sampling_strategy": strategy})
    assert RecordFile(source).describe() == text


def test_the_hash_of_the_rows_is_that_of_the_chosen_ones(tmp_path):
    whole = written(tmp_path / "a.jsonl", "abcdefg")
    few = load_sources([whole.model_copy(update={"sampling_strategy": "first:3"})]).files[0]
    assert (
        few.hash_rows() == RecordFile(written(tmp_path / "b.jsonl", "abc")).hash_rows() != RecordFile(whole).hash_rows()
    )
