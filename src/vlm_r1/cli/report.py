"""Write the offline page of a run, of several runs, or of one result of an evaluation.

  vlm-r1 report runs/rec                            runs/rec/report.html
  vlm-r1 report runs/a runs/b --out both.html       curves on the same charts, and how the recipes differ
  vlm-r1 report runs/rec/eval/after-val.json        runs/rec/eval/after-val.html
  vlm-r1 report runs/rec --watch                    the page in a browser of this machine, following the run

The page of a result shows its number, answers drawn at fixed quantiles, and its failures by reason (docs/runs.md). It
reads pictures below the folder of the result or of its run, and below --image-root.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from pathlib import Path

from vlm_r1.cli.options import add_allow, add_allowed_remote, allowed_of, local_path, path_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vlm-r1 report`."""
    parser.add_argument(
        "run",
        type=local_path,
        metavar="RUN",
        help="run folder, of a finished run or of one still going on; or a result",
    )
    parser.add_argument("others", type=local_path, nargs="*", metavar="RUN", help="further runs, to compare with RUN")
    parser.add_argument("--out", type=local_path, help="page of several runs (default: RUN/runs.html)")
    add_allow(parser, "task")
    parser.add_argument(
        "--image-root",
        type=path_text,
        default="",
        help="folder or URL of pictures of a result that lie neither beside it nor in its run",
    )
    add_allowed_remote(parser)
    parser.add_argument("--watch", action="store_true", help="serve the page on this machine, and follow the run")
    parser.add_argument("--port", type=int, help="port of --watch (default: a free one)")


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path.

    Raises:
        VlmR1Error: the run or the result cannot be read, or an option has no effect.
    """
    from vlm_r1.data.access import access_of
    from vlm_r1.errors import ConfigError
    from vlm_r1.report.answers_page import images_beside
    from vlm_r1.report.build import build_report  # Pillow, pyarrow and jinja2 take a second to import
    from vlm_r1.report.evaluation_page import build_evaluation_page
    from vlm_r1.runtime.lock import lock_output

    if args.port is not None and not args.watch:
        raise ConfigError("--port has no effect without --watch: add --watch, or leave it out")
    if args.watch and (args.others or args.out or args.image_root or args.run.suffix == ".json"):
        raise ConfigError("--watch follows one run: give one run folder, without --out and --image-root")
    if args.others:
        return _write_runs_page(args)
    if args.out:
        raise ConfigError("--out has no effect on the page of one run or result, which lies beside it: leave it out")
    allowed = allowed_of(args)
    if args.run.suffix == ".json":
        if args.allow_task:
            raise ConfigError("--allow-task has no effect on the page of a result, which asks our own tasks only")
        with lock_output(args.run.with_suffix(".html"), "RUN"):
            print(build_evaluation_page(args.run, images_beside([args.run], args.image_root, allowed)))
        return 0
    if args.image_root:
        raise ConfigError("--image-root has no effect on the page of a run, only on that of a result: leave it out")

    def build() -> Path:
        with lock_output(args.run / "report.html", "RUN"):
            return build_report(args.run, access_of(allowed, ()), args.allow_task)

    if args.watch:
        return _watch(args, build)
    print(build())
    return 0


def _watch(args: argparse.Namespace, build: Callable[[], Path]) -> int:
    """Serve the page until Ctrl-C."""
    from vlm_r1.report.watch import Watch, open_watch

    try:
        with open_watch(Watch(build, args.run), args.port) as address:
            print(f"open {address} in a browser; the page follows {args.run}; Ctrl-C ends it", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print(f"ended; the page as it was last is {args.run / 'report.html'}")
    return 0


def _write_runs_page(args: argparse.Namespace) -> int:
    """Write the page of several runs, which draws no pictures and asks no tasks, and print its path."""
    from vlm_r1.errors import ConfigError
    from vlm_r1.report.runs_page import build_runs_page
    from vlm_r1.runtime.lock import lock_output

    for name in ("allow_task", "image_root", "allowed_protocols", "allowed_media_domains", "allowed_local_media_path"):
        if getattr(args, name, None):
            raise ConfigError(f"--{name.replace('_', '-')} has no effect on the page of several runs: leave it out")
    out = args.out or args.run / "runs.html"
    with lock_output(out, "--out"):
        print(build_runs_page([args.run, *args.others], out))
    return 0
