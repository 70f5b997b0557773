"""Check on the real weights whether a checkpoint and its adapter do what training relies on.

  vlm-r1 check-model path/to/checkpoint
  vlm-r1 check-model path/to/checkpoint --adapter my_package.families:Mistral3 --image photo.jpg --json checks.json
  vlm-r1 check-model path/to/checkpoint --only positions --only prefix --dtype float32

Every check runs, even if others failed. They run on a GPU if there is one, and need about as much memory as training.
docs/add_a_model.md describes each of them.
"""

# pyright: standard

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vlm_r1.cli.options import add_trust, local_path, path_text
from vlm_r1.types import BoxFormat

if TYPE_CHECKING:
    from rich.table import Table

    from vlm_r1.conformance import Context, Result

_LOOKS = {"ok": "green", "failed": "red", "not applicable": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoint, its adapter, and which checks to run."""
    parser.add_argument(
        "path", metavar="MODEL", type=path_text, help="Hugging Face folder or hub name of a vision-language model"
    )
    parser.add_argument("--adapter", help="the family's adapter, package.module:Name (default: by the model type)")
    parser.add_argument(
        "--box-format",
        choices=[member.value for member in BoxFormat],
        help="how it writes boxes, if not as its family; needed for a family without an adapter",
    )
    parser.add_argument(
        "--dtype",
        choices=["checkpoint", "float64", "float32", "bfloat16"],
        help="type of the weights (default: float64 for small models on a CPU, else the checkpoint's own)",
    )
    parser.add_argument(
        "--image",
        type=path_text,
        action="append",
        default=[],
        metavar="FILE",
        help="a picture of yours, up to three (default: generated ones)",
    )
    add_trust(parser)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="run this check (repeatable)")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="leave this check out (repeatable)")
    parser.add_argument("--json", type=local_path, metavar="FILE", help="also write the results to this file")


def run(args: argparse.Namespace) -> int:
    """Print a table of results; returns 1 if a check failed.

    Raises:
        ConfigError: a check is unknown, or there are too many images.
        DataError: an image cannot be read.
    """
    from vlm_r1.cli.console import quiet_libraries, reach_hub, warn_of_code
    from vlm_r1.conformance import Context, run_checks, select_checks
    from vlm_r1.runtime.run_folder import write_json
    from vlm_r1.runtime.terminal import Terminal, styled

    reach_hub(args.path)
    quiet_libraries()
    checks = select_checks(args.only, args.skip)
    box_format = BoxFormat(args.box_format) if args.box_format else None
    warn_of_code(args.path, args.trust_remote_code)
    context = Context(
        args.path,
        adapter=args.adapter,
        box_format=box_format,
        dtype=args.dtype,
        images=args.image,
        trust_remote_code=args.trust_remote_code,
    )
    console = Terminal()
    with console.status(styled("loading")) as status:
        results = list(run_checks(context, checks, lambda check: status.update(styled(f"{check.name}: {check.asks}"))))
    if args.json:
        write_json(args.json, _as_json(args, context, results))
    console.print(_table(results))
    for result in (result for result in results if result.message):
        for line in result.message.splitlines():
            console.print(styled(f"{result.name} ", _LOOKS[result.status.value]).append_text(styled(line)))
    failed = [result.name for result in results if result.status.value == "failed"]
    advice = f": start with {failed[0]}, which may explain the others" if len(failed) > 1 else ""
    verdict = f"{len(failed)} of {len(results)} checks failed{advice}" if failed else "all well"
    console.print(verdict, style="" if failed else "green")
    return 1 if failed else 0


def _table(results: Sequence[Result]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    from vlm_r1.runtime.terminal import styled

    table = Table(box=SIMPLE, pad_edge=False)
    for column in ("check", "result", "measured"):
        table.add_column(column, overflow="fold")
    table.add_column("s", justify="right")
    for result in results:
        look = _LOOKS[result.status.value]
        table.add_row(
            result.name, styled(result.status.value, look), _measured(result.numbers), f"{result.seconds:.1f}"
        )
    return table


def _measured(numbers: Mapping[str, float | str]) -> str:
    measured = [
        f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}" for name, value in numbers.items()
    ]
    return " · ".join(measured)


def _as_json(args: argparse.Namespace, context: Context, results: Sequence[Result]) -> dict[str, Any]:
    rows = [{**asdict(result), "status": result.status.value} for result in results]
    for row in rows:  # JSON knows no infinity
        row["numbers"] = {
            k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row["numbers"].items()
        }
    return {"path": args.path, "adapter": args.adapter, "device": context.device.type, "checks": rows}
