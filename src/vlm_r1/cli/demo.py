"""Train a tiny vision-language model with GRPO on this machine, in minutes, with the whole program on real files.

  vlm-r1 demo                     data, tiny Qwen2.5-VL, warm start, GRPO, evaluation, report
  vlm-r1 demo --seed 1 --out runs/demo-seed1

Everything is in the run folder: start/ holds the data, the random model and the warm start. `vlm-r1 train` can run its
config.yaml again.
"""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vlm_r1.cli.options import local_path
from vlm_r1.types import IMAGE_TOKEN

if TYPE_CHECKING:
    from rich.text import Text

    from vlm_r1.config import Config

T = TypeVar("T")

_PREPARE = (
    "1/3 Pictures and a model.",
    "{n:,} small pictures of coloured shapes are drawn, each with a question such as "
    '"the small red circle", and a Qwen2.5-VL of 0.4 million random weights is made, which knows nothing yet '
    "({folder}).",
)
_WARM_START = (
    "\n2/3 Warm start.",
    "Reinforcement learning can only prefer what a model sometimes does, so the model first copies answers whose boxes "
    "are too large; watch the loss fall as it learns to write boxes and roughly where to put them.",
)
_GRPO = (
    "\n3/3 GRPO.",
    "Now it sees no right answers. It answers each question {G} times, and a rule scores each answer by its overlap "
    "(IoU) with the true box and by its form. Answers that score better than their siblings become likelier; watch "
    "acc@0.5 rise: the share of boxes that overlap the true one by more than half.",
)
_RESULT = (
    "\nWhat came of it,",
    "on pictures that were never trained on: in_domain is from the same world; new_kinds has combinations of colour "
    "and shape that were never asked for; out_of_domain has these, more shapes and other image sizes.",
)

_HELD_OUT = {"in_domain": "in_domain", "out_of_domain": "out_of_domain", "new_kinds": "out_of_domain_kinds"}
"""Held-out sets by name, with the names of their files."""

_SHARE = "accuracy_iou50"
"""The share of boxes that overlap the true one by more than half."""

_RECIPES = Path(__file__).parent / "demo_recipes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare folder, seed and the two budgets."""
    parser.add_argument("--out", type=local_path, help="run folder (default: runs/demo, or the next free runs/demo-N)")
    parser.add_argument("--seed", type=int, default=0, help="seed of data, weights, order and sampling (default: 0)")
    parser.add_argument("--warmup-steps", type=int, help="supervised steps (default: see demo_recipes/warmup.yaml)")
    parser.add_argument("--grpo-steps", type=int, help="GRPO steps (default: see demo_recipes/grpo.yaml)")
    parser.add_argument("--train-records", type=int, default=8000, help="training pictures (default: 8000)")
    parser.add_argument("--eval-records", type=int, default=512, help="held-out pictures of each set (default: 512)")


def run(args: argparse.Namespace) -> int:
    """Run all stages, print the table and the paths."""
    import torch

    from vlm_r1.cli.console import quiet_libraries, show_result
    from vlm_r1.grpo.trainer import train
    from vlm_r1.runtime.lock import lock_folder
    from vlm_r1.runtime.progress import Display
    from vlm_r1.runtime.run_folder import RunFolder, write_json
    from vlm_r1.supervised.trainer import train_sft
    from vlm_r1.training.new_run import check_new_run

    quiet_libraries()
    out: Path = args.out or _free_folder(Path("runs/demo"))
    warmup = warmup_recipe(out, args.seed, args.warmup_steps)
    recipe = main_recipe(out, args.seed, args.grpo_steps)
    check_new_run(RunFolder(out), recipe, "grpo")
    lock = lock_folder(out / "start")
    display, seconds = Display(), dict[str, float]()
    torch.set_num_threads(1)  # two threads take twice the processor time on tensors this small (docs/log.md)
    display.say(_told(_PREPARE, n=args.train_records, folder=out / "start"))
    _timed(seconds, "prepare", lambda: write_inputs(out, args.seed, args.train_records, args.eval_records))
    display.say(_told(_WARM_START))
    _timed(seconds, "warm_start", lambda: train_sft(warmup, display=display))
    lock.release()
    display.say(_told(_GRPO, G=recipe.grpo.num_generations))
    summary = train(recipe, display=display)
    summary["seconds"] = {**{name: round(value, 2) for name, value in seconds.items()}, **summary["seconds"]}
    write_json(out / "summary.json", summary)
    display.say(_told(_RESULT))
    show_result(recipe, summary)
    for line in ending(out, summary):
        display.say(line)
    return 0


