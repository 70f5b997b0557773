"""Compute whether a recipe fits on a GPU: what it needs, phase by phase, and what to change if it does not fit.

  vlm-r1 plan recipes/rec_qwen25vl3b_8xh100.yaml --gpu 80GB --gpus 8 --data.train.0.path=my.jsonl
  vlm-r1 plan my.yaml --gpu 24GB --image 1280x960 --text-tokens 300 --model.lora='{}'      without data

No weights are needed. The checkpoint's config, tokenizer and image processor are read, and the trainer's own code runs
on tensors that have a shape but no memory (docs/planning.md). All prompts are taken to be as long as the longest of the
training data, or as --image says; all completions have maximal length. Exit status: 0 if it fits, 1 if not.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from vlm_r1.cli.options import count, path_text
from vlm_r1.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from vlm_r1.config import Config
    from vlm_r1.planning.plan import Plan
    from vlm_r1.planning.prompts import PlannedPrompt
    from vlm_r1.planning.propose import Search

_BYTES = {"GB": 10**9, "GiB": 1 << 30}
_GB = 10**9
_TOO_MUCH = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare recipe, GPUs and the prompts' shape; everything else is an override."""
    parser.set_defaults(takes_overrides=True)
    parser.add_argument("recipe", metavar="RECIPE", type=path_text, help="YAML file; a run's own config.yaml works too")
    parser.add_argument(
        "--gpu", type=memory, required=True, metavar="SIZE", help="memory of one GPU, e.g. 80GB or 79GiB"
    )
    parser.add_argument(
        "--gpus", type=count, default=1, metavar="N", help="number of GPUs, with one process each (default 1)"
    )
    parser.add_argument(
        "--image", type=size, metavar="WxH", help="instead of data: assume prompts with an image of this size"
    )
    parser.add_argument("--images", type=count, metavar="N", help="with --image: number of images (default 1)")
    parser.add_argument("--text-tokens", type=count, metavar="N", help="with --image: tokens of text (default 200)")


