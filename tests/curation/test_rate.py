"""Ratings by hand, and a rating that is killed and goes on."""

import json
from dataclasses import replace

import pytest

from vlm_r1.curation.rate import Rating, continue_ratings, hash_record
from vlm_r1.errors import DataError
from vlm_r1.types import Record

RECORDS = [Record(str(i), "vqa", "?", (), "x", source=f"a.jsonl:{i}") for i in range(1, 6)]
SETTINGS = {"n": 2, "model": "m"}


def rated(record):
    return Rating(record.source, hash_record(record), (0.0, int(record.id) / 4))


def _rater(calls):
    def rate(records):
        for record in records:
            calls.append(record.source)
            yield [rated(record)]

    return rate


def test_pass_rate_and_mean_by_hand():
    rating = Rating("a.jsonl:1", "5f", (1.0, 0.5, 0.25, 0.0))
    assert (rating.pass_rate(0.5), rating.pass_rate(0.6), rating.mean_accuracy) == (2 / 4, 1 / 4, 1.75 / 4)


def test_a_record_whose_reward_leaves_it_out_has_no_rate():
    assert Rating("a.jsonl:1", "5f", ()).pass_rate(0.5) is None
    assert Rating("a.jsonl:1", "5f", (1.0,)).pass_rate(0.5) == 1.0  # the control: of those that were judged


def test_ratings_are_kept_and_not_made_again(tmp_path):
    path, calls = tmp_path / "r.jsonl", []
    first = [r for part in continue_ratings(path, SETTINGS, RECORDS, _rater(calls)) for r in part]
    again = [r for part in continue_ratings(path, SETTINGS, RECORDS, _rater(calls)) for r in part]
    assert first == again == [rated(r) for r in RECORDS]
    assert calls == [r.source for r in RECORDS]


@pytest.mark.parametrize("torn", ["", '{"source": "a.jso', '{"source"'])
def test_a_killed_rating_goes_on_where_it_was(tmp_path, torn):
    path, calls = tmp_path / "r.jsonl", []
    whole = [r for part in continue_ratings(path, SETTINGS, RECORDS, _rater([])) for r in part]
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:3]) + "\n" + torn)  # the settings and two ratings
    resumed = [r for part in continue_ratings(path, SETTINGS, RECORDS, _rater(calls)) for r in part]
    assert resumed == whole
    assert calls == [r.source for r in RECORDS[2:]]
    assert path.read_text().splitlines() == lines


@pytest.mark.parametrize(
    ("settings", "records", "message"),
    [
        pytest.param(
            {"n": 3, "model": "m"}, RECORDS, r"made with other settings: .*\"n\": 2.*; now .*\"n\": 3", id="n"
        ),
        pytest.param(SETTINGS, RECORDS[::-1], r"rates a\.jsonl:1 where the data has a\.jsonl:5", id="other_records"),
        pytest.param(SETTINGS, RECORDS[:3], "rates 5 records, but the data has 3", id="fewer_records"),
        pytest.param(
            SETTINGS,
            [*RECORDS[:2], replace(RECORDS[2], problem="??"), *RECORDS[3:]],
            r"a\.jsonl:3 has changed since it was rated",
            id="a_changed_record",
        ),
    ],
)
def test_ratings_of_something_else_are_refused(tmp_path, settings, records, message):
    path = tmp_path / "r.jsonl"
    list(continue_ratings(path, SETTINGS, RECORDS, _rater([])))
    before = path.read_text()
    with pytest.raises(DataError, match=message):
        list(continue_ratings(path, settings, records, _rater([])))
    assert path.read_text() == before


def test_a_file_without_a_whole_line_is_begun_again(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"settings"')
    ratings = [r for part in continue_ratings(path, SETTINGS, RECORDS, _rater([])) for r in part]
    assert len(ratings) == 5
    assert json.loads(path.read_text().splitlines()[0]) == {"settings": SETTINGS}


@pytest.mark.parametrize(
    "line", ["{", "[]", "", "{}", '{"source": "a.jsonl:2", "accuracies": ["1"]}', "[" * 9000, "NULL"]
)
def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_lost(line, tmp_path):
    path = tmp_path / "r.jsonl"
    list(continue_ratings(path, SETTINGS, RECORDS, _rater([])))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]) + "\n")
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"r\.jsonl:3: wanted a rating"):
        list(continue_ratings(path, SETTINGS, RECORDS, _rater([])))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"\xff\xfe", b"mine", b"mine\n"])
def test_a_file_that_is_no_rating_is_left_alone(content, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"r\.jsonl: (cannot be read|made with other settings)"):
        list(continue_ratings(path, SETTINGS, RECORDS, _rater([])))
    assert path.read_bytes() == content
