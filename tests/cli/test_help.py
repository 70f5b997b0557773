"""`--help`: every command has an example, one form of words for values, and costs little; mistyped words are met."""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from vlm_r1.cli import main as cli
from vlm_r1.cli.data import COMMANDS as DATA_COMMANDS
from vlm_r1.cli.data.convert import format_parser
from vlm_r1.cli.main import COMMANDS, main, make_parser
from vlm_r1.converters import CONVERTERS

ALL = [*((name,) for name in COMMANDS), *(("data", name) for name in DATA_COMMANDS)]

KINDS = {
    *("N", "X", "TEXT", "NAME", "NAMES", "PATH", "FILE", "DIR", "URL", "JSON", "KEY", "SIZE", "WxH", "LOW", "HIGH"),
    *("RECIPE", "RUN", "MODEL", "DATA", "SOURCE", "CASES", "RESULT", "OPTION", "FORMAT", "COMMAND", "OWNER"),
    *("IMAGE", "QUESTION"),
}
"""Words that stand for values. A new one says a kind of value, in capitals; the name of an option is none."""

CPU_S = 0.2
"""Processor time of a help. The start of Python is in it."""


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


@pytest.fixture(scope="module")
def every_parser() -> list[argparse.ArgumentParser]:
    return [*parsers(make_parser()), *(format_parser(converter) for converter in CONVERTERS.values())]


def words_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """(option, word) of all values, as the help writes them."""
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.nargs == 0 or action.choices is not None or "REMAINDER" in str(action.nargs) or action.nargs == "...":
            continue
        is_option = bool(action.option_strings)
        default = (
            formatter._get_default_metavar_for_optional if is_option else formatter._get_default_metavar_for_positional
        )
        metavar = action.metavar or default(action)
        for word in [metavar] if isinstance(metavar, str) else metavar:
            yield f"{parser.prog} {(action.option_strings or [action.dest])[0]}", word


def test_values_are_called_by_their_kind(every_parser) -> None:
    found = [named for parser in every_parser for named in words_of(parser)]
    assert len(found) > 100
    odd = [(option, word) for option, word in found if not {*re.findall(r"\w*[A-Z]\w*", word)} <= KINDS]
    assert odd == []


def test_the_name_of_an_option_is_no_kind() -> None:
    """Control: what Python would write without our formatter is found."""
    plain = argparse.ArgumentParser("plain")
    plain.add_argument("--batch-size", type=int)
    assert list(words_of(plain)) == [("plain --batch-size", "BATCH_SIZE")]
    ours = argparse.ArgumentParser("ours", formatter_class=cli.HelpFormatter)
    ours.add_argument("--batch-size", type=int)
    assert list(words_of(ours)) == [("ours --batch-size", "N")]


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_every_command_has_an_example(command: tuple[str, ...], capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--help"])
    shown = capsys.readouterr().out
    assert exit_.value.code == 0
    assert shown.startswith(f"usage: vlm-r1 {' '.join(command)} ")
    assert re.search(rf"^ *(?!usage).*vlm-r1 {' '.join(command)}\b", shown.partition("\n")[2], re.MULTILINE)


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["data", "--help"]], ids=" ".join)
def test_help_is_quick(words: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "vlm_r1.cli.main", *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CPU_S


def test_the_help_of_all_fits_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert {line.split()[0] for line in lines if re.match(r"    \S+  +\S", line)} == {*COMMANDS}


MISTYPED = {
    "a command": (["trian"], 'there is no command `vlm-r1 trian`. Did you mean "train"? Known: demo, '),
    "a command of data": (["data", "chekc"], 'there is no command `vlm-r1 data chekc`. Did you mean "check"? '),
    "no command at all": (["runs/rec"], "there is no command `vlm-r1 runs/rec`. Known: demo, "),
    "an option": (
        ["eval", "m", "d", "--protcol=x"],
        """not know '--protcol=x'. Did you mean "--protocol"? See `vlm-""",
    ),
    "an option of data": (["data", "synth", "--out", "x", "--wrld", "y"], 'Did you mean "--world"? See `vlm-r1 data s'),
    "an option beside a recipe": (["train", "x.yaml", "--dryrun"], "`vlm-r1 train` does not know '--dryrun'. Did you"),
    "nothing near it": (["report", "x", "--zzz"], "`vlm-r1 report` does not know '--zzz'. See `vlm-r1 report --help`"),
    "an override that looks like an option": (["trace", "x.yaml", "--rewards={iou: 1}"], "x.yaml: cannot read the rec"),
    "a section's option": (["train", "x.yaml", "--training.resume=1"], "x.yaml: cannot read the recipe"),
}


@pytest.mark.parametrize("name", MISTYPED)
def test_mistyped_words(name: str, capsys) -> None:
    words, told = MISTYPED[name]
    assert main(words) == 2
    assert told in capsys.readouterr().err
