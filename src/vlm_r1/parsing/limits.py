"""Limits of what is read, so that hostile or runaway text costs no time.

Tags are found by plain string search, which is linear in the length of the text. All finer parsing reads only the
answer, and only within these limits.
"""

MAX_ANSWER_CHARS = 20_000
"""Longer answers are `ParseFailure("too_long")` and not read. An answer of 200 boxes has some 12,000 characters."""

MAX_EXPRESSION_CHARS = 1_000
"""Longer formulas are not compared, since they cost much more time per character than other answers."""

MAX_COORDINATE = 1e6
"""Largest coordinate that is read from a text, in any unit: no image is a million pixels wide."""

MAX_NUMBER = 1e15
"""Largest plain number that is read from a text; below it, floats represent every integer exactly."""
