"""Every option of a recipe, with its unit, its default and the source of the default.

The sections are in `model.py`, `data.py`, `objective.py` and `training.py`. Names follow Hugging Face and TRL where the
meaning is the same. `docs/configuration.md` is generated from all of them.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from vlm_r1.config.base import NonNegativeInt, PathText, PositiveFloat, Section
from vlm_r1.config.data import Allowed, DataSection, DataSource, TemplateSection
from vlm_r1.config.model import LoraSection, ModelSection, Part
from vlm_r1.config.objective import GrpoSection
from vlm_r1.config.secrets import masked
from vlm_r1.config.training import SamplingSection, TrainingSection
from vlm_r1.registry import exactly

__all__ = [
    "Allowed",
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


REWARD_TIMEOUT_S = 480.0
"""Default of `reward_timeout_s`. It is below the ten minutes for which torch waits for a process (NCCL), so that the
name of the function comes before torch's own message."""


class Config(Section):
    """A recipe: one file is one complete run.

    An override `--section.option=value` takes the value of a text option (type str, or a choice of words) literally,
    `#`, `: `, `yes` and `1e3` included; the word `null` is null where the option may be null. Every other value is
    YAML. In output_dir, path and image_root a leading `~` is the home folder.
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
    reward_timeout_s: PositiveFloat = Field(
        default=REWARD_TIMEOUT_S,
        description="Seconds that each reward function from outside may take for the completions that are judged "
        "together, those of a step or an evaluation batch on one process; then the run ends with a RewardError. With "
        "several GPUs torch itself waits 600 s for a process (NCCL). Built-in rewards need no limit.",
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

    @property
    def allowed(self) -> Allowed:
        """What rows of all files may name: what `data` allows, and the rewards that the recipe itself uses, as it does.

        A row may then name the judge that another source names, with the same options.
        """
        used = exactly([*self.rewards, *(source.reward for source in self.sources)])
        sections = {name: getattr(self.data, name) for name in Allowed.model_fields}
        return Allowed(**sections | {"allowed_rewards": [*self.data.allowed_rewards, *used]})

    @model_validator(mode="after")
    def _parts_are_equal(self):
        parts, prompts = self.grpo.steps_per_generation, self.training.prompts_per_step
        if prompts % parts:
            raise ValueError(
                f"grpo.steps_per_generation {parts} does not divide training.prompts_per_step {prompts}: wanted a "
                "divisor, so that each optimizer step learns from equally many groups"
            )
        return self

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
        for option in ("eval_batch_size", "num_generations_eval"):
            if not self.data.eval and self.training.changes(option):
                raise ValueError(
                    f"training.{option} has no effect without data.eval: name a held-out file, or remove it"
                )
        if self.training.num_train_epochs is not None and any(one.weight is not None for one in self.data.train):
            raise ValueError(
                "training.num_train_epochs: files with a weight are gone through at different speeds, so there is no "
                "epoch of all: set training.max_steps instead, or remove the weights"
            )
        if self.grpo.sync_ref_model and self.model.lora is not None:
            raise ValueError(
                "grpo.sync_ref_model: with model.lora the reference is the model without LoRA adapters, which never "
                "changes: remove one of the two"
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
        shown = [masked(name) for name in self.rewards]
        if twice := [name for name in shown if shown.count(name) > 1]:
            raise ValueError(f"rewards: {twice[0]} stands twice, with secrets that differ: they would have one name")
        if not any(self.rewards.values()):
            raise ValueError(
                "rewards: all weights are 0, so nothing would be learnt; wanted for example accuracy: 1, format: 1"
            )
        return self

    @model_validator(mode="after")
    def _objective_has_effect(self):
        combination, aggregation = self.reward_combination, self.grpo.multi_objective_aggregation
        if aggregation == "normalize_then_sum" and combination != "sum":
            raise ValueError(
                f"grpo.multi_objective_aggregation normalize_then_sum compares each component by itself and sums them, "
                f"so reward_combination {combination} has no effect: set it to sum, or remove the aggregation"
            )
        cuts = ("engine", "top_p", "top_k", "min_p")
        sampled_by_policy = not any(self.sampling.changes(name) for name in cuts) and not (
            self.model.lora and self.model.lora.lora_dropout
        )
        threshold = self.grpo.off_policy_mask_threshold
        if threshold is not None and sampled_by_policy and not self.grpo.ratio_can_differ:
            raise ValueError(
                "grpo.off_policy_mask_threshold has no effect with num_iterations 1 and steps_per_generation 1, where "
                "the policy itself sampled: remove it, or set one of these to 2 or more"
            )
        return self
