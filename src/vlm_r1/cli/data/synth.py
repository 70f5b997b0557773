"""Write the synthetic referring-expression data set of the demo."""

from __future__ import annotations

import argparse

from vlm_r1.cli.options import count, share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare folder, seed, sizes and the share of relations."""
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default: 0)")
    parser.add_argument("--train", type=count, default=8000, help="training records (default: 8000)")
    parser.add_argument("--warmup", type=count, help="records of warmup.jsonl (default: as many as --train)")
    parser.add_argument("--in-domain", type=count, default=512, help="held-out records of the same kind (default: 512)")
    parser.add_argument(
        "--out-of-domain", type=count, default=512, help="held-out records of other kinds (default: 512)"
    )
    parser.add_argument("--relation-share", type=share, help="share told apart by size or place (default: 0.2)")


def run(args: argparse.Namespace) -> int:
    """Write the files and list them."""
    from dataclasses import replace

    from vlm_r1.data.synthetic import World, write_rec_dataset

    world = World() if args.relation_share is None else replace(World(), relation_share=args.relation_share)
    counts = {
        "train": args.train,
        "warmup": args.train if args.warmup is None else args.warmup,
        "in_domain": args.in_domain,
        "out_of_domain": args.out_of_domain,
    }
    for name, path in write_rec_dataset(args.out, args.seed, counts, world).items():
        print(f"{path}: {counts[name]} records")
    return 0
