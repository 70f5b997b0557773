"""What is read at all: the bounds that keep hostile or runaway text from costing time.

Tags are found by plain string search, linear in any length; everything finer looks at the answer alone, and only if
it is no longer than this.
"""

MAX_ANSWER_CHARS = 20_000
"""Longer answers are `ParseFailure("too_long")`, unread. A detection answer of 200 boxes has some 12,000 characters."""

MAX_EXPRESSION_CHARS = 1_000
"""Longer mathematics is not compared: a formula costs much more time for each character than other answers."""

MAX_COORDINATE = 1e6
"""Largest coordinate read from a text, in any unit: no image is a million pixels wide."""

MAX_NUMBER = 1e15
"""Largest plain number read from a text; below it a float holds every integer exactly."""
