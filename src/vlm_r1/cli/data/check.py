"""Find every bad line of a data file, score each gold answer with its own reward, and check the boxes.

vlm-r1 data check train.jsonl --task rec --page check.html --against test.jsonl
"""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vlm_r1.cli.options import (
    add_allowed,
    add_reading,
    allowed_of,
    columns_of,
    count,
    local_path,
    path_text,
    sampling_seed,
)

if TYPE_CHECKING:
    from rich.table import Table

    from vlm_r1.config.schema import DataSource
    from vlm_r1.curation.data_check import DataCheck
    from vlm_r1.runtime.terminal import Terminal

_SHOWN_CHARS = 2000
"""Maximal length of the first question in the output."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the file, and the options that say how its records are asked and judged."""
    parser.add_argument("file", type=path_text, help="data file, of any format of docs/data.md")
    add_reading(parser)
    add_allowed(parser)
    parser.add_argument("--task", default="rec", help="task that asks and judges (default: rec)")
    parser.add_argument("--reward", help="accuracy reward of records that name none (default: the task's own)")
    parser.add_argument("--template", default="r1", help="how the question is put (default: r1)")
    parser.add_argument("--no-images", action="store_true", help="do not look at image files")
    parser.add_argument(
        "--against",
        type=path_text,
        action="append",
        default=[],
        metavar="FILE",
        help="a file that should share no picture, e.g. test",
    )
    parser.add_argument(
        "--page", type=local_path, metavar="FILE", help="draw the gold boxes of some records into a page"
    )
    parser.add_argument("--page-records", type=count, default=24, help="records on the page (default: 24)")


def run(args: argparse.Namespace) -> int:
    """Report on the file; returns the exit status, 1 if something is wrong.

    Raises:
        ConfigError: an option names something unknown.
        DataError: a file of --against cannot be read.
    """
    from vlm_r1.config.schema import DataSource
    from vlm_r1.curation.data_check import check_data
    from vlm_r1.errors import ConfigError
    from vlm_r1.rewards import REWARDS
    from vlm_r1.rewards.call import resolve_reward
    from vlm_r1.runtime.terminal import Terminal
    from vlm_r1.tasks.templates import get_template

    if args.no_images and (args.against or args.page):
        raise ConfigError("--no-images looks at no picture, but --against and --page need them: remove one")
    if args.reward:
        resolve_reward(args.reward, REWARDS)
    source = DataSource(
        path=args.file,
        format=args.format,
        image_root=args.image_root,
        task=args.task,
        reward=args.reward,
        columns=columns_of(args),
        coordinates=args.coordinates,
        box=args.box,
        orientation=args.orientation,
        sampling_strategy=args.sampling_strategy,
    )
    whole = {"format": "auto", "sampling_strategy": "all"}
    against = [source.model_copy(update={"path": path, **whole}) for path in args.against]
    template = get_template(args.template)
    check = check_data(
        source,
        template,
        images=not args.no_images,
        allowed=allowed_of(args),
        against=against,
        seed=sampling_seed(args),
        progress=_with_progress,
    )
    console = Terminal(soft_wrap=True)
    if check.unreadable:
        console.print(f"{check.unreadable}\n\nnot ready for training")
        return 1
    _print_check(console, source, check, images_read=not args.no_images)
    if args.page and not check.judged:
        console.print(f"\nno page {args.page}: no record can be used")
    elif args.page:
        from vlm_r1.report.data_page import write_data_page
        from vlm_r1.runtime.lock import lock_output

        with lock_output(args.page, "--page"):
            write_data_page(args.page, source, check, args.page_records)
        console.print(f"\nboxes drawn: {args.page}")
    verdict = "ready for training, but for the warnings above" if check.warnings or check.notes else "all well"
    console.print(f"\n{verdict}" if check.is_ready else "\nnot ready for training")
    return 0 if check.is_ready else 1


