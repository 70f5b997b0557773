"""The sections of a recipe about data: files, templates, and what rows may name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, field_validator, model_validator

from vlm_r1.config.base import NonNegativeInt, PathText, PlainName, PositiveFloat, PositiveInt, Section
from vlm_r1.config.strategy import checked_strategy
from vlm_r1.config.words import BoxNumbers, ColumnRole, Coordinates, ThinkingChoice
from vlm_r1.registry import may_be_allowed, quoted


def _protocol(name: str) -> str:
    if name.lower() in ("file", "local"):
        raise ValueError(f"{name!r}: files of this disk are allowed by allowed_local_media_path, e.g. [/data/coco]")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", name):
        raise ValueError(f"got {name!r}, wanted the name of a protocol, e.g. https or s3")
    return name


def _host(name: str) -> str:
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)*\.?", name):
        try:
            ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise ValueError(f"got {name!r}, wanted a host alone, e.g. images.example.org or 10.0.0.7") from None
    return name


class Allowed(Section):
    """What rows of data may name beside our own tables and the files below `image_root` (docs/security.md).

    A data file comes from strangers. Whoever runs a command allows more, in the recipe or by options of the command;
    the data never do.
    """

    allowed_rewards: list[str] = Field(
        default_factory=list[str],
        description="Rewards of your own that rows may name besides those of REWARDS and of the recipe: "
        "package.module:Name, with any options, or with options, package.module:Name(size=3), these alone. A reward "
        'model is allowed with its options, e.g. reward_model(path="org/name").',
    )
    allowed_protocols: list[Annotated[str, AfterValidator(_protocol)]] = Field(
        default_factory=list[str],
        description="Protocols of remote images that rows may name, e.g. [https, s3]; those below a remote image_root "
        "are always allowed.",
    )
    allowed_media_domains: list[Annotated[str, AfterValidator(_host)]] = Field(
        default_factory=list[str],
        description="Hosts that remote images may come from, at any address, as in vLLM; default: all hosts with "
        "public addresses.",
    )
    allowed_local_media_path: list[PathText] = Field(
        default_factory=list[PathText],
        description="Folders outside image_root that rows may name files in, e.g. [/data/coco]; [/] allows all files.",
    )

    @field_validator("allowed_rewards")
    @classmethod
    def _outside(cls, names: list[str]) -> list[str]:
        for name in names:
            if not may_be_allowed(name):
                raise ValueError(
                    f"{quoted(name)} reads like no package.module:Name, e.g. my_package.rewards:Judge, and like no "
                    'reward_model(path="org/name")'
                )
        return names


NOTHING = Allowed()
"""Rows may name our own tables and files below `image_root` only."""


def check_domains(allowed: Allowed, image_roots: Iterable[str]) -> None:
    """ValueError if hosts are allowed where nothing remote can be named."""
    if allowed.allowed_media_domains and not allowed.allowed_protocols and not any("://" in r for r in image_roots):
        raise ValueError(
            "data.allowed_media_domains (--allowed-media-domains) has no effect without data.allowed_protocols "
            "(--allowed-protocols), e.g. https"
        )


def system_text(text: str) -> str:
    """Return a system prompt unchanged; ValueError if it says nothing or has an image."""
    if text and not text.strip():
        raise ValueError("a system prompt of blanks says nothing: write a system message, or remove it")
    if "<image>" in text:
        raise ValueError("a system prompt has no images: take <image> out")
    return text


SystemPrompt = Annotated[str, AfterValidator(system_text)]
"""A system message: text without images."""

_GIVEN_BY_US = ("messages", "conversation", "tools", "documents", "add_generation_prompt", "continue_final_message")


def _switches(switches: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for name in switches:
        if name in _GIVEN_BY_US:
            raise ValueError(f"{name} is set by the program itself; wanted switches of the chat template's own")
    return switches


Switches = Annotated[dict[str, JsonValue], AfterValidator(_switches)]
"""Variables that a chat template reads, e.g. {"enable_thinking": False}. Which it has is known once it is loaded."""


class DataSource(Section):
    """One file of records: JSONL, JSON or Parquet, in any of the formats of docs/data.md; or a data set of the Hub."""

    path: PathText = Field(description="File, or hub:owner/name[:split] for a data set of the Hugging Face Hub.")
    format: str = Field(
        default="auto",
        description="How a line is laid out: a name of FORMATS, e.g. vlm_r1; auto: recognised by its keys.",
    )
    columns: dict[ColumnRole, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict[ColumnRole, str],
        description="Keys of your own rows, e.g. {image: image_path, problem: expression, answer: bbox}; one that is "
        "left out is looked for under its own name. Then format stays auto.",
    )
    image_root: PathText = Field(
        default="", description="Folder or URL that image paths are relative to; default: the file's own folder."
    )
    task: str = Field(default="rec", description="Task that asks and judges: a name of TASKS or package.module:Name.")
    reward: str | None = Field(
        default=None,
        description="Accuracy reward of records that name none (accu_reward_method); default: the task's own.",
    )
    template: str | None = Field(default=None, description="Template of these records; default: data.template.")
    system_prompt: SystemPrompt | None = Field(
        default=None,
        description="System message of records whose rows have none; default: data.system_prompt; empty: none.",
    )
    coordinates: Coordinates = Field(
        default="pixels",
        description="Unit of the gold boxes: pixels of the image on disk, or 0-1000 or 0-1 of its width and height.",
    )
    box: BoxNumbers = Field(
        default="xyxy",
        description="The four numbers of a gold box: two corners; left, top, width, height; or centre, width, height.",
    )
    orientation: Literal["upright", "stored"] = Field(
        default="upright",
        description="Whether gold boxes lie on the image turned upright by its EXIF orientation, or as it is stored.",
    )
    split_range: tuple[float, float] = Field(
        default=(0.0, 1.0),
        description="Keep the records whose hash of the id, a number in [0, 1), lies in [first, last): the same ones "
        "on every machine, e.g. [0, 0.9] to train and [0.9, 1] to hold out.",
    )
    split_by: Literal["id", "image"] = Field(
        default="id",
        description="What split_range hashes: the id, or the image, by its path as written; then all records of a "
        "picture fall on the same side.",
    )
    sampling_strategy: Annotated[str, AfterValidator(checked_strategy)] = Field(
        default="all",
        description="Keep some records of split_range, in their order: all, first:N, last:N (or end:N) or random:N, "
        "with N a number of records or a percentage, N%, rounded up. random is seeded by seed.",
    )
    weight: PositiveFloat | None = Field(
        default=None,
        description="Share of the prompts drawn from this file, relative to the other weights; all files or none have "
        "one. Default: files are concatenated, each record is drawn once an epoch.",
    )

    @model_validator(mode="after")
    def _columns_have_effect(self):
        if self.columns and self.format != "auto":
            raise ValueError(
                f"columns names the keys of the rows, and so does format: {self.format}. Remove one of them"
            )
        twice = [key for key in self.columns.values() if list(self.columns.values()).count(key) > 1]
        if twice:
            raise ValueError(f"columns names the key {quoted(twice[0])} twice; each holds one thing")
        return self

    @model_validator(mode="after")
    def _range_in_order(self):
        first, last = self.split_range
        if not 0 <= first < last <= 1:
            raise ValueError(f"split_range is {[first, last]}; wanted 0 <= first < last <= 1, e.g. [0, 0.9]")
        if self.changes("split_by") and not self.changes("split_range"):
            raise ValueError("split_by has no effect without split_range: set split_range, or remove it")
        return self


class TemplateSection(Section):
    """A template of the recipe's own: the words around a question, and the form of completion that they ask for."""

    thinking: ThinkingChoice = Field(
        default="required",
        description="required: <think>…</think><answer>…</answer>; free: the thought may be left out; absent: the bare "
        "answer without tags.",
    )
    instruction: str = Field(default="", description="Follows every question.")
    box_instruction: str = Field(default="", description="Follows it for tasks whose answers are boxes.")
    instruction_first: bool = Field(
        default=False, description="Put the instruction between the images and the question instead."
    )
    wraps: bool = Field(
        default=True,
        description="Let the task put its own question around a bare problem; false: ask the problem as it is.",
    )


