"""Files as lazy sequences: equal to reading them whole, small in memory, split by ids."""

import json
import operator
import pickle
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from PIL import Image

from vlm_r1.config import DataSource
from vlm_r1.data.jsonl import read_jsonl
from vlm_r1.data.records import RecordFile, iter_records, recognise
from vlm_r1.data.rows import Problem
from vlm_r1.data.split import split_position
from vlm_r1.errors import DataError
from vlm_r1.types import Record


def row(i, **other):
    return {"id": f"r{i}", "problem": f"{i} + {i}?", "answer": 2 * i, **other}


def written(path, rows):
    lines = [item if isinstance(item, str) else json.dumps(item) for item in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return DataSource(path=str(path), task="math")


@pytest.fixture
def source(tmp_path):
    return written(tmp_path / "a.jsonl", [row(i) for i in range(10)])


def test_equal_to_reading_the_file_whole(source):
    whole, lazy = read_jsonl(source.path, task="math"), RecordFile(source)
    assert list(lazy) == whole
    assert [lazy[i] for i in (-1, 0, 5)] == [whole[-1], whole[0], whole[5]]
    assert list(lazy[2:9:3]) == whole[2:9:3]
    assert list(lazy[::-1][1:3]) == whole[::-1][1:3]
    assert (len(lazy), len(lazy[:3]), len(lazy[:None]), lazy.format) == (10, 3, 10, "easy_r1")
    with pytest.raises(IndexError):
        lazy[10]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_json_lists_and_lines(tmp_path, name):
    rows = [row(i, note="é") for i in range(3)]
    content = json.dumps(rows) if name == "a.json" else "\n".join(map(json.dumps, rows))
    (tmp_path / name).write_text(content, encoding="utf-8")
    found = RecordFile(DataSource(path=str(tmp_path / name), task="math"))
    assert [record.answer for record in found] == [0, 2, 4]
    assert found[1].source == f"{tmp_path / name}:2"


def test_processes_share_a_file(source):
    records = RecordFile(source)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(operator.getitem, records, 4).result() == records[4]
    assert list(pickle.loads(pickle.dumps(records))) == list(records)


def test_short_file_is_checked_whole_and_a_long_one_by_a_sample(tmp_path):
    rows = [row(i) for i in range(101)]
    rows[0], rows[33], rows[100] = "{", '{"id": 1}', row(100, image="gone.png")
    records = RecordFile(written(tmp_path / "a.jsonl", rows))
    assert [problem.source.rpartition(":")[2] for problem in records.check()] == ["1", "34", "101"]
    # 5 of 101 lines, evenly spaced: 1, 26, 51, 76, 101
    assert [problem.source.rpartition(":")[2] for problem in records.check(5)] == ["1", "101"]


def test_a_bad_row_that_was_not_checked_is_named_when_it_is_drawn(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [row(i, image="a.png") for i in range(10)]
    rows[3], rows[4] = row(3, image="gone.png"), "{"
    records = RecordFile(written(tmp_path / "a.jsonl", rows))
    assert records.check(2) == []
    assert records[5].answer == 10
    with pytest.raises(DataError, match=r"a\.jsonl:4: .*gone\.png: image not found"):
        records[3]
    with pytest.raises(DataError, match=r"a\.jsonl:5: not valid JSON"):
        records[4]


def test_after_a_whole_check_images_are_not_looked_at_again(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    records = RecordFile(written(tmp_path / "a.jsonl", [row(1, image="a.png")]))
    assert records.check() == []
    (tmp_path / "a.png").unlink()
    assert records[0].answer == 2


def test_many_lines_open_in_little_memory(tmp_path):
    n_rows = 50_000
    rows = [row(i, note="x" * 200) for i in range(n_rows)]
    rows[1] = "{"  # is not among the evenly spaced lines, so must not be parsed
    source = written(tmp_path / "a.jsonl", rows)
    tracemalloc.start()
    records = RecordFile(source)
    problems = records.check(n_lines=100)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(records), problems) == (n_rows, [])
    assert (tmp_path / "a.jsonl").stat().st_size > 10_000_000
    assert kept < 1_600_000  # 24 bytes a row are 1.2 MB
    assert peak < 3_200_000  # arrays are moved as they grow


def test_split_is_a_partition_by_id_and_the_same_everywhere(tmp_path):
    ids = [f"coco_{i}" for i in range(2000)]
    source = written(tmp_path / "a.jsonl", [{"id": own, "problem": "?", "answer": 1} for own in ids])
    parts = [
        [record.id for record in RecordFile(source.model_copy(update={"split_range": split}))]
        for split in ((0.0, 0.5), (0.5, 0.9), (0.9, 1.0))
    ]
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(ids)
    assert [own for own in ids if 0.5 <= split_position(own) < 0.9] == parts[1]
    # binomial(2000, 0.1): 200 ± 4 · √(2000 · 0.1 · 0.9) = 200 ± 54
    assert 146 <= len(parts[2]) <= 254
    shuffled = written(tmp_path / "b.jsonl", [{"problem": "?", "answer": 1, "id": own} for own in reversed(ids)])
    again = RecordFile(shuffled.model_copy(update={"split_range": (0.9, 1.0)}))
    assert {record.id for record in again} == set(parts[2])


def test_the_hash_is_for_ever():
    # blake2b of "17" with 8 bytes is 2039 8d13 8e4d 7bb4, and 0x2039 / 0x10000 ≈ 0.1259
    assert split_position("17") == pytest.approx(0.1259, abs=1e-4)
    assert all(0 <= split_position(str(i)) < 1 for i in range(1000))


def test_split_goes_by_line_number_without_an_id_and_keeps_bad_lines_in_one_part(tmp_path):
    source = written(tmp_path / "a.jsonl", [{"problem": "?", "answer": 1}, "{", {"problem": "?", "answer": 2}])
    found = [
        found
        for split in ((0.0, 0.3), (0.3, 1.0))
        for found in iter_records(source.model_copy(update={"split_range": split}))
    ]
    assert sorted(f.id if isinstance(f, Record) else f.source[-1] for f in found) == ["1", "2", "3"]


def test_split_that_leaves_nothing(source):
    with pytest.raises(DataError, match=r"split_range \[0\.0, 1e-09\] leaves none of its 10 records"):
        RecordFile(source.model_copy(update={"split_range": (0.0, 1e-9)}))


def test_iterating_yields_problems_in_their_place(tmp_path):
    source = written(tmp_path / "a.jsonl", [row(1), "{", row(2, image="gone.png")])
    kinds = [type(found) for found in iter_records(source)]
    assert kinds == [Record, Problem, Problem]
    assert [type(found) for found in iter_records(source, measure=None)] == [Record, Problem, Record]
    (problem,) = iter_records(DataSource(path=str(tmp_path / "none.jsonl")))
    assert problem == Problem(str(tmp_path / "none.jsonl"), "cannot read the data file: No such file or directory")


def test_recognise(source, tmp_path):
    assert recognise(source.path) == "easy_r1"
    unknown = written(tmp_path / "b.jsonl", [{"q": "?"}])
    with pytest.raises(DataError, match=r"b\.jsonl: the keys q fit no format\. Known: vlm_r1 \(conversations\)"):
        recognise(unknown.path)