def memory(text: str) -> int:
    """Convert a number with its unit to bytes.

    >>> memory("80GB"), memory("1.5GiB")
    (80000000000, 1610612736)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(GB|GiB)", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"wanted a size like 80GB (10^9 bytes) or 79GiB (2^30 bytes), got {text!r}")
    return int(float(found[1]) * _BYTES[found[2]])


def size(text: str) -> tuple[int, int]:
    """Parse (width, height) in pixels.

    >>> size("640x480")
    (640, 480)
    """
    found = re.fullmatch(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"wanted width and height in pixels like 640x480, got {text!r}")
    return int(found[1]), int(found[2])


def run(args: argparse.Namespace) -> int:
    """Compute and print the plan, and what to change if it does not fit; returns 1 if it does not."""
    from vlm_r1.cli.console import quiet_libraries, reach_hub, warn_of_code
    from vlm_r1.planning.propose import Search
    from vlm_r1.runtime.terminal import Terminal, styled

    if args.image is None and (args.images or args.text_tokens):
        raise ConfigError("--images and --text-tokens describe prompts with --image, which is missing")
    quiet_libraries()
    load = partial(_load, args)
    config = load()
    reach_hub(config.model.path)
    warn_of_code(config.model.path, config.model.trust_remote_code)
    search = Search(load, _prompt_of(args, config), gpus=args.gpus, limit=args.gpu)
    console = Terminal()
    with console.status(styled("computing on shapes without data, some ten seconds each time")):
        plan = search.plan(())
    console.print(_prompts(plan))
    console.print(_table(plan, search.load(())))
    console.print(_verdict(plan, args.gpu))
    if args.gpus > 1:
        console.print(_sharded(plan, args.gpus))
    with console.status(styled("looking for settings that fit")):
        lines = _advice(search, plan)
    console.print(*lines, sep="\n", soft_wrap=True)
    return 0 if search.fits(plan) else _TOO_MUCH


def _load(args: argparse.Namespace, more: Sequence[str] = ()) -> Config:
    from vlm_r1.config import load_config

    return load_config(args.recipe, [*args.overrides, *more])


def _prompt_of(args: argparse.Namespace, config: Config) -> PlannedPrompt:
    from vlm_r1.planning.prompts import longest_prompt, made_up_prompt

    if args.image is None and not config.data.train:
        raise ConfigError("data.train is empty: name the data, or say with --image WxH what its prompts are like")
    if args.image is None:
        return longest_prompt(config)
    return made_up_prompt(config, args.image, args.images or 1, args.text_tokens or 200)


def _prompts(plan: Plan) -> str:
    images, tokens = _images(len(plan.prompt.encoded.frames)), plan.lengths.prompt
    return (
        f"prompts of {images}, {tokens:,} tokens, {plan.prompt.image_tokens:,} of them image "
        f"tokens; answers of {plan.lengths.completion:,} tokens"
    )


def _table(plan: Plan, config: Config) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    own, T = plan.static, plan.lengths.completion
    trainable = sum(part.trainable for part in own.sizes)
    parts = ", ".join(f"{part.part} {part.parameters / 1e6:,.0f} M" for part in own.sizes)
    rows = [
        ("weights", own.weights, f"{sum(part.parameters for part in own.sizes):,} parameters: {parts}"),
        ("gradients", own.gradients, f"of the {trainable:,} that train"),
        ("optimizer", own.optimizer, f"state of {config.training.optim}"),
        ("reference", own.reference, "a second copy, for grpo.beta"),
        (
            "reward models",
            own.reward_models,
            "their weights, on each GPU; their passes come on top, while nothing else runs",
        ),
        ("policy pass", plan.policy.working, f"{plan.positions:,} positions, {_images(plan.images)} in a micro-batch"),
        ("", plan.policy.weight_copies, "copies of weights in 16 bits, which autocast makes"),
        ("sampling", plan.sampling.cache, f"keys and values: {_completions(plan)} of {T} tokens, and their prompts"),
        ("", plan.sampling.working, "logits, activations of the prompts"),
        ("", plan.sampling.weight_copies, "copies of weights in 16 bits, which autocast makes"),
        ("optimizer step", own.optimizer_working, "what it makes besides its state"),
        ("margin", plan.margin, "taken for CUDA and gaps between tensors"),
    ]
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("item")
    table.add_column("GB", justify="right")
    table.add_column("of what")
    for name, needed, what in rows:
        if needed >= _GB // 200:
            table.add_row(name, f"{needed / _GB:.2f}", what)
    table.add_section()
    for phase, needed in plan.phases.items():
        table.add_row(phase, f"{(needed + plan.margin) / _GB:.2f}", "at its peak, with all that stands beside it")
    return table


def _images(count: int) -> str:
    return f"{count} image{'s' * (count != 1)}"


def _completions(plan: Plan) -> str:
    return f"{plan.lengths.prompts} x {plan.lengths.generations} completions"


def _verdict(plan: Plan, limit: int) -> Text:
    from vlm_r1.runtime.terminal import styled

    free = (limit - plan.total) / _GB
    verdict = styled(f"yes, {free:.1f} GB free", "green") if free >= 0 else styled(f"no, {-free:.1f} GB over", "red")
    return styled(f"fits in {limit / _GB:.4g} GB: ").append_text(verdict)


def _sharded(plan: Plan, gpus: int) -> str:
    sharded = ", ".join(f"{kind} {needed / _GB:.1f} GB" for kind, needed in plan.sharded(gpus).items())
    return (
        f"if it were sharded over the {gpus} GPUs: {sharded} (estimates; the trainer refuses both, because sampling "
        "with transformers needs whole weights)"
    )


def _advice(search: Search, plan: Plan) -> list[str]:
    from vlm_r1.planning.propose import LARGEST, largest_micro_batch, propose

    if search.fits(plan):
        largest = largest_micro_batch(search, (), plan) or plan.budget
        more = " or more" if largest == LARGEST else ", a whole step" if largest >= plan.whole_step else ""
        return [f"largest training.max_tokens_per_micro_batch that fits: {largest}{more}"]
    proposal = propose(search)
    if proposal is None:
        return [
            "nothing that a recipe can change makes it fit: take a smaller model, larger GPUs, or shorter completions"
        ]
    free = (search.limit - proposal.plan.total) / _GB
    return [f"it fits, {free:.1f} GB free, with:", f"  {' '.join(proposal.overrides)}"]
