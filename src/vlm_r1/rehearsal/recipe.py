"""The recipe of a rehearsal: the user's own, with fewer and shorter steps, and without what this machine cannot do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from vlm_r1.config import Config
from vlm_r1.config.load import make_config
from vlm_r1.config.secrets import masked
from vlm_r1.config.words import OF_BITSANDBYTES
from vlm_r1.errors import ConfigError
from vlm_r1.parsing.json_values import is_list
from vlm_r1.rewards.model import is_reward_model
from vlm_r1.training.new_run import Stage
from vlm_r1.training.offload import check_offload
from vlm_r1.training.optimizer import get_optimizer

STEPS = 3
SAVED_STEP = 2
"""The step of the checkpoint from which the run is resumed."""

_PROMPTS = 2
_GENERATIONS = 4
_TOKENS = 32
_ENTROPY = 1e-3
_LOCAL_TRACKERS = ("tensorboard",)


class Change(NamedTuple):
    """An option that a rehearsal sets.

    Attributes:
        option: its dotted name.
        value: in the rehearsal.
        missed: what is not rehearsed because of it, as a sentence; "": the same is done, only less of it.
    """

    option: str
    value: Any
    missed: str = ""


class Rehearsed(NamedTuple):
    """The recipe of a rehearsal.

    Attributes:
        config: the recipe.
        smaller: options that only make it smaller, with both values, e.g. "training.max_steps 3 (600)".
        missed: a sentence about everything that is not rehearsed.
    """

    config: Config
    smaller: list[str]
    missed: list[str]


def rehearsed_recipe(config: Config, stage: Stage, model_type: str, inputs: Mapping[str, Any]) -> Rehearsed:
    """Return the recipe of a rehearsal.

    Args:
        config: the user's recipe.
        model_type: of the tiny model.
        inputs: values of the options that name folders and files, by dotted names, e.g. {"model.path": …}.

    Raises:
        ConfigError: the changed recipe makes no sense, which is a bug.
    """
    tree = config.model_dump(mode="json")
    changes = [
        c
        for c in (*_smaller(config, stage), *_missed(config), *_of_experts(config, model_type))
        if _at(tree, c.option) != c.value
    ]
    values = {change.option: change.value for change in changes}
    smaller = [f"{c.option} {_shown(c.value)} ({_shown(_at(tree, c.option))})" for c in changes if not c.missed]
    always = f"the weights of {config.model.path}, its own tokenizer and chat template (`--dry-run`), its memory"
    missed = [f"{always} (`vlm-r1 plan`), and what it learns", *(c.missed for c in changes if c.missed)]
    return Rehearsed(make_config(config, {**values, **inputs}), smaller, missed)


def _smaller(config: Config, stage: Stage) -> Iterator[Change]:
    training, parts = config.training, config.grpo.steps_per_generation if stage == "grpo" else 1
    yield Change("training.max_steps", STEPS)
    yield Change("training.num_train_epochs", None)
    yield Change("training.prompts_per_step", min(training.prompts_per_step, parts * -(-_PROMPTS // parts)))
    yield Change("training.save_steps", SAVED_STEP)
    yield Change("training.save_minutes", 10.0)
    yield Change("training.save_total_limit", 2)
    yield Change("training.warmup_steps", min(training.warmup_steps, 1))
    if "num_decay_steps" in training.lr_scheduler_kwargs:
        yield Change("training.lr_scheduler_kwargs", {**training.lr_scheduler_kwargs, "num_decay_steps": 1})
    if config.data.eval:
        yield Change("training.eval_steps", SAVED_STEP if training.eval_steps else 0)
        yield Change("training.eval_batch_size", min(training.eval_batch_size, _PROMPTS))
        yield Change("training.num_generations_eval", min(training.num_generations_eval, _GENERATIONS))
    if stage == "grpo" or config.data.eval:
        yield Change("sampling.max_completion_length", min(config.sampling.max_completion_length, _TOKENS))
    if stage == "grpo":
        yield Change("grpo.num_generations", min(config.grpo.num_generations, _GENERATIONS))
        if config.grpo.sync_ref_model:
            yield Change("grpo.ref_model_sync_steps", min(config.grpo.ref_model_sync_steps, SAVED_STEP))
        # the rewards of a random model are equal, so without it no weight would move
        yield Change("grpo.entropy_coef", config.grpo.entropy_coef or _ENTROPY)


def _missed(config: Config) -> Iterator[Change]:
    yield from _of_model(config)
    yield from _of_machine(config)
    data = config.data
    if data.max_prompt_length is not None:
        why = "counts tokens of the model's own tokenizer: `--dry-run` checks it"
        yield Change("data.max_prompt_length", None, f"data.max_prompt_length {data.max_prompt_length:,}: {why}")
        yield Change("data.filter_overlong_prompts", False, "data.filter_overlong_prompts: so does this")
    if data.chat_template_kwargs:
        what = ", ".join(data.chat_template_kwargs)
        why = "a switch of the checkpoint's own chat template: `--dry-run` checks it"
        yield Change("data.chat_template_kwargs", {}, f"data.chat_template_kwargs {what}: {why}")
    yield from _of_rewards(config)


def _of_model(config: Config) -> Iterator[Change]:
    model = config.model
    if model.trust_remote_code:
        why = "the code of the checkpoint does not run; the model is transformers' own of this family"
        yield Change("model.trust_remote_code", False, f"model.trust_remote_code: {why}")
    for option in ("min_pixels", "max_pixels"):
        if (value := getattr(model, option)) is not None:
            why = "the tiny model sees pictures in a few tokens, whatever their size: `--dry-run` counts the real ones"
            yield Change(f"model.{option}", None, f"model.{option} {value:,}: {why}")
    if model.load_in_4bit:
        yield Change("model.load_in_4bit", False, "model.load_in_4bit: 4 bits need a GPU; the weights are whole")
    if model.attn_implementation == "flash_attention_2":
        yield Change("model.attn_implementation", "auto", "model.attn_implementation flash_attention_2: it needs a GPU")


def _of_machine(config: Config) -> Iterator[Change]:
    training = config.training
    if training.mixed_precision == "fp16":
        why = "float16 is for GPUs; the passes compute in float32"
        yield Change("training.mixed_precision", "no", f"training.mixed_precision fp16: {why}")
    try:
        if training.optim in OF_BITSANDBYTES:
            get_optimizer(training.optim).check()
    except ConfigError as error:
        why = f"{error}".removeprefix("training.optim: ")
        yield Change("training.optim", "adamw", f"training.optim {training.optim}: {why}. Here adamw takes its place")
    try:
        check_offload(training)
    except ConfigError:
        why = "there is no GPU whose memory it would spare"
        yield Change("training.offload_optimizer", False, f"training.offload_optimizer: {why}")
    kept = [tracker for tracker in training.report_to if tracker in _LOCAL_TRACKERS]
    if others := [tracker for tracker in training.report_to if tracker not in kept]:
        missing = [f"; {tracker} is not installed here" for tracker in others if find_spec(tracker) is None]
        what, why = ", ".join(others), f"a rehearsal asks no network{''.join(missing)}"
        yield Change("training.report_to", kept, f"training.report_to {what}: {why}")
        if training.changes("project"):
            yield Change("training.project", "vlm-r1", f"training.project {training.project}: it is of {what}")
        if training.log_completions_steps and not kept:
            n = training.log_completions_steps
            yield Change("training.log_completions_steps", 0, f"training.log_completions_steps {n}: no tracker is left")
    if config.sampling.engine != "hf":
        name = masked(config.sampling.engine)
        why = "a sampler of your own is not started; transformers draws the completions"
        yield Change("sampling.engine", "hf", f"sampling.engine {name}: {why}")


def _of_experts(config: Config, model_type: str) -> Iterator[Change]:
    """A random router chooses between its experts by less than bfloat16 resolves, so passes differ by whole experts."""
    if model_type.endswith("_moe") and config.training.mixed_precision == "bf16":
        why = "it would decide to which experts a random router sends a token; the passes compute in float32"
        yield Change("training.mixed_precision", "no", f"training.mixed_precision bf16: {why}")


def _of_rewards(config: Config) -> Iterator[Change]:
    """Leave out reward models: a rehearsal loads no other model, neither from the Hub nor from the disk."""
    why = "a reward model is not loaded"
    kept = {name: weight for name, weight in config.rewards.items() if not is_reward_model(name)}
    for name in (name for name in config.rewards if name not in kept):
        own = kept if any(kept.values()) else {**kept, "format": 1.0}
        yield Change("rewards", own, f"rewards {masked(name)}: {why}")
    places = [(f"data.train.{place}", source) for place, source in enumerate(config.data.train)]
    for place, source in (*places, *((f"data.eval.{name}", source) for name, source in config.data.eval.items())):
        if source.reward is not None and is_reward_model(source.reward):
            instead = "the reward of the task takes its place"
            yield Change(f"{place}.reward", None, f"{place}.reward {masked(source.reward)}: {why}; {instead}")
    allowed = config.data.allowed_rewards
    if judges := [name for name in allowed if is_reward_model(name)]:
        named = ", ".join(map(masked, judges))
        yield Change(
            "data.allowed_rewards",
            [name for name in allowed if name not in judges],
            f"data.allowed_rewards {named}: {why}, and records that name one are left out",
        )


def _at(tree: Any, option: str) -> Any:
    for key in option.split("."):
        tree = tree[int(key)] if is_list(tree) else tree[key]
    return tree


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value}"


def folder_of(config: Config) -> Path:
    """Return the folder of a rehearsal: it lies beside the run folder, which is never touched."""
    path = Path(config.output_dir)
    return path.with_name(f"{path.name}-rehearsal") if path.name else path / "rehearsal"
