"""Ways to share a prompt between its completions in the policy pass, against each other: what the engine was chosen by.

  python -m benchmarks.prefix_variants --image-tokens 256 --completion-tokens 64 --generations 8 [--json FILE]

rows      the prompt's text again for each completion, images once (`training.layout: rows`)
dense     one packed row with a dense (L, L) mask, through transformers' sdpa
cached    the prompt into a cache that carries gradients, the cache expanded G times, then a batch of completions
two-pass  cached with the prompt's keys and values detached; a second backward hands their gradient to the prompt
merged    the engine: two attentions merged by log-sum-exp (`training.layout: packed`)

Forward and backward of one group with a frozen-size model (benchmarks/scenes.py), one process for each, median of
`--rounds`; memory is the growth of the peak. All variants are first held against rows: log-probabilities to 1e-4.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table
from transformers import DynamicCache

from benchmarks.machine import Seconds, Watch, median_of, stopwatch
from benchmarks.scenes import Sizes, read_records, write_inputs
from vlm_r1.cli.console import quiet_libraries
from vlm_r1.config.schema import ModelSection
from vlm_r1.data.images import load_image
from vlm_r1.models import Adapter, load_adapter, load_model
from vlm_r1.policy.head import LogitRule, token_logprobs
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.runtime.run_folder import environment
from vlm_r1.types import EncodedPrompt, Prompt

Pass = Callable[[Any, Adapter, EncodedPrompt, torch.Tensor], torch.Tensor]
"""(model, adapter, prompt, ids_GT) → log-probabilities (G, T), backward of their sum done."""


def rows(model: Any, adapter: Adapter, prompt: EncodedPrompt, ids_GT: torch.Tensor) -> torch.Tensor:
    """Our own fallback."""
    return _policy(model, adapter, prompt, ids_GT, "rows")


def merged(model: Any, adapter: Adapter, prompt: EncodedPrompt, ids_GT: torch.Tensor) -> torch.Tensor:
    """Our engine."""
    return _policy(model, adapter, prompt, ids_GT, "packed")


def dense(model: Any, adapter: Adapter, prompt: EncodedPrompt, ids_GT: torch.Tensor) -> torch.Tensor:
    """One row, and a mask that says who sees whom."""
    (G, T), P = ids_GT.shape, len(prompt.ids_L)
    owner_L = torch.cat([torch.zeros(P, dtype=torch.long), torch.arange(1, G + 1).repeat_interleave(T)])
    place_L = torch.arange(P + G * T)
    mask_LL = (place_L[:, None] >= place_L) & ((owner_L == 0) | (owner_L[:, None] == owner_L))
    positions_AP, after = _positions(model, adapter, prompt)
    own = (after + torch.arange(T)).repeat(G).expand(len(positions_AP), -1)
    hidden_LH = adapter.backbone(model)(
        input_ids=torch.cat([torch.tensor(prompt.ids_L), ids_GT.flatten()])[None],
        attention_mask={"full_attention": mask_LL[None, None]},
        position_ids=torch.cat([positions_AP, own], 1)[:, None],
        use_cache=False,
        **_vision(model, adapter, prompt),
    ).last_hidden_state[0]
    completions_GTH = hidden_LH[P:].unflatten(0, (G, T))
    return _backward(model, adapter, _predictors(hidden_LH[P - 1], completions_GTH), ids_GT)


def cached(model: Any, adapter: Adapter, prompt: EncodedPrompt, ids_GT: torch.Tensor) -> torch.Tensor:
    """Public API only; gradient checkpointing would drop the cache."""
    cache, last_H, after = _prefill(model, adapter, prompt)
    cache.batch_repeat_interleave(len(ids_GT))
    return _backward(model, adapter, _continue(model, adapter, cache, last_H, after, ids_GT), ids_GT)


def two_pass(model: Any, adapter: Adapter, prompt: EncodedPrompt, ids_GT: torch.Tensor) -> torch.Tensor:
    """Four completions at a time, so that memory is flat in G."""
    cache, last_H, after = _prefill(model, adapter, prompt)
    ends = [last_H, *(x for layer in cache.layers for x in (layer.keys, layer.values))]
    leaves = [end.detach().requires_grad_() for end in ends]
    logprobs = []
    for ids_CT in ids_GT.split(4):
        part = DynamicCache(config=model.config.text_config)
        for layer, (keys, values) in enumerate(zip(leaves[1::2], leaves[2::2], strict=True)):
            part.update(keys.expand(len(ids_CT), -1, -1, -1), values.expand(len(ids_CT), -1, -1, -1), layer)
        logprobs.append(_backward(model, adapter, _continue(model, adapter, part, leaves[0], after, ids_CT), ids_CT))
    torch.autograd.backward(ends, [leaf.grad for leaf in leaves])
    return torch.cat(logprobs)


VARIANTS: dict[str, Pass] = {"rows": rows, "dense": dense, "cached": cached, "two-pass": two_pass, "merged": merged}


def _policy(model: Any, adapter: Adapter, prompt: EncodedPrompt, ids_GT: torch.Tensor, layout: Any) -> torch.Tensor:
    logprobs_GT = Policy(model, adapter, layout=layout)(CompletionBatch([prompt], [ids_GT.tolist()])).logprobs_NT
    logprobs_GT.sum().backward()
    return logprobs_GT.detach()


def _prefill(model: Any, adapter: Adapter, prompt: EncodedPrompt) -> tuple[DynamicCache, torch.Tensor, torch.Tensor]:
    positions_AP, after = _positions(model, adapter, prompt)
    cache = DynamicCache(config=model.config.text_config)
    output = adapter.backbone(model)(
        input_ids=torch.tensor([prompt.ids_L]),
        attention_mask=torch.ones(1, len(prompt.ids_L), dtype=torch.long),
        position_ids=positions_AP[:, None],
        past_key_values=cache,
        use_cache=True,
        **_vision(model, adapter, prompt),
    )
    return cache, output.last_hidden_state[0, -1], after


def _continue(
    model: Any, adapter: Adapter, cache: DynamicCache, last_H: torch.Tensor, after: torch.Tensor, ids_GT: torch.Tensor
) -> torch.Tensor:
    G, T = ids_GT.shape
    hidden_GTH = adapter.backbone(model)(
        input_ids=ids_GT,
        position_ids=(after + torch.arange(T)).expand(3, G, -1),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return _predictors(last_H, hidden_GTH)


def _predictors(last_H: torch.Tensor, completions_GTH: torch.Tensor) -> torch.Tensor:
    """What predicts each token: the prompt's last hidden state, then the completion's own."""
    return torch.cat([last_H.expand(len(completions_GTH), 1, -1), completions_GTH[:, :-1]], 1)


def _backward(model: Any, adapter: Adapter, hidden_GTH: torch.Tensor, ids_GT: torch.Tensor) -> torch.Tensor:
    rule = LogitRule(1.0, tuple(adapter.banned_ids()))
    logprobs_K, _ = token_logprobs(hidden_GTH.flatten(0, 1), model.get_output_embeddings(), ids_GT.flatten(), rule)
    logprobs_K.sum().backward()
    return logprobs_K.detach().view_as(ids_GT)


def _positions(model: Any, adapter: Adapter, prompt: EncodedPrompt) -> tuple[torch.Tensor, torch.Tensor]:
    (positions_AP,) = adapter.positions(model, [prompt])
    return positions_AP, positions_AP.max() + 1


def _vision(model: Any, adapter: Adapter, prompt: EncodedPrompt) -> dict[str, Any]:
    return adapter.vision_arguments(adapter.image_features(model, [prompt]))


def measure(folder: Path, sizes: Sizes, name: str, rounds: int, answers: Any) -> None:
    """In a process of its own: seconds, peak growth in MB, and how far log-probabilities are from rows."""
    quiet_libraries()
    torch.set_num_threads(sizes.threads)
    adapter = load_adapter(folder / "model", min_pixels=sizes.image_px, max_pixels=sizes.image_px)
    model = load_model(ModelSection(path=str(folder / "model")), adapter)
    record = read_records(folder)[0]
    prompt = adapter.encode(Prompt(record.problem, record.images), [load_image(path) for path in record.images])
    shape = (sizes.generations, sizes.completion_tokens)
    ids_GT = torch.randint(0, 4000, shape, generator=torch.Generator().manual_seed(0))
    run = VARIANTS[name]
    run(model, adapter, prompt, ids_GT[:2])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
    before_mb, taken = _status_mb("VmRSS"), list[Seconds]()
    for _ in range(rounds):
        passed = stopwatch()
        logprobs_GT = run(model, adapter, prompt, ids_GT)
        taken.append(passed())
    memory_mb = _status_mb("VmHWM") - before_mb
    error = float((logprobs_GT - rows(model, adapter, prompt, ids_GT)).abs().max())
    middle = median_of(taken)
    answers.put({"seconds": middle.wall, "cpu_seconds": middle.cpu, "memory_mb": memory_mb, "error": error})


def _status_mb(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(entry))


def main() -> None:
    """Measure every variant in its own process, and print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-tokens", type=int, default=256)
    parser.add_argument("--completion-tokens", type=int, default=64)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False) or 1)
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    sizes = Sizes(args.image_tokens, args.completion_tokens, args.generations, 1, args.generations, 0, 0, args.threads)
    spawn, results = multiprocessing.get_context("spawn"), {}
    with tempfile.TemporaryDirectory() as folder, Watch() as machine:
        write_inputs(Path(folder), sizes)
        for name in VARIANTS:
            answers: Any = spawn.Queue()
            worker = spawn.Process(target=measure, args=(Path(folder), sizes, name, args.rounds, answers))
            worker.start()
            results[name] = answers.get()
            worker.join()
    table = Table("variant", "seconds", "CPU seconds", "against rows", "peak MB", "largest difference of log p")
    for name, one in results.items():
        if one["error"] > 1e-4:
            raise SystemExit(f"{name} differs from rows by {one['error']}")
        ratio = results["rows"]["seconds"] / one["seconds"]
        seconds = [f"{one[key]:.2f}" for key in ("seconds", "cpu_seconds")]
        table.add_row(name, *seconds, f"{ratio:.1f} ×", f"{one['memory_mb']:.0f}", f"{one['error']:.1e}")
    Console().print(table)
    shape = {key: getattr(sizes, key) for key in ("image_tokens", "completion_tokens", "generations", "threads")}
    line = {**shape, "rounds": args.rounds, "variants": results}
    line |= {"environment": environment(), "machine": machine.told}
    print(json.dumps(line))
    if args.json:
        args.json.write_text(json.dumps(line), encoding="utf-8")


if __name__ == "__main__":
    main()
