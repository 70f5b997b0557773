"""Which files are compared, what is said if that is not clear, and damaged files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testing_results import boxes, write, write_of_training
from vlm_r1.errors import DataError, VlmR1Error
from vlm_r1.evaluation.compare_files import read_results, short_labels


def run_with(folder: Path, *names: str) -> Path:
    for name in names:
        write_of_training(folder / "eval", name, boxes([80, 20]))
    return folder


def labels(*places: Path) -> list[str]:
    return [result.label for result in read_results(places)]


def test_files_samples_and_folders_name_the_same_result(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", "val", boxes([80])), write(tmp_path / "two", "val", boxes([20]))
    beside = two.with_suffix(".samples.jsonl")
    for places in ([one, two], [one, beside], [one.parent, two.parent]):
        results = read_results(places)
        assert [result.path for result in results] == [one, two]
        assert [result.label for result in results] == ["one", "two"]
        assert [result.samples[0].text for result in results] == ["[0, 0, 100, 80]", "[0, 0, 100, 20]"]


def test_a_run_alone_is_before_and_after_its_training(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", "before-val", "after-val", "step-000060-val", "my-own")
    assert labels(run) == labels(run / "eval") == ["before-val", "after-val"]


def test_several_runs_are_after_their_trainings(tmp_path: Path) -> None:
    runs = [run_with(tmp_path / name, "before-val", "after-val", "step-000060-val") for name in "abc"]
    assert labels(*runs) == ["a", "b", "c"]


def test_a_run_with_several_sets_lists_the_choices_as_commands(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", "before-val", "after-val", "before-test", "after-test", "before-half")
    with pytest.raises(DataError, match="before and after training of 2 sets") as refused:
        read_results([run])
    assert f"\n  vlm-r1 compare {run}/eval/before-val.json {run}/eval/after-val.json" in str(refused.value)
    assert "half" not in str(refused.value)
    with pytest.raises(DataError, match=r"holds 5 results\. Name one of:") as refused:
        read_results([run, run])
    assert f"\n  {run}/eval/after-test.json" in str(refused.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(["val"], "is one result; wanted at least two", id="one result"),
        pytest.param(["before-val"], "is one result; wanted at least two", id="a run that has not ended"),
        pytest.param(["a", "b"], r"name two of:\n  .*a\.json\n  .*b\.json", id="several without a training"),
    ],
)
def test_a_folder_alone_without_before_and_after(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_results([run_with(tmp_path, *names)])


def test_mistaken_places(tmp_path: Path) -> None:
    one = write(tmp_path, "one", boxes([80]))
    empty = tmp_path / "empty"
    empty.mkdir()
    for place, message in {
        tmp_path / "two.json": r"two\.json: has no result",
        tmp_path / "two.samples.jsonl": r"has no result two\.json",
        empty: "empty: holds no result",
        one: r"one\.json: is given twice",
    }.items():
        with pytest.raises(DataError, match=message):
            read_results([one, place])
    with pytest.raises(DataError, match="is one result; wanted at least two"):
        read_results([one])


@pytest.mark.parametrize(
    ("result", "samples", "message"),
    [
        pytest.param("{", None, r"two\.json: cannot be read as JSON", id="no JSON"),
        pytest.param("[]", None, r"two\.json: wanted a JSON object, got list", id="no object"),
        pytest.param("{}", None, r"two\.json: is no result of an evaluation", id="no metrics"),
        pytest.param('{"metrics": [1]}', None, r"two\.json: is no result of an evaluation", id="metrics are a list"),
        pytest.param('{"metrics": {}, "protocol": "refcoco"}', None, "is no result", id="a protocol that is a name"),
        pytest.param("[" * 100_000, None, r"two\.json: cannot be read as JSON", id="nested deeply"),
        pytest.param(None, "", r"two\.samples\.jsonl: holds no answers", id="no answers"),
        pytest.param(None, "{}\n", r"two\.samples\.jsonl:1: ", id="no sample"),
        pytest.param(None, "\x00\xff", r"two\.samples\.jsonl:1: is not JSON", id="bytes"),
    ],
)
def test_damaged_results_are_named(tmp_path: Path, result: str | None, samples: str | None, message: str) -> None:
    one, two = write(tmp_path, "one", boxes([80])), write(tmp_path, "two", boxes([80]))
    if result is not None:
        two.write_text(result)
    if samples is not None:
        two.with_suffix(".samples.jsonl").write_text(samples)
    with pytest.raises(VlmR1Error, match=message):
        read_results([one, two])


def test_a_result_whose_answers_are_gone(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one", boxes([80])), write(tmp_path, "two", boxes([80]))
    two.with_suffix(".samples.jsonl").unlink()
    with pytest.raises(DataError, match=r"two\.json: lacks the answers\. Wanted two\.samples\.jsonl beside it"):
        read_results([one, two])
    os.mkfifo(two.with_suffix(".samples.jsonl"))
    with pytest.raises(DataError, match="named pipe"):
        read_results([one, two])


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        pytest.param(["a/x.json", "b/x.json"], ["a", "b"], id="folders"),
        pytest.param(["a/x.json", "a/y.json"], ["x", "y"], id="names"),
        pytest.param(["a/eval/x.json", "b/eval/y.json"], ["a/eval/x", "b/eval/y"], id="both"),
        pytest.param(["x.json", "a/x.json"], ["x", "a/x"], id="one lies deeper"),
        pytest.param(["x.json", "x/x.json"], ["x", "x/x"], id="the same names"),
        pytest.param(["a/v1.0.json", "a/v1.5.json"], ["v1.0", "v1.5"], id="dots"),
    ],
)
def test_labels_are_what_differs(paths: list[str], expected: list[str]) -> None:
    assert short_labels([Path(path) for path in paths]) == expected