class DataSection(Allowed):
    """The data to learn from, and the data to hold out."""

    train: list[DataSource] = Field(
        default_factory=list[DataSource], description="Training files, concatenated, then shuffled."
    )
    eval: dict[PlainName, DataSource] = Field(
        default_factory=dict,
        description="Held-out files by name, e.g. in_domain: letters, digits, _ - . since files are named by it.",
    )
    template: str = Field(
        default="r1",
        description="Words around the question: a name of TEMPLATES (`vlm-r1 trace` shows it), of data.templates, or "
        "package.module:NAME.",
    )
    templates: dict[PlainName, TemplateSection] = Field(default_factory=dict, description="The recipe's own, by name.")
    system_prompt: SystemPrompt | None = Field(
        default=None,
        description="System message, written by the checkpoint's chat template; a source's own system_prompt wins, and "
        "a row's own system message wins over both. null: the template's own, if it has one.",
    )
    chat_template_kwargs: Switches = Field(
        default_factory=dict,
        description="Switches of the checkpoint's chat template, e.g. {enable_thinking: false}; one that it does not "
        "read is an error.",
    )
    max_prompt_length: PositiveInt | None = Field(
        default=None, description="Longer prompts, in tokens with image tokens, are an error; null: no limit."
    )
    filter_overlong_prompts: bool = Field(
        default=False, description="Leave out and count the records with longer prompts instead."
    )
    shuffle: bool = Field(default=True, description="A new seeded order in each epoch; false: file order.")
    dataloader_num_workers: NonNegativeInt = Field(
        default=2, description="Threads that decode images of the next step during this one; 0: none."
    )

    max_bad_records: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.001,
        description="Training records that may be skipped because their picture or line cannot be read when they are "
        "drawn: a whole number, or a share of all, of which at least one; then the run stops. What is checked before "
        "training stops it at once.",
    )

    @property
    def train_sources(self) -> list[DataSource]:
        """The training files, each with the system prompt that its records are asked with."""
        return [self._asked(source) for source in self.train]

    @property
    def eval_sources(self) -> dict[str, DataSource]:
        """The held-out files by name, each with the system prompt that its records are asked with."""
        return {name: self._asked(source) for name, source in self.eval.items()}

    def _asked(self, source: DataSource) -> DataSource:
        given = self.system_prompt if source.system_prompt is None else source.system_prompt
        return source.model_copy(update={"system_prompt": given})

    @model_validator(mode="after")
    def _system_prompts_have_effect(self):
        own = [source.system_prompt for source in (*self.train, *self.eval.values())]
        if self.system_prompt is None and "" in own:
            raise ValueError('system_prompt "" of a source has no effect without data.system_prompt: remove it')
        if self.system_prompt == "":
            raise ValueError("data.system_prompt is empty: write a system message, or remove it")
        if self.system_prompt is not None and own and None not in own:
            raise ValueError("data.system_prompt has no effect: every source has a system_prompt of its own; remove it")
        return self

    @model_validator(mode="after")
    def _domains_have_effect(self):
        check_domains(self, (source.image_root for source in (*self.train, *self.eval.values())))
        return self

    @model_validator(mode="after")
    def _filter_has_effect(self):
        if self.filter_overlong_prompts and self.max_prompt_length is None:
            raise ValueError(
                "data.filter_overlong_prompts has no effect without data.max_prompt_length: set the greatest number of "
                "tokens of a prompt, or remove it"
            )
        return self

    @model_validator(mode="after")
    def _weights_have_effect(self):
        weighted = [source.weight is not None for source in self.train]
        if any(weighted) and (not all(weighted) or len(weighted) == 1):
            raise ValueError(
                "data.train: weights compare files, so either all of at least two have one or none has; "
                f"got {sum(weighted)} of {len(weighted)}"
            )
        named = [name for name, source in self.eval.items() if source.weight is not None]
        if named:
            raise ValueError(f"data.eval.{named[0]}.weight has no effect: held-out records are all answered; remove it")
        return self
