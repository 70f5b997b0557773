"""The errors a user can meet. Each says where, what was got, what was wanted and what to do.

Any other exception is a bug of ours. It is never turned into a reward of 0.
"""

from __future__ import annotations


class VlmR1Error(Exception):
    """Base of all errors that a user can cause and correct.

    Attributes:
        agreed: whether all processes of a run raise it; then the first one tells it.
        process: number of the process in which it came up, if it did not in all.
    """

    agreed: bool = False
    process: int | None = None


class ConfigError(VlmR1Error):
    """A recipe or command-line option is unknown, invalid or without effect."""


class DataError(VlmR1Error):
    """A data line, an image or a gold answer cannot be used; the message starts with `file:line`."""


class DataFileError(DataError):
    """A data file as a whole has changed or gone since the program opened it; no single record is at fault."""


class OverlongError(DataError):
    """The prompt of a record is longer than the recipe allows; nothing else is wrong with the record."""


class RewardError(VlmR1Error):
    """A user's reward function raised, or returned something that is no reward; the message names its place."""


class CallbackError(VlmR1Error):
    """A user's function that is called at the end of a step raised; the message names its place."""


class ModelError(VlmR1Error):
    """A checkpoint or processor cannot be loaded, or a prompt cannot be encoded for it."""


class CheckpointError(VlmR1Error):
    """A run folder or a training checkpoint cannot be written, resumed or trusted."""


class EndpointError(VlmR1Error):
    """A server that answers instead of a model of ours cannot be reached, refuses, or sends what is no answer."""


def install_line(extra: str) -> str:
    """Return the command that installs the packages of an extra of pyproject.toml, for messages. It works in a clone.

    >>> install_line("hub")
    "pip install -e '.[hub]'"
    """
    return f"pip install -e '.[{extra}]'"


_LONGEST_WORD = 400
_LONGEST = 1000


def brief(message: str) -> str:
    """Put a message on one short line: one space between words; long words and long messages are cut, with their size.

    Messages that quote a file need it: a picture as a data URI is one word of megabytes.

    >>> brief("a.jsonl:3:\\n image not found: " + "A" * 5000)
    'a.jsonl:3: image not found: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA… (5,000 characters)'
    """
    text = " ".join(_brief_word(word) for word in message.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def _brief_word(word: str) -> str:
    return word if len(word) <= _LONGEST_WORD else f"{word[:40]}… ({len(word):,} characters)"
