"""Hashes of rows notice what changed in the data, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vlm_r1.config.data import DataSource
from vlm_r1.data.records import RecordFile


def rows_hash(path: Path, **settings: object) -> str:
    return RecordFile(DataSource.model_validate({"path": str(path), **settings})).hash_rows()


def swap(lines: list[bytes]) -> list[bytes]:
    return [lines[1], lines[0], *lines[2:]]


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        pytest.param(lambda lines: lines, True, id="nothing"),
        pytest.param(lambda lines: [*lines, b"\n", b"  \n"], True, id="blank lines"),
        pytest.param(swap, False, id="order"),
        pytest.param(lambda lines: [lines[0].replace(b"0", b"1"), *lines[1:]], False, id="a digit, same size"),
        pytest.param(lambda lines: lines[:-1], False, id="a row less"),
        pytest.param(lambda lines: [*lines, lines[0]], False, id="a row more"),
    ],
)
def test_rows(change, equal, rec_files, tmp_path) -> None:
    lines = rec_files["train"].read_bytes().splitlines(keepends=True)
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"".join(change(lines)))
    assert (rows_hash(path) == rows_hash(rec_files["train"])) == equal


def test_only_the_rows_of_a_split_count(rec_files, tmp_path) -> None:
    path = tmp_path / "train.jsonl"
    shutil.copy(rec_files["train"], path)
    halves = [rows_hash(path, split_range=split) for split in ([0, 0.5], [0.5, 1])]
    assert halves[0] != halves[1]
    assert rows_hash(path, split_range=[0, 0.5]) == halves[0]


def test_rows_of_a_table_do_not_depend_on_where_their_pictures_are_kept(tmp_path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    row = {"image": {"bytes": b"\x89PNG", "path": None}, "problem": "what is <image>", "solution": "a"}
    pq.write_table(pa.Table.from_pylist([row, row]), tmp_path / "rows.parquet")
    source = DataSource(path=str(tmp_path / "rows.parquet"))
    one, two = (RecordFile(source, cache=tmp_path / name).hash_rows() for name in ("here", "there"))
    assert one == two
