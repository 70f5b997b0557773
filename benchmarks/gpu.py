"""The policy pass of Qwen2.5-VL-3B's real shape on one GPU: tokens per second, utilisation, memory, and is it right?

  python -m benchmarks.gpu [--json FILE] [--markdown FILE]
  python -m benchmarks.gpu --shape tiny --device cpu     the same program with a small model, to try it without a GPU

Weights are random, made on the GPU in bfloat16; layers are checkpointed; prompts have an image as large as those of
referring expressions. A pass is the forward and backward of all completion log-probabilities, entropies included:

packed  ours, each prompt once        rows  ours, the prompt's text again for each completion, its image once
trl     the pass of TRL's GRPOTrainer, absent where trl is not installed       vision  the vision tower alone

Each side has a model of its own, one after the other. Utilisation is three times the operations of the side's own
forward (torch's FlopCounterMode; what a checkpoint computes again does not count) per second over the card's dense
bfloat16 peak. Memory is all that was allocated at the peak, weights (and gradients) included.

Before that, four layers of the same width are checked with ragged completions: in float32 packed must equal rows to
1e-4 in log-probabilities and gradients (relative norm), in bfloat16 both are held against float32 rows, and packed may
err 1.5 times as much as rows; swapped images, the control, must fail. A failed check ends the program with status 1.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig

from benchmarks.groups import image_tokens, load, make_batch, policy_pass, sizes_of, write_checkpoint
from benchmarks.machine import Watch, median_of
from benchmarks.measure import Call, forward_flops, matmul_rate, seconds_of
from benchmarks.scenes import Sizes
from vlm_r1.cli.console import quiet_libraries
from vlm_r1.models.adapter import Adapter
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.packed import Layout
from vlm_r1.runtime.run_folder import environment

TEXT_3B = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "max_position_embeddings": 128000,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
VISION_3B = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 2048,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
"""From the config.json of Qwen/Qwen2.5-VL-3B-Instruct; the rest of both parts is the family's, whatever its size."""

REC_SIZES = ((256, 128, 8), (391, 256, 8))
"""Image tokens, completion tokens, G: 448 x 448 pixels, and 640 x 480 as the processor resizes it."""

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations per second by NVIDIA's data sheets (SXM), by a part of the card's name."""

CHECKED_LAYERS = 4
EXACT, MORE_ERROR = 1e-4, 1.5

Outcome = tuple[torch.Tensor, list[torch.Tensor]]
"""Log-probabilities of all completion tokens, and the gradient of their sum by parameter."""


@dataclass(frozen=True)
class Bench:
    """What all sides share: the tokenizer's side of the model, its shape, and where it runs."""

    adapter: Adapter
    shape: str
    device: torch.device

    def model(self, dtype: torch.dtype, layers: int | None = None) -> Any:
        """A model with random weights, always the same, its layers checkpointed.

        Args:
            layers: of the language model and of the vision tower, instead of the shape's.
        """
        config: Any = self.adapter.config  # of the small checkpoint, whose token ids stay
        text = {**config.text_config.to_dict(), **(TEXT_3B if self.shape == "3b" else {}), "layer_types": None}
        vision = {**config.vision_config.to_dict(), **(VISION_3B if self.shape == "3b" else {})}
        if layers:
            text["num_hidden_layers"] = vision["depth"] = layers
            vision["fullatt_block_indexes"] = [layers - 1]
        ids = {name: getattr(config, name) for name in ("image_token_id", "video_token_id", "vision_start_token_id")}
        whole = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
        torch.manual_seed(0)
        with self.device:
            model = AutoModelForImageTextToText.from_config(whole, dtype=dtype)
        model.activation_checkpointing_enable()
        return model.train()


@dataclass(frozen=True)
class Side:
    """`run`: forward and backward. `forward`: the operations that count."""

    run: Call
    forward: Call


