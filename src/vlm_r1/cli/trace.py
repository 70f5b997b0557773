"""Show one record of a recipe through every stage, with real values, from prompt to loss.

  vlm-r1 trace runs/demo/config.yaml --record 0 --model.path=runs/demo/model

Nothing is written and no weight changes.
"""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from vlm_r1.cli.options import path_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vlm_r1.config import Config
    from vlm_r1.rollouts.env import Env
    from vlm_r1.types import Group, Record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare recipe and record; everything else is an override."""
    parser.set_defaults(takes_overrides=True)
    parser.add_argument("recipe", metavar="RECIPE", type=path_text, help="YAML file; a run's own config.yaml works too")
    parser.add_argument("--record", type=int, default=0, metavar="N", help="0-based place in data.train (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Load everything as training does and print the stages."""
    from rich.console import Console

    from vlm_r1.cli.console import quiet_libraries
    from vlm_r1.config import load_config
    from vlm_r1.data.sources import load_sources
    from vlm_r1.errors import DataError
    from vlm_r1.training.run import load_env

    quiet_libraries()
    config = load_config(args.recipe, args.overrides)
    records = load_sources(config.data.train)
    if not 0 <= args.record < len(records):
        raise DataError(f"--record {args.record}: data.train holds records 0 to {len(records) - 1}")
    record, console = records[args.record], Console()
    env = load_env(config, [[record]])
    _show_prompt(console, record, env)
    _show_group(console, record, env, config)
    return 0


def _show_prompt(console: Console, record: Record, env: Env) -> None:
    shown = ("source", "id", "task", "problem", "images", "answer", "thought", "reward")
    _stage(console, "1 record", **{name: getattr(record, name) for name in shown})
    encoded = env.encode(record)
    _stage(
        console,
        "2 prompt, encoded",
        template=env.templates.of(record).name,
        text=encoded.text,
        token_ids=f"{len(encoded.ids_L)}: {list(encoded.ids_L)}",
        vision={name: tuple(tensor.shape) for name, tensor in encoded.vision.items()},
        frames=encoded.frames,
        box_format=env.adapter.box_format.value,
        gold_completion=env.gold_text(record, encoded),
    )


def _show_group(console: Console, record: Record, env: Env, config: Config) -> None:
    """Sample, judge and compare one group as the first training step would, and compute its loss."""
    import torch
    from rich.markup import escape

    from vlm_r1.models import load_model
    from vlm_r1.policy.logprobs import CompletionBatch, Policy
    from vlm_r1.rollouts.groups import sample_groups
    from vlm_r1.runtime.phases import Phases
    from vlm_r1.sampling import SamplingParams
    from vlm_r1.sampling.hf import HFSampler

    model = load_model(config.model, env.adapter)
    sampler, params = HFSampler(model, env.adapter), SamplingParams(**config.sampling.model_dump())
    n, seed = config.grpo.num_generations, config.seed
    (group,) = sample_groups([record], env, sampler, params, n=n, run_seed=seed, phases=Phases())
    with torch.no_grad():
        policy = Policy(model, env.adapter, params.temperature).eval()
        scored = policy(CompletionBatch([group.encoded], [[r.completion.ids_T for r in group.rollouts]]))
    group, loss = _advantages_and_loss(group, scored, config)
    console.print("[bold]3 completions, judged and compared[/bold]")
    console.print(_rollout_table(group, scored.logprobs_NT))
    for index, rollout in enumerate(group.rollouts):
        console.print(f"[cyan]{index}[/cyan] {escape(repr(rollout.completion.text))}", highlight=False)
    note = "ratio 1, as before the first update"
    _stage(console, "4 loss", loss_type=config.grpo.loss_type, value=f"{loss:.6f}", note=note)


def _advantages_and_loss(group: Group, scored: Any, config: Any) -> tuple[Group, float]:
    from dataclasses import replace

    import torch

    from vlm_r1.grpo.advantage import group_advantages
    from vlm_r1.grpo.loss import LossInput, get_loss, grpo_loss, loss_normalizer

    rewards = [math.nan if r.score.reward is None else r.score.reward for r in group.rollouts]
    rewards_1G = torch.tensor([rewards], dtype=torch.float64)
    advantages_G = group_advantages(rewards_1G, config.grpo.scale_rewards, judged_PG=~rewards_1G.isnan())[0]
    given = LossInput(
        scored.logprobs_NT,
        scored.logprobs_NT,
        None,
        advantages_G.to(scored.logprobs_NT.dtype),
        scored.mask_NT,
        epsilon=config.grpo.epsilon,
        epsilon_high=config.grpo.upper_epsilon,
    )
    loss, tokens = get_loss(config.grpo.loss_type), int(scored.mask_NT.sum())
    normalizer = loss_normalizer(loss, len(group.rollouts), tokens, config.sampling.max_completion_length)
    output = grpo_loss(given, loss, normalizer=normalizer)
    judged = tuple(replace(r, advantage=a) for r, a in zip(group.rollouts, advantages_G.tolist(), strict=True))
    return replace(group, rollouts=judged), float(output.loss)


def _rollout_table(group: Group, logprobs_NT: Any) -> Table:
    """One line for each completion; the two log-probabilities, the sampler's and the trainer's, should agree."""
    from rich.table import Table

    parts = list(group.rollouts[0].score.parts)
    columns = [
        "#",
        "tokens",
        "stop",
        "log p (sampler)",
        "log p (trainer)",
        "answer (px)",
        *parts,
        "reward",
        "advantage",
        "reason",
    ]
    table = Table(*columns)
    for index, rollout in enumerate(group.rollouts):
        completion, score = rollout.completion, rollout.score
        answer = (
            [round(x, 1) for x in score.answer if isinstance(x, float)]
            if isinstance(score.answer, list)
            else score.answer
        )
        table.add_row(
            str(index),
            str(len(completion.ids_T)),
            completion.stop_reason.value,
            f"{sum(completion.logprobs_T):.4f}",
            f"{float(logprobs_NT[index].sum()):.4f}",
            str(answer),
            *("–" if value is None else f"{value:.3f}" for value in (*score.parts.values(), score.reward)),
            f"{rollout.advantage:+.3f}",
            score.reason or "",
        )
    return table


def _stage(console: Console, title: str, **values: object) -> None:
    from rich.markup import escape

    console.print(f"[bold]{title}[/bold]")
    for name, value in values.items():
        console.print(f"  [cyan]{name:16}[/cyan] {escape(str(value))}", highlight=False)
