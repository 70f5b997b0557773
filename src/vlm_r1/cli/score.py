"""Score completions that were written down: test cases, a run's rollouts, the samples of an evaluation.

  vlm-r1 score cases.jsonl --out scores.jsonl                lines of {"reward", "completion", "solution", ...}
  vlm-r1 score cases.jsonl --out scores.jsonl --official     by the original VLM-R1's functions, defects included
  vlm-r1 score runs/rec --reward giou                        every logged completion of a run, by another reward
  vlm-r1 score runs/rec/eval/after-val.samples.jsonl --out scores.jsonl --recipe other.yaml
  vlm-r1 score eval/refcoco.samples.jsonl --protocol paper_rec --out eval/by_paper.json

With --protocol the numbers of an evaluation are computed anew from its samples (docs/evaluation.md); --out is the
result, and the samples are written beside it.

Without --out only the table of means is printed. Each line of --out is its input line plus `score`: a number, or null
where the gold answer cannot be used. Reward names are those of a recipe, or the original's (docs/parity.md). Cases with
boxes need image_size. For models that write pixels of the processed image they need model_input_size too. Each is
[width, height].
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_r1.cli.options import add_allow, count, local_path, path_text
from vlm_r1.types import BoxFormat

if TYPE_CHECKING:
    from rich.table import Table

    from vlm_r1.scoring.files import Summary
    from vlm_r1.scoring.settings import Scoring
    from vlm_r1.tasks.templates import Template

_ROWS_PER_WORKER = 2000  # with fewer rows, starting another process takes longer than scoring them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare input, output, and defaults for rows that lack them."""
    parser.add_argument(
        "cases",
        metavar="CASES",
        type=local_path,
        help="JSONL file of cases or of samples, a Parquet file of rollouts, or a run folder",
    )
    parser.add_argument(
        "--out", type=local_path, metavar="FILE", help="JSONL file to write (default: none, only the table is printed)"
    )
    parser.add_argument("--reward", help="reward of rows that name none (default: the task's own)")
    parser.add_argument("--task", help="task of rows that name none (default: the one that the reward belongs to)")
    parser.add_argument("--template", help="the form that was asked for (default: what the reward's name means, or r1)")
    add_allow(parser, "reward", "task", "template")
    parser.add_argument(
        "--box-format",
        choices=[member.value for member in BoxFormat],
        help="coordinates of the boxes in cases (default: input_pixels with model_input_size, else original_pixels)",
    )
    parser.add_argument(
        "--recipe", type=path_text, metavar="RECIPE", help="score by the rewards, weights and template of a recipe"
    )
    parser.add_argument(
        "--official", action="store_true", help="by the original VLM-R1's own functions, defects included"
    )
    parser.add_argument(
        "--protocol",
        help="measure samples by a protocol, shipped or a YAML file; --out is then the result, a JSON file",
    )
    parser.add_argument(
        "--workers", type=count, help="processes (default: as many as cores; one for few rows, and with a reward model)"
    )