def main() -> None:
    """Check, measure, print the tables and one JSON line."""
    args = parse_arguments()
    quiet_libraries()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "benchmarks.gpu: torch sees no CUDA GPU here. Run it where there is one, or try the program itself with "
            "--shape tiny --device cpu"
        )
    all_sizes = [sizes_of(*one, prompts=args.prompts, threads=torch.get_num_threads()) for one in args.sizes]
    with tempfile.TemporaryDirectory() as folder, Watch() as machine:
        write_checkpoint(Path(folder))
        device = torch.device(args.device)
        small = sizes_of(64, 32, 4, prompts=2, threads=1)
        checks = check(Bench(load(Path(folder), small)[1], args.shape, device), small)
        points = [
            measure(Bench(load(Path(folder), sizes)[1], args.shape, device), sizes, args.rounds) for sizes in all_sizes
        ]
    rates = {"matmul_flops_per_s": matmul_rate(8192 if args.device == "cuda" else 512, torch.bfloat16, device)}
    name, rates["peak_flops_per_s"] = peak(device, rates["matmul_flops_per_s"])
    for point in points:
        for side in point["sides"].values():
            side["utilisation"] = side["flops"] / side["seconds"] / rates["peak_flops_per_s"]
    line = {"card": name, **rates, "checks": checks, "points": points, "shape": args.shape}
    line |= {"environment": environment(), "machine": machine.told}
    show(line, args)
    if not checks["passed"]:
        raise SystemExit("benchmarks.gpu: packed log-probabilities or gradients are wrong here; see the checks above")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("3b", "tiny"), default="3b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    shown = " ".join("/".join(map(str, one)) for one in REC_SIZES)
    parser.add_argument(
        "--sizes", nargs="+", type=size, default=REC_SIZES, metavar="IMAGE/C/G", help=f"default {shown}"
    )
    parser.add_argument("--prompts", type=int, default=4, help="P, groups in a pass")
    parser.add_argument("--rounds", type=int, default=5, help="measured passes of each side; one more warms up")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--markdown", type=Path, help="where to write the tables")
    return parser.parse_args()


def size(text: str) -> tuple[int, ...]:
    """An argument like 256/128/8."""
    image, completion, generations = text.split("/")
    return image_tokens(image), int(completion), int(generations)


def peak(device: torch.device, measured: float) -> tuple[str, float]:
    """Name of the card and its dense bfloat16 peak; what was measured, where no data sheet is known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return name, next((rate for part, rate in PEAKS.items() if part in name), measured)


def check(bench: Bench, sizes: Sizes) -> dict[str, Any]:
    """Errors of packed and of rows against float32 rows, with the same weights, each representable in bfloat16."""
    model, batch = bench.model(torch.float32, CHECKED_LAYERS), make_batch(bench.adapter, sizes)
    ragged = [[ids_T[: 1 + 5 * g] for g, ids_T in enumerate(ids_G_T)] for ids_G_T in batch.ids_P_G_T]
    batch = batch._replace(ids_P_G_T=ragged)
    swapped = batch._replace(
        prompts=[replace(p, vision=q.vision) for p, q in zip(batch.prompts, batch.prompts[::-1], strict=True)]
    )
    _round_parameters(model, torch.bfloat16)
    _round_parameters(model, torch.float32)
    truth = _outcome(model, bench.adapter, batch, "rows")
    errors = {
        "float32 packed": _error(_outcome(model, bench.adapter, batch, "packed"), truth),
        "float32 packed, images swapped (control)": _error(_outcome(model, bench.adapter, swapped, "packed"), truth),
    }
    _round_parameters(model, torch.bfloat16)
    for layout in ("rows", "packed"):
        errors[f"bfloat16 {layout}"] = _error(_outcome(model, bench.adapter, batch, layout), truth)
    passed = all(
        errors["float32 packed"][of] < EXACT
        and errors["float32 packed, images swapped (control)"][of] > 10 * EXACT
        and errors["bfloat16 packed"][of] < MORE_ERROR * errors["bfloat16 rows"][of]
        for of in ("logprobs", "gradients")
    )
    return {"passed": passed, "errors": errors}


def _round_parameters(model: Any, dtype: torch.dtype) -> None:
    """Parameters alone: rotary frequencies stay in float32, as in any loaded checkpoint."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _outcome(model: Any, adapter: Adapter, batch: CompletionBatch, layout: Layout) -> Outcome:
    """Log-probabilities of all tokens, and the gradient of their sum, in float32."""
    model.zero_grad()
    scored = Policy(model, adapter, layout=layout)(batch)
    scored.logprobs_NT.sum().backward()
    logprobs_K = scored.logprobs_NT[scored.mask_NT].detach()
    return logprobs_K, [parameter.grad.float() for parameter in model.parameters() if parameter.grad is not None]


