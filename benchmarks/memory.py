"""What `vlm-r1 plan` computes against what the same passes really take: the error of the plan.

  python -m benchmarks.memory [--json FILE]                 a model of 28 million parameters on the CPU
  python -m benchmarks.memory --device cuda --shape 3b      Qwen2.5-VL-3B's real shape on a GPU

Each case runs for real, with random weights, in a fresh process:

planned    bytes that the plan gives to the pass, computed without data on a few layers that stand for all
allocated  the most that torch's allocator held during the real pass, above what it held before: on a CPU as its
           profiler records every allocation, on a GPU torch.cuda.max_memory_allocated
resident   on a CPU growth of the process's resident memory, with malloc giving back what is freed: what kernels take
           besides; on a GPU torch.cuda.max_memory_reserved, which counts gaps between tensors

Weights, and for passes with gradients these, exist before. Vision features are kept where the vision part is frozen.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForImageTextToText

from benchmarks.gpu import TEXT_3B, VISION_3B
from benchmarks.machine import Watch
from benchmarks.measure import MemoryGrowth, fresh_processes
from vlm_r1.cli.console import quiet_libraries
from vlm_r1.config.model import LoraSection, ModelSection
from vlm_r1.models import Adapter, load_adapter
from vlm_r1.models.parts import set_trainable
from vlm_r1.planning.passes import policy_pass, sampling_pass
from vlm_r1.planning.shapes import GPU, load_shapes
from vlm_r1.policy.build import choose_setup
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.runtime.run_folder import environment
from vlm_r1.sampling import SamplingParams
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.testing import TinySize, write_tiny_qwen2_5_vl
from vlm_r1.types import IMAGE_TOKEN, EncodedPrompt, Prompt

SMALL = TinySize(
    hidden_size=512,
    num_hidden_layers=8,
    num_attention_heads=8,
    num_key_value_heads=2,
    vision_hidden_size=256,
    vision_depth=6,
    vocab_size=4085,
    initializer_range=0.02,
)

PIXELS = 448 * 448

_MB = 1 << 20
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""glibc keeps what is freed for later, in pieces: resident memory would say little about what exists at once."""


@dataclass(frozen=True)
class Case:
    """A pass: `prompts` times `generations` completions of `completion` tokens; sampled, or differentiated."""

    prompts: int = 2
    generations: int = 4
    completion: int = 64
    checkpointing: bool = True
    lora: bool = False
    autocast: bool = False
    samples: bool = False

    def section(self, folder: str) -> ModelSection:
        """How the model is loaded; weights are float32."""
        lora = LoraSection(r=16, lora_dropout=0.05) if self.lora else None
        return ModelSection(path=folder, dtype="float32", gradient_checkpointing=self.checkpointing, lora=lora)

    def batch(self, prompt: EncodedPrompt) -> CompletionBatch:
        """The completions to differentiate."""
        return CompletionBatch([prompt] * self.prompts, [[[0] * self.completion] * self.generations] * self.prompts)


CASES = {
    "checkpointing": Case(),
    "checkpointing, twice the tokens": Case(prompts=4),
    "checkpointing, autocast": Case(autocast=True),
    "no checkpointing": Case(checkpointing=False),
    "no checkpointing, twice the tokens": Case(checkpointing=False, prompts=4),
    "LoRA, checkpointing": Case(lora=True),
    "LoRA, checkpointing, autocast": Case(lora=True, autocast=True),
    "LoRA, no checkpointing": Case(lora=True, checkpointing=False),
    "sampling": Case(samples=True, completion=96),
    "sampling, twice the completions": Case(samples=True, completion=96, generations=8),
    "sampling, autocast": Case(samples=True, completion=96, autocast=True),
}


