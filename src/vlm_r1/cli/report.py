"""`vlm-r1 report RUN`: write the offline page of a run."""

from __future__ import annotations

import argparse

from vlm_r1.cli.options import add_allow, add_allowed_remote, allowed_of, local_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vlm-r1 report`."""
    parser.add_argument(
        "run", type=local_path, metavar="RUN", help="run folder, of a finished run or of one still going on"
    )
    add_allow(parser, "task")
    add_allowed_remote(parser)


def run(args: argparse.Namespace) -> int:
    """Write RUN/report.html and print its path."""
    from vlm_r1.data.access import access_of
    from vlm_r1.report.build import build_report  # Pillow, pyarrow and jinja2 take a second to import
    from vlm_r1.runtime.lock import lock_output

    with lock_output(args.run / "report.html", "RUN"):
        print(build_report(args.run, access_of(allowed_of(args), ()), args.allow_task))
    return 0
