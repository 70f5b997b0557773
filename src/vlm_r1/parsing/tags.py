"""The rule that reads `<think>…</think><answer>…</answer>`, for rewards, evaluation, gold texts and reports.

* The thought is the text between the first `<think>` and the first `</think>` after it. A thought that is not closed
  reaches to the end.
* The answer is the last complete `<answer>…</answer>` after the thought; an answer inside the thinking does not
  count. "Complete" means that no other answer tag is between the two, so `<answer>a<answer>b</answer>` has the answer
  `b`.
* Tags are exact and lower case. Only `str.find` and `str.count` read the text, so the time is linear for any text.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlm_r1.types import Thinking

THINK, END_THINK, ANSWER, END_ANSWER = TAGS = ("<think>", "</think>", "<answer>", "</answer>")


@dataclass(frozen=True)
class TaggedText:
    """A completion split at its tags.

    Attributes:
        thought: text between the thinking tags as written, e.g. "The man wears a hat."; None without a closed thought.
        answer: text of the last complete answer block as written, e.g. "[10, 20, 110, 220]"; None without one.
        tag_count: number of occurrences of the four tags, e.g. 4.
        well_formed: whether each tag occurs exactly once, in order, with only white space outside the two blocks.
        answer_alone: whether there is one answer block, no thinking tag, and only white space outside.
    """

    thought: str | None
    answer: str | None
    tag_count: int
    well_formed: bool
    answer_alone: bool = False


def split_tags(text: str) -> TaggedText:
    """Split a completion by the rule of this module.

    >>> split_tags("<think>a hat</think> <answer>[1, 2, 3, 4]</answer>")
    TaggedText(thought='a hat', answer='[1, 2, 3, 4]', tag_count=4, well_formed=True, answer_alone=False)
    >>> split_tags("<think>is it <answer>no</answer>?")
    TaggedText(thought=None, answer=None, tag_count=3, well_formed=False, answer_alone=False)
    """
    counts = [text.count(tag) for tag in TAGS]
    thought, thought_end = _find_thought(text)
    return TaggedText(
        thought=thought,
        answer=_find_answer(text, thought_end),
        tag_count=sum(counts),
        well_formed=counts == [1, 1, 1, 1] and _is_well_formed(text),
        answer_alone=counts == [0, 0, 1, 1] and text.strip().startswith(ANSWER) and text.strip().endswith(END_ANSWER),
    )


def answer_text(text: str, tagged: TaggedText, thinking: Thinking) -> str | None:
    """Return the answer in the form of the template; None if there is none.

    A text without tags is an answer only if the template asks for no tags.
    """
    return text if thinking is Thinking.ABSENT and tagged.tag_count == 0 else tagged.answer


def read_gold(text: str) -> tuple[str | None, str]:
    """Split a gold text of a data file into (thought or None, answer), without tags and outer white space.

    >>> read_gold("<think>a</think><answer>b</answer>"), read_gold("<answer>b</answer>"), read_gold("b")
    (('a', 'b'), (None, 'b'), (None, 'b'))
    >>> read_gold("<think>a</think> b")
    ('a', 'b')
    """
    thought, thought_end = _find_thought(text)
    answer = _find_answer(text, thought_end)
    if answer is None:
        answer = text if thought is None else text[thought_end:]
    return (None if thought is None else thought.strip()), answer.strip()


def _find_thought(text: str) -> tuple[str | None, int]:
    """Return the thought and its end: 0 without a thought, the end of the text if the thought is not closed."""
    start = text.find(THINK)
    if start < 0:
        return None, 0
    start += len(THINK)
    end = text.find(END_THINK, start)
    if end < 0:
        return None, len(text)
    return text[start:end], end + len(END_THINK)


def _find_answer(text: str, begin: int) -> str | None:
    start = text.rfind(ANSWER, begin, max(text.rfind(END_ANSWER), begin))
    if start < 0:
        return None
    start += len(ANSWER)
    return text[start : text.find(END_ANSWER, start)]


def _is_well_formed(text: str) -> bool:
    """Check the order of the tags and the text outside; each tag must occur exactly once."""
    before, _, rest = text.partition(THINK)
    _, closed_thought, rest = rest.partition(END_THINK)
    between, opened_answer, rest = rest.partition(ANSWER)
    _, closed_answer, after = rest.partition(END_ANSWER)
    in_order = bool(closed_thought and opened_answer and closed_answer)
    return in_order and not (before.strip() or between.strip() or after.strip())
