"""The sections of a recipe about sampling and the training loop."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from vlm_r1.config.base import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
    TableName,
    is_own,
)
from vlm_r1.config.model import Part
from vlm_r1.config.schedules import SCHEDULES, ScheduleName, by_step, check_options
from vlm_r1.config.words import NO_OPTIMIZERS, OF_BITSANDBYTES, OPTIMIZERS, SAMPLERS, WITHOUT_BETAS, LayoutOption


class SamplingSection(Section):
    """How completions are drawn in training, and in evaluations with training.num_generations_eval above 1."""

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
    repetition_penalty: PositiveFloat = Field(
        default=1.0,
        description="Logits of tokens that stand in the prompt or the completion so far are divided by it, negative "
        "ones multiplied, in sampling, in training passes and in evaluations; 1: none.",
    )
    max_completion_length: PositiveInt = Field(
        default=512, description="Cap on sampled tokens, the stop token included."
    )


def _steps_or_share(steps: int | float) -> int | float:
    if not 0 <= steps < math.inf or (steps > 1 and steps != int(steps)):
        raise ValueError(f"wanted a whole number of steps, or a share of all below 1, got {steps}")
    return int(steps) if steps >= 1 else steps


class TrainingSection(Section):
    """The loop: budget, optimizer, checkpoints, evaluation. Shared by `train` and `sft`."""

    max_steps: PositiveInt = Field(default=500, description="Steps; each takes prompts_per_step records.")
    num_train_epochs: PositiveFloat | None = Field(
        default=None,
        description="Instead of max_steps: how often the training data are gone through. It makes epochs · records / "
        "prompts_per_step steps, rounded up; null: max_steps decides.",
    )
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
    optim: Annotated[str, AfterValidator(TableName(OPTIMIZERS, NO_OPTIMIZERS))] = Field(
        default="adamw",
        description="adamw: torch.optim.AdamW, fused; muon: torch.optim.Muon, in float32 on a CPU, for the matrices of "
        "layers, AdamW for the rest. Muon learns faster from random weights (docs/log.md). The others are "
        "transformers' (docs/finetuning.md). Your own, for all "
        "parameters: package.module:Name of a class of torch optimizers (docs/add_an_objective.md).",
    )
    offload_optimizer: bool = Field(
        default=False,
        description="Keep the optimizer's state, and a copy of the weights that train, in the CPU's memory and update "
        "there: a GPU needs 8 bytes less for each weight that trains, and a step takes longer.",
    )
    learning_rate: NonNegativeFloat = Field(default=1e-6, description="Peak learning rate (paper: 1e-6; LoRA 1e-5).")
    learning_rates: dict[Part, PositiveFloat] = Field(
        default_factory=dict[Part, PositiveFloat],
        description="Peak learning rates of parts of the model, e.g. {vision: 2e-7, projector: 1e-5}; model.freeze "
        "names parts that do not train.",
    )
    lr_scheduler_type: Annotated[ScheduleName, BeforeValidator(by_step)] = Field(
        default="linear", description="Schedule of the learning rate over max_steps (transformers.get_scheduler)."
    )
    lr_scheduler_kwargs: dict[str, bool | int | float | str] = Field(
        default_factory=dict[str, bool | int | float | str],
        description="Options of the schedule by transformers' names, e.g. {min_lr_rate: 0.1} (docs/finetuning.md).",
    )
    warmup_steps: Annotated[int | float, AfterValidator(_steps_or_share)] = Field(
        default=0, description="Steps in which the learning rate rises, mostly from 0; below 1: their share of all."
    )
    weight_decay: NonNegativeFloat = Field(default=0.0, description="Decoupled weight decay.")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="First-moment decay of AdamW.")
    adam_beta2: float = Field(default=0.999, ge=0, lt=1, description="Second-moment decay of AdamW.")
    adam_epsilon: PositiveFloat = Field(default=1e-8, description="Added to the root of AdamW's second moment.")
    max_grad_norm: PositiveFloat = Field(default=1.0, description="Gradients are scaled down to this global norm.")
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        default="auto",
        description="bf16: passes compute in bfloat16 (autocast), for any type of the weights; fp16: in float16, with "
        "a scaled loss; auto: bf16 where the device computes in it, as GPUs since 2020 do, fp16 on older GPUs if the "
        "weights are float32, else no.",
    )
    max_skipped_steps: PositiveInt = Field(
        default=5, description="Stop after this many steps in a row whose gradient is not finite."
    )
    save_steps: NonNegativeInt | None = Field(
        default=None, description="Steps between checkpoints; 0: only one at the end; null: by time, see save_minutes."
    )
    save_minutes: PositiveFloat = Field(
        default=10.0,
        description="Minutes between checkpoints: the first step that ends later is saved. A signal that asks for a "
        "stop saves at once (docs/stopping.md).",
    )
    save_total_limit: PositiveInt = Field(default=2, description="Number of newest checkpoints to keep.")
    on_save_failure: Literal["stop", "continue"] = Field(
        default="stop",
        description="What follows when a checkpoint cannot be saved, because the disk is full for example. stop: the "
        "run ends with an error; continue: it warns and goes on to the next. A model that cannot be written at the end "
        "is always an error.",
    )
    eval_steps: NonNegativeInt = Field(
        default=0, description="Steps between evaluations on data.eval; 0: only before and after training."
    )
    eval_batch_size: PositiveInt = Field(default=32, description="Prompts sampled at once in evaluation.")
    num_generations_eval: PositiveInt = Field(
        default=1,
        description="Answers to each record in these evaluations. 1: greedy; more: drawn as section sampling says, and "
        "the metrics are their mean, with pass@k.",
    )
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        default_factory=list[Literal["tensorboard", "wandb", "trackio"]],
        description="Trackers besides metrics.jsonl (docs/trackers.md); each is called as the run's folder.",
    )
    project: str = Field(default="vlm-r1", min_length=1, description="Project of wandb and trackio that gets the run.")
    log_completions_steps: NonNegativeInt = Field(
        default=0,
        description="Steps of GRPO between tables of prompts, answers, rewards and pictures that the trackers get; 0: "
        "never.",
    )

    @model_validator(mode="after")
    def _one_budget(self):
        if self.num_train_epochs is not None and self.changes("max_steps"):
            raise ValueError(
                f"max_steps {self.max_steps} and num_train_epochs {self.num_train_epochs:g} both say how long the run "
                "is: remove one of the two, or set max_steps to its default, 500, or num_train_epochs to null"
            )
        return self

    @model_validator(mode="after")
    def _has_effect(self):
        check_options(self.lr_scheduler_type, self.lr_scheduler_kwargs, self.learning_rate)
        if self.warmup_steps and not SCHEDULES[self.lr_scheduler_type].warms_up:
            raise ValueError(
                "warmup_steps has no effect with lr_scheduler_type constant: use constant_with_warmup, or remove it"
            )
        if not self.trust_checks and self.changes("trust_check_steps"):
            raise ValueError("trust_check_steps has no effect with trust_checks false: remove one of the two")
        for option in ("adam_beta1", "adam_beta2", "adam_epsilon"):
            if is_own(self.optim) and self.changes(option):
                raise ValueError(
                    f"{option} has no effect with an optim of your own, which is given no options: remove it"
                )
            if self.optim in WITHOUT_BETAS and self.changes(option):
                raise ValueError(f"{option} has no effect with optim {self.optim}: remove it, or use adamw")
        if self.offload_optimizer and self.optim in OF_BITSANDBYTES:
            raise ValueError(
                f"offload_optimizer keeps the state out of the GPU, and optim {self.optim} makes it small or pages it "
                "there: choose one, e.g. offload_optimizer with adamw"
            )
        if self.save_steps is not None and self.changes("save_minutes"):
            raise ValueError(
                f"save_minutes has no effect with save_steps {self.save_steps}, which counts steps: remove one"
            )
        if self.changes("project") and not {"wandb", "trackio"} & {*self.report_to}:
            raise ValueError(
                f"project {self.project} has no effect without wandb or trackio in report_to: add one, or remove it"
            )
        if self.log_completions_steps and not self.report_to:
            raise ValueError(
                f"log_completions_steps {self.log_completions_steps} has no effect without a tracker: set report_to, "
                "e.g. [tensorboard], or remove it"
            )
        if self.save_steps == 0 and self.changes("save_total_limit"):
            raise ValueError(
                "save_total_limit has no effect with save_steps 0, where only the end is saved: set save_steps"
            )
        return self
