"""Compare results of evaluations record by record: is B better than A, by how much, where, and could it be chance?

  vlm-r1 compare runs/rec                               before and after its training
  vlm-r1 compare eval/base.json eval/mine.json          two results of `vlm-r1 eval`
  vlm-r1 compare runs/a runs/b runs/c --json out.json   runs b and c against run a, after training
  vlm-r1 compare a.json b.json --page --image-root coco/val2017    with the answers drawn, in comparison.html

A result is its NAME.json or NAME.samples.jsonl, or a folder that holds it. All results must be of one protocol and of
the same records; else an error says in what they differ. The table has, for each metric: both means, the difference of
B − A with its 95 % interval, the p of no difference, and how many records got better, worse, or stayed equal; then the
same for subsets, and the records whose answers changed most. --json writes all of it, with every record that got better
or worse. How to read it: docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import math
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_r1.cli.options import add_allowed_remote, allowed_of, local_path, path_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from vlm_r1.config.data import Allowed
    from vlm_r1.evaluation.compare_values import Comparison, Difference, Pair, Result, Versus, WholeDifference
    from vlm_r1.runtime.terminal import Terminal

_COLUMNS = ("A", "B", "B − A", "95 % interval", "p", "better", "worse", "equal")
_SHOWN = 4  # records in each direction
_WIDEST_NAME, _WIDEST_ANSWER = 16, 21  # characters; the tables fit into 80
_LEAST_P = 0.0001


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the results and the outputs."""
    parser.add_argument(
        "results", metavar="RESULT", nargs="+", type=local_path, help="file, folder or run; all against the first"
    )
    parser.add_argument("--json", type=local_path, metavar="FILE", help="write everything that was found")
    parser.add_argument(
        "--page",
        nargs="?",
        const=Path("comparison.html"),
        type=local_path,
        metavar="FILE",
        help="write one offline page with pictures, FILE.html (default: comparison.html)",
    )
    parser.add_argument(
        "--image-root",
        type=path_text,
        default="",
        help="folder or URL of pictures that lie neither beside the results nor in their runs",
    )
    add_allowed_remote(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap and the permutations (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Compare, print the tables, write the file.

    Raises:
        VlmR1Error: a result cannot be read, or the results cannot be compared.
    """
    from vlm_r1.errors import ConfigError
    from vlm_r1.evaluation.compare import compare_results
    from vlm_r1.evaluation.compare_files import read_results
    from vlm_r1.evaluation.compare_values import as_json
    from vlm_r1.runtime.lock import lock_output
    from vlm_r1.runtime.run_folder import write_json
    from vlm_r1.runtime.terminal import Terminal

    if args.seed < 0:
        raise ConfigError(f"--seed {args.seed}: wanted a whole number of at least 0")
    allowed = _pictures_of(args)
    results = read_results(args.results)
    if args.json:
        _check_output(args.json, results)
    comparison = compare_results(results, seed=args.seed)
    console = Terminal()
    _print(comparison, console)
    if args.json:
        with lock_output(args.json, "--json"):
            write_json(args.json, as_json(comparison))
        console.print(f"written to {args.json}", soft_wrap=True)
    if args.page:
        from vlm_r1.report.answers_page import images_beside
        from vlm_r1.report.comparison_page import build_comparison_page  # Pillow and jinja2 take a second to import

        images = images_beside([result.path for result in results], args.image_root, allowed)
        with lock_output(args.page, "--page"):
            build_comparison_page(comparison, args.page, images)
        console.print(f"written to {args.page}", soft_wrap=True)
    return 0


def _pictures_of(args: argparse.Namespace) -> Allowed:
    """Return what pictures of the page may be fetched from.

    Raises:
        ConfigError: an option makes no sense, or has no effect.
    """
    from vlm_r1.errors import ConfigError

    if args.page is None:
        for option in ("image_root", "allowed_protocols", "allowed_media_domains"):
            if getattr(args, option):
                raise ConfigError(f"--{option.replace('_', '-')} has no effect without --page: leave it out")
    elif args.page.suffix != ".html":
        raise ConfigError(f"--page {args.page}: wanted a name that ends in .html; the results come before --page")
    return allowed_of(args)


def _check_output(path: Path, results: Sequence[Result]) -> None:
    from vlm_r1.errors import ConfigError
    from vlm_r1.evaluation.samples import samples_path

    inputs = [file for result in results for file in (result.path, samples_path(result.path))]
    if path.resolve() in [file.resolve() for file in inputs]:
        raise ConfigError(f"--json {path}: would replace a result that is compared; choose another name")


def _print(comparison: Comparison, console: Terminal) -> None:
    for versus in comparison.others:
        for line in _head(comparison, versus):
            console.print(line, soft_wrap=True)
        for table in _tables(comparison, versus):
            console.print(table)
    for note in _notes(comparison):
        console.print(note, soft_wrap=True)


def _head(comparison: Comparison, versus: Versus) -> list[str]:
    """Return who is compared, and the main difference as a sentence."""
    main = versus.metrics[0]
    a, b = comparison.first, versus.other
    unit = " points" if _is_share(main) else ""
    apart, ends = _interval(main)
    return [
        f"A  {a.label}  ({a.path})",
        f"B  {b.label}  ({b.path})",
        f"{main.n:,} {comparison.counted} of {main.images:,} images; {main.metric}: B − A is "
        f"{apart}{unit}, 95 % interval {ends}, p {_p(main.p, '= ')}; "
        f"{main.better:,} better, {main.worse:,} worse, {main.equal:,} equal",
    ]


def _tables(comparison: Comparison, versus: Versus) -> list[Table]:
    tables = [_metrics_table(versus)]
    if versus.subsets:
        tables.append(_subsets_table(comparison.main, versus))
    if versus.better or versus.worse:
        tables.append(_changes_table(comparison.main, versus))
    return tables


def _metrics_table(versus: Versus) -> Table:
    table = _table("\nmeans in %, differences in points", "metric", *_COLUMNS)
    for one in versus.metrics:
        table.add_row(one.metric, *_cells(one))
    for one in versus.whole:
        table.add_row(one.metric, _number(one.first, one), _number(one.other, one), *_interval(one))
    return table


def _subsets_table(main: str, versus: Versus) -> Table:
    from vlm_r1.runtime.terminal import styled

    table = _table(f"\n{main} by subset", "subset", "n", *_COLUMNS)
    found = [(part, one) for part in versus.subsets for one in part.metrics if one.metric == main]
    for key, rows in groupby(found, key=lambda row: row[0].key):
        table.add_row(styled(key, "bold"))
        for part, one in rows:
            table.add_row(f"  {_tail(part.value)}", str(one.n), *_cells(one))
    return table


def _changes_table(main: str, versus: Versus) -> Table:
    from vlm_r1.runtime.terminal import styled

    table = _table(f"\nchanges of {main}", "record", "A answers", "B answers", "gold")
    for direction, pairs in (("better", versus.better), ("worse", versus.worse)):
        more = f", the first {_SHOWN}" if len(pairs) > _SHOWN else ""
        table.add_row(styled(f"{len(pairs)} {direction}{more}", "bold"))
        for pair in pairs[:_SHOWN]:
            table.add_row(*_answers(pair))
    return table


def _notes(comparison: Comparison) -> list[str]:
    main = [versus.metrics[0] for versus in comparison.others]
    if all(one.images == one.n for one in main):
        test = "p: McNemar's exact test of metrics that are right or wrong; of others, the permutation of signs"
    else:
        test = "p: the permutation of signs of whole images, since images have several records"
    subsets = any(versus.subsets for versus in comparison.others)
    return [test, *(["p of subsets are not corrected for their number"] if subsets else [])]


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        is_text = not number or "answers" in column or column == "gold"
        justify = "left" if is_text else "right"
        table.add_column(column, justify=justify, no_wrap=bool(number), overflow="fold")
    return table


def _cells(one: Difference) -> tuple[str, ...]:
    return (
        _number(one.first, one),
        _number(one.other, one),
        *_interval(one),
        _p(one.p),
        *(str(count) for count in (one.better, one.worse, one.equal)),
    )


def _interval(one: Difference | WholeDifference) -> tuple[str, str]:
    """Return the difference and the ends of its interval."""
    ends = " to ".join(_number(end, one) for end in one.ci95 or ())
    return f"{'+' if one.difference > 0 else ''}{_number(one.difference, one)}", ends


def _is_share(one: Difference | WholeDifference) -> bool:
    """Return whether a metric is shown in percent; an error is not."""
    from vlm_r1.evaluation.metrics import less_is_better

    return not less_is_better(one.metric) and max(abs(one.first), abs(one.other)) <= 1


def _number(value: float, one: Difference | WholeDifference) -> str:
    return f"{100 * value:z.1f}" if _is_share(one) else f"{value:z.3g}"


def _p(p: float, equals: str = "") -> str:
    return f"{'< ' if equals else '<'}{_LEAST_P}" if p < _LEAST_P else f"{equals}{p:.2g}"


def _answers(pair: Pair) -> tuple[str, ...]:
    return (
        _short(pair.first.record_id, 12),
        *(_short(_written(sample.answer, sample.reason), _WIDEST_ANSWER) for sample in (pair.first, pair.other)),
        _short(_written(pair.first.gold, None), _WIDEST_ANSWER),
    )


def _written(answer: Any, reason: str | None) -> str:
    """Write an answer with whole pixels, or why there is none."""
    from vlm_r1.runtime.text import json_text

    return f"({reason})" if answer is None and reason else json_text(_rounded(answer))


def _rounded(value: Any) -> Any:
    from vlm_r1.parsing.json_values import is_list

    if isinstance(value, float) and math.isfinite(value):
        return round(value)
    return [_rounded(item) for item in value] if is_list(value) else value


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _tail(text: str) -> str:
    """Return the end of a name: that of a file tells more than its folder."""
    return text if len(text) <= _WIDEST_NAME else f"…{text[1 - _WIDEST_NAME :]}"
