"""Write a synthetic data set: pictures, questions with one right answer, and the answers of a mediocre teacher.

vlm-r1 data synth --out data/shapes                                          the data set of the demo
vlm-r1 data synth --out data/ovd --world ovd --difficulty hard --shift sizes --shift kinds
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_r1.cli.options import count, path_text, share

if TYPE_CHECKING:
    from vlm_r1.synthetic import SizeRange

_OPTIONS = ("relation_share", "negatives", "looseness", "wrong_share", "thought")
"""Fields of a world that have an option; docs/synthetic.md lists the fields of each world."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare folder, world, sizes and the options of single worlds."""
    parser.add_argument("--out", type=path_text, required=True, help="folder to write to")
    parser.add_argument("--world", default="rec", help="rec, ovd, counting, change or click (default: rec)")
    parser.add_argument("--difficulty", default="medium", help="easy, medium or hard (default: medium)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default: 0)")
    parser.add_argument("--train", type=count, default=8000, help="training records (default: 8000)")
    parser.add_argument("--warmup", type=count, help="records of warmup.jsonl (default: as many as --train)")
    parser.add_argument("--in-domain", type=count, default=512, help="held-out records of the same kind (default: 512)")
    parser.add_argument(
        "--out-of-domain", type=count, default=512, help="held-out records of each shift (default: 512)"
    )
    parser.add_argument(
        "--shift",
        action="append",
        help="what is new out of domain: sizes, kinds, crowding, or all three at once; repeatable, one file for each "
        "(default: all)",
    )
    parser.add_argument(
        "--image-size",
        action="append",
        type=image_size,
        metavar="WxH",
        help="pixels, e.g. 64x60, or a range, e.g. 48x48-64x64; repeatable, all equally likely (default: the world's)",
    )
    parser.add_argument("--relation-share", type=share, help="rec: share that differ by size or place (default: 0.2)")
    parser.add_argument("--negatives", help="ovd: absent labels asked for: hard, random or none (default: hard)")
    parser.add_argument("--looseness", type=share, help="rec, ovd: how loose the teacher's boxes are (default: 0.5)")
    parser.add_argument("--wrong-share", type=share, help="all but rec: share of the teacher's errors (default: 0.3)")
    parser.add_argument("--thought", help="of the teacher: question, none; ovd: presence or mixed too")


def image_size(text: str) -> tuple[int, int] | SizeRange:
    """Parse `WxH` or `WxH-WxH` in pixels."""
    from vlm_r1.synthetic import SizeRange

    corners = [tuple(side for side in corner.split("x")) for corner in text.split("-")]
    if len(corners) > 2 or not all(len(c) == 2 and all(s.isdecimal() and len(s) < 6 for s in c) for c in corners):
        raise argparse.ArgumentTypeError(f"wanted WxH or WxH-WxH in pixels, e.g. 48x48-64x64, got {text!r}")
    (low_wh, *high_wh) = [(int(width), int(height)) for width, height in corners]
    if not high_wh:
        return low_wh
    if low_wh[0] > high_wh[0][0] or low_wh[1] > high_wh[0][1]:
        raise argparse.ArgumentTypeError(f"wanted the smaller size first, got {text!r}")
    return SizeRange(low_wh, high_wh[0])


def run(args: argparse.Namespace) -> int:
    """Write the files and list them.

    Raises:
        ConfigError: a name is unknown, or an option has no effect in this world.
        DataError, CheckpointError: the folder cannot be written, or another process writes there.
    """
    from vlm_r1.runtime.lock import lock_folder
    from vlm_r1.synthetic import ALL_SHIFTS, make_world, write_dataset

    options = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    if args.image_size:
        options["image_sizes"] = tuple(args.image_size)
    world = make_world(args.world, args.difficulty, **options)
    counts = {
        "train": args.train,
        "warmup": args.train if args.warmup is None else args.warmup,
        "in_domain": args.in_domain,
        "out_of_domain": args.out_of_domain,
    }
    with lock_folder(Path(args.out), "--out"):
        files = write_dataset(args.out, world, seed=args.seed, counts=counts, shifts=args.shift or [ALL_SHIFTS])
    for name, path in files.items():
        print(f"{path}: {counts.get(name, args.out_of_domain)} records")
    return 0
