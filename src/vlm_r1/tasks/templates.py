"""Templates add an instruction to a question, and define the form of completion that it asks for."""

# pyright: standard

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vlm_r1.config.schema import TemplateSection
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.parsing.tags import ANSWER, END_ANSWER, END_THINK, THINK
from vlm_r1.registry import resolve
from vlm_r1.tasks.base import Task
from vlm_r1.types import IMAGE_TOKEN, BoxFormat, ImageFrame, Prompt, Record, Thinking


@dataclass(frozen=True)
class Template:
    """The words around a question; all of them go into the last turn of the user.

    Attributes:
        name: its name in recipes, e.g. "r1".
        thinking: whether a thought must come before the answer; see `Thinking`.
        instruction: text after every question, e.g. "First output the thinking process in …"; may be empty.
        box_instruction: text after that for tasks whose answers are boxes; may be empty.
        instruction_first: whether the instruction goes between the images and the question instead.
        wraps: whether the task's question is put around the record's problem, e.g. "Please provide the …: {query}.".
    """

    name: str
    thinking: Thinking
    instruction: str = ""
    box_instruction: str = ""
    instruction_first: bool = False
    wraps: bool = True


_R1 = (
    "First output the thinking process in <think> </think> tags and then output the final answer in <answer> </answer> "
    "tags."
)
_R1_OVD = (
    "First thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think><answer> answer here </answer>\n"
)
_R1_IC = (
    "First thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think><answer> json format answer here </answer>"
)

TEMPLATES: Mapping[str, Template] = {
    # The original repository's template: for boxes its "rec", for all else its default.
    "r1": Template("r1", Thinking.REQUIRED, _R1, box_instruction="Output the final answer in JSON format."),
    # The original's default, for boxes too.
    "r1_default": Template("r1_default", Thinking.REQUIRED, _R1),
    # The original's "odLength".
    "r1_ovd": Template("r1_ovd", Thinking.REQUIRED, _R1_OVD, instruction_first=True),
    # The original's "ic", which asks for an answer in JSON.
    "r1_ic": Template("r1_ic", Thinking.REQUIRED, _R1_IC),
    # The paper, section 5.1.
    "paper": Template(
        "paper",
        Thinking.REQUIRED,
        "Output the thinking process in <think> </think> and final answer in <answer> </answer> tags.",
    ),
    # The model decides whether to think, and the reward whether that pays.
    "free": Template(
        "free",
        Thinking.FREE,
        "If it helps, first think in <think> </think> tags. Output the final answer in <answer> </answer> tags.",
    ),
    # The original repository's baseline without thinking.
    "direct": Template(
        "direct", Thinking.ABSENT, box_instruction="Please provide the bounding box coordinate in JSON format."
    ),
    # The record's problem alone, for models that learnt the tags by SFT; this is the shortest prompt.
    "bare": Template("bare", Thinking.REQUIRED, wraps=False),
}


def get_template(name: str, own: Mapping[str, Template] = {}) -> Template:
    """Return the template of that name, from our table, the recipe or a plug-in `package.module:NAME`.

    Raises:
        ConfigError: there is no such template, or what has that name is none.
    """
    found: object = resolve("template", name, {**TEMPLATES, **own})
    if not isinstance(found, Template):
        raise ConfigError(f'template "{name}" is {found!r:.100}; wanted a vlm_r1.tasks.templates.Template')
    return found


@dataclass(frozen=True)
class Templates:
    """The templates of a data set: a record has the one that it names, or the default.

    Attributes:
        default: template of records that name none.
        named: all templates that records name.
    """

    default: Template
    named: Mapping[str, Template] = field(default_factory=dict)

    def of(self, record: Record) -> Template:
        """Return the template of a record."""
        return self.default if record.template is None else self.named[record.template]


def own_templates(sections: Mapping[str, TemplateSection]) -> dict[str, Template]:
    """Make a recipe's own templates, by name."""
    return {
        name: Template(name=name, **{**section.model_dump(), "thinking": Thinking(section.thinking)})
        for name, section in sections.items()
    }


def make_templates(
    default: str,
    names: Iterable[str | None] = (),
    sections: Mapping[str, TemplateSection] = {},
) -> Templates:
    """Look up the default and all other names that records may hold (None: the default).

    Args:
        sections: the recipe's own templates by name.

    Raises:
        ConfigError: a name is unknown.
    """
    own = own_templates(sections)
    named = {name: get_template(name, own) for name in dict.fromkeys(names) if name is not None}
    return Templates(get_template(default, own), named)


def build_prompt(task: Task[Any, Any], record: Record, template: Template) -> Prompt:
    """Put a record's question into a template; its system message and earlier turns stay as they are.

    Raises:
        DataError: the text does not have one `<image>` for each image of the question.
    """
    box_instruction = template.box_instruction if task.answer_is_box else ""
    question = task.question(record) if template.wraps else record.problem
    if template.instruction_first:
        images, question = _leading_images(question)
        text = images + _join(template.instruction, question, box_instruction)
    else:
        text = _join(question, template.instruction, box_instruction)
    n_images = len(record.question_images)
    if text.count(IMAGE_TOKEN) != n_images:
        raise DataError(
            f"{record.source}: the prompt has {text.count(IMAGE_TOKEN)} {IMAGE_TOKEN} marks for {n_images} images; "
            "wanted one for each"
        )
    return Prompt(text, record.images, record.system, record.history)


def gold_completion(
    task: Task[Any, Any], record: Record, frames: tuple[ImageFrame, ...], box_format: BoxFormat, template: Template
) -> str:
    """Write the completion of a perfect model: SFT learns it, and it must earn full marks.

    Raises:
        DataError: the record has no usable gold answer.
    """
    answer = task.gold_text(task.gold(record), frames, box_format)
    tagged = f"{ANSWER}{answer}{END_ANSWER}"
    match template.thinking:
        case Thinking.ABSENT:
            return answer
        case Thinking.FREE if record.thought is None:
            return tagged
        case _:
            return f"{THINK}{record.thought or ''}{END_THINK}{tagged}"


def _join(*sentences: str) -> str:
    """Put a space between sentences, but none after a line break.

    >>> _join("Think.\\n", "Same?", "", "Yes or no?")
    'Think.\\nSame? Yes or no?'
    """
    text = ""
    for sentence in sentences:
        text += " " + sentence if text and sentence and not text.endswith("\n") else sentence
    return text


def _leading_images(question: str) -> tuple[str, str]:
    """Split off the `<image>` marks that a question begins with.

    >>> _leading_images("<image><image>Same?")
    ('<image><image>', 'Same?')
    """
    rest = question
    while rest.startswith(IMAGE_TOKEN):
        rest = rest[len(IMAGE_TOKEN) :]
    return question[: len(question) - len(rest)], rest
