"""The section `grpo`: the objective, and the table of losses. `grpo/loss.py` computes them.

The table is here because the section is checked by the fields of a loss, never by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from vlm_r1.config.base import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, Section, TableName
from vlm_r1.config.words import ADVANTAGES

Ratio = Literal["token", "sequence"]
Surrogate = Literal["clipped", "detached", "soft", "gamma"]
Mean = Literal["completion", "tokens", "constant", "sum", "group"]
Aggregation = Literal["sum_then_normalize", "normalize_then_sum"]

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "clipped": ("epsilon", "epsilon_high", "delta"),
    "detached": ("epsilon_high",),
    "soft": ("sapo_temperature_neg", "sapo_temperature_pos"),
    "gamma": ("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"),
}
"""The options of the section `grpo` that each surrogate reads."""


@dataclass(frozen=True)
class Loss:
    """A policy loss as three independent choices (docs/algorithm.md).

    Attributes:
        ratio: how much likelier a completion has become since it was sampled. token: one ratio for each token;
            sequence: one for the whole completion.
        surrogate: how ratio and advantage make the loss of a token.
            clipped: the ratio carries the gradient and is clipped.
            detached: the log-probability carries the gradient; the ratio is its weight and has a cap.
            soft: the ratio carries the gradient through a sigmoid, which takes the place of the clip.
            gamma: as detached; the weight is a smooth function of the ratio of the whole completion.
            A function: maps `LossInput` and ratios (N, T) to `TokenLosses` (docs/add_an_objective.md).
        mean: how the losses of tokens are averaged.
            completion: the mean over each completion's tokens, then over completions.
            tokens: the mean over all tokens.
            constant: the sum over tokens divided by completions times the length cap.
            sum: the sum over each completion's tokens, then the mean over completions.
            group: the mean over all tokens of each group, then over groups.
    """

    ratio: Ratio
    surrogate: Surrogate | Callable[..., Any]
    mean: Mean

    def __post_init__(self) -> None:
        """Refuse words without a meaning.

        Raises:
            ValueError: one of the three is not among its words, nor a function as surrogate.
        """
        for name, words in (("ratio", Ratio), ("surrogate", Surrogate), ("mean", Mean)):
            value = getattr(self, name)
            if value not in get_args(words) and not (name == "surrogate" and callable(value)):
                raise ValueError(f"{name} is {value!r}, wanted one of {', '.join(get_args(words))}")


LOSSES: Mapping[str, Loss] = {
    "grpo": Loss(ratio="token", surrogate="clipped", mean="completion"),
    "dr_grpo": Loss(ratio="token", surrogate="clipped", mean="constant"),
    "dapo": Loss(ratio="token", surrogate="clipped", mean="tokens"),
    "gspo": Loss(ratio="sequence", surrogate="clipped", mean="completion"),
    "cispo": Loss(ratio="token", surrogate="detached", mean="tokens"),
    "bnpo": Loss(ratio="token", surrogate="clipped", mean="group"),
    "sapo": Loss(ratio="token", surrogate="soft", mean="completion"),
    "luspo": Loss(ratio="sequence", surrogate="clipped", mean="sum"),
    "vespo": Loss(ratio="token", surrogate="gamma", mean="tokens"),
}


class GrpoSection(Section):
    """Objective (docs/algorithm.md). Defaults are TRL's; loss_type and use_bias_correction_kl are the paper's."""

    num_generations: int = Field(
        default=8, description="G, completions per prompt; at least 2, or no comparison is possible."
    )
    loss_type: Annotated[str, AfterValidator(TableName(tuple(LOSSES)))] = Field(
        default="grpo",
        description="grpo: mean of per-completion token means; dr_grpo: token sum over a constant length; "
        "dapo: mean over all tokens; gspo: grpo with one ratio per completion; "
        "cispo: dapo with the ratio as a capped weight, so that every token keeps its gradient; bnpo: mean over groups "
        "of their token means; sapo: grpo with a smooth gate instead of the clip; luspo: gspo with sums instead of "
        "means, so that length is no handicap; vespo: dapo with a smooth weight for each completion. Your own: "
        "docs/add_an_objective.md.",
    )
    epsilon: PositiveFloat = Field(
        default=0.2, description="Clip of the ratio below, 1 - epsilon (and above, without epsilon_high)."
    )
    epsilon_high: PositiveFloat | None = Field(
        default=None,
        description="Clip of the ratio above, 1 + epsilon_high; default epsilon. cispo, as in TRL: the cap itself, at "
        "least 1, e.g. 5.",
    )
    delta: PositiveFloat | None = Field(
        default=None,
        description="Two-sided clip: largest ratio where the advantage is negative, more than 1 + epsilon_high, e.g. "
        "4; default: no limit there.",
    )
    sapo_temperature_neg: PositiveFloat = Field(
        default=1.05, description="sapo: how fast the gate closes where the advantage is not positive."
    )
    sapo_temperature_pos: PositiveFloat = Field(
        default=1.0, description="sapo: how fast the gate closes where the advantage is positive."
    )
    vespo_k_pos: NonNegativeFloat = Field(
        default=2.0, description="vespo: how much less completions count that became unlikelier; advantage at least 0."
    )
    vespo_lambda_pos: PositiveFloat = Field(
        default=3.0, description="vespo: how much less completions count that became likelier; advantage at least 0."
    )
    vespo_k_neg: NonNegativeFloat = Field(
        default=3.0, description="vespo: how much less completions count that became unlikelier; advantage below 0."
    )
    vespo_lambda_neg: PositiveFloat = Field(
        default=2.0, description="vespo: how much less completions count that became likelier; advantage below 0."
    )
    off_policy_mask_threshold: PositiveFloat | None = Field(
        default=None,
        description="Leave completions with a negative advantage out of the policy loss if the policy has moved from "
        "what sampled them by more than this, in nats a token, e.g. 0.5; default: never.",
    )
    top_entropy_quantile: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Only this share of an update's tokens, those of highest entropy, trains the policy, e.g. 0.2; "
        "1: all. Costs one more forward pass for each update.",
    )
    entropy_coef: NonNegativeFloat = Field(
        default=0.0, description="Weight of the mean entropy of a token, in nats, as a bonus; 0: none."
    )
    beta: NonNegativeFloat = Field(
        default=0.0, description="Weight of the KL (k3) to the frozen start; 0: no reference is kept."
    )
    use_bias_correction_kl: bool = Field(
        default=False,
        description="Multiply the KL term by the ratio, which makes its gradient that of KL(policy to reference); "
        "false: as in the paper. TRL's default is true.",
    )
    num_iterations: PositiveInt = Field(default=1, description="How many times each batch of rollouts is learnt from.")
    steps_per_generation: PositiveInt = Field(
        default=1,
        description="Parts that the groups of a step are cut into; each iteration takes an optimizer step on each. It "
        "divides prompts_per_step. max_steps and the learning rate's schedule count rounds of sampling, not updates. "
        "(TRL counts micro-batches: its steps_per_generation / gradient_accumulation_steps.)",
    )
    sync_ref_model: bool = Field(
        default=False,
        description="Move the reference towards the policy every ref_model_sync_steps steps (TR-DPO), for long runs; "
        "false: it stays the start.",
    )
    ref_model_mixup_alpha: Probability = Field(
        default=0.6, description="Share of the policy in the new reference; the rest is the old one. 1: a copy."
    )
    ref_model_sync_steps: PositiveInt = Field(default=512, description="Steps from one such move to the next.")
    scale_rewards: Annotated[str, AfterValidator(TableName(ADVANTAGES))] = Field(
        default="group",
        description="Divide advantages by the standard deviation of the group, of the batch, or not at all; rloo: not "
        "at all, and compare with the other answers only; reinforce_plus_plus: by the standard deviation of all "
        "advantages. Your own: docs/add_an_objective.md.",
    )
    multi_objective_aggregation: Aggregation = Field(
        default="sum_then_normalize",
        description="sum_then_normalize: advantages of the total reward; normalize_then_sum (GDPO): each component is "
        "compared within its group by itself, then they are weighted and summed.",
    )
    dynamic_sampling_rounds: PositiveInt = Field(
        default=1,
        description="Draw prompts at most this many times in a step, until prompts_per_step groups have rewards that "
        "differ (DAPO's dynamic sampling); 1: draw once.",
    )
    mask_truncated_completions: bool = Field(
        default=False, description="Leave completions that hit max_completion_length out of the loss."
    )

    perception_coef: NonNegativeFloat = Field(
        default=0.0,
        description="Weight of the KL between the policy with its images and with blank ones, which is made large "
        "(PAPO, whose authors use 0.01 to 0.02); 0: off. It computes every completion twice.",
    )
    perception_entropy_coef: NonNegativeFloat = Field(
        default=0.0,
        description="Weight of the surprisal of the sampled tokens, with images and with blank ones, which is kept "
        "small beside perception_coef (PAPO's double entropy loss; its authors use 0.03 to 0.05).",
    )

    @model_validator(mode="after")
    def _comparable(self):
        if self.num_generations < 2:
            raise ValueError(
                f"num_generations is {self.num_generations}, but answers are compared within a group: wanted at least 2"
            )
        if self.use_bias_correction_kl and not self.beta:
            raise ValueError(
                "use_bias_correction_kl has no effect with beta 0, where there is no KL: remove it, or set beta"
            )
        if self.perception_entropy_coef and not self.perception_coef:
            raise ValueError(
                "perception_entropy_coef has no effect with perception_coef 0, where nothing is computed on blank "
                "images: remove it, or set perception_coef"
            )
        if self.sync_ref_model and not self.beta:
            raise ValueError("sync_ref_model has no effect with beta 0, where there is no reference: set beta")
        for option in ("ref_model_mixup_alpha", "ref_model_sync_steps"):
            if not self.sync_ref_model and self.changes(option):
                raise ValueError(f"{option} has no effect without sync_ref_model: true")
        return self

    @model_validator(mode="after")
    def _limits_have_effect(self):
        if self.multi_objective_aggregation == "normalize_then_sum" and self.changes("scale_rewards"):
            raise ValueError(
                "scale_rewards has no effect with multi_objective_aggregation normalize_then_sum, which divides by the "
                "deviation of the group and then of the batch: remove it"
            )
        if self.loss_type in LOSSES:  # of a loss from outside nothing is known until it is imported
            self.check_limits(LOSSES[self.loss_type])
        return self

    def check_limits(self, loss: Loss) -> None:
        """Check that the options that some surrogates read suit a loss and have an effect on it.

        A surrogate from outside may read any of them.

        Raises:
            ValueError: says what to change.
        """
        surrogate = loss.surrogate
        if callable(surrogate):
            return
        read = OPTIONS[surrogate]
        changed = [option for options in OPTIONS.values() for option in options if self.changes(option)]
        if unread := [option for option in changed if option not in read]:
            raise ValueError(
                f"{unread[0]} has no effect with loss_type {self.loss_type}, which reads {', '.join(read)}: remove it"
            )
        if changed and surrogate != "detached" and not self.ratio_can_differ:
            raise ValueError(
                f"{changed[0]} has no effect with num_iterations 1 and steps_per_generation 1, where the ratio is "
                "exactly 1: remove it, or set one of these to 2 or more"
            )
        if surrogate == "detached" and self.upper_epsilon < 1:
            raise ValueError(
                f"loss_type {self.loss_type} caps the ratio at epsilon_high itself, and not at 1 + epsilon_high; got "
                f"{self.upper_epsilon}, wanted at least 1: for example epsilon_high: 5"
            )
        if self.delta is not None and self.delta <= 1 + self.upper_epsilon:
            raise ValueError(
                f"delta is {self.delta}; wanted more than {1 + self.upper_epsilon:g}, which is 1 + epsilon_high, or it "
                "would clip positive advantages too"
            )

    @property
    def upper_epsilon(self) -> float:
        """`epsilon_high`, or `epsilon` where it is not set."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    @property
    def ratio_can_differ(self) -> bool:
        """Return whether a ratio can differ from 1. It cannot before the second update: nothing has changed yet."""
        return self.num_iterations * self.steps_per_generation > 1