def _print_check(console: Terminal, source: DataSource, check: DataCheck, images_read: bool) -> None:
    """Print statistics of the file and all findings."""
    from vlm_r1.data.rows import summarise

    if check.judged:
        console.print(_facts(source, check, images_read))
        console.print(_fields(check))
    if check.first[0]:
        console.print(f"\nfirst question, as it is asked ({check.first[0]}):\n{_excerpt(check.first[1])}")
    listings = {"cannot be used": check.problems, "gold answer does not earn full marks": check.low, **check.warnings}
    listings["left out by its reward, so it earns nothing and costs nothing there"] = check.left_out
    for title, listed in listings.items():
        if listed:
            console.print(f"\n{title}: {len(listed)}\n{summarise(listed)}")
    if check.coordinates:
        console.print(f"\ncoordinates: {check.coordinates}{_as_option(check.coordinates)}")
    for hint in check.hints:
        console.print(f"\nhint: {hint}")
    for sentence in check.duplicates:
        console.print(f"\nduplicates: {sentence}")
    for path, sentence in check.leakage.items():
        console.print(f"\nleakage: {source.path} and {path}: {sentence}")
    for note in (*check.notes, *check.unused_keys):
        console.print(f"\nnote: {note}")


def _as_option(advice: str) -> str:
    """The option of this command for a setting of a recipe that an advice names.

    >>> _as_option("the boxes look 0-1000: set coordinates: norm_1000"), _as_option("swap the axes")
    (' (here --coordinates norm_1000)', '')
    """
    found = re.search(r"set (\w+): (\w+)", advice)
    return f" (here --{found[1]} {found[2]})" if found else ""


def _excerpt(text: str) -> str:
    """Cut a text at `_SHOWN_CHARS` characters and replace characters that are invisible or would move the cursor."""
    visible = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text[:_SHOWN_CHARS])
    return visible + ("…" if len(text) > _SHOWN_CHARS else "")


def _with_progress(found: Iterator[Any], total: int, name: str) -> Iterable[Any]:
    """Show a bar with the remaining time, on a terminal."""
    from vlm_r1.runtime.progress import track

    return track(found, f"checking {os.path.basename(name)}", total)


def _facts(source: DataSource, check: DataCheck, images_read: bool) -> Table:
    """Make the table of facts about the good records."""
    from rich.table import Table

    from vlm_r1.config.secrets import masked
    from vlm_r1.curation.statistics import kind_of
    from vlm_r1.tasks import get_task
    from vlm_r1.tasks.judge import takes_token_ids

    records = [record for record, _ in check.judged]
    default = get_task(source.task).reward
    table = Table(title=source.path, title_justify="left", show_header=False, box=None)
    table.add_row("format", check.format)
    if source.sampling_strategy != "all":
        table.add_row("looked at", check.chosen)
    table.add_row("good records", f"{len(records)}")
    table.add_row("task", source.task)
    table.add_row("images per record", _histogram(len(record.images) for record in records))
    table.add_row(
        "image sizes", _size_range(list(check.pictures.sizes_wh.values())) if images_read else "not looked at"
    )
    table.add_row("answers", _histogram(kind_of(record.answer) for record in records))
    table.add_row("with a thought", f"{sum(record.thought is not None for record in records)}")
    table.add_row("reward", _histogram(masked(record.reward or default) for record in records))
    for name in ("accuracy", "format"):
        values = [value for _, score in check.judged if (value := score.parts[name]) is not None]
        earned = f"mean {sum(values) / len(values):.4f}, least {min(values):.4f}" if values else "left out"
        table.add_row(f"gold {name}", earned)
    if any(map(takes_token_ids, records)):
        table.add_row("token ids", "stand-ins, one for each byte of the text: no tokenizer is loaded here")
    return table


def _fields(check: DataCheck) -> Table:
    """Make the table with statistics of each field of the good records."""
    from rich.table import Table

    from vlm_r1.curation.statistics import describe_fields

    table = Table("field", "records", "kind", "values", "", box=None, title="fields", title_justify="left")
    for one in describe_fields([record for record, _ in check.judged]):
        table.add_row(one.name, str(one.present), one.kinds, str(one.values), one.summary)
    return table


def _histogram(values: Iterable[object]) -> str:
    """The commonest values with their numbers, e.g. "2 (1797)"."""
    common = Counter(values).most_common(6)
    return ", ".join(f"{value} ({n})" for value, n in common) or "–"


def _size_range(sizes_wh: Sequence[tuple[int, int]]) -> str:
    if not sizes_wh:
        return "–"
    by_area = sorted(sizes_wh, key=lambda wh: (wh[0] * wh[1], wh))
    chosen = {"smallest": by_area[0], "median": by_area[len(by_area) // 2], "largest": by_area[-1]}
    return ", ".join(f"{name} {width}x{height}" for name, (width, height) in chosen.items()) + f", {len(by_area)} read"
