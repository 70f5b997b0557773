"""The console of all commands: it shows text as it is, since names and data may hold markup or control characters."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from vlm_r1.config.secrets import without_values
from vlm_r1.runtime.text import visible, write_out_unknown_characters


class Terminal(Console):
    """A rich console without markup, emoji codes and highlighting: `[red]` is shown, and escape sequences do nothing.

    Texts in tables, titles and columns are shown as they are too. Use `styled` for what has a style. Characters that
    the terminal's encoding lacks are written out, e.g. `\\xd7` in ASCII.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)
        write_out_unknown_characters(self.file)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make the rich text of a plain one."""
        return super().render_str(visible(without_values(text)), **options)


def styled(text: str, style: str = "") -> Text:
    """Return a text with one style, such as "bold" or "red"; nothing in it is read as markup.

    >>> str(styled("[/x]", "red"))
    '[/x]'
    """
    return Text(visible(without_values(text)), style)
