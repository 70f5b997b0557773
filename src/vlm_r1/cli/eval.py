"""Answer a data file greedily and measure: accuracy, mean IoU, format rate, parse failures, with 95 % intervals.

  vlm-r1 eval runs/rec/model refcoco_val.jsonl --image-root coco/train2014 --out runs/rec/eval

Prompts, parsing and scoring are those of training. If MODEL is an export (vlm_r1.json) or lies in a run folder, it is
asked with the settings of that run unless others are given: task, template, adapter, box format, pixel limits, answer
length. A line says so. The results are NAME.json and NAME.samples.jsonl (docs/runs.md) in the folder --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_r1.cli.answering import add_answering_arguments
from vlm_r1.cli.options import file_name, local_path
from vlm_r1.registry import as_plain_name

if TYPE_CHECKING:
    from rich.table import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare model, data and the few options that change the result."""
    add_answering_arguments(parser)
    parser.add_argument("--name", type=file_name, help="name of the result files (default: the data file's stem)")
    parser.add_argument(
        "--out", type=local_path, default=Path("eval"), help="folder for the result files (default: eval)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write the files."""
    from vlm_r1.cli.console import quiet_libraries
    from vlm_r1.runtime.lock import lock_output

    quiet_libraries()
    name = args.name or as_plain_name(args.data.stem)
    with lock_output(args.out / name, "--name"):
        _evaluate(args, name)
    return 0


def _evaluate(args: argparse.Namespace, name: str) -> None:
    from vlm_r1.cli.answering import complete_arguments, load_answering, open_data
    from vlm_r1.evaluation.runner import answer_records, summarize_evaluation, write_evaluation
    from vlm_r1.rewards.base import TRAINED, TrainerState
    from vlm_r1.runtime.progress import Display
    from vlm_r1.runtime.run_folder import trained_steps

    display = Display()
    display.console.print(complete_arguments(args), soft_wrap=True)
    records = open_data(args)
    env, sampler = load_answering(args)
    steps = trained_steps(Path(args.model))
    with display.bar(name, len(records)) as advance:
        groups = answer_records(
            records,
            env,
            sampler,
            max_completion_length=args.max_completion_length,
            batch_size=args.batch_size,
            trainer_state=TrainerState(*steps) if steps else TRAINED,
            advance=advance,
        )
    summary = summarize_evaluation(groups, name=name, data=str(args.data), step=0, seed=args.seed)
    write_evaluation(args.out, summary, groups)
    display.console.print(_table(summary))
    display.say(f"written to {args.out / name}.json and .samples.jsonl")


def _table(summary: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(title=f"{summary['name']}: {summary['n']} records, greedy")
    for column in ("metric", "mean", "95 % interval"):
        table.add_column(column)
    for metric, value in summary["metrics"].items():
        low, high = value["ci95"]
        table.add_row(metric, f"{100 * value['mean']:.1f} %", f"{100 * low:.1f} – {100 * high:.1f}")
    table.add_row("format", f"{100 * summary['format_rate']:.1f} %", "")
    for reason, count in sorted(summary["parse_failures"].items()):
        table.add_row(f"not parsed: {reason}", str(count), "")
    return table
