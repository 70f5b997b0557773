"""How near the policy pass is to what must be computed, and to what this machine can compute.

  python -m benchmarks.limit --image-tokens 256 --completion-tokens 64 --generations 8 [--json FILE]

ours   forward and backward of `Policy`, layout packed: log-probabilities of all completion tokens, and entropies
floor  forward and backward of transformers' model on as many images and unique tokens: the prompts in one ordinary
       call, the completions in another as texts of their own, cross-entropy of their tokens. It attends less than ours
       (no completion sees its prompt), has fewer logits, and no entropies: nothing exact can be much faster.

Both have the small random Qwen2.5-VL of benchmarks/scenes.py in float32, and take turns in one process. The operations
of our pass are counted by torch's FlopCounterMode, which is told of our attention kernels: three times those of the
forward, nothing that is computed twice. They are held against a float32 matrix product (--matmul) of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from benchmarks.groups import image_tokens, load, make_batch, policy_pass, sizes_of, write_checkpoint
from benchmarks.machine import Watch, medians
from benchmarks.measure import alternate, forward_flops, matmul_rate
from benchmarks.scenes import Sizes
from vlm_r1.cli.console import quiet_libraries
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.runtime.run_folder import environment


def main() -> None:
    """Measure; print the table and one JSON line."""
    args = parse_arguments()
    quiet_libraries()
    torch.set_num_threads(args.threads)
    sizes = sizes_of(args.image_tokens, args.completion_tokens, args.generations, args.prompts, args.threads)
    with tempfile.TemporaryDirectory() as folder, Watch() as machine:
        write_checkpoint(Path(folder))
        line = measure(Path(folder), sizes, args.rounds, args.matmul)
    line |= {"sizes": asdict(sizes), "environment": environment(), "machine": machine.told}
    Console().print(table(line))
    print(json.dumps(line))
    if args.json:
        args.json.write_text(json.dumps(line) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--image-tokens", type=image_tokens, default=256, help="of one image: 64, 256 or 1024 are squares"
    )
    parser.add_argument("--completion-tokens", type=int, default=64)
    parser.add_argument("--generations", type=int, default=8, help="G, completions of a prompt")
    parser.add_argument("--prompts", type=int, default=1, help="P, prompts in the pass")
    parser.add_argument("--rounds", type=int, default=9, help="measured passes of each side")
    parser.add_argument("--matmul", type=int, default=2048, help="side of the matrices of the machine's own rate")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--json", type=Path, help="where to write the results")
    return parser.parse_args()


def measure(folder: Path, sizes: Sizes, rounds: int, matmul: int) -> dict[str, Any]:
    """Seconds of both sides, operations of ours, and the rate of this machine; each side has a model of its own."""
    plain, _ = load(folder, sizes)  # on transformers' sdpa
    model, adapter = load(folder, sizes)
    batch, policy = make_batch(adapter, sizes), Policy(model, adapter)
    floor = Floor(plain, batch)
    seconds = alternate({"ours": lambda: policy_pass(policy, batch), "floor": floor}, rounds)
    middle = medians(seconds)
    flops = 3 * forward_flops(lambda: policy(batch))
    rate = matmul_rate(matmul, torch.float32)
    return {
        "ratio": middle["ours"].wall / middle["floor"].wall,
        **{f"{side}_s": taken.wall for side, taken in middle.items()},
        **{f"{side}_cpu_s": taken.cpu for side, taken in middle.items()},
        "flops": flops,
        "flops_of_floor": 3 * forward_flops(floor.losses),
        "flops_per_s": flops / middle["ours"].wall,
        "matmul_flops_per_s": rate,
        "utilisation": flops / middle["ours"].wall / rate,
        "seconds": {side: [one.wall for one in taken] for side, taken in seconds.items()},
        "cpu_seconds": {side: [one.cpu for one in taken] for side, taken in seconds.items()},
    }


class Floor:
    """A plain pass over prompts and completions apart; called, it runs forward and backward."""

    def __init__(self, model: PreTrainedModel, batch: CompletionBatch):
        self.model: Any = model
        image_token: Any = model.config.image_token_id
        ids_PL = torch.tensor([prompt.ids_L for prompt in batch.prompts])
        vision = {name: torch.cat([p.vision[name] for p in batch.prompts]) for name in batch.prompts[0].vision}
        self.prompts = {**_text(ids_PL), **vision, "mm_token_type_ids": (ids_PL == image_token).int()}
        self.completions_NT = torch.tensor([ids_T for ids_G_T in batch.ids_P_G_T for ids_T in ids_G_T])
        self.first_PG = self.completions_NT[:, 0].unflatten(0, (len(batch.prompts), -1))

    def __call__(self) -> None:
        self.losses().backward()
        self.model.zero_grad()

    def losses(self) -> Tensor:
        """Sum of the cross-entropies: first tokens from the prompts' last, the others from those before them."""
        logits_PV = self.model(**self.prompts, use_cache=False, logits_to_keep=1).logits[:, 0]
        first = -logits_PV.log_softmax(-1).gather(1, self.first_PG).sum()
        before = torch.arange(self.completions_NT.shape[1] - 1)
        if not len(before):
            return first + 0 * self.model(**_text(self.completions_NT), use_cache=False, logits_to_keep=1).logits.sum()
        logits_NTV = self.model(**_text(self.completions_NT), use_cache=False, logits_to_keep=before).logits
        return first + cross_entropy(logits_NTV.flatten(0, 1), self.completions_NT[:, 1:].flatten(), reduction="sum")


def _text(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def table(line: dict[str, Any]) -> Table:
    """The same numbers for people."""
    sizes = line["sizes"]
    title = (
        f"policy pass: {sizes['prompts']} prompts x {sizes['generations']}, {sizes['image_tokens']} image tokens, "
        f"completions of {sizes['completion_tokens']}, {sizes['threads']} threads"
    )
    shown = Table("", title=title, caption=f"ours takes {line['ratio']:.2f} times as long as the floor")
    for column in ("seconds", "CPU seconds", "GFLOP", "GFLOP/s", "of the matrix product's rate"):
        shown.add_column(column, justify="right")
    rate = line["matmul_flops_per_s"]
    for side, flops in (("ours", line["flops"]), ("floor", line["flops_of_floor"])):
        speed = flops / line[f"{side}_s"]
        seconds = [f"{line[f'{side}_{kind}']:.3f}" for kind in ("s", "cpu_s")]
        shown.add_row(side, *seconds, f"{flops / 1e9:.1f}", f"{speed / 1e9:.1f}", f"{speed / rate:.0%}")
    shown.add_row("matrix product", "", "", "", f"{rate / 1e9:.1f}", "100%")
    return shown


if __name__ == "__main__":
    main()
