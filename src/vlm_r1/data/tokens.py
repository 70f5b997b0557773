"""Text in a data file that a tokenizer turns into control tokens, e.g. the end of a turn or a placeholder of an image.

The tokenizer decides which texts these are; `KNOWN_TOKENS` lists those of known families, for use without a model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from vlm_r1.data.formats import Example, read_row
from vlm_r1.data.records import RecordFile
from vlm_r1.data.rows import Problem, parse_row
from vlm_r1.errors import DataError
from vlm_r1.types import IMAGE_TOKEN, AnswerValue, Record

_BY_FAMILY = {
    "Qwen-VL, MiMo-VL": """
        <|im_start|> <|im_end|> <|endoftext|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|>
        <|video_pad|>""",
    "InternVL": """
        <IMG_CONTEXT> <img> </img>""",
    "GLM-V": """
        <|begin_of_image|> <|end_of_image|> <|image|> <|begin_of_video|> <|end_of_video|> <|video|>
        <|begin_of_box|> <|end_of_box|> <|user|> <|assistant|> <|system|> <|observation|> [gMASK] <sop> <eop>""",
    "Gemma, PaliGemma": """
        <start_of_turn> <end_of_turn> <start_of_image> <end_of_image> <image_soft_token> <bos> <eos> <pad>
        <unk>""",
    "Idefics, SmolVLM": """
        <fake_token_around_image> <global-img> <end_of_utterance> <row_1_col_1>""",
    "LLaVA and others on Llama or Mistral; Phi": """
        <image> <im_start> <im_end> <im_patch> <s> </s> [INST] [/INST] [IMG] [IMG_BREAK] [IMG_END]
        <|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|>
        <|eom_id|> <|python_tag|> <|end|> <|endofprompt|>""",
}

KNOWN_TOKENS = frozenset(token for tokens in _BY_FAMILY.values() for token in tokens.split())
"""Control tokens of known families, as text."""

GROUNDING_TOKENS = frozenset(f"<{slash}{name}>" for name in ("ref", "box", "quad") for slash in ("", "/")) | frozenset(
    f"<|{name}_{end}|>" for name in ("object_ref", "box", "quad") for end in ("start", "end")
)
"""Tokens around the names and boxes of objects. People write them to a model on purpose; they control nothing."""


_ESCAPES = frozenset((b"\\/", *(b"\\u00%d" % digit for digit in range(2, 8))))
"""Needless escapes of ASCII. A row with one is parsed, since any character of a token may be written as an escape."""


def control_tokens_in(example: Example | Record, tokens: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Find control tokens in the texts of a record: yields e.g. ("the question", "<|im_end|>") per field and token.

    Texts that a model reads or writes are searched: the question, the system's message, earlier turns, options and
    labels, the answer and the thought. The `<image>` marks of questions do not count.
    """
    columns = [example.columns.get(key) for key in ("options", "labels")]
    places: dict[str, AnswerValue] = {
        "the question": example.problem.replace(IMAGE_TOKEN, "\n"),
        "the system's message": example.system,
        "an earlier turn": [turn.text.replace(IMAGE_TOKEN, "\n") for turn in example.history],
        "options or labels": columns,
        "the answer": example.answer,
        "the thought": example.thought,
    }
    tokens = list(tokens)
    for place, value in places.items():
        texts = [text for text in _texts(value) if "<" in text or "[" in text or not text.isascii()]
        yield from ((place, token) for token in tokens if any(token in text for text in texts))


def find_control_tokens(file: RecordFile, tokens: Iterable[str]) -> list[Problem]:
    """Find all rows of a file that hold one of the tokens; only rows whose bytes may hold one are parsed.

    Args:
        file: a data file of any length.
        tokens: the special tokens of a tokenizer, as text; `GROUNDING_TOKENS` are ignored.
    """
    tokens = sorted({*tokens} - GROUNDING_TOKENS - {""})
    if not tokens:
        return []
    forms = {form for token in tokens for form in _written(token)} | _ESCAPES
    pattern = re.compile(_any_of(sorted(forms)))
    problems: list[Problem] = []
    for line, number in file.rows():
        if not pattern.search(line):
            continue
        try:
            example = read_row(parse_row(line), file.format, file.source.columns)
        except DataError:  # reported when the row is checked or drawn
            continue
        found = [f"{token} in {place}" for place, token in control_tokens_in(example, tokens)]
        if found:
            message = f"the model's own token {', '.join(found):.200}: remove it, or write it otherwise"
            problems.append(Problem(f"{file.source.path}:{number}", message))
    return problems


def _written(token: str) -> Iterator[bytes]:
    """Yield the forms in which JSON may write a text: as it is, or with escapes for all but ASCII."""
    plain, escaped = (json.dumps(token, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
    yield plain.encode()
    yield escaped.encode()
    yield re.sub(r"\\u[0-9a-f]{4}", lambda found: "\\u" + found[0][2:].upper(), escaped).encode()


def _any_of(words: list[bytes]) -> bytes:
    """Make a pattern for any of the sorted words; common prefixes occur once, so that it fails fast."""
    if len(words) == 1:
        return re.escape(words[0])
    branches: list[bytes] = []
    for first, group in groupby(words, key=lambda word: word[:1]):
        if not first:
            return b""  # a word ends here, so it was found
        branches.append(re.escape(first) + _any_of([word[1:] for word in group]))
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"


def _texts(value: AnswerValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    items = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    for item in items:
        yield from _texts(item)
