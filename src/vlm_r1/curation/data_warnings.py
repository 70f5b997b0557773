"""Warnings about readable records: labels that no question asks for, boxes given twice, control tokens."""

# pyright: standard

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vlm_r1.data.formats.media import files_not_shown, marks_as_text
from vlm_r1.data.formats.shown import shown
from vlm_r1.data.instructions import is_whole_instruction
from vlm_r1.data.options import read_options
from vlm_r1.data.tokens import KNOWN_TOKENS, control_tokens_in
from vlm_r1.parsing.names import needs_quotes, split_names
from vlm_r1.parsing.normal_form import normalize_text
from vlm_r1.rewards.math import values_read
from vlm_r1.tasks.base import Task
from vlm_r1.tasks.judge import ACCURACY, Attempt, byte_ids, judge
from vlm_r1.tasks.templates import Template, gold_completion
from vlm_r1.types import IMAGE_TOKEN, AnswerValue, BoxFormat, ImageFrame, Record

TOKENS = "control tokens of known models"
LABELS = "labels that are not asked for"
MARKS = "asked as text"
TWICE = "equal gold boxes"
COMMAS = "names that hold a comma"
EARLIER = "coordinates in earlier answers"
AS_TEXT = "gold formulas that are not read as a whole"

_BETWEEN_NAMES = re.compile(r"[,;，、；\n]|\s(?:and|or)\s")
_DARK = 1 << 14
"""A 16-bit picture whose greatest value is below this uses less than a quarter of the range."""

_FULL_MARKS = 1 - 1e-6
_SYSTEM_KEYS = ("system", "system_prompt")
_COORDINATES = re.compile(r"[\[(]\s*-?\d+(?:\.\d+)?(?:\s*,\s*-?\d+(?:\.\d+)?){1,3}\s*[\])]")
"""A point or a box in brackets: two to four numbers."""


def row_warnings(record: Record, task: Task[Any, Any], template: Template) -> Iterator[tuple[str, str]]:
    """Yield the warnings about one usable record: a kind, e.g. `TWICE`, and a sentence."""
    if tokens := ", ".join(f"{token} in {place}" for place, token in control_tokens_in(record, sorted(KNOWN_TOKENS))):
        yield TOKENS, f"{tokens:.120}: a model that has such a token cannot train on the row"
    if marks := ", ".join(marks_as_text(record.problem)):
        yield MARKS, f"{marks:.120} in the question: only {IMAGE_TOKEN} stands for a picture"
    if said := [
        found[0] for turn in record.history if turn.role == "assistant" and (found := _COORDINATES.search(turn.text))
    ]:
        yield (
            EARLIER,
            f"{said[0]:.60} in an earlier answer is given to the model as it stands, in no coordinates but the data's: "
            "it should be in those that the model writes",
        )
    gold = task.gold(record)
    if unread := _unread_formula(record, task, gold):
        yield AS_TEXT, unread
    labels = labels_of(gold)
    placed = zip(task.boxes(gold), labels, strict=False)
    boxes = Counter((*map(round, box), image, label) for (box, image), label in placed)
    for (*box, _, label), n in boxes.items():
        if n > 1:
            of = f' of "{label}"' if label else ""
            yield TWICE, f"the gold box {box}{of} stands {n} times; a model that writes it once misses the others"
    asked = asked_names(record, task, template)
    if asked is None:
        return
    for label in dict.fromkeys(filter(None, labels)):
        if not _is_asked_for(asked, label):
            yield LABELS, f'the gold label "{label:.60}" is not among the names asked for: {asked:.80}'
        elif needs_quotes(label) and not _is_delimited(asked, label):
            yield COMMAS, f'"{label:.60}" holds a comma, in a list of names between commas: {asked:.80}'


def _unread_formula(record: Record, task: Task[Any, Any], gold: object) -> str | None:
    """Return a sentence if a gold answer of `math` is compared as text only; None if it is compared by value."""
    if (record.reward or task.reward) != "math" or values_read(str(gold)) is not None:
        return None
    return f"{str(gold)!r:.80}: no values are read, since not all of it can be; only the same text earns 1"


