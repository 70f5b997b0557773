"""The log of answers: what was written is read, a torn end is dropped, another question is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm_r1.errors import CheckpointError, DataError
from vlm_r1.evaluation.answers import AnswerLog

HEADER = {"protocol": {"task": "rec"}, "model": "abc"}


def log(folder: Path, **header: object) -> AnswerLog:
    return AnswerLog(folder, "val", {**HEADER, **header})


def test_processes_write_files_of_their_own_and_read_all(tmp_path: Path) -> None:
    one, two = log(tmp_path), log(tmp_path)
    one.append(0, [(0, [{"text": "a"}]), (2, [{"text": "\ud83d half"}])])
    two.append(1, [(1, [{"text": "b"}, {"text": "c"}])])
    one.append(0, [(4, [])])
    assert log(tmp_path).read() == {
        0: [{"text": "a"}],
        1: [{"text": "b"}, {"text": "c"}],
        2: [{"text": "? half"}],
        4: [],
    }
    assert [path.name for path in one.paths] == ["val.answers-0.jsonl", "val.answers-1.jsonl"]
    one.remove()
    assert not one.paths


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_asked_again(cut: int, tmp_path: Path) -> None:
    written = log(tmp_path)
    written.append(0, [(0, [{"text": "a"}]), (1, [{"text": "b"}])])
    path = written.path_of(0)
    path.write_bytes(path.read_bytes()[:-cut])
    assert log(tmp_path).read() == {0: [{"text": "a"}]}
    written.mend(0)
    written.append(0, [(1, [{"text": "again"}])])
    assert log(tmp_path).read() == {0: [{"text": "a"}], 1: [{"text": "again"}]}


def test_a_torn_header_is_written_again(tmp_path: Path) -> None:
    written = log(tmp_path)
    written.path_of(0).write_text('{"header": {"pro')
    assert written.read() == {}
    written.mend(0)
    written.append(0, [(0, [])])
    assert log(tmp_path).read() == {0: []}


def test_damage_before_the_end_is_named(tmp_path: Path) -> None:
    written = log(tmp_path)
    written.append(0, [(0, []), (1, [])])
    path = written.path_of(0)
    path.write_text(path.read_text().replace('{"place": 0', '{"plac: 0'))
    with pytest.raises(DataError, match=r"val\.answers-0\.jsonl:2: is damaged.*--out, or delete"):
        written.read()


def test_another_model_or_protocol_is_refused_with_its_keys(tmp_path: Path) -> None:
    log(tmp_path).append(0, [(0, [])])
    with pytest.raises(DataError, match=r"model: 'abc' and 'xyz'"):
        log(tmp_path, model="xyz").read()
    with pytest.raises(DataError, match=r"protocol\.task: 'rec' and 'ovd'"):
        log(tmp_path, protocol={"task": "ovd"}).read()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "val.answers-0.jsonl").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        log(tmp_path).append(0, [(0, [])])
