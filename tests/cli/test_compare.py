"""`vlm-r1 compare` as a user runs it: what it prints in 80 columns, the file that it writes, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from testing_results import boxed, boxes, write, write_of_training
from vlm_r1.cli.main import main

FIRST = [80, 20, 20, 20, 20, 20, 70, 80]
OTHER = [80, 60, 70, 80, 90, 20, 40, 85]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_tables_and_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write(tmp_path, "one", boxes(FIRST)), write(tmp_path, "two", boxes(OTHER))
    out = tmp_path / "found.json"
    assert main(["compare", str(one), str(two), "--json", str(out)]) == 0
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines()]
    assert [*"AB"] == [line[0] for line in lines[:2]]
    assert "accuracy_iou50: B − A is +37.5 points" in text
    assert "p = 0.38; 4 better, 1 worse, 3 equal" in text
    assert ["metric", "A", "B", "B", "−", "A", "95", "%", "interval", "p", "better", "worse", "equal"] in lines
    (row,) = [line for line in lines if line[:1] == ["accuracy_iou50"] and len(line) == 11]
    assert row[:4] == ["accuracy_iou50", "37.5", "75.0", "+37.5"]
    assert row[-4:] == ["0.38", "4", "1", "3"]
    assert ["1", "[0,", "0,", "100,", "20]", "[0,", "0,", "100,", "60]", "[0,", "0,", "100,", "100]"] in lines
    assert max(map(len, text.splitlines()[3:-3])) <= 80, "tables"
    found = json.loads(out.read_text())
    assert found["against_first"][0]["metrics"]["accuracy_iou50"]["better"] == 4
    assert len(found["against_first"][0]["better"]) == 4


def test_several_results_and_clusters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        write(tmp_path, f"result{percent}", [boxed(number, percent, image=f"{number // 2}.jpg") for number in range(8)])
        for percent in (20, 80, 95)
    ]
    assert main(["compare", *map(str, paths)]) == 0
    text = capsys.readouterr().out
    assert text.count("8 records of 4 images; accuracy_iou50: B − A is +100.0 points") == 2
    assert "signs of whole images" in text
    assert "McNemar" not in text


def test_a_run_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_of_training(tmp_path / "run" / "eval", "before-val", boxes(FIRST))
    write_of_training(tmp_path / "run" / "eval", "after-val", boxes(OTHER))
    assert main(["compare", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.startswith("A  before-val  (")


def test_equal_results_have_no_changes_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write(tmp_path, "one", boxes(FIRST)), write(tmp_path, "two", boxes(FIRST))
    assert main(["compare", str(one), str(two)]) == 0
    text = capsys.readouterr().out
    assert "B − A is 0.0 points, 95 % interval 0.0 to 0.0, p = 1; 0 better, 0 worse, 8 equal" in text
    assert "changes of" not in text


def test_what_a_model_writes_does_nothing_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = boxes([20], record_id="\x1b[31m[red]")
    other = boxes([80], record_id="\x1b[31m[red]")
    one, two = write(tmp_path, "one", first), write(tmp_path, "two", other)
    assert main(["compare", str(one), str(two)]) == 0
    assert "\x1b" not in (text := capsys.readouterr().out)
    assert "[red]" in text


def test_protocols_that_differ_are_an_error_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write(tmp_path, "one", boxes(FIRST)), write(tmp_path, "two", boxes(OTHER), inclusive=True)
    assert main(["compare", str(one), str(two)]) == 2
    printed = capsys.readouterr()
    assert "inclusive: False and True" in printed.err
    assert not printed.out


def test_inputs_are_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write(tmp_path, "one", boxes(FIRST)), write(tmp_path, "two", boxes(OTHER))
    for path in (one, two.with_suffix(".samples.jsonl")):
        before = path.read_bytes()
        assert main(["compare", str(one), str(two), "--json", str(path)]) == 2
        assert "would replace" in capsys.readouterr().err
        assert path.read_bytes() == before


def test_a_negative_seed_is_an_error_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path), "--seed", "-1"]) == 2
    assert "--seed -1: wanted" in capsys.readouterr().err


def test_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write(tmp_path, "one", boxes(FIRST)), write(tmp_path, "two", boxes(OTHER))
    page = tmp_path / "found.html"
    assert main(["compare", str(one), str(two), "--page", str(page)]) == 0
    assert f"written to {page}" in capsys.readouterr().out
    assert "4 better" in page.read_text()


def test_without_a_name_the_page_is_comparison_html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "one", boxes(FIRST)), write(tmp_path, "two", boxes(OTHER))
    assert main(["compare", "one.json", "two.json", "--page"]) == 0
    assert (tmp_path / "comparison.html").is_file()


def test_the_picture_folder_of_a_page_is_the_users_choice(tmp_path: Path) -> None:
    pictures = tmp_path / "elsewhere"
    pictures.mkdir()
    Image.new("RGB", (640, 480), "#12ab34").save(pictures / "0.png")
    answers = ([boxed(0, percent, image=str(pictures / "0.png"))] for percent in (20, 80))
    paths = [str(write(tmp_path / name, "val", own)) for name, own in zip("ab", answers, strict=True)]
    page = tmp_path / "found.html"
    assert main(["compare", *paths, "--page", str(page)]) == 0
    assert "data:image" not in page.read_text(), "a stranger's samples may name any file"
    assert main(["compare", *paths, "--page", str(page), "--image-root", str(pictures)]) == 0
    assert "data:image" in page.read_text()


def test_options_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write(tmp_path, "one", boxes(FIRST)), write(tmp_path, "two", boxes(OTHER))
    before = one.read_bytes()
    assert main(["compare", "--page", str(one), str(two)]) == 2
    assert "wanted a name that ends in .html; the results come before --page" in capsys.readouterr().err
    assert one.read_bytes() == before
    assert main(["compare", str(one), str(two), "--image-root", "pictures"]) == 2
    assert "--image-root has no effect without --page" in capsys.readouterr().err
