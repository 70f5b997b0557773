"""Rate how hard each record is for a model, and keep those it can learn from: neither always right nor never.

  vlm-r1 data rate runs/rec/model train.jsonl --out band.jsonl --num-generations 8 --keep 0.1 0.9 --easy-first

The command samples G answers of each record and judges them as training does. OUT holds the records whose pass rate
lies in the band, in the VLM-R1 line format, with `pass_rate` and `mean_accuracy` added. All ratings are written to
OUT.ratings.jsonl: if the command is stopped, it continues from there, and another band needs no new answers. To train
from easy to hard, sort with --easy-first and set data.shuffle to false.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from vlm_r1.cli.answering import add_answering_arguments
from vlm_r1.cli.options import count, local_path, share
from vlm_r1.registry import may_be_allowed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from vlm_r1.curation.rate import Rating
    from vlm_r1.types import Record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare model, data, sampling and the band."""
    add_answering_arguments(parser)
    parser.add_argument("--out", type=local_path, required=True, help="JSONL file of the records that are kept")
    parser.add_argument("--num-generations", type=count, default=8, help="answers of each record (default: 8)")
    parser.add_argument("--temperature", type=float, default=1.0, help="of sampling (default: 1)")
    parser.add_argument("--seed", type=int, default=42, help="of sampling (default: 42)")
    parser.add_argument("--pass-from", type=float, default=0.5, help="least accuracy of a right answer (default: 0.5)")
    parser.add_argument(
        "--keep",
        type=share,
        nargs=2,
        default=(0.0, 1.0),
        metavar=("LOW", "HIGH"),
        help="keep records whose pass rate lies between these, both included (default: 0 1, all)",
    )
    parser.add_argument("--easy-first", action="store_true", help="sort by pass rate, highest first")


def run(args: argparse.Namespace) -> int:
    """Rate the records, write those in the band, and print the distribution of the pass rates.

    Raises:
        VlmR1Error: the model or the data cannot be used, another process writes OUT, or OUT.ratings.jsonl is damaged or
            was made with other settings.
    """
    from vlm_r1.cli.answering import check_order
    from vlm_r1.errors import ConfigError
    from vlm_r1.runtime.lock import lock_output

    check_order(args)
    low, high = args.keep
    if low > high:
        raise ConfigError(f"--keep {low} {high}: wanted the lower bound first")
    if args.temperature <= 0:
        raise ConfigError("--temperature must be positive: greedy answers of a record are all the same")
    if args.out.resolve() == args.data.resolve():
        raise ConfigError(f"--out {args.out}: is the data itself, of which records would be lost; choose another")
    with lock_output(args.out):
        _rate(args, low, high)
    return 0


def _rate(args: argparse.Namespace, low: float, high: float) -> None:
    from vlm_r1.cli.answering import complete_arguments, load_answering, open_data
    from vlm_r1.cli.console import quiet_libraries, reach_hub
    from vlm_r1.config.secrets import masked
    from vlm_r1.curation.rate import continue_ratings, rate_records
    from vlm_r1.runtime.model_hash import hash_model
    from vlm_r1.runtime.progress import Display
    from vlm_r1.sampling import SamplingParams

    reach_hub(args.model)
    quiet_libraries()
    asked_with, display = complete_arguments(args), Display()
    ratings: list[Rating] = []
    display.console.print(asked_with, soft_wrap=True)
    records = open_data(args)[: args.limit]
    env, sampler = load_answering(args)
    params = SamplingParams(args.max_completion_length, args.temperature)
    settings = {"model": str(args.model), "asked": asked_with, "n": args.num_generations, "seed": args.seed}
    settings |= {name: getattr(args, name) for name in ("task", "temperature", "dtype", "min_pixels", "max_pixels")}
    settings |= {name: value for name in ("system_prompt", "chat_template_kwargs") if (value := getattr(args, name))}
    settings |= {"reward": args.reward and masked(args.reward)}
    settings |= {"weights": hash_model(str(args.model), env.adapter.config, args.trust_remote_code)}
    with display.bar("rate", len(records)) as advance:
        for batch in continue_ratings(
            args.out.with_name(f"{args.out.name}.ratings.jsonl"),
            settings,
            records,
            lambda missing: rate_records(
                missing,
                env,
                sampler,
                params,
                n=args.num_generations,
                seed=args.seed,
                batch_size=max(1, args.batch_size // args.num_generations),
            ),
        ):
            ratings += batch
            advance(len(batch))
    rates = [rating.pass_rate(args.pass_from) for rating in ratings]
    kept = [place for place, rate in enumerate(rates) if rate is not None and low <= rate <= high]
    if args.easy_first:
        kept.sort(key=lambda place: (-(rates[place] or 0.0), -ratings[place].mean_accuracy, place))
    _write(args, records, ratings, kept)
    judged = [rate for rate in rates if rate is not None]
    display.console.print(_spread(judged, low, high))
    if len(judged) < len(rates):
        display.say(f"{len(rates) - len(judged)} records are not rated, because their reward leaves them out (None)")
    display.say(f"{len(kept)} of {len(records)} records written to {args.out}")
    for line in _advice(args, [records[place].reward or "" for place in kept]):
        display.say(line)


def _advice(args: argparse.Namespace, rewards: Sequence[str]) -> Iterator[str]:
    """Yield what a reader of the written rows has to set."""
    own = [name for name in dict.fromkeys(rewards) if may_be_allowed(name)]
    if own:
        yield f"its rows name code; whoever reads them has to allow it: data.allowed_rewards: {own}"
    yield f"its image paths are absolute: read it with image_root: {_image_root(args)}"


def _image_root(args: argparse.Namespace) -> str:
    """The folder or URL below which the images of the data file lie."""
    return args.image_root if "://" in args.image_root else os.path.abspath(args.image_root or args.data.parent)


def _write(args: argparse.Namespace, records: Sequence[Record], ratings: Sequence[Rating], kept: Sequence[int]) -> None:
    from vlm_r1.data.lines import vlm_r1_line
    from vlm_r1.runtime.atomic import replacing
    from vlm_r1.runtime.text import json_text

    with replacing(args.out) as temporary, temporary.open("w", encoding="utf-8") as file:
        for place in kept:
            rating = ratings[place]
            line = vlm_r1_line(
                _as_in_its_row(records[place]),
                pass_rate=round(rating.pass_rate(args.pass_from) or 0.0, 6),
                mean_accuracy=round(rating.mean_accuracy, 6),
            )
            file.write(json_text(line) + "\n")


def _as_in_its_row(record: Record) -> Record:
    """The record with the system message of its row, not that of the model that was asked."""
    return record if record.system == record.columns.get("system") else replace(record, system=None)


def _spread(rates: Sequence[float], low: float, high: float) -> Table:
    """Make the table of pass rates: number of records, a bar, and whether they are kept."""
    from rich.table import Table

    table = Table("pass rate", "records", "", "kept")
    counts = Counter(rates)
    for rate, n in sorted(counts.items()):
        bar = "█" * max(1, round(40 * n / max(counts.values())))
        table.add_row(f"{rate:.3f}", str(n), bar, "yes" if low <= rate <= high else "")
    return table