def run(args: argparse.Namespace) -> int:
    """Check all rows, score them, write the file and print a table."""
    from vlm_r1.rewards.model import reward_models
    from vlm_r1.runtime.lock import lock_output
    from vlm_r1.runtime.progress import Display
    from vlm_r1.scoring.files import check_file, score_file

    if args.protocol:
        return _measure(args)
    scoring, display = _scoring(args), Display()
    if not args.official:
        display.console.print(_template_note(args), soft_wrap=True)
    rows = check_file(args.cases, scoring)
    workers = args.workers or max(1, min(os.cpu_count() or 1, rows // _ROWS_PER_WORKER))
    if not args.workers and reward_models([*scoring.weights, scoring.reward, *scoring.allowed_rewards]):
        workers = 1  # each process would load the model
    with lock_output(args.out) if args.out else nullcontext(), display.bar("score", rows) as advance:
        summary = score_file(args.cases, args.out, scoring, workers=workers, advance=advance)
    display.console.print(_table(summary))
    for reason in summary.reasons:
        display.console.print(f"null: {reason}", soft_wrap=True)
    if args.out:
        display.console.print(f"written to {args.out}", soft_wrap=True)
    return 0


def _measure(args: argparse.Namespace) -> int:
    """Measure the samples of an evaluation by a protocol, and write the result."""
    from vlm_r1.cli.eval import result_table, written
    from vlm_r1.config.secrets import masked_arguments
    from vlm_r1.errors import ConfigError
    from vlm_r1.evaluation.evaluate import make_result
    from vlm_r1.evaluation.protocol import load_protocol
    from vlm_r1.evaluation.rescore import rescore_rows, rescored_protocol
    from vlm_r1.evaluation.runner import write_result
    from vlm_r1.evaluation.samples import samples_path
    from vlm_r1.runtime.lock import lock_output
    from vlm_r1.runtime.progress import Display

    names = ("reward", "task", "template", "box_format", "recipe", "official", "workers", "allow_reward", "allow_task")
    for name in (*names, "allow_template"):
        if getattr(args, name):
            raise ConfigError(f"--{name.replace('_', '-')} has no effect with --protocol: leave one of them out")
    if args.out is None:
        raise ConfigError("--protocol wants --out FILE.json, where the result is written")
    if args.out.suffix != ".json":
        raise ConfigError(f"--out {args.out}: a result is a JSON file; wanted a name that ends in .json")
    if samples_path(args.out).resolve() == args.cases.resolve():
        raise ConfigError(f"--out {args.out}: would replace the samples that are read; choose another name")
    protocol, display = load_protocol(args.protocol), Display()
    with lock_output(args.out):
        resolved, provenance = rescored_protocol(args.cases, protocol)
        provenance = {**provenance, "measured_again_by": masked_arguments(sys.argv)}
        rows = rescore_rows(args.cases, protocol)
        result = make_result(rows, protocol, resolved, provenance, name=args.out.stem, data=str(args.cases), seed=0)
        write_result(args.out.parent, result, rows)
    display.say(result_table(result))
    display.say(written(args.out, protocol))
    return 0


def _scoring(args: argparse.Namespace) -> Scoring:
    from vlm_r1.config import load_config
    from vlm_r1.errors import ConfigError
    from vlm_r1.runtime.run_folder import trained_steps
    from vlm_r1.scoring.settings import Scoring
    from vlm_r1.tasks.judge import check_rewards
    from vlm_r1.tasks.templates import make_templates

    for other in ("task", "template", "box_format", "recipe", "allow_reward", "allow_task", "allow_template"):
        if args.official and getattr(args, other):
            raise ConfigError(f"--{other.replace('_', '-')} has no effect with --official: leave one of them out")
    for other in ("template", "allow_template"):
        if args.recipe and getattr(args, other):
            option = f"--{other.replace('_', '-')}"
            raise ConfigError(f"{option} has no effect with --recipe, which names its own: leave one of them out")
    chosen = Scoring(
        reward=args.reward,
        task=args.task,
        template=args.template,
        box_format=BoxFormat(args.box_format) if args.box_format else None,
        official=args.official,
        allowed_rewards=tuple(args.allow_reward),
        allowed_tasks=tuple(args.allow_task),
        allowed_templates=tuple(args.allow_template),
    )
    steps = trained_steps(args.cases)
    if not args.recipe:
        return replace(
            chosen, own_templates=_own_templates(args.cases, args.allow_template), max_steps=steps[1] if steps else None
        )
    recipe = load_config(args.recipe)
    by_epochs = recipe.training.num_train_epochs is not None
    check_rewards(recipe.rewards, [])
    return replace(
        chosen,
        weights=recipe.rewards,
        combination=recipe.reward_combination,
        reward_timeout_s=recipe.reward_timeout_s,
        templates=make_templates(recipe.data.template, sections=recipe.data.templates),
        max_steps=(steps[1] if steps else None) if by_epochs else recipe.training.max_steps,
        allowed_rewards=(*chosen.allowed_rewards, *recipe.allowed.allowed_rewards),
        allowed_tasks=(*chosen.allowed_tasks, *(source.task for source in recipe.sources)),
    )


def _own_templates(cases: Path, allowed: Sequence[str]) -> Mapping[str, Template]:
    """Return the templates that rows may name beside ours: those of the run, and those allowed, by their names."""
    from vlm_r1.evaluation.asking import find_templates
    from vlm_r1.tasks.templates import get_template, own_templates

    named = {template.name: template for template in map(get_template, allowed)}
    return {**own_templates(find_templates(cases)[0]), **named}


def _template_note(args: argparse.Namespace) -> str:
    from vlm_r1.evaluation.asking import find_templates

    if args.template:
        return f"template {args.template} (as given)"
    if args.recipe:
        return f"template as in {args.recipe}"
    notes = ["template as each row says, else what its reward's name means, else the default, r1"]
    return "; ".join([*notes, *filter(None, [find_templates(args.cases)[1]])])


def _table(summary: Summary) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    from vlm_r1.config.secrets import masked

    compared = any(tally.compared for tally in summary.tallies.values())
    table = Table(box=SIMPLE, pad_edge=False)
    for column in ("reward", "rows", "null", "mean", *(("equal to official",) if compared else ())):
        table.add_column(column, justify="left" if column == "reward" else "right")
    for name, tally in summary.tallies.items():
        mean = f"{tally.total / tally.scored:.4f}" if tally.scored else "–"
        equal = (f"{tally.equal} of {tally.compared}",) if compared else ()
        table.add_row(masked(name), str(tally.rows), str(tally.rows - tally.scored), mean, *equal)
    return table
