"""The gold answer of a data line in the form of the original's reward functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from vlm_r1.official.texts import in_tags
from vlm_r1.types import AnswerValue


@dataclass(frozen=True)
class Gold:
    """A gold answer, and the sizes of its image for rewards that need them.

    Attributes:
        solution: the answer as in the data, e.g. [10, 20, 110, 220] or "No Defect".
        image_size: (width, height) in pixels on disk.
        model_input_size: (width, height) in pixels after the processor's resize.
    """

    solution: AnswerValue
    image_size: Sequence[int] | None = None
    model_input_size: Sequence[int] | None = None

    @property
    def text(self) -> str:
        """The solution in answer tags; the original also replaces its tags.

        As in the original's data, lists of labelled boxes are fenced, and an empty list is None.

        >>> Gold("<answer>yes</answer>").text, Gold([1, 2, 3, 4]).text, Gold([]).text
        ('<answer> yes </answer>', '<answer> [1, 2, 3, 4] </answer>', '<answer> None </answer>')
        """
        return f"<answer> {self._bare()} </answer>"

    @property
    def inner(self) -> str:
        """The solution without tags. Several lines keep their tags, since the original's pattern needs one line.

        >>> Gold("a red bus").inner, Gold("a red\\nbus").inner
        ('a red bus', '<answer> a red\\nbus </answer>')
        """
        found = [answer for answer in in_tags(self.text) if "\n" not in answer]
        return found[0].strip() if found else self.text

    def _bare(self) -> str:
        if isinstance(self.solution, str):
            return self.solution.replace("<answer>", "").replace("</answer>", "").strip()
        if self.solution == []:
            return "None"
        if isinstance(self.solution, list) and isinstance(self.solution[0], dict):
            return f"```json\n{json.dumps(self.solution)}\n```"
        return str(self.solution)
