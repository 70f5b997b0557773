"""What the documentation says can be done, can be done: commands parse, recipes load, data lines are read.

Pages that teach to write code have tests of their own, which run it: test_docs_models.py, test_docs_objectives.py,
test_docs_rewards.py, test_docs_serving.py, test_docs_tasks.py.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from vlm_r1.cli import main as cli
from vlm_r1.config import load_config
from vlm_r1.data.formats import AUTO, read_row, recognise_row
from vlm_r1.rewards import REWARDS

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *DOCS])
BASE = {"output_dir": "run", "model": {"path": "model"}, "data": {"train": [{"path": "x.jsonl"}]}}
TAUGHT = ("add_a_model", "add_a_reward", "add_a_task", "add_an_objective", "python", "reward_adapters", "serving")
"""Pages whose snippets a test of their own runs."""
COLUMNS = 100


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page):
    for block in (block for language in ("", "bash", "sh") for block in blocks(page, language)):
        joined = block.replace("\\\n", " ")
        for line in joined.splitlines():
            found = re.match(r"\s*(?:[\w -]*-m vlm_r1\.cli\.main|vlm-r1) ([^\s…].*)", line)
            if found and not line.lstrip().startswith("#"):
                yield shlex.split(re.split(r"\s{2,}", found[1])[0], comments=True)


COMMANDS = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words)[:60]}") for page in PAGES for words in commands(page)
]
RECIPES = [
    pytest.param(block, id=f"{page.stem} {n}")
    for page in PAGES
    for n, block in enumerate(blocks(page, "yaml"), start=1)
]


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_are_known_with_their_options(words):
    if "--help" in words:
        assert words[0] in cli.COMMANDS
        return
    args, rest = cli.make_parser().parse_known_args(words)
    assert not rest or getattr(args, "takes_overrides", False)


def test_commands_are_found():
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_scripts_are_a_shell_s(page):
    for block in blocks(page, "bash"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stderr}\n{block}"


@pytest.mark.parametrize("fragment", RECIPES)
def test_recipes_load(fragment, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(BASE | yaml.safe_load(fragment)), encoding="utf-8")
    load_config(file)


@pytest.mark.parametrize("block", blocks(ROOT / "docs/data.md", "json"))
def test_data_lines_are_read(block):
    for line in block.splitlines():
        row = json.loads(line)
        assert recognise_row(row) in (ROOT / "docs/data.md").read_text(encoding="utf-8")
        assert read_row(row, AUTO).images


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    assert [t for t in targets if "://" not in t and not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_is_run_by_a_test_of_its_own(page):
    assert not blocks(page, "python") or page.stem in TAUGHT


def test_every_reward_is_described_with_its_options():
    page = (ROOT / "docs/rewards.md").read_text(encoding="utf-8")
    missing = []
    for name, function in REWARDS.items():
        options = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        written = f"({', '.join(f'{p.name}={p.default!r}' for p in options)})" if options else ""
        first = next(own for own in REWARDS if REWARDS[own] is function)  # others are its aliases
        missing += [] if f"`{first}{written}`" in page and f"`{name}" in page else [name]
    assert missing == []


def prose(text):
    """(line number, line) of all that is not code, a table, a heading or a picture."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        if not (fence or fenced or line.startswith(("|", "#", "![", "    "))):
            yield number, line


def too_long(text):
    """Numbers of the lines of prose above 100 columns; a single word, such as an address, cannot be broken."""
    return [
        n for n, line in prose(text) if len(line) > COLUMNS and len(re.sub(r"^ *([-*]|\d+\.) ", "", line).split()) > 1
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_prose_is_wrapped(page):
    assert too_long(page.read_text(encoding="utf-8")) == []


def test_long_prose_would_be_found():
    long, address = "word " * 21, f"https://{'x' * 100}"
    page = ["# " + long, long, "- " + long, "| " + long, "```", long, "```", "  " + long, address, "- " + address]
    assert too_long("\n".join(page)) == [2, 3, 8]
    assert too_long("word " * 20) == []


def not_listed(pages, index):
    """Names of pages that have no line of their own, `- [name](name): …`, in the index."""
    return [page.name for page in pages if f"\n- [{page.name}]({page.name}): " not in index]


def test_the_index_lists_every_page():
    assert (
        not_listed([page for page in DOCS if page.stem != "README"], (ROOT / "docs/README.md").read_text("utf-8")) == []
    )
    assert "(docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_page_missing_in_the_index_would_be_found():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert not_listed([ROOT / "docs/new.md"], index) == ["new.md"]
    assert not_listed([ROOT / "docs/data.md"], index.replace("- [data.md](data.md): ", "data.md ")) == ["data.md"]