def _error(found: Outcome, truth: Outcome) -> dict[str, float]:
    """Root mean square of the errors of log-probabilities; norm of the gradients' error over their norm."""
    (logprobs, gradients), (true_logprobs, true_gradients) = found, truth
    off = sum(float((g - t).square().sum()) for g, t in zip(gradients, true_gradients, strict=True))
    norm = sum(float(t.square().sum()) for t in true_gradients)
    return {"logprobs": float((logprobs - true_logprobs).square().mean().sqrt()), "gradients": (off / norm) ** 0.5}


def measure(bench: Bench, sizes: Sizes, rounds: int) -> dict[str, Any]:
    """All sides at one size; `times_packed` are their seconds over those of packed."""
    batch = make_batch(bench.adapter, sizes)
    absent = set() if importlib.util.find_spec("trl") else {"trl"}
    sides = {name: measure_side(SIDES[name], bench, batch, rounds) for name in SIDES if name not in absent}
    for name in sides.keys() - {"vision"}:
        sides[name]["completion_tokens_per_s"] = sizes.rows * sizes.completion_tokens / sides[name]["seconds"]
    return {
        "image_tokens": sizes.image_tokens,
        "prompt_tokens": len(batch.prompts[0].ids_L),
        "completion_tokens": sizes.completion_tokens,
        "generations": sizes.generations,
        "prompts": sizes.prompts,
        "times_packed": {name: sides[name]["seconds"] / sides["packed"]["seconds"] for name in sides},
        "sides": sides,
    }


def measure_side(
    make: Callable[[Bench, CompletionBatch, Path], Side], bench: Bench, batch: CompletionBatch, rounds: int
) -> dict[str, Any]:
    """Seconds, operations and memory of one side, whose model is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        side = make(bench, batch, Path(folder))
        memory_gb = peak_gb(side.run, bench.device)
        taken = [seconds_of(side.run) for _ in range(rounds)]
        flops = 3 * forward_flops(side.forward)
    del side
    gc.collect()
    torch.cuda.empty_cache()
    middle = median_of(taken)
    measured = {"seconds": middle.wall, "cpu_seconds": middle.cpu, "rounds": [one.wall for one in taken]}
    return {**measured, "flops": flops, "memory_gb": memory_gb}


def peak_gb(call: Call, device: torch.device) -> float:
    """Gigabytes allocated on the GPU at the peak of a call; 0 on a CPU, where nobody counts them."""
    if device.type == "cpu":
        call()
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() / (1 << 30)


def ours(layout: Layout) -> Callable[[Bench, CompletionBatch, Path], Side]:
    """Our pass by layout."""

    def make(bench: Bench, batch: CompletionBatch, _folder: Path) -> Side:
        policy = Policy(bench.model(torch.bfloat16), bench.adapter, layout=layout)
        return Side(lambda: policy_pass(policy, batch), lambda: policy(batch))

    return make


def vision(bench: Bench, batch: CompletionBatch, _folder: Path) -> Side:
    """The vision tower over the images of the groups, each once: the part of our pass that is not the text's."""
    model = bench.model(torch.bfloat16)

    def forward() -> torch.Tensor:
        features = bench.adapter.image_features(model, batch.prompts)
        return torch.stack([image.float().sum() for own in features for image in own]).sum()

    def run() -> None:
        forward().backward()
        model.zero_grad()

    return Side(run, forward)


