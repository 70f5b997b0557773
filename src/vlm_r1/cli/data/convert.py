"""Turn what a labelling tool wrote, or a published data set, into a JSONL file to train on (docs/convert.md).

vlm-r1 data convert FORMAT SOURCE --out FILE.jsonl [options]
vlm-r1 data convert FORMAT --help                the options of a format
vlm-r1 data convert yolo boats/ --split train --out boats_train.jsonl --negatives 1:3

format        what must be on the disk
yolo          data.yaml with names and splits (or classes.txt), images/train/*.jpg and labels/train/*.txt
voc           Annotations/*.xml and JPEGImages/*.jpg, or XML files beside their pictures
coco          annotations/instances_val2017.json and val2017/*.jpg, or a folder with such files
labelme       a.json with shapes beside a.jpg, in any folders below the source
cvat          annotations.xml (CVAT for images 1.1), and the pictures in images/
label-studio  the JSON or JSON-MIN export, and the pictures beside it, in images/ or in --images
createml      <split>/_annotations.createml.json with the pictures beside it, or one such file
csv           <split>/_annotations.csv with the pictures beside it, or one table with usual or given columns
refcoco       refs(unc).p and instances.json in one folder, COCO's train2014/*.jpg
lvis          lvis_v1_val.json and COCO's train2017/*.jpg, val2017/*.jpg
d3            d3_pkl/{sentences,annotations,images,groups}.pkl or d3_json/d3_full_annotations.json, d3_images/
ovdeval       <subset>.json (or a folder of them) and the images
reasonseg     one of train, val and test: <name>.jpg with <name>.json beside it
odinw         <data set>/test/_annotations.coco.json with the images beside it
screenspot    screenspot_{mobile,desktop,web}[_v2].json and screenspot_imgs/ (Pro: annotations/*.json, images/)
countbench    train-*.parquet with embedded images, and countbench_paired_questions.json
pixmo-count   train-*.parquet; images by URL, or in --images under their SHA-256 or their own name
negatives     a JSONL file for task ovd, e.g. one made by the formats above
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vlm_r1.cli.options import HelpFormatter, local_path

if TYPE_CHECKING:
    from vlm_r1.converters import Conversion, Converter, Tally

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the format; `format_parser` declares its own options, so that only a conversion loads the converters."""
    parser.add_argument("format", metavar="FORMAT", help="see above")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="SOURCE --out FILE", help="see FORMAT --help")


def run(args: argparse.Namespace) -> int:
    """Convert, then print the counts of kept and dropped things and the commands that come next.

    Raises:
        ConfigError: the format is unknown, or an option has no effect.
        DataError: the source is not in this format, nothing could be kept, or the output cannot be written.
        CheckpointError: another process writes the output.
    """
    from vlm_r1.converters import CONVERTERS, Job, run_conversion
    from vlm_r1.registry import resolve
    from vlm_r1.runtime.lock import lock_output
    from vlm_r1.runtime.terminal import Terminal

    converter = resolve("format", args.format, CONVERTERS)
    chosen = vars(format_parser(converter).parse_args(args.arguments))
    job = Job(
        source=chosen.pop("source"),
        out=chosen.pop("out"),
        images=chosen.pop("images"),
        verify=chosen.pop("verify_images", False),
        track=_track,
    )
    with lock_output(job.out):
        conversion = run_conversion(converter, job, converter.options(**chosen))
    console = Terminal(soft_wrap=True)
    console.print(_tally_text(job.tally))
    console.print(_next_steps(job.out, conversion))
    return 0


def format_parser(converter: Converter) -> argparse.ArgumentParser:
    """Make the parser of one format: source, output, images, and one option for each field of its options."""
    parser = argparse.ArgumentParser(
        prog=f"vlm-r1 data convert {converter.name}",
        description=f"{converter.summary}.\n\non the disk:\n  {converter.layout}\n\n"
        f"example:\n  vlm-r1 data convert {converter.name} {converter.example} --out train.jsonl",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", type=local_path, help="folder or file to read")
    parser.add_argument("--out", type=local_path, required=True, help="JSONL file to write")
    parser.add_argument(
        "--images", type=local_path, help="folder of the images (default: looked for beside the source)"
    )
    if converter.gives_sizes:
        parser.add_argument(
            "--verify-images", action="store_true", help="compare sizes in the annotations with those of the files"
        )
    for field in dataclasses.fields(converter.options):
        _add_option(parser, field)
    return parser


def count_range(text: str) -> tuple[int, int]:
    """Parse a number or a range, "2" or "1:3", into its least and greatest value.

    >>> count_range("2"), count_range("1:3")
    ((2, 2), (1, 3))
    """
    low, _, high = text.partition(":")
    if not low.isdecimal() or not (high or low).isdecimal() or int(low) > int(high or low):
        raise argparse.ArgumentTypeError(f"wanted a whole number, or a range such as 1:3, got {text!r}")
    return int(low), int(high or low)


_TYPES = {"str": str, "int": int, "float": float, "tuple[int, int]": count_range}


def _add_option(
    parser: argparse.ArgumentParser, field: dataclasses.Field[str | float | tuple[int, int] | None]
) -> None:
    """Declare the option of one field, e.g. `--max-boxes N` for `max_boxes: int | None`."""
    kind = str(field.type).removesuffix(" | None")  # a text: annotations are not evaluated
    default = field.default
    shown = ":".join(map(str, dict.fromkeys(default))) if isinstance(default, tuple) else default
    parser.add_argument(
        f"--{field.name.replace('_', '-')}",
        type=_TYPES[kind],
        default=default,
        choices=field.metadata["choices"],
        help=field.metadata["help"] + ("" if default is None else f" (default: {shown})"),
    )


def _track(items: Sequence[T]) -> Iterable[T]:
    """Show a bar with the remaining time, on a terminal."""
    from vlm_r1.runtime.progress import track

    return track(items, "converting", len(items))


def _tally_text(tally: Tally) -> str:
    """Format a tally: a line for each kind of kept thing, dropped thing (with reason and example) and note."""
    from vlm_r1.converters.base import NOTE

    rows = [("kept", n, what) for what, n in tally.kept.items() if n]
    rows += [
        ("dropped", n, f"{what}: {reason}{_example(tally, what, reason)}")
        for (what, reason), n in sorted(tally.dropped.items())
    ]
    rows += [(NOTE, n, f"{note}{_example(tally, NOTE, note)}") for note, n in sorted(tally.notes.items())]
    width = max((len(str(n)) for _, n, _ in rows), default=0)
    return "\n".join(f"{kind:<7}  {n:>{width}}  {text}" for kind, n, text in rows)


def _example(tally: Tally, what: str, reason: str) -> str:
    example = tally.examples.get((what, reason))
    return f", e.g. {example}" if example else ""


def _next_steps(out: Path, conversion: Conversion) -> str:
    """Format the command that checks the file, and the lines of a recipe that train on it."""
    root = "" if conversion.image_root.resolve() == out.parent.resolve() else f"{conversion.image_root}"
    option, key = (f" --image-root {root}", f"image_root: {root}, ") if root else ("", "")
    return (
        f"\n{out} is for task {conversion.task}\n"
        f"check it     vlm-r1 data check {out} --task {conversion.task}{option}\n"
        f"train on it  data: {{train: [{{path: {out}, {key}task: {conversion.task}}}]}}"
    )