def main() -> None:
    """Plan and measure every case; print the table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the real passes run")
    parser.add_argument("--shape", choices=["small", "3b"], default="small", help="of the model")
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("benchmarks.memory: torch sees no CUDA GPU here: run it where there is one, or with the CPU")
    quiet_libraries()
    os.environ.update(_GIVE_BACK)  # for the processes that are started from here on
    with tempfile.TemporaryDirectory() as folder, Watch() as machine:
        write_shape(folder, args.shape)
        results = {name: numbers(case, folder, args.device) for name, case in CASES.items()}
    line = {"device": args.device, "shape": args.shape, "cases": results}
    line |= {"environment": environment(), "machine": machine.told}
    Console().print(table(line))
    print(json.dumps(line))
    if args.json:
        args.json.write_text(json.dumps(line) + "\n", encoding="utf-8")


def write_shape(folder: str, shape: str) -> None:
    """A checkpoint of which everything but the weights is read; its tokenizer is small whatever the shape."""
    write_tiny_qwen2_5_vl(folder, ("abc def",), size=SMALL)
    if shape == "3b":
        path = Path(folder) / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["text_config"] |= {**TEXT_3B, "layer_types": None, "tie_word_embeddings": True}
        config["vision_config"] |= VISION_3B
        path.write_text(json.dumps(config | {"tie_word_embeddings": True}), encoding="utf-8")


def make_prompt(adapter: Adapter) -> EncodedPrompt:
    """256 image tokens and some text."""
    return adapter.encode(Prompt(IMAGE_TOKEN + " a" * 50, ("grey",)), [Image.new("RGB", (448, 448))])


def numbers(case: Case, folder: str, device: str) -> dict[str, float]:
    """Megabytes; each measurement has a process of its own."""
    found = {"planned": planned(case, folder) / _MB}
    for measure in ("allocated", "resident"):
        with fresh_processes() as pool:
            found[measure] = pool.submit(measured, case, folder, device, measure).result() / _MB
    return found


def planned(case: Case, folder: str) -> int:
    """Bytes by the plan."""
    adapter = load_adapter(folder, max_pixels=PIXELS)
    section, mixed_precision = case.section(folder), "bf16" if case.autocast else "no"
    setup = choose_setup(section, adapter, GPU, mixed_precision=mixed_precision, layout="packed")
    shapes, prompt = load_shapes(section, adapter, setup), make_prompt(adapter)
    if case.samples:
        params = SamplingParams(case.completion)
        return sampling_pass(shapes, [prompt] * case.prompts, case.generations, params).total
    return policy_pass(shapes, case.batch(prompt)).total


def measured(case: Case, folder: str, device: str, measure: str) -> float:
    """Bytes of the real pass."""
    quiet_libraries()
    torch.set_num_threads(1)
    adapter = load_adapter(folder, max_pixels=PIXELS)
    policy = Policy(make_model(case, adapter, folder, device), adapter).train()
    for parameter in policy.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad and not case.samples else None
        parameter.detach().sum()
    prompt = make_prompt(adapter)
    warm_up = CompletionBatch([EncodedPrompt((0,) * 4, {}, (), "")], [[[0]]])
    with torch.no_grad():
        policy(warm_up)  # libraries take theirs
    meters = {"allocated": _allocated, "resident": _resident} if device == "cpu" else {}
    return meters.get(measure, lambda run: _of_the_gpu(run, measure))(lambda: run_pass(case, policy, prompt, device))


def make_model(case: Case, adapter: Adapter, folder: str, device: str) -> Any:
    """Random weights, as `load_model` would hold them."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(adapter.config, dtype=torch.float32)
    adapter.prepare(model)
    model = set_trainable(model, case.section(folder), adapter)
    if case.checkpointing:
        adapter.unwrap(model).activation_checkpointing_enable()
    return model.to(device)


def run_pass(case: Case, policy: Policy, prompt: EncodedPrompt, device: str) -> None:
    """As the trainer takes it."""
    adapter, model, prompts = policy.adapter, policy.model, [prompt] * case.prompts
    with torch.autocast(device, torch.bfloat16, enabled=case.autocast, cache_enabled=case.samples):
        seen = adapter.with_features(model, prompts)
        if case.samples:
            seeds = [[case.generations * p + g for g in range(case.generations)] for p in range(case.prompts)]
            HFSampler(model, adapter).sample(seen, seeds, SamplingParams(case.completion))
            return
        scored = policy(case.batch(prompt)._replace(prompts=seen))
    scored.logprobs_NT.sum().backward()


def _allocated(run: Callable[[], None]) -> float:
    """By the profiler's record of every allocation."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    live = peak = 0
    for _, change in changes:
        live += change
        peak = max(peak, live)
    return peak


def _resident(run: Callable[[], None]) -> float:
    with MemoryGrowth() as growth:
        run()
    return growth.mb * _MB


def _of_the_gpu(run: Callable[[], None], measure: str) -> float:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    if measure == "allocated":
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    before = torch.cuda.memory_reserved()
    run()
    return torch.cuda.max_memory_reserved() - before


def table(line: Mapping[str, Any]) -> Table:
    """The same numbers for people."""
    shown = Table(title=f"MB at the peak of a pass, shape {line['shape']} on {line['device']}")
    shown.add_column(no_wrap=True)
    for column in ("planned", "allocated", "resident", "to allocated", "to resident"):
        shown.add_column(column, justify="right")
    for name, own in line["cases"].items():
        cells = [f"{own[kind]:,.1f}" for kind in ("planned", "allocated", "resident")]
        ratios = [f"{own['planned'] / own[kind] - 1:+.1%}" for kind in ("allocated", "resident")]
        shown.add_row(name, *cells, *ratios)
    return shown


if __name__ == "__main__":
    main()
