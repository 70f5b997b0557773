"""Every option of a recipe, with its unit, its default and the source of the default.

The sections `model` and `grpo` are in `model.py` and `objective.py`. Names follow Hugging Face and TRL where the
meaning is the same. `docs/configuration.md` is generated from all of them.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from vlm_r1.config.base import (
    NonNegativeFloat,
    NonNegativeInt,
    PathText,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
    TableName,
    is_own,
)
from vlm_r1.config.model import LoraSection, ModelSection, Part
from vlm_r1.config.objective import GrpoSection
from vlm_r1.config.words import OPTIMIZERS, SAMPLERS, Coordinates, LayoutOption, ThinkingChoice

__all__ = [
    "Config",
    "DataSection",
    "DataSource",
    "GrpoSection",
    "LoraSection",
    "ModelSection",
    "SamplingSection",
    "Section",
    "TemplateSection",
    "TrainingSection",
]


class DataSource(Section):
    """One file of records: JSONL, JSON or Parquet, in any of the formats of docs/data.md; or a data set of the Hub."""

    path: PathText = Field(description="File, or hub:owner/name[:split] for a data set of the Hugging Face Hub.")
    format: str = Field(
        default="auto",
        description="How a line is laid out: a name of FORMATS, e.g. vlm_r1; auto: recognised by its keys.",
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
    coordinates: Coordinates = Field(
        default="pixels",
        description="Unit of the gold boxes: pixels of the image on disk, or 0-1000 or 0-1 of its width and height.",
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
    weight: PositiveFloat | None = Field(
        default=None,
        description="Share of the prompts drawn from this file, relative to the other weights; all files or none have "
        "one. Default: files are concatenated, each record is drawn once an epoch.",
    )

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


class DataSection(Section):
    """The data to learn from, and the data to hold out."""

    train: list[DataSource] = Field(
        default_factory=list[DataSource], description="Training files, concatenated, then shuffled."
    )
    eval: dict[str, DataSource] = Field(default_factory=dict, description="Held-out files by name, e.g. in_domain.")
    template: str = Field(
        default="r1",
        description="Words around the question: a name of TEMPLATES (`vlm-r1 trace` shows it), of data.templates, or "
        "package.module:NAME.",
    )
    templates: dict[str, TemplateSection] = Field(default_factory=dict, description="The recipe's own, by name.")
    max_prompt_length: PositiveInt | None = Field(
        default=None, description="Longer prompts, in tokens with image tokens, are an error; null: no limit."
    )
    shuffle: bool = Field(default=True, description="A new seeded order in each epoch; false: file order.")
    dataloader_num_workers: NonNegativeInt = Field(
        default=2, description="Threads that decode images of the next step during this one; 0: none."
    )

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


class SamplingSection(Section):
    """How completions are drawn in training. (Evaluation is greedy.)"""

    engine: Annotated[str, AfterValidator(TableName(SAMPLERS))] = Field(
        default="hf",
        description="Sampler that draws them. hf: transformers, with the trainer's own weights. Your own: "
        "docs/add_an_objective.md.",
    )
    temperature: PositiveFloat = Field(
        default=1.0, description="Logits are divided by it, in sampling and in training passes."
    )
    top_p: Probability = Field(
        default=1.0, description="Nucleus: keep the likeliest tokens of this total probability; 1: all."
    )
    top_k: NonNegativeInt = Field(default=0, description="Keep this many likeliest tokens; 0: all.")
    min_p: float = Field(
        default=0.0, ge=0, lt=1, description="Drop tokens less likely than min_p times the likeliest; 0: none."
    )
    max_completion_length: PositiveInt = Field(
        default=512, description="Cap on sampled tokens, the stop token included."
    )


class TrainingSection(Section):
    """The loop: budget, optimizer, checkpoints, evaluation. Shared by `train` and `sft`."""

    max_steps: PositiveInt = Field(default=500, description="Steps; each takes prompts_per_step records.")
    prompts_per_step: PositiveInt = Field(default=16, description="P, records in a step, over all processes.")
    max_tokens_per_micro_batch: PositiveInt = Field(
        default=16384,
        description="Positions in one forward and backward pass on one process: as many groups as fit; a larger group "
        "is split. Changes memory, not the result.",
    )
    layout: LayoutOption = Field(
        default="auto",
        description="How completions are arranged in a policy pass. packed: each prompt once, then its completions; "
        "rows: the prompt again for each completion, slower; auto: packed where the architecture allows it.",
    )
    trust_checks: bool = Field(
        default=True,
        description="Before the first two updates and every trust_check_steps: tokens, log-probabilities and gradients "
        "equal those of transformers' own processor and model, sampler and policy agree, a blank image makes a "
        "difference, no placeholder was sampled.",
    )
    trust_check_steps: NonNegativeInt = Field(
        default=100, description="Steps between later checks; 0: check only before the first two updates."
    )
    optim: Annotated[str, AfterValidator(TableName(OPTIMIZERS))] = Field(
        default="adamw",
        description="adamw: torch.optim.AdamW; muon: torch.optim.Muon, in float32 on a CPU, for the matrices of "
        "layers, AdamW for the rest. Muon learns faster from random weights (docs/log.md). Your own, for all "
        "parameters: package.module:Name of a class of torch optimizers (docs/add_an_objective.md).",
    )
    learning_rate: NonNegativeFloat = Field(default=1e-6, description="Peak learning rate (paper: 1e-6; LoRA 1e-5).")
    learning_rates: dict[Part, PositiveFloat] = Field(
        default_factory=dict[Part, PositiveFloat],
        description="Peak learning rates of parts of the model, e.g. {vision: 2e-7, projector: 1e-5}; model.freeze "
        "names parts that do not train.",
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = Field(
        default="linear", description="Schedule of the learning rate over max_steps (transformers.get_scheduler)."
    )
    warmup_steps: NonNegativeInt = Field(default=0, description="Steps in which the learning rate rises from 0.")
    weight_decay: NonNegativeFloat = Field(default=0.0, description="Decoupled weight decay.")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="First-moment decay of AdamW.")
    adam_beta2: float = Field(default=0.999, ge=0, lt=1, description="Second-moment decay of AdamW.")
    max_grad_norm: PositiveFloat = Field(default=1.0, description="Gradients are scaled down to this global norm.")
    mixed_precision: Literal["auto", "no", "bf16"] = Field(
        default="auto",
        description="bf16: passes compute in bfloat16 (autocast), for any type of the weights; auto: bf16 where "
        "the device computes in it, as GPUs since 2020 do, else no.",
    )
    max_skipped_steps: PositiveInt = Field(
        default=5, description="Stop after this many steps in a row whose gradient is not finite."
    )
    save_steps: NonNegativeInt = Field(default=0, description="Steps between checkpoints; 0: only one at the end.")
    save_total_limit: PositiveInt = Field(default=2, description="Number of newest checkpoints to keep.")
    eval_steps: NonNegativeInt = Field(
        default=0, description="Steps between evaluations on data.eval; 0: only before and after training."
    )
    eval_batch_size: PositiveInt = Field(default=32, description="Prompts sampled at once in evaluation.")
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        default_factory=list[Literal["tensorboard", "wandb", "trackio"]],
        description="Trackers (through accelerate) besides metrics.jsonl.",
    )

    @model_validator(mode="after")
    def _has_effect(self):
        if self.warmup_steps and self.lr_scheduler_type == "constant":
            raise ValueError(
                "warmup_steps has no effect with lr_scheduler_type constant: use constant_with_warmup, or remove it"
            )
        if not self.trust_checks and self.changes("trust_check_steps"):
            raise ValueError("trust_check_steps has no effect with trust_checks false: remove one of the two")
        for option in ("adam_beta1", "adam_beta2"):
            if is_own(self.optim) and self.changes(option):
                raise ValueError(
                    f"{option} has no effect with an optim of your own, which is given no options: remove it"
                )
        if not self.save_steps and self.changes("save_total_limit"):
            raise ValueError(
                "save_total_limit has no effect with save_steps 0, where only the end is saved: set save_steps"
            )
        return self


class Config(Section):
    """A recipe: one file is one complete run.

    An override `--section.key=value` takes the value of a text option (type str, or a choice of words) literally, `#`,
    `: `, `yes` and `1e3` included; the word `null` is null where the option may be null. Every other value is YAML. In
    output_dir, path and image_root a leading `~` is the home folder.
    """

    output_dir: PathText = Field(description="Run folder (docs/runs.md); must not hold another run.")
    seed: NonNegativeInt = Field(default=42, description="Seeds the data order, sampling, dropout and new weights.")
    model: ModelSection = Field(description="The policy.")
    data: DataSection = Field(description="The data to learn from, and the data to hold out.")
    rewards: dict[str, float] = Field(
        default_factory=lambda: {"accuracy": 1.0, "format": 1.0},
        description="Components of the reward and their weights: accuracy (the record's, source's or task's reward), "
        "format, or any name of REWARDS or package.module:Name, with options if it has any: iou_threshold(at=0.75).",
    )
    reward_combination: Literal["sum", "product", "gate"] = Field(
        default="sum",
        description="How weighted components make the reward. sum; product (0 if one is at or below 0); gate: "
        "the sum if the component format is 1, else only the weighted format.",
    )
    sampling: SamplingSection = Field(
        default_factory=lambda: SamplingSection(), description="How completions are drawn."
    )
    grpo: GrpoSection = Field(default_factory=lambda: GrpoSection(), description="The objective of `vlm-r1 train`.")
    training: TrainingSection = Field(default_factory=lambda: TrainingSection(), description="Budget and optimizer.")

    @property
    def sources(self) -> list[DataSource]:
        """All files, training before held-out."""
        return [*self.data.train, *self.data.eval.values()]

    @model_validator(mode="after")
    def _has_effect(self):
        if frozen := self.model.frozen & set(self.training.learning_rates):
            raise ValueError(
                f"training.learning_rates.{min(frozen)} has no effect: this part is frozen. With lora, vision and "
                "projector are frozen unless model.freeze says otherwise, e.g. []"
            )
        others = set(get_args(Part)) - self.model.frozen - set(self.training.learning_rates)
        if not others and self.training.changes("learning_rate"):
            raise ValueError(
                "training.learning_rate has no effect: every part that trains has a rate of its own; remove it"
            )
        if self.training.eval_steps and not self.data.eval:
            raise ValueError("training.eval_steps has no effect without data.eval: name a held-out file, or remove it")
        if not self.data.eval and self.training.changes("eval_batch_size"):
            raise ValueError(
                "training.eval_batch_size has no effect without data.eval: name a held-out file, or remove it"
            )
        if "accuracy" not in self.rewards:
            sources = [f"data.train.{i}" for i, source in enumerate(self.data.train) if source.reward is not None]
            if sources:
                raise ValueError(
                    f"{sources[0]}.reward has no effect: rewards has no component accuracy; add it, or remove this"
                )
        if self.reward_combination == "gate" and "format" not in self.rewards:
            raise ValueError("reward_combination gate needs the component format among rewards: add format: 1")
        unused = set(self.data.templates) - {self.data.template, *(source.template for source in self.sources)}
        if unused:
            raise ValueError(f"data.templates.{min(unused)} is used nowhere: name it in data.template, or remove it")
        if not any(self.rewards.values()):
            raise ValueError(
                "rewards: all weights are 0, so nothing would be learnt; wanted for example accuracy: 1, format: 1"
            )
        return self
