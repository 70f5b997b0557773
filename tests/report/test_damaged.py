"""A report comes out of any run folder: what is damaged is left out, and the page names the file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlm_r1.report.build import build_report

DIGITS = "9" * 401
FITTING = ['"image_sizes": [[1, 2]]', '"reward": null', '"reward": 5', '"text": "x"', '"text": 5']
"""Columns that Arrow can convert, or that may be null."""

DAMAGE: dict[str, tuple[str, str | bytes, str]] = {
    "metrics: a line of brackets": ("metrics.jsonl", "[" * 100_000 + '\n{"step": 2}\n', r"metrics\.jsonl:1: wanted"),
    "metrics: a list": ("metrics.jsonl", '{"step": 1, "loss": []}\n{"step": 2}\n', r"metrics\.jsonl:1: wanted"),
    "metrics: no UTF-8": ("metrics.jsonl", b'{"step": 1}\n\xff\xfe\n{"step": 2}\n', r"metrics\.jsonl:2: wanted"),
    "config: broken": ("config.yaml", "a: [", r"config\.yaml: cannot be read as YAML"),
    "config: no date": ("config.yaml", "a: 2001-99-99", r"config\.yaml: cannot be read as YAML"),
    "config: brackets": ("config.yaml", "a: " + "[" * 3000, r"config\.yaml: cannot be read as YAML"),
    "config: lists for sections": (
        "config.yaml",
        "data: {train: 5}",
        r"config\.yaml holds",
    ),
    "config: bytes": ("config.yaml", b"\xff\xfe\xfd", r"config\.yaml: cannot be read as YAML"),
    "environment: a text": ("environment.json", '"x"', r"environment\.json: wanted a JSON object"),
    "environment: a number of GPUs": ("environment.json", '{"gpus": 8}', r"environment\.json holds values"),
    "environment: 700 levels": ("environment.json", '{"a": ' + "[" * 700 + "]" * 700 + "}", r"environment\.json holds"),
    "environment: 900 levels": ("environment.json", '{"a": ' + "[" * 900 + "]" * 900 + "}", r"environment\.json holds"),
    "summary: a list": ("summary.json", '{"before": [1]}', r"summary\.json: not a summary"),
    "summary: a number": ("summary.json", '{"before": {"x": 1}}', r"summary\.json: not a summary"),
    "summary: seconds": ("summary.json", '{"seconds": 5}', r"summary\.json: not a summary"),
    "summary: brackets": ("summary.json", "[" * 100_000, r"summary\.json: cannot be read"),
    "evaluation: a list of metrics": ("eval/after-in_domain.json", '{"metrics": []}', r"after-in_domain\.json: not an"),
    "evaluation: huge": (
        "eval/after-in_domain.json",
        '{"metrics": {"a": {"mean": ' + DIGITS + '}}, "step": 1, "n": 1}',
        r"after-in_domain\.json: not an",
    ),
    "rollouts: no Parquet": ("rollouts/step-000001.parquet", b"PAR1", r"step-000001\.parquet: no rollouts can be read"),
}

HARMLESS: dict[str, tuple[str, str]] = {
    "numbers whose range is too large": ("metrics.jsonl", '{"step": 1, "loss": 1e308}\n{"step": 2, "loss": -1e308}\n'),
    "numbers that are infinite": ("metrics.jsonl", '{"step": 1, "loss": 1e999, "time/step_s": 1e999}\n'),
    "a huge number in a summary": (
        "summary.json",
        '{"after": {"x": {"accuracy": ' + DIGITS + "}}}",
    ),
    "an infinite time": ("summary.json", '{"seconds": {"train": 1e999}}'),
    "a name that is markup": ("summary.json", '{"after": {"<b>[/x]": {"accuracy": 0.5, "n": 1}}}'),
    "a huge seed": ("summary.json", '{"seed": ' + DIGITS + "}"),
    "a date": ("config.yaml", "a: 2001-01-01\nb: !!binary aGk=\nc: !!set {x}"),
    "aliases": ("config.yaml", "a: &a [1]\nb: *a"),
}


def problems_on(page: str) -> str:
    return re.sub(r"\s+", " ", page.partition('<section id="left-out">')[2].partition("</section>")[0])


def test_control_a_sound_folder_has_no_problems(grpo_run: Path) -> None:
    assert "Left out</h2>" not in build_report(grpo_run).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "content", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_and_the_rest_is_shown(grpo_run: Path, name: str, content: str | bytes, message: str) -> None:
    whole = build_report(grpo_run).read_text(encoding="utf-8")
    (grpo_run / name).write_bytes(content.encode() if isinstance(content, str) else content)
    page = build_report(grpo_run).read_text(encoding="utf-8")
    assert re.search(message, problems_on(page)), problems_on(page)
    assert page.endswith("</html>")
    sections = re.findall(r'<section id="([\w-]+)">', whole)
    assert [name for name in re.findall(r'<section id="([\w-]+)">', page) if name != "left-out"] == sections
    for kept in {"Before and after": "summary", "Some CPU": "environment", "chart": "metrics"}.items():
        assert kept[1] in name or name.startswith("eval") or kept[0] in page


@pytest.mark.parametrize(("name", "content"), HARMLESS.values(), ids=HARMLESS)
def test_odd_values_leave_nothing_out(grpo_run: Path, name: str, content: str) -> None:
    (grpo_run / name).write_text(content, encoding="utf-8")
    page = build_report(grpo_run).read_text(encoding="utf-8")
    assert not problems_on(page), problems_on(page)
    assert page.endswith("</html>")


def test_files_with_other_names_are_no_steps(grpo_run: Path) -> None:
    for name in ("step-000001 (copy).parquet", "step-x.parquet", "step-.parquet"):
        (grpo_run / "rollouts" / name).write_bytes(b"x")
    assert "Left out</h2>" not in build_report(grpo_run).read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [None, "x", 5, [[1, 2]]])
def test_a_column_of_another_kind_leaves_the_groups_out(grpo_run: Path, value: object) -> None:
    path = grpo_run / "rollouts/step-000001.parquet"
    table = pq.read_table(path)
    for name in ("image_sizes", "parts", "reward", "text"):
        place = table.schema.get_field_index(name)
        pq.write_table(table.set_column(place, name, pa.array([value] * len(table))), path)
        page = build_report(grpo_run).read_text(encoding="utf-8")
        assert page.endswith("</html>")
        fits = json.dumps({name: value})[1:-1] in FITTING
        assert ("step-000001.parquet" in problems_on(page)) != fits, (name, value)


def test_a_secret_in_the_recipe_of_an_older_run_is_masked(grpo_run: Path) -> None:
    (grpo_run / "config.yaml").write_text("rewards: {'a:B(api_key=\"S3CRET\")': 1.0}\n", encoding="utf-8")
    (grpo_run / "environment.json").write_text(json.dumps({"command": ["--api_key=S3CRET"]}), encoding="utf-8")
    assert "S3CRET" not in build_report(grpo_run).read_text(encoding="utf-8")
