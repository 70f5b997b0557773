"""Types of options: paths of every command, also behind a `~`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlm_r1.cli.data.convert import format_parser
from vlm_r1.cli.main import main, make_parser
from vlm_r1.cli.options import columns, local_path, path_text
from vlm_r1.config import load_config
from vlm_r1.converters import CONVERTERS

PATHS = {
    "model",
    "data",
    "image_root",
    "out",
    "json",
    "page",
    "against",
    "file",
    "run",
    "to",
    "recipe",
    "cases",
    "source",
}
"""Options that are paths, by their names. (`image` and `images` are paths in some commands, but not in `plan`.)"""


def actions(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """(command, option) of a parser and of all below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from actions(below)
        else:
            yield parser.prog, action


def all_actions() -> list[tuple[str, argparse.Action]]:
    parsers = [make_parser(), *(format_parser(converter) for converter in CONVERTERS.values())]
    return [found for parser in parsers for found in actions(parser)]


def test_every_option_that_is_a_path_takes_a_tilde() -> None:
    found = {(prog, action.dest): action.type for prog, action in all_actions() if action.nargs != 0}  # no switches
    paths = {key: kind for key, kind in found.items() if key[1] in PATHS}
    assert len(paths) > 30
    assert [key for key, kind in paths.items() if kind not in (local_path, path_text)] == []
    assert [key for key, kind in found.items() if kind is Path] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("~", "/home/ada", id="the home folder"),
        pytest.param("~/runs/x", "/home/ada/runs/x", id="below it"),
        pytest.param("runs/~x", "runs/~x", id="not at the start"),
        pytest.param("~no-such-user-here/x", "~no-such-user-here/x", id="the folder of nobody"),
        pytest.param("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct", id="a hub name"),
        pytest.param("https://x.org/~ada", "https://x.org/~ada", id="a URL"),
    ],
)
def test_a_tilde(text: str, expected: str, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert path_text(text) == expected
    assert local_path(text) == Path(expected)


def test_synth_writes_into_the_home_folder(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["data", "synth", "--out=~/shapes", "--train=2", "--in-domain=1", "--out-of-domain=1"]) == 0
    assert (tmp_path / "shapes/train.jsonl").exists()
    assert not (tmp_path / "~").exists()
    assert main(["data", "check", "~/shapes/train.jsonl"]) == 0


def test_an_override_with_spaces_and_signs(recipe, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    overrides = ["--output_dir=runs/exp #2", "--data.templates.mine.instruction=Think: well", "--data.template=mine"]
    assert main(["train", str(recipe()), "--dry-run", *overrides]) == 0
    assert "Think: well" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:  # argparse takes it for the recipe
        main(["train", overrides[0], str(recipe())])
    assert exit_.value.code == 2
    assert "overrides go behind the recipe" in capsys.readouterr().err


def test_hosts_have_no_effect_where_nothing_is_remote(recipe, rec_files, tmp_path, capsys) -> None:
    """One rule for recipes and commands. Control: a protocol or a remote root makes them count."""
    hosts, check = {"data.allowed_media_domains": ["x.org"]}, ["data", "check", str(rec_files["train"]), "--no-images"]
    for command in (
        ["train", str(recipe(**hosts)), "--dry-run"],
        [*check, "--allowed-media-domains", "x.org"],
        ["report", str(tmp_path), "--allowed-media-domains", "x.org"],
    ):
        assert main(command) == 2
        told = "data.allowed_media_domains (--allowed-media-domains) has no effect without data.allowed_protocols"
        assert told in capsys.readouterr().err, command
    assert main([*check, "--allowed-media-domains", "x.org", "--allowed-protocols", "https"]) == 0
    assert main([*check, "--allowed-media-domains", "x.org", "--image-root", "https://x.org"]) == 0
    assert load_config(recipe(**hosts, **{"data.allowed_protocols": ["https"]})).data.allowed_media_domains == ["x.org"]


@pytest.mark.parametrize("text", ["image", "image=", "=a", "picture=a", "image=a,image=b", "image=a,answer=a", ""])
def test_columns_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="wanted image, problem and answer with a key each"):
        columns(text)


def test_columns_beside_a_format(tmp_path, capsys):
    """A row of own keys is read by `--columns` and `--box`; beside a format they are an error in one line."""
    (tmp_path / "a.jsonl").write_text('{"shot": "a.png", "said": "the cat", "at": [1, 2, 3, 4]}')
    check = ["data", "check", str(tmp_path / "a.jsonl"), "--no-images", "--box", "xywh"]
    check += ["--columns", "image=shot,problem=said,answer=at"]
    assert main(check) == 0
    assert "[1.0, 2.0, 4.0, 6.0]" in capsys.readouterr().out  # 1 + 3, 2 + 4
    assert main([*check, "--format", "r1_v"]) == 2
    assert "--columns names the keys of the rows, and so does --format r1_v" in capsys.readouterr().err