def relabelling_loss(
    record: Record, task: Task[Any, Any], template: Template, frames: tuple[ImageFrame, ...]
) -> str | None:
    """Return a sentence if a model that writes labels as the question does earns less than full marks; else None.

    Example: the question asks for "cat, dog", and the gold label is "Cat".
    """
    asked = asked_names(record, task, template)
    gold = task.gold(record)
    if asked is None or not any(labels_of(gold)):
        return None
    names = {_normal(name): name for name in _names(asked)}
    changed = {
        label: names[_normal(label)] for label in labels_of(gold) if _normal(label) in names and label not in asked
    }
    if not changed:
        return None
    renamed = tuple(replace(item, label=changed.get(item.label, item.label)) for item in gold)
    renamed_record = replace(record, answer=task.answer_json(renamed))
    text = gold_completion(task, renamed_record, frames, BoxFormat.ORIGINAL_PIXELS, template)
    attempt = Attempt(text, record, frames, task, template, completion_ids=byte_ids(text))
    score = judge([attempt], BoxFormat.ORIGINAL_PIXELS, {ACCURACY: 1.0})[0]
    label, name = next(iter(changed.items()))
    earned = score.parts[ACCURACY]
    if earned is None:
        return None
    loss = f'the gold label "{label:.60}" is asked for as "{name:.60}": who writes that earns {earned:.3g}'
    return f"{loss}; write both alike" if earned < _FULL_MARKS else None


def file_notes(
    records: Sequence[Record], task: Task[Any, Any], template: Template, greys: Mapping[str, int]
) -> list[str]:
    """Return sentences about a file as a whole: wrongly wrapped problems, unread columns, dark pictures.

    Args:
        greys: greatest value of each 16-bit picture, by path.
    """
    notes: list[str] = []
    whole = [record for record in records if _wraps(record, task, template) and _is_whole(record)]
    if whole:
        notes.append(
            f"{len(whole)} of {len(records)} problems look like whole instructions, but are put into the task's own "
            f"sentence, e.g. {whole[0].source}: a template with wraps: false asks them as they are"
        )
    notes += _unread_columns(records, task)
    dark = {path: value for path, value in greys.items() if 0 < value < _DARK}
    if dark:
        path, value = next(iter(dark.items()))
        notes.append(
            f"{len(dark)} of {len(greys)} pictures of 16 bits are nearly black, e.g. {path}: of a range of 65,535 only "
            f"{value:,} is used; scale it"
        )
    return notes


def asked_names(record: Record, task: Task[Any, Any], template: Template) -> str | None:
    """The names that a detection task puts into its sentence; None if the problem is a sentence itself."""
    return _bare(record) if _wraps(record, task, template) and not _is_whole(record) else None


def labels_of(gold: Any) -> list[str]:
    """The labels of a gold answer; "" for an item without a label."""
    return [getattr(item, "label", "") for item in gold] if isinstance(gold, tuple) else []


def _wraps(record: Record, task: Task[Any, Any], template: Template) -> bool:
    """Return whether the task puts the problem into a sentence; a sentence that only follows it does not count."""
    return template.wraps and not task.question(record).startswith(record.problem.rstrip())


def _is_whole(record: Record) -> bool:
    return is_whole_instruction(_bare(record), orders=record.task != "gui_click")


def _bare(record: Record) -> str:
    return record.problem.replace(IMAGE_TOKEN, "").strip().rstrip(".")


def _names(asked: str) -> list[str]:
    return [name.strip(" .\"'") for name in (asked, *_BETWEEN_NAMES.split(asked))]


def _is_asked_for(asked: str, label: str) -> bool:
    """Return whether the list has the label, in upper or lower case, as a name or as words of a name."""
    found = re.search(rf"(?<!\w){re.escape(_normal(label))}(?!\w)", _normal(asked))
    return bool(found) or (not label.isascii() and _normal(label) in _normal(asked))


def _is_delimited(asked: str, label: str) -> bool:
    """Return whether a name with a comma is clearly one name: in quotes, between semicolons, or alone."""
    return ";" in asked or label in split_names(asked) or _normal(asked) == _normal(label)


def _normal(text: str) -> str:
    return normalize_text(text).strip(" .\"'")


def _unread_columns(records: Sequence[Record], task: Task[Any, Any]) -> Iterator[str]:
    """Yield sentences about columns that look like something to ask or show, but are not used."""
    found: dict[str, list[AnswerValue]] = {}
    for record in records:
        for key, value in record.columns.items():
            is_option = task.name != "choice" and key in ("options", "choices") and read_options(value)
            is_system = key in _SYSTEM_KEYS and isinstance(value, str) and value and value != record.system
            is_history = key == "history" and bool(value)
            if files_not_shown(value, record.images) or is_option or is_system or is_history:
                found.setdefault(key, []).append(value)
    for key, values in found.items():
        what = "holds file names of pictures, videos or sound, which are not shown"
        if key in ("options", "choices"):
            what = f"holds options, which task {task.name} does not ask: task choice does"
        elif key in _SYSTEM_KEYS:
            what = "is not asked; a message of the system is"
        elif key == "history":
            what = "is not asked; earlier turns in messages are, and those of format question_answer"
        yield f'the column "{key}" of {len(values)} records {what}, e.g. {shown(values[0])}'