def trl(bench: Bench, batch: CompletionBatch, folder: Path) -> Side:
    """The log-probability pass of TRL's trainer, as its loss calls it, on rows of prompt, pixels and completion."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

    generations, device = len(batch.ids_P_G_T[0]), bench.device
    config = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=generations,
        num_generations=generations,
        gradient_checkpointing=True,
        bf16=False,  # the weights are: autocast would only convert
        use_cpu=device.type == "cpu",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=bench.model(torch.bfloat16),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_list([{"prompt": "?"}] * generations),
        processing_class=bench.adapter.tokenizer,
    )
    prompts = [prompt for prompt in batch.prompts for _ in range(generations)]
    rows = [[*p.ids_L, *ids] for p, ids in zip(prompts, (i for own in batch.ids_P_G_T for i in own), strict=True)]
    ids_NL = torch.tensor(rows, device=device)
    model_config: Any = bench.adapter.config
    options = {
        "compute_entropy": True,
        "num_images": [1] * len(prompts),
        "mm_token_type_ids": (ids_NL == model_config.image_token_id).int(),
        **{name: torch.cat([p.vision[name] for p in prompts]).to(device) for name in prompts[0].vision},
    }
    model: Any = trainer.model

    def forward() -> torch.Tensor:
        length = len(batch.ids_P_G_T[0][0])
        mask_NL = torch.ones_like(ids_NL)
        return trainer._get_per_token_logps_and_entropies(model, ids_NL, mask_NL, length, **options)[0].sum()

    def run() -> None:
        forward().backward()
        model.zero_grad()

    return Side(run, forward)


SIDES = {"packed": ours("packed"), "rows": ours("rows"), "trl": trl, "vision": vision}


def show(line: dict[str, Any], args: argparse.Namespace) -> None:
    """Tables and JSON on the terminal, and in files where they are wanted."""
    tables = [check_table(line), *(point_table(point, line) for point in line["points"])]
    for table in tables:
        Console().print(table)
    print(json.dumps(line))
    if args.json:
        args.json.write_text(json.dumps(line) + "\n", encoding="utf-8")
    if args.markdown:
        args.markdown.write_text("\n".join(markdown(table) for table in tables), encoding="utf-8")


def check_table(line: dict[str, Any]) -> Table:
    """Errors against float32 rows."""
    verdict = "passed" if line["checks"]["passed"] else "FAILED"
    shown = Table("against float32 rows", title=f"check on {line['card']}: {verdict}")
    for column in ("log-probabilities, rms error", "gradients, relative error"):
        shown.add_column(column, justify="right")
    for name, errors in line["checks"]["errors"].items():
        shown.add_row(name, f"{errors['logprobs']:.1e}", f"{errors['gradients']:.1e}")
    return shown


def point_table(point: dict[str, Any], line: dict[str, Any]) -> Table:
    """All sides at one size."""
    title = (
        f"policy pass on {line['card']}, shape {line['shape']}, bfloat16: {point['prompts']} prompts x "
        f"{point['generations']}, {point['image_tokens']} image tokens, completions of {point['completion_tokens']}"
    )
    shown = Table("", title=title)
    for column in ("seconds", "CPU s", "times packed", "completion tokens/s", "TFLOP", "of the peak", "peak GB"):
        shown.add_column(column, justify="right")
    for name, side in point["sides"].items():
        tokens = side.get("completion_tokens_per_s")
        cells = [f"{side[key]:.3f}" for key in ("seconds", "cpu_seconds")]
        cells += [f"{point['times_packed'][name]:.2f}", f"{tokens:,.0f}" if tokens else ""]
        cells += [f"{side['flops'] / 1e12:.2f}", f"{side['utilisation']:.0%}", f"{side['memory_gb']:.2f}"]
        shown.add_row(name, *cells)
    if "trl" not in point["sides"]:
        shown.add_row("trl", "not installed", *[""] * 6)
    return shown


def markdown(table: Table) -> str:
    """A rich table of plain cells as Markdown."""
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    lines = [[str(column.header) for column in table.columns], ["---", *["---:"] * (len(table.columns) - 1)], *rows]
    body = "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)
    return f"**{table.title}**\n\n{body}\n"


if __name__ == "__main__":
    main()
