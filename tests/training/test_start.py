"""What a run says when it starts, on the console and in its folder."""

from __future__ import annotations

import json
from io import StringIO

from rich.console import Console

from vlm_r1.config import load_config
from vlm_r1.grpo.trainer import train
from vlm_r1.models.parts import PartSize
from vlm_r1.runtime.progress import Display
from vlm_r1.training.start import start_table

SIZES = [PartSize("vision", 600, 0), PartSize("projector", 100, 100), PartSize("language", 1300, 400)]


def lines_of(table: object) -> list[list[str]]:
    console = Console(file=StringIO(), width=100)
    console.print(table)
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip(" ─")]  # type: ignore[attr-defined]


def test_the_table_says_what_trains_and_how_fast(recipe) -> None:
    config = load_config(recipe(**{"training.learning_rates": {"projector": 2e-5}, "training.learning_rate": 1e-6}))
    assert lines_of(start_table(SIZES, config)) == [
        ["part", "parameters", "trainable", "learning", "rate"],
        ["vision", "600", "–", "frozen"],
        ["projector", "100", "100", "2e-05"],
        ["language", "1,300", "400", "1e-06"],
        ["together", "2,000", "500", "(25", "%)"],
    ]


def test_a_run_says_it_and_keeps_it(recipe, rec_files, tmp_path) -> None:
    console = Console(file=StringIO(), width=200)
    held_out = {"in_domain": {"path": str(rec_files["in_domain"])}}
    options = {"training.max_steps": 1, "model.freeze": ["vision"], "data.eval": held_out}
    train(load_config(recipe(**options)), display=Display(console))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "vision" in shown
    assert "frozen" in shown
    assert "weights in float32 (auto: they train), attention sdpa (auto: on cpu)" in shown
    kept = json.loads((tmp_path / "run/environment.json").read_text())
    assert kept["parameters"]["vision"]["trainable"] == 0 < kept["parameters"]["vision"]["total"]
    assert kept["parameters"]["language"]["trainable"] == kept["parameters"]["language"]["total"]
    assert kept["records"] == {
        "train": [{"path": str(rec_files["train"]), "records": 48}],
        "eval": {"in_domain": {"path": str(rec_files["in_domain"]), "records": 12}},
    }
    assert kept["precision"].startswith("weights in float32")
    assert kept["layout"].startswith("layout packed")
