"""docs/evaluation.md: every shipped protocol has its section and its row, and every key and metric is explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vlm_r1.converters import CONVERTERS
from vlm_r1.evaluation.protocol import DataSet, Decoding, Protocol, Subset, load_protocol, protocol_names

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
PARTS = {part.partition("\n")[0]: part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)}
SECTIONS = re.split(r"^### ", PARTS["Shipped protocols"], flags=re.MULTILINE)[1:]
SECTION_OF = {name: part for part in SECTIONS for name in re.findall(r"`([^`]+)`", part.partition("\n")[0])}
CELLS = [line.strip("|").split("|") for line in PARTS["Shipped protocols"].splitlines() if line.startswith("| `")]
ROWS = {row[0].strip("` "): [cell.strip() for cell in row] for row in CELLS if len(row) == 5}


def test_every_protocol_has_a_section_and_every_section_a_protocol():
    assert sorted(SECTION_OF) == protocol_names()
    assert sorted(ROWS) == protocol_names()


@pytest.mark.parametrize("name", protocol_names())
def test_a_section_says_traps_and_what_to_cite(name):
    protocol, section = load_protocol(name), SECTION_OF[name]
    assert "\n*Traps.* " in section
    cite = re.search(r"^\*Cite\.\* As `?(\w+\+?)`?", section, flags=re.MULTILINE)
    cited = section + (SECTION_OF.get(cite[1].lower(), "") if cite else "")
    for number in re.findall(r"\d{4}\.\d{5}", protocol.data.source or ""):
        assert f"arXiv {number}" in cited


@pytest.mark.parametrize("name", protocol_names())
def test_a_row_says_what_the_protocol_says(name):
    protocol = load_protocol(name)
    _, data, records, metric, made = ROWS[name]
    split = f", {protocol.data.split}" if protocol.data.split else ""
    assert data == protocol.data.set + split
    assert records == (f"{protocol.data.records:,}" if protocol.data.records else "–")
    assert metric == (f"`{protocol.metrics[0]}`" if protocol.metrics else "of its task")
    command = re.search(r"data convert (\S+)", protocol.data.convert or "")
    assert not command or (command[1] in CONVERTERS and command[0] in made)


def test_every_key_is_explained():
    explained = {
        key
        for line in PARTS["Keys of a protocol"].splitlines()
        if line.startswith("| `")
        for key in re.findall(r"`([\w.]+)`", line.split("|")[1])
    }
    inner = {"data": DataSet, "decoding": Decoding, "sample": Subset}
    keys = {key for key in Protocol.model_fields if key not in inner}
    keys |= {f"{part}.{key}" for part, section in inner.items() for key in section.model_fields}
    assert explained == keys


def test_every_metric_of_a_protocol_is_defined():
    named = {metric for name in protocol_names() for metric in load_protocol(name).metrics}
    assert named - set(re.findall(r"`(\w+)`", PARTS["Metrics"])) == set()


def test_the_example_is_a_protocol(tmp_path):
    (example,) = re.findall(r"^```yml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    path = tmp_path / "mine.yaml"
    path.write_text(example, encoding="utf-8")
    assert load_protocol(str(path)).inclusive


def test_links_within_the_page_lead_somewhere():
    slugs = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in PARTS}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= slugs
