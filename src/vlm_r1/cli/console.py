"""Functions that several commands share: quiet libraries, and the table at the end of a run."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from vlm_r1.config import Config

_COUNTS = ("ci95", "n", "overlong_prompts")
"""Keys of a held-out set in `summary.json` that are no metrics."""


def quiet_libraries() -> None:
    """Keep transformers' progress bars and hints out of our output; errors are still shown."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft asks for it


def reach_hub(*names: str) -> None:
    """Say at once that the Hub does not answer, if one of these is a name of the Hub: of a model, or `hub:` of data.

    Whether the cache has what is named shows when it is loaded.
    """
    from vlm_r1.pretrained.reach import hub_trouble, is_hub_name

    of_hub = any(is_hub_name(name.removeprefix("hub:").partition(":")[0]) for name in names)
    if of_hub and (trouble := hub_trouble()) and os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"{trouble}; of models, what the cache of this machine holds is taken", file=sys.stderr, flush=True)


def warn_of_code(path: str, trusted: bool) -> None:
    """Say that code of a checkpoint will run, if it is trusted.

    Raises:
        ConfigError: the checkpoint brings no code.
    """
    if not trusted:
        return
    from vlm_r1.models.loading import note_of
    from vlm_r1.runtime.terminal import Terminal

    Terminal(stderr=True).print(note_of(path), style="yellow", soft_wrap=True)


def show_result(config: Config, summary: Mapping[str, Any]) -> None:
    """Write the report of a finished run, print its table and paths; do nothing if this process has no summary."""
    if not summary:
        return
    from vlm_r1.runtime.terminal import Terminal

    console, page = Terminal(), write_report(config)
    if summary["before"]:
        console.print(before_after_table(summary, config.training.num_generations_eval))
    for name, after in summary["after"].items():
        if overlong := after.get("overlong_prompts"):
            console.print(f"{name}: {after['n']:,} records, without {overlong:,} whose prompts are too long")
    console.print(f"run folder  {config.output_dir}", f"report      {page}", sep="\n", soft_wrap=True)


def write_report(config: Config) -> Path:
    """Write the report of a run that this program has trained, finished or stopped; returns the path of the page.

    The page shows the remote pictures, and asks the tasks, that the recipe allows.

    Raises:
        CheckpointError: the page cannot be written.
    """
    from vlm_r1.data.access import access_of
    from vlm_r1.report.build import build_report  # Pillow, pyarrow and jinja2 take a second to import

    roots = (source.image_root for source in config.sources)
    tasks = [source.task for source in config.sources]
    return build_report(Path(config.output_dir), access_of(config.data, roots), tasks)


def before_after_table(summary: Mapping[str, Any], draws: int = 1) -> Table:
    """Make the table of held-out results before and after: accuracy with its 95 % interval, and other metrics.

    Args:
        draws: answers to each record; 1: greedy.
    """
    from rich.box import SIMPLE
    from rich.table import Table

    drawn = "greedy" if draws == 1 else f"{draws} answers to each record"
    table = Table(title=f"Held-out results in %, {drawn}, with 95 % intervals", box=SIMPLE, pad_edge=False)
    for column in ("set", "metric", "before", "after", "gain"):
        justify = "left" if column in ("set", "metric") else "right"
        table.add_column(column, justify=justify, no_wrap=column != "set", overflow="fold")  # numbers are never cut
    for name, after in summary["after"].items():
        before = summary["before"][name]
        for index, metric in enumerate(key for key in after if key in before and key not in _COUNTS):
            gain = f"{100 * (after[metric] - before[metric]):+.1f}"
            table.add_row(
                name if index == 0 else "",
                metric,
                *(_percent(numbers, metric, index == 0) for numbers in (before, after)),
                gain,
            )
    return table


def _percent(numbers: Mapping[str, Any], metric: str, interval: bool) -> str:
    low, high = numbers["ci95"]
    return f"{100 * numbers[metric]:.1f}" + (f" [{100 * low:.1f}, {100 * high:.1f}]" if interval else "")
