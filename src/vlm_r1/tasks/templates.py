"""Templates: what is added to a question, and which form of completion that asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlm_r1.errors import DataError
from vlm_r1.parsing.tags import ANSWER, END_ANSWER, END_THINK, THINK
from vlm_r1.registry import resolve
from vlm_r1.tasks.base import Task
from vlm_r1.types import IMAGE_TOKEN, BoxFormat, ImageFrame, Prompt, Record


@dataclass(frozen=True)
class Template:
    """A way to put the question; all of it goes into the user turn.

    Attributes:
        name: as in recipes, e.g. "r1".
        thinking: whether the completion is `<think>…</think><answer>…</answer>`, or the bare answer.
        instruction: follows every question, e.g. "First output the thinking process in …"; may be empty.
        box_instruction: follows it for tasks whose answers are boxes; may be empty.
        wraps: whether the task puts its own question round the record's problem, e.g. "Please provide the …: {query}.".
    """

    name: str
    thinking: bool
    instruction: str
    box_instruction: str
    wraps: bool = True


TEMPLATES: Mapping[str, Template] = {
    # The original repository's REC template; its default template is the same without the JSON sentence.
    "r1": Template(
        name="r1",
        thinking=True,
        instruction="First output the thinking process in <think> </think> tags and then output the final answer in "
        "<answer> </answer> tags.",
        box_instruction="Output the final answer in JSON format.",
    ),
    # The paper, section 5.1.
    "paper": Template(
        name="paper",
        thinking=True,
        instruction="Output the thinking process in <think> </think> and final answer in <answer> </answer> tags.",
        box_instruction="",
    ),
    # The record's problem alone, for models that learnt the tags by SFT: the shortest prompt.
    "bare": Template(name="bare", thinking=True, instruction="", box_instruction="", wraps=False),
    # The original repository's baseline without thinking.
    "direct": Template(
        name="direct",
        thinking=False,
        instruction="",
        box_instruction="Please provide the bounding box coordinate in JSON format.",
    ),
}


def get_template(name: str) -> Template:
    """The template of that name, or of `package.module:NAME`.

    Raises:
        ConfigError: there is none.
    """
    return resolve("template", name, TEMPLATES)


def build_prompt(task: Task[Any], record: Record, template: Template) -> Prompt:
    """Ask a record's question in the words of a template.

    Raises:
        DataError: the text has not one `<image>` for each image.
    """
    box_instruction = template.box_instruction if task.answer_is_box else ""
    question = task.question(record) if template.wraps else record.problem
    sentences = (question, template.instruction, box_instruction)
    text = " ".join(sentence for sentence in sentences if sentence)
    if text.count(IMAGE_TOKEN) != len(record.images):
        raise DataError(
            f"{record.source}: the prompt has {text.count(IMAGE_TOKEN)} {IMAGE_TOKEN} marks for "
            f"{len(record.images)} images; wanted one for each"
        )
    return Prompt(text=text, images=record.images)


def gold_completion(
    task: Task[Any], record: Record, frames: tuple[ImageFrame, ...], box_format: BoxFormat, template: Template
) -> str:
    """The completion of a perfect model: what SFT learns, and what must be judged full marks.

    Raises:
        DataError: the record has no usable gold answer.
    """
    answer = task.gold_text(task.gold(record), frames, box_format)
    return f"{THINK}{record.thought or ''}{END_THINK}{ANSWER}{answer}{END_ANSWER}" if template.thinking else answer
