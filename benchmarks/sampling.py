"""Sampling G completions of each prompt: ours against the two ways to ask transformers' `generate` for them.

  python -m benchmarks.sampling --image-tokens 256 --completion-tokens 64 --generations 8 [--json FILE]
  python -m benchmarks.sampling --sizes all     a grid of images, completions and G

shared          HFSampler as it comes: each prompt prefilled once, its keys and values kept once
expanded        HFSampler with transformers' cache, copied G times after one prefill
repeated        generate with each prompt and its pixels G times in the batch, as TRL calls it
return G        generate with num_return_sequences=G

All draw exactly as many tokens from the same distribution: temperature 1, no filter, placeholder tokens banned, and a
banned one for the stop token. The small random Qwen2.5-VL of benchmarks/scenes.py in float32; the four take turns in
one process, seconds are medians. Memory is the peak growth of a fresh process in which one of them runs once.
Speedup: of shared over the better `generate`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.groups import image_tokens, load, make_prompts, sizes_of, write_checkpoint
from benchmarks.machine import Watch, medians
from benchmarks.measure import Call, MemoryGrowth, alternate, fresh_processes
from benchmarks.scenes import Sizes
from vlm_r1.cli.console import quiet_libraries
from vlm_r1.models.adapter import Adapter
from vlm_r1.runtime.run_folder import environment
from vlm_r1.sampling.base import SamplingParams
from vlm_r1.sampling.decoding import Decoding, expanded, shared
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.types import EncodedPrompt

GENERATE = ("repeated", "return G")
GRID = ((64, 256, 1024), (32, 128), (8, 16))
"""Image tokens, completion tokens, G."""


def main() -> None:
    """Measure one size or the grid; print the table and one JSON line."""
    args = parse_arguments()
    quiet_libraries()
    torch.set_num_threads(args.threads)
    one = ((args.image_tokens,), (args.completion_tokens,), (args.generations,))
    points = [
        sizes_of(*point, prompts=args.prompts, threads=args.threads)
        for point in itertools.product(*(GRID if args.sizes == "all" else one))
    ]
    with tempfile.TemporaryDirectory() as folder, Watch() as machine:
        write_checkpoint(Path(folder))
        measured = [measure(Path(folder), sizes, args.rounds) for sizes in points]
    Console().print(table(measured))
    line = json.dumps({"points": measured, "environment": environment(), "machine": machine.told})
    print(line)
    if args.json:
        args.json.write_text(line + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", choices=("one", "all"), default="one", help="all: the grid instead of one size")
    parser.add_argument(
        "--image-tokens", type=image_tokens, default=256, help="of one image: 64, 256 or 1024 are squares"
    )
    parser.add_argument("--completion-tokens", type=int, default=64)
    parser.add_argument("--generations", type=int, default=8, help="G, completions of a prompt")
    parser.add_argument("--prompts", type=int, default=2, help="P, prompts sampled at once")
    parser.add_argument("--rounds", type=int, default=5, help="measured runs of each")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--json", type=Path, help="where to write the results")
    return parser.parse_args()


def measure(folder: Path, sizes: Sizes, rounds: int) -> dict[str, Any]:
    """Seconds, tokens per second and memory of each way at one size."""
    calls = {name: prepare(folder, sizes) for name, prepare in WAYS.items()}
    seconds = alternate(calls, rounds)
    middle = medians(seconds)
    with fresh_processes() as processes:
        memory_mb = {name: processes.submit(memory_of, name, folder, sizes).result() for name in WAYS}
    better = min(GENERATE, key=lambda name: middle[name].wall)
    return {
        "sizes": asdict(sizes),
        "speedup": middle[better].wall / middle["shared"].wall,
        "better_generate": better,
        "seconds": {name: taken.wall for name, taken in middle.items()},
        "cpu_seconds": {name: taken.cpu for name, taken in middle.items()},
        "tokens_per_s": {name: sizes.rows * sizes.completion_tokens / taken.wall for name, taken in middle.items()},
        "memory_mb": memory_mb,
        "rounds": {name: [one.wall for one in taken] for name, taken in seconds.items()},
    }


def memory_of(name: str, folder: Path, sizes: Sizes) -> float:
    """Peak growth in MB of this process, which must be fresh, while one way samples once."""
    quiet_libraries()
    torch.set_num_threads(sizes.threads)
    call = WAYS[name](folder, sizes)
    with MemoryGrowth() as memory:
        call()
    return memory.mb


def ours(decoding: Decoding, folder: Path, sizes: Sizes) -> Call:
    """Our sampler, ready to be called."""
    model, adapter = load_endless(folder, sizes)
    prompts, sampler = make_prompts(adapter, sizes), HFSampler(model, adapter, decoding)
    seeds_PG = torch.arange(sizes.rows).unflatten(0, (sizes.prompts, -1)).tolist()
    params = SamplingParams(max_completion_length=sizes.completion_tokens)

    def sample() -> None:
        completions = sampler.sample(prompts, seeds_PG, params)
        check([completion.ids_T for own in completions for completion in own], sizes)

    return sample


def generate(name: str, folder: Path, sizes: Sizes) -> Call:
    """One of the two forms of `generate`, ready to be called; the model keeps transformers' own attention."""
    model, adapter = load_endless(folder, sizes)
    prompts = make_prompts(adapter, sizes)
    copies = sizes.generations if name == "repeated" else 1
    inputs = rows([prompt for prompt in prompts for _ in range(copies)], model)
    options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    options |= {"max_new_tokens": sizes.completion_tokens, "num_return_sequences": sizes.generations // copies}
    banned = list(adapter.banned_ids())
    policy: Any = model.eval()

    def sample() -> None:
        ids_NL = policy.generate(**inputs, **options, suppress_tokens=banned)
        check(ids_NL[:, len(prompts[0].ids_L) :].tolist(), sizes)

    return sample


WAYS: dict[str, Callable[[Path, Sizes], Call]] = {
    "shared": lambda folder, sizes: ours(shared, folder, sizes),
    "expanded": lambda folder, sizes: ours(expanded, folder, sizes),
    **{name: lambda folder, sizes, name=name: generate(name, folder, sizes) for name in GENERATE},
}


def load_endless(folder: Path, sizes: Sizes) -> tuple[PreTrainedModel, Adapter]:
    """Model and adapter with the image placeholder, which nobody may draw, as stop token: every answer is full."""
    model, adapter = load(folder, sizes)
    generation_config: Any = model.generation_config
    generation_config.eos_token_id = model.config.image_token_id
    return model, adapter


def rows(prompts: Sequence[EncodedPrompt], model: Any) -> dict[str, Tensor]:
    """A batch of equally long prompts as transformers takes it."""
    ids_NL = torch.tensor([prompt.ids_L for prompt in prompts])
    vision = {name: torch.cat([prompt.vision[name] for prompt in prompts]) for name in prompts[0].vision}
    is_image_NL = (ids_NL == model.config.image_token_id).int()
    return {"input_ids": ids_NL, "attention_mask": torch.ones_like(ids_NL), "mm_token_type_ids": is_image_NL, **vision}


def check(ids_N_T: Sequence[Sequence[int]], sizes: Sizes) -> None:
    """Exactly as many tokens as were asked for: else the seconds mean nothing."""
    lengths = {len(ids_T) for ids_T in ids_N_T}
    if len(ids_N_T) != sizes.rows or lengths != {sizes.completion_tokens}:
        raise SystemExit(f"benchmarks.sampling: {len(ids_N_T)} completions of {sorted(lengths)} tokens were drawn")


def table(points: Sequence[dict[str, Any]]) -> Table:
    """A row for each size: tokens per second, CPU seconds and MB of each way."""
    sizes = points[0]["sizes"]
    what = "tokens/s, CPU seconds, peak memory MB"
    title = f"sampling for {sizes['prompts']} prompts, {sizes['threads']} threads: {what}"
    shown = Table("image", "C", "G", title=title)
    for column in (*WAYS, "speedup"):
        shown.add_column(column, justify="right")
    for point in points:
        sizes = point["sizes"]
        cells = [
            f"{point['tokens_per_s'][name]:,.0f}, {point['cpu_seconds'][name]:.2f}, {point['memory_mb'][name]:,.0f}"
            for name in WAYS
        ]
        labels = (str(sizes[key]) for key in ("image_tokens", "completion_tokens", "generations"))
        shown.add_row(*labels, *cells, f"{point['speedup']:.2f}")
    return shown


if __name__ == "__main__":
    main()
