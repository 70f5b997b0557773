"""docs/migrate.md names every field of TRL's GRPOConfig, and only options that a recipe has."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

from vlm_r1.config.markdown import reference
from vlm_r1.config.schema import DataSection, GrpoSection, ModelSection, SamplingSection, TrainingSection

PAGE = (Path(__file__).resolve().parents[1] / "docs/migrate.md").read_text(encoding="utf-8")
OPTIONS = set(re.findall(r"^\| `([^`]+)` \|", reference(), flags=re.MULTILINE))
SECTIONS = ("data", "grpo", "model", "sampling", "training")


def part(title: str) -> str:
    """The text below a heading of the second level."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all rows of tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith(("| there", "|---"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def unknown(cells: list[str]) -> list[str]:
    """Options of ours that these cells name, and that no recipe has."""
    found = []
    for name in (name for cell in cells for name in named(cell)):
        option = re.sub(r"\.<?\w>?\.", ".0.", name.split(":")[0])
        option = re.sub(r"^data\.(train|eval)\.[^.]+\.", "data.train.0.", option)
        is_option = re.fullmatch(rf"({'|'.join(SECTIONS)})\.[\w.]+", option)
        if is_option and option not in OPTIONS:
            found.append(name)
    return found


def test_every_field_of_grpo_config_is_named_once() -> None:
    from trl import GRPOConfig

    there = [name for cells in rows(part("From TRL's `GRPOConfig`")) for name in named(cells[0])]
    fields = [field.name for field in dataclasses.fields(GRPOConfig)]
    assert [name for name in fields if name not in there] == []
    assert sorted(name for name in set(there) if there.count(name) > 1) == []
    trainers = set(named(" ".join(cells[0] for cells in rows(PAGE.split("### `GRPOTrainer`'s arguments")[1]))))
    assert [name for name in there if name not in fields and name not in trainers] == [], "no such field"


def test_every_row_says_what_to_do() -> None:
    found = rows(PAGE)
    assert len(found) > 120
    assert [cells for cells in found if len(cells) != 3 or not cells[1]] == []
    silent = [cells for cells in found if cells[1].startswith("nothing") and not cells[2]]
    assert len(silent) <= 4


def test_options_of_ours_exist() -> None:
    assert unknown([cells[1] for cells in rows(PAGE)]) == []
    assert len({name for cells in rows(PAGE) for name in named(cells[1])}) > 80


def test_an_option_that_does_not_exist_would_be_found() -> None:
    assert unknown(["`grpo.epsilon`, `grpo.epsilom`", "`data.train.<n>.reward`, `data.eval.<name>.rewart`"]) == [
        "grpo.epsilom",
        "data.eval.<name>.rewart",
    ]


def same_names() -> Iterator[tuple[str, list[str], object, object]]:
    """Fields of GRPOConfig that an option of ours is called as: name, cells of its row, default there and here."""
    from trl import GRPOConfig

    by_name = {name: cells for cells in rows(part("From TRL's `GRPOConfig`")) for name in named(cells[0])}
    ours = {name: field for section in SECTIONS for name, field in section_of(section).items()}
    for field in dataclasses.fields(GRPOConfig):
        if field.name in ours:
            here = ours[field.name].get_default(call_default_factory=True)
            yield field.name, by_name[field.name], field.default, here


def section_of(name: str) -> dict[str, FieldInfo]:
    return {"data": DataSection, "grpo": GrpoSection, "model": ModelSection, "sampling": SamplingSection}.get(
        name, TrainingSection
    ).model_fields


def test_options_of_the_same_name_are_named() -> None:
    found = list(same_names())
    assert len(found) > 40
    assert [name for name, cells, *_ in found if not re.search(rf"\.{name}\b", cells[1])] == []


def test_other_defaults_are_said() -> None:
    unset = (None, -1, dataclasses.MISSING)
    silent = [
        (name, there, here)
        for name, cells, there, here in same_names()
        if there != here and not (there in unset and here in (None, 0, [], {})) and "default" not in cells[2]
    ]
    assert silent == []
