"""Train from Python, with callbacks: open it in an editor or in Jupyter (`# %%` begins a cell), or run it.

python examples/train_from_python.py                                  a tiny model, in seconds on a CPU
torchrun --nproc_per_node 2 examples/train_from_python.py FOLDER      the same in two processes, in a new folder
"""

# %% A tiny model and data, as any recipe names them; a recipe may also be a YAML file
import os
import sys
import tempfile
from pathlib import Path

import vlm_r1
from vlm_r1.synthetic import RecWorld, write_dataset
from vlm_r1.testing import write_tiny_qwen2_5_vl

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="vlm_r1_"))
is_first = os.environ.get("RANK", "0") == "0"
if is_first:
    counts = {"train": 32, "warmup": 32, "in_domain": 8, "out_of_domain": 4}
    write_dataset(folder / "data", RecWorld(), seed=0, counts=counts)
    corpus = ["Please give the box of the red circle as [x1, y1, x2, y2].", "<think>the red circle</think>"]
    write_tiny_qwen2_5_vl(folder / "start", corpus, seed=0)
recipe = {
    "output_dir": folder / "run",
    "model": {"path": folder / "warm/model"},
    "data": {
        "train": [{"path": folder / "data/train.jsonl"}],
        "eval": {"held_out": {"path": folder / "data/in_domain.jsonl"}},
        "template": "bare",
    },
    "sampling": {"max_completion_length": 16},
    "grpo": {"num_generations": 4},
    "rewards": {"accuracy": 1.0, "format": 0.5},
    "training": {"max_steps": 6, "prompts_per_step": 4, "learning_rate": 1e-3},
}


# %% Callbacks are functions; the first process calls them at the end of each step
class Best:
    """Keeps the best completion of the run so far."""

    reward = float("-inf")
    text = ""

    def __call__(self, end: vlm_r1.StepEnd) -> None:
        for group in end.groups:
            for rollout in group.rollouts:
                if rollout.score.reward is not None and rollout.score.reward > self.reward:
                    self.reward, self.text = rollout.score.reward, rollout.completion.text


losses: list[float] = []
best = Best()


def keep_loss(end: vlm_r1.StepEnd) -> None:
    losses.append(end.metrics["loss"])


def stop_after_three(end: vlm_r1.StepEnd) -> None:
    if end.step == 3:
        end.stop()


# %% A warm start on the gold answers, then GRPO, which a callback stops, and which then goes on
warm = {
    "output_dir": folder / "warm",
    "model.path": folder / "start",
    "data.train.0.path": folder / "data/warmup.jsonl",
    "training.max_steps": 8,
}
vlm_r1.sft(recipe, warm, callbacks=[keep_loss])
stopped = vlm_r1.train(recipe, callbacks=[best, stop_after_three])
assert not stopped.summary
run = vlm_r1.train(recipe, resume="auto", callbacks=[best])

# %% What came of it
if is_first:
    print(f"loss of the warm start: {losses[0]:.2f} to {losses[-1]:.2f}")
    print(f"best completion, with reward {best.reward:.2f}: {best.text!r}")
    print(run.metrics[["step", "reward/mean", "loss"]].tail())
    print(f"held-out accuracy: {run.summary['after']['held_out']}")
    print(f"report: {run.path / 'report.html'}")
