"""Answer a data file greedily and measure: accuracy, mean IoU, format rate, parse failures, with 95 % intervals.

  vlm-r1 eval runs/rec/model refcoco_val.jsonl --image-root coco/train2014 --out runs/rec/eval

The same prompts, parsing and scoring as in training: if MODEL lies in a run folder, template, pixel limits and answer
length are that run's unless given. Writes NAME.json and NAME.samples.jsonl (docs/runs.md) into --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from vlm_r1.config.schema import TemplateSection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare model, data and the few options that change the result."""
    parser.add_argument("model", metavar="MODEL", help="Hugging Face folder (a run's model/ or checkpoint) or hub name")
    parser.add_argument("data", metavar="DATA", type=Path, help="JSONL file in the VLM-R1 line format (docs/data.md)")
    parser.add_argument(
        "--image-root", default="", help="folder that image paths are relative to (default: the file's)"
    )
    parser.add_argument("--task", default="rec", help="task that asks and judges (default: rec)")
    parser.add_argument("--reward", help="accuracy reward of records that name none (default: the task's own)")
    parser.add_argument("--template", help="how the question is put (default: the run's, else r1)")
    parser.add_argument("--name", help="name of the result files (default: the data file's stem)")
    parser.add_argument("--out", type=Path, default=Path("eval"), help="folder for the result files (default: eval)")
    parser.add_argument("--batch-size", type=int, default=32, help="prompts answered at once (default: 32)")
    parser.add_argument("--max-completion-length", type=int, help="cap on answer tokens (default: the run's, else 512)")
    parser.add_argument("--limit", type=int, help="only the first so many records")
    parser.add_argument(
        "--dtype", default="float32", choices=["auto", "float32", "bfloat16"], help="weights (default: float32)"
    )
    parser.add_argument(
        "--min-pixels", type=int, help="smallest image the model sees, in pixels of area (default: the run's)"
    )
    parser.add_argument(
        "--max-pixels", type=int, help="largest image the model sees, in pixels of area (default: the run's)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write the files."""
    import torch

    from vlm_r1.cli.console import quiet_libraries
    from vlm_r1.config.schema import DataSource, ModelSection
    from vlm_r1.data.sources import load_sources
    from vlm_r1.evaluation.runner import answer_records, summarize_evaluation, write_evaluation
    from vlm_r1.models import load_adapter, load_model
    from vlm_r1.policy.encoding import Examiner
    from vlm_r1.runtime.progress import Display
    from vlm_r1.sampling.hf import HFSampler
    from vlm_r1.tasks.judge import check_rewards
    from vlm_r1.tasks.templates import make_templates

    quiet_libraries()
    settings, own_templates, origin = _settings(args)
    source = DataSource(path=str(args.data), image_root=args.image_root, task=args.task, reward=args.reward)
    records = load_sources([source])[: args.limit]
    rewards = {"accuracy": 1.0, "format": 1.0}
    check_rewards(rewards, records)
    adapter = load_adapter(args.model, settings["min_pixels"], settings["max_pixels"])
    examiner = Examiner(adapter, make_templates(settings["template"], sections=own_templates), rewards)
    model = load_model(ModelSection(path=args.model, dtype=args.dtype), adapter)
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]
    name, display = args.name or args.data.stem, Display()
    display.say(f"template {settings['template']}, at most {settings['max_completion_length']} tokens ({origin})")
    with display.bar(name, len(records)) as advance:
        groups = answer_records(
            records,
            examiner,
            HFSampler(model, adapter),
            max_completion_length=settings["max_completion_length"],
            batch_size=args.batch_size,
            advance=advance,
        )
    summary = summarize_evaluation(groups, name=name, data=str(args.data), step=0, seed=args.seed)
    write_evaluation(args.out, summary, groups)
    display.console.print(_table(summary))
    display.say(f"written to {args.out / name}.json and .samples.jsonl")
    return 0


def _settings(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, TemplateSection], str]:
    """What was given, else what the run trained with that the model lies in, else the defaults; where from.

    Between the two: the own templates of that run.
    """
    from vlm_r1.config import load_config

    given = {key: getattr(args, key) for key in ("template", "max_completion_length", "min_pixels", "max_pixels")}
    folders = [folder for folder in Path(args.model).absolute().parents[:2] if (folder / "config.yaml").exists()]
    templates: dict[str, TemplateSection] = {}
    if folders:
        run = load_config(folders[0] / "config.yaml")
        templates = run.data.templates
        known = {"template": run.data.template, "max_completion_length": run.sampling.max_completion_length}
        known |= {"min_pixels": run.model.min_pixels, "max_pixels": run.model.max_pixels}
    else:
        known = {"template": "r1", "max_completion_length": 512, "min_pixels": None, "max_pixels": None}
    chosen = {key: known[key] if value is None else value for key, value in given.items()}
    own = "as given" if chosen != known else f"as in {folders[0] / 'config.yaml'}" if folders else "defaults"
    return chosen, templates, own


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
