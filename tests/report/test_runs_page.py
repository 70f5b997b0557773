"""Several runs on one page: what differs, their numbers, and a line for each on every chart."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from testing_browser import BROWSER, HOSTILE
from testing_held_out import write_held_out
from vlm_r1.cli import report as report_command
from vlm_r1.errors import ConfigError
from vlm_r1.report.curves import MAX_RUNS, overlaid
from vlm_r1.report.read import read_run
from vlm_r1.report.runs_page import build_runs_page, recipe_differences


@pytest.mark.parametrize(
    ("configs", "differences"),
    [
        pytest.param([{"a": 1}, {"a": 1}], [], id="equal"),
        pytest.param([{"a": 1}, {"a": 2}], [("a", ["1", "2"])], id="a value"),
        pytest.param([{"lr": 2e-5}, {"lr": 1e-6}], [("lr", ["2e-05", "1e-06"])], id="small numbers are not rounded"),
        pytest.param([{"a": {"b": 1}}, {"a": {}}], [("a.b", ["1", "–"]), ("a", ["–", "{}"])], id="absent in one"),
        pytest.param([{"a": [1, 2]}, {"a": [1]}], [("a.1", ["2", "–"])], id="a longer list"),
        pytest.param([{"output_dir": "x"}, {"output_dir": "y"}], [], id="the folder"),
        pytest.param([{}, {"a": None}], [("a", ["–", "null"])], id="null is a value"),
        pytest.param([{"a": 1}, {"a": 1}, {"a": 2}], [("a", ["1", "1", "2"])], id="one of three"),
    ],
)
def test_in_what_recipes_differ(configs: list[dict], differences: list):
    assert recipe_differences(configs) == differences


def test_a_secret_is_masked():
    assert "S3CRET" not in str(recipe_differences([{"rewards": {"a:B(api_key='S3CRET')": 1}}, {}]))


def write(folder: Path, beta: float, n_steps: int, shifts: list[int]) -> Path:
    folder.mkdir(parents=True)
    config = {"output_dir": str(folder), "grpo": {"beta": beta}, "seed": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{"step": n, "stage": "grpo", "reward/mean": n / 10, "kl": 0.1} for n in range(1, n_steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return write_held_out(folder, {"before": [8] * len(shifts), "after": shifts})


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "a", 0.0, 4, [0, 8]), write(tmp_path / "b", 0.04, 2, [0, 0])]


def test_a_line_and_a_row_for_each_run(two: list[Path], tmp_path: Path, parse: Callable):
    page = parse(build_runs_page(two, tmp_path / "page.html"))
    cells = {
        name: [" ".join(e.text.split()) for e in page if e.tag == "td" and e.inside(name)]
        for name in ("recipes", "held-out")
    }
    assert cells["recipes"] == ["grpo.beta", "0.0", "0.04"]
    runs, latest = cells["held-out"][2::7], cells["held-out"][4::7]
    assert runs == ["a", "b"]
    assert [text.replace("\xa0", " ").split(" %")[0] for text in latest] == ["50.0", "100.0"]
    titles = [" ".join(e.text.split()) for e in page if e.tag == "figcaption"]
    # the ends of the lines: 4 / 10 and 2 / 10
    assert titles[0] == "Reward a 0.400 b 0.200"
    assert any(title.startswith("Accuracy at IoU 0.5, held out: val a b") for title in titles)


def test_each_run_keeps_its_own_steps(two: list[Path]):
    wide, _ = overlaid({path.name: read_run(path) for path in two})
    a, b = wide[0].lines
    assert (a.bold.count("L"), b.bold.count("L")) == (3, 1)  # four steps and two
    assert wide[0].bands[1].text == "step 2: a 0.200, b 0.200"
    assert wide[0].bands[3].text == "step 4: a 0.400"


def test_too_many_runs_and_one_run_twice(two: list[Path], tmp_path: Path):
    with pytest.raises(ConfigError, match="9 runs are given; wanted at most 8"):
        build_runs_page([tmp_path] * (MAX_RUNS + 1), tmp_path / "page.html")
    with pytest.raises(ConfigError, match="is given twice"):
        build_runs_page([two[0], two[1], two[0] / "."], tmp_path / "page.html")


def test_the_command(two: list[Path], capsys: pytest.CaptureFixture[str]):
    parser = argparse.ArgumentParser()
    report_command.add_arguments(parser)
    assert report_command.run(parser.parse_args([*map(str, two)])) == 0
    assert capsys.readouterr().out == f"{two[0] / 'runs.html'}\n"
    for words, message in (
        ([str(two[0]), "--out", "x.html"], "--out has no effect"),
        ([*map(str, two), "--image-root", "x"], "--image-root has no effect"),
    ):
        with pytest.raises(ConfigError, match=message):
            report_command.run(parser.parse_args(words))


class TestInBrowser:
    pytestmark = BROWSER

    def test_hostile_recipes_do_nothing(self, two: list[Path], tmp_path: Path, open_page: Callable):
        (two[1] / "config.yaml").write_text(yaml.safe_dump({HOSTILE.replace("\x00", ""): HOSTILE.replace("\x00", "")}))
        page, logged, fetched = open_page(build_runs_page(two, tmp_path / "page.html"), 400)
        assert (page.title(), logged, len(fetched)) == ("a, b · VLM-R1 runs", [], 1)
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        page.locator("svg.chart").first.focus()
        page.keyboard.press("Home")
        assert page.locator(".readout").first.inner_text().startswith("step 1: a 0.100")
