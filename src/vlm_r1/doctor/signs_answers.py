"""Signs in the answers: all the same, not readable, in other coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vlm_r1.doctor.answers import Answers, pool
from vlm_r1.doctor.base import WINDOW, Finding, HeldOut, Seen, mean, percent

FEWEST_RECORDS = 16
"""Records below which equal answers may be chance."""

NEARLY_ALL = 0.9
OFTEN_RIGHT = 0.8
"""If one answer is right this often, the data are like that: a set with 90 % "no" is answered by "no"."""

MOST_UNREAD = 0.3
STILL = 0.8
"""Share that the later half of the window keeps of the earlier one. Below it the failures go down by themselves."""

FEWEST_LOCATED = 16
BAD_OVERLAP = 0.15
GOOD_OVERLAP = 0.3
TIMES_BETTER = 3.0


def one_answer(seen: Seen) -> Iterator[Finding]:
    """Nearly all answers are the same text."""
    for name, last in _last_held_out(seen):
        if last.answers is not None and (said := _one_answer(last.answers)):
            yield _same(f"{name}, after step {last.step}: {said}", seen, name)
    if said := _one_answer(_recent(seen)):
        yield _same(f"the last {WINDOW} steps: {said}", seen)


def _one_answer(found: Answers) -> str:
    if found.records < FEWEST_RECORDS or not found.common:
        return ""
    text, times = max(found.common.items(), key=lambda item: item[1])
    right = found.right.get(text, 0)
    if times < NEARLY_ALL * found.n or right >= OFTEN_RIGHT * times:
        return ""
    return f'{times:,} of {found.n:,} answers are "{text}", of which {right:,} are right'


def _same(evidence: str, seen: Seen, about: str = "") -> Finding:
    return Finding(
        "one-answer",
        evidence,
        "the model no longer looks at the picture: one answer was safe, and took over. A higher mean only counts the "
        "records for which it happens to be right",
        "go back to an earlier checkpoint; use a reward that pays for partly right answers, more records with other "
        "answers, a lower learning rate or grpo.beta above 0",
        seen.step,
        about,
        doubts=True,
    )


def parse_failures(seen: Seen) -> Iterator[Finding]:
    """Many answers cannot be read, and it does not get better."""
    for name, last in _last_held_out(seen):
        unread = sum(last.unread.values())
        if last.step and last.n >= FEWEST_RECORDS and unread >= MOST_UNREAD * last.n:
            where = f"{name}, after step {last.step}: {unread:,} of {last.n:,} answers"
            yield _unread(where, last.unread, seen, name)
    window = seen.rows[-WINDOW:]
    if len(window) < WINDOW or not seen.settings.completions:
        return
    counts = [
        {key.partition("/")[2]: int(n) for key, n in row.items() if key.startswith("parse_failures/") and n == n}
        for row in window
    ]
    shares = [sum(row.values()) / seen.settings.completions for row in counts]
    earlier, later = mean(shares[: WINDOW // 2]), mean(shares[WINDOW // 2 :])
    if mean(shares) >= MOST_UNREAD and later >= STILL * earlier:
        reasons: dict[str, int] = {}
        for row in counts:
            for reason, n in row.items():
                reasons[reason] = reasons.get(reason, 0) + n
        yield _unread(f"{percent(mean(shares))} of the completions of the last {WINDOW} steps", reasons, seen)


def _unread(where: str, reasons: Mapping[str, int], seen: Seen, about: str = "") -> Finding:
    commonest = sorted(reasons.items(), key=lambda item: -item[1])[:3]
    return Finding(
        "parse-failures",
        f"{where} cannot be read ({', '.join(f'{reason} {n:,}' for reason, n in commonest)})",
        _CAUSES.get(commonest[0][0], "the model writes another form than the template asks for"),
        "read the completions in the report and vlm-r1 trace RECIPE; choose a template that the model follows, or "
        "vlm-r1 sft first",
        seen.step,
        about,
    )


_CAUSES = {
    "no_answer_tag": "the model writes no <answer> … </answer>: it does not know the template, or it is cut off before",
    "no_box": "the answer holds no box: the question does not ask for one, or the model writes words",
}


def other_coordinates(seen: Seen) -> Iterator[Finding]:
    """The boxes would fit if they were read in other coordinates."""
    found = [(name, last.answers) for name, last in _last_held_out(seen) if last.answers is not None]
    for name, answers in [*found, ("", _recent(seen))]:
        if answers.located < FEWEST_LOCATED:
            continue
        fits = {form: total / answers.located for form, total in answers.overlap.items()}
        own = fits.pop(answers.box_format, 1.0)
        form, best = max(fits.items(), key=lambda item: item[1], default=("", 0.0))
        if own < BAD_OVERLAP and best >= max(GOOD_OVERLAP, TIMES_BETTER * own):
            yield Finding(
                "other-coordinates",
                f"{f'{name}: ' if name else ''}boxes read as {answers.box_format} have a mean IoU of {own:.2f} with "
                f"the truth; read as {form} they would have {best:.2f} ({answers.located} answers)",
                f"the model writes its boxes as {form}, because it was trained so or the question asks for it",
                f"set model.box_format: {form}, and check it with vlm-r1 check-model",
                seen.step,
                name,
            )


def _recent(seen: Seen) -> Answers:
    """The answers of the last steps."""
    steps = sorted(seen.answers)[-WINDOW:]
    return pool([seen.answers[step] for step in steps if step > seen.step - WINDOW])


def _last_held_out(seen: Seen) -> Iterator[tuple[str, HeldOut]]:
    """The newest evaluation of each held-out set."""
    return ((name, several[-1]) for name, several in seen.held_out.items() if several)
