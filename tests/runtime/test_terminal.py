"""Names out of recipes and data are shown as they are: rich's markup and the terminal's own escapes do nothing."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.errors import MarkupError
from rich.panel import Panel
from rich.table import Table

from vlm_r1.runtime.progress import Display, track
from vlm_r1.runtime.terminal import Terminal, styled

SOURCE = Path(__file__).parents[2] / "src/vlm_r1"

NAMES = {
    "closing tag": ("[/x]", "[/x]"),
    "colour": ("[red]a", "[red]a"),
    "link": ("[link=file:///x]a[/link]", "[link=file:///x]a[/link]"),
    "emoji code": (":smile:", ":smile:"),
    "escape sequence": ("\x1b[31ma", "␛[31ma"),
    "title of the window": ("\x1b]0;a\x07", "␛]0;a␇"),
    "C1 control": ("\x9b31ma", "\\u009b31ma"),
    "line rewritten": ("good\rbad", "good␍bad"),
    "direction": ("a\u202eb", "a\\u202eb"),
    "half a pair": ("a\ud83d", "a\\ud83d"),
    "tag characters": ("a\U000e0041", "a\\U000e0041"),
}


def everything(console: Terminal, name: str) -> None:
    """Show a name in every way that a command has."""
    table = Table(name, title=name, caption=name)
    table.add_row(name)
    console.print(name, style="red")
    console.print(table)
    console.print(Panel(styled(name), title=styled(name)))
    display = Display(console)
    display.say(name, style="yellow")
    with display.steps(name, 2) as update:
        update(2, {name: 1.0})


@pytest.mark.parametrize(("name", "shown"), NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("terminal", [True, False])
def test_a_name_is_shown_as_it_is(name: str, shown: str, terminal: bool) -> None:
    out = io.StringIO()
    everything(Terminal(file=out, force_terminal=terminal, width=200, color_system=None), name)
    text = re.sub(r"\x1b\[\??[0-9;]*[lhAKGm]", "", out.getvalue()).replace("\r", "")  # the bar's own
    assert text.count(shown) >= 8
    assert name == shown or name not in text


def test_control_a_plain_console_reads_the_markup() -> None:
    out = io.StringIO()
    Console(file=out).print("[red]a")
    assert out.getvalue() == "a\n"
    with pytest.raises(MarkupError):
        Console(file=out).print("[/x]")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_what_an_encoding_lacks_is_written_out(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    everything(Terminal(file=stream, width=80), "a × 漢 🙂")
    assert "a × 漢 🙂".encode(encoding, "backslashreplace") in raw.getvalue()


def test_iterating_without_a_terminal_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2], "[/x]", 2)) == [1, 2]
    assert capsys.readouterr().err == ""


def test_no_other_module_makes_a_console_or_reads_markup() -> None:
    """So that a name can reach a terminal by `Terminal` only."""
    pattern = re.compile(r"\bConsole\b|rich\.markup|from_markup|rich import print|rich\.progress import .*\btrack\b")
    users = {path.name for path in SOURCE.rglob("*.py") if pattern.search(path.read_text(encoding="utf-8"))}
    assert users == {"terminal.py"}
