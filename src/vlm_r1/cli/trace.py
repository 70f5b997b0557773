"""Show one record of a recipe at every stage, with real values, from prompt to loss.

  vlm-r1 trace runs/demo/config.yaml --record 0 --model.path=runs/demo/model

Nothing is written and no weight changes.
"""

# pyright: standard

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlm_r1.cli.options import path_text

if TYPE_CHECKING:
    from rich.table import Table

    from vlm_r1.config import Config
    from vlm_r1.rollouts.env import Env
    from vlm_r1.runtime.terminal import Terminal
    from vlm_r1.types import Group, Record, Score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare recipe and record. Everything else is an override."""
    parser.set_defaults(takes_overrides=True)
    parser.add_argument("recipe", metavar="RECIPE", type=path_text, help="YAML file; a run's own config.yaml works too")
    parser.add_argument("--record", type=int, default=0, metavar="N", help="0-based place in data.train (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Load everything as training does and print the stages."""
    from vlm_r1.cli.console import quiet_libraries, reach_hub, warn_of_code
    from vlm_r1.config import load_config
    from vlm_r1.data.sources import load_sources
    from vlm_r1.errors import DataError
    from vlm_r1.evaluation.asking import recipe_notes
    from vlm_r1.runtime.terminal import Terminal
    from vlm_r1.training.run import load_env

    config = _without_trackers(load_config(args.recipe, args.overrides))
    reach_hub(config.model.path)
    quiet_libraries()
    records = load_sources(config.data.train_sources, config.allowed, seed=config.seed)
    if not 0 <= args.record < len(records):
        raise DataError(f"--record {args.record}: data.train holds records 0 to {len(records) - 1}")
    record, console = records[args.record], Terminal()
    warn_of_code(config.model.path, config.model.trust_remote_code)
    env = load_env(config, [[record]])
    for note in recipe_notes(config):
        console.print(note, style="yellow", soft_wrap=True)
    _show_prompt(console, record, env)
    _show_group(console, record, env, config)
    return 0


def _without_trackers(config: Config) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"report_to": []})})


def _show_prompt(console: Terminal, record: Record, env: Env) -> None:
    shown = ("source", "id", "task", "system", "history", "problem", "images", "answer", "thought", "reward")
    _stage(console, "stage 1: record", **{name: getattr(record, name) for name in shown})
    encoded = env.encode(record)
    _stage(
        console,
        "stage 2: prompt, encoded",
        template=env.templates.of(record).name,
        text=encoded.text,
        token_ids=f"{len(encoded.ids_L)}: {list(encoded.ids_L)}",
        vision={name: tuple(tensor.shape) for name, tensor in encoded.vision.items()},
        frames=encoded.frames,
        box_format=env.adapter.box_format.value,
        gold_completion=env.gold_text(record, encoded),
    )


def _show_group(console: Terminal, record: Record, env: Env, config: Config) -> None:
    """Sample, judge and compare one group as the first training step would, and compute its loss.

    The trainer's own functions do it, so the printed values are those of a step with this one record.
    """
    import torch

    from vlm_r1.grpo.batch import loss_batches
    from vlm_r1.grpo.reference import Reference
    from vlm_r1.grpo.update import assign_advantages, compute_loss, global_normalizer, set_entropy_range
    from vlm_r1.rollouts.groups import sample_groups
    from vlm_r1.runtime.phases import Phases
    from vlm_r1.runtime.terminal import styled
    from vlm_r1.sampling import SamplingParams
    from vlm_r1.sampling.build import build_sampler
    from vlm_r1.training.learner import Learner
    from vlm_r1.training.run import distribution_of

    temperature, penalty = distribution_of(config, "grpo")
    learner = Learner(config, env.adapter, None, temperature=temperature, repetition_penalty=penalty)
    learner.begin_step()
    sampler = build_sampler(learner.bare_policy, config.sampling)
    with learner.autocast_for_sampling():
        groups = sample_groups(
            [record],
            env,
            sampler,
            SamplingParams.of(config.sampling),
            n=config.grpo.num_generations,
            run_seed=config.seed,
            phases=Phases(),
            add_features=learner.with_features,
        )
    (group,) = groups = assign_advantages(groups, config, learner)
    batches, normalizer = list(loss_batches(groups, learner)), global_normalizer(groups, learner)
    if config.grpo.beta:
        reference = Reference(config, env.adapter, learner)
        for batch in batches:
            batch.ref_logprobs_NT = reference.logprobs_NT(batch.batch)
    set_entropy_range(batches, [], learner)
    with torch.no_grad():
        learner.seed_passes()
        found = [compute_loss(batch, learner, normalizer) for batch in batches]
    logprobs_N = [float(row_T.sum()) for scored, _ in found for row_T in scored.logprobs_NT]
    console.print("stage 3: completions, judged and compared", style="bold")
    console.print(_rollout_table(group, logprobs_N))
    for index, rollout in enumerate(group.rollouts):
        console.print(styled(f"{index} ", "cyan").append_text(styled(_judgement(rollout.score))))
        console.print(styled(repr(rollout.completion.text)))
    _stage(
        console,
        "stage 4: loss",
        precision=learner.descriptions[0],
        layout=learner.descriptions[1].removeprefix("layout "),
        loss_type=config.grpo.loss_type,
        value=f"{sum(float(output.loss) for _, output in found):.6f}",
        note="ratio 1, as before the first update",
    )


def _rollout_table(group: Group, logprobs_N: Sequence[float]) -> Table:
    """Make a table with a line for each completion. The log-probabilities of sampler and trainer should agree."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("#", "tokens", "stop", "log p (sampler)", "log p (trainer)", "reward", "advantage"):
        table.add_column(column, justify="left" if column == "stop" else "right", no_wrap=True)
    for index, rollout in enumerate(group.rollouts):
        completion = rollout.completion
        table.add_row(
            str(index),
            str(len(completion.ids_T)),
            completion.stop_reason.value,
            f"{sum(completion.logprobs_T):.4f}",
            f"{logprobs_N[index]:.4f}",
            _number(rollout.score.reward),
            f"{rollout.advantage:+.3f}",
        )
    return table


def _judgement(score: Score) -> str:
    """Say what a completion earned for what: its components, the answer in pixels, or why there is none."""
    from vlm_r1.rewards.names import short_names

    names = short_names(score.parts)
    parts = ", ".join(f"{names[name]} {_number(value)}" for name, value in score.parts.items())
    return f"{parts}; {score.reason or f'answer {_rounded(score.answer)}'}"


def _rounded(answer: Any) -> Any:
    return [round(x, 1) for x in answer if isinstance(x, float)] or answer if isinstance(answer, list) else answer


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _stage(console: Terminal, title: str, **values: object) -> None:
    from rich.table import Table

    from vlm_r1.runtime.terminal import styled

    console.print(title, style="bold")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=17)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(styled(f"  {name}", "cyan"), styled(str(value)))
    console.print(table)