def _told(title_and_text: tuple[str, str], **values: object) -> Text:
    """Return a title in bold and the text behind it, filled with values."""
    from vlm_r1.runtime.terminal import styled

    title, text = title_and_text
    return styled(f"{title} ", "bold").append_text(styled(text.format(**values)))


def ending(out: Path, summary: Mapping[str, Any]) -> list[str]:
    """Return a sentence of what happened, and a command that asks the model about one of its held-out pictures.

    The picture is the first that the model answers right, if there is one.

    Args:
        summary: the content of `summary.json`.
    """
    from vlm_r1.evaluation.samples import read_samples, samples_path

    before, after = (100 * summary[moment]["in_domain"][_SHARE] for moment in ("before", "after"))
    how = "more often than before" if after > before else "less often than before" if after < before else "as often"
    sentence = (
        f"\nWithout ever seeing a right answer, by rewards alone, the model finds what is asked {how}: of 100 new "
        f"pictures it boxed {before:.0f} right after the warm start, and boxes {after:.0f} right now. Ask it yourself:"
    )
    samples = list(read_samples(samples_path(out / "eval/after-in_domain.json")))
    one = next((sample for sample in samples if sample.metrics[_SHARE] == 1), samples[0])
    question = one.problem.removeprefix(IMAGE_TOKEN)
    words = ["vlm-r1", "ask", str(out), os.path.relpath(one.images[0]), question, "--out", str(out / "boxed.png")]
    return [sentence, f"\n  {shlex.join(words)}"]


def write_inputs(out: Path, seed: int, train: int, held_out: int) -> None:
    """Write the input of a run: start/data (`train` and `held_out` pictures) and start/model (random weights)."""
    from vlm_r1.synthetic import ALL_SHIFTS, DEMO_WORLD, write_dataset
    from vlm_r1.testing import write_tiny_qwen2_5_vl

    counts = {"train": train, "warmup": train, "in_domain": held_out, "out_of_domain": held_out}
    files = write_dataset(out / "start/data", DEMO_WORLD, seed=seed, counts=counts, shifts=(ALL_SHIFTS, "kinds"))
    write_tiny_qwen2_5_vl(out / "start/model", _corpus(files["warmup"]), seed)


def warmup_recipe(out: Path, seed: int, steps: int | None = None) -> Config:
    """Return the shipped recipe of the warm start, with this run's folders and seed."""
    start = out / "start"
    overrides = [f"--data.train.0.path={start / 'data/warmup.jsonl'}"]
    return _recipe("warmup", start / "warmup", start / "model", seed, steps, overrides)


def main_recipe(out: Path, seed: int, steps: int | None = None, model: Path | None = None) -> Config:
    """Return the shipped GRPO recipe, with this run's folders and seed; it starts from `model`, or the warm start."""
    data = out / "start/data"
    overrides = [f"--data.train.0.path={data / 'train.jsonl'}"]
    overrides += [f"--data.eval.{name}.path={data / file}.jsonl" for name, file in _HELD_OUT.items()]
    return _recipe("grpo", out, model or out / "start/warmup/model", seed, steps, overrides)


def _recipe(name: str, out: Path, model: Path, seed: int, steps: int | None, overrides: list[str]) -> Config:
    from vlm_r1.config import load_config

    overrides = [f"--output_dir={out}", f"--model.path={model}", f"--seed={seed}", *overrides]
    if steps is not None:
        overrides.append(f"--training.max_steps={steps}")
    return load_config(_RECIPES / f"{name}.yaml", overrides)


def _corpus(file: Path) -> Iterator[str]:
    """Yield the texts of the warm-up file, from which the tokenizer learns its tokens."""
    from vlm_r1.config.schema import DataSource
    from vlm_r1.data.sources import load_sources

    for record in load_sources([DataSource(path=str(file))]):
        yield f"user\n{record.problem}\nassistant\n{record.thought}{record.answer}"


def _free_folder(path: Path) -> Path:
    """Return `path`, or the first of path-2, path-3, … that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _timed(seconds: dict[str, float], name: str, work: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = work()
    seconds[name] = time.perf_counter() - start
    return result
