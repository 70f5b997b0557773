"""Look at a run from Python, cell by cell: open it in an editor or in Jupyter (`# %%` begins a cell), or run it.

python examples/look_at_a_run.py                a tiny model is trained for three steps first, in seconds
python examples/look_at_a_run.py runs/demo      a run of yours
"""

# %% A run to look at
import sys
import tempfile
from pathlib import Path

import yaml

import vlm_r1
from vlm_r1.cli.main import main
from vlm_r1.synthetic import RecWorld, write_dataset
from vlm_r1.testing import write_tiny_qwen2_5_vl

folder = Path(tempfile.mkdtemp(prefix="vlm_r1_"))
if len(sys.argv) > 1:
    run_folder = Path(sys.argv[1])
else:
    counts = {"train": 32, "warmup": 4, "in_domain": 12, "out_of_domain": 4}
    data = write_dataset(folder / "data", RecWorld(), seed=0, counts=counts)
    corpus = ["Please give the box of the red circle as [x1, y1, x2, y2].", "<think>the red circle</think>"]
    write_tiny_qwen2_5_vl(folder / "start", corpus, seed=0)
    recipe = {
        "output_dir": str(folder / "run"),
        "model": {"path": str(folder / "start")},
        "data": {
            "train": [{"path": str(data["train"])}],
            "eval": {"held_out": {"path": str(data["in_domain"])}},
            "template": "bare",
        },
        "sampling": {"max_completion_length": 16},
        "grpo": {"num_generations": 4},
        "rewards": {"accuracy": 1.0, "format": 0.5},
        "training": {"max_steps": 3, "prompts_per_step": 4, "learning_rate": 1e-3},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    main(["train", str(folder / "recipe.yaml")])
    run_folder = folder / "run"

# %% What training wrote: frames of steps, completions and evaluations
run = vlm_r1.load_run(run_folder)
print(run.metrics[["step", "reward/mean", "reward/std", "loss"]].tail())
print(run.rollouts.groupby("step").reward.agg(["mean", "min", "max"]).tail())
print(run.evaluations)

# %% One group of the last step: the truth is green, each answer has a colour of its own
last = int(run.metrics.step.max())
picture = vlm_r1.show(run.group(last))
picture.save(folder / "group.png")
print(picture)

# %% Measure the trained model on a file
source = next(iter(run.config["data"]["eval"].values()))["path"]
found = vlm_r1.evaluate(run_folder, source, out=folder / "eval", limit=12)
print(found.metrics)

# %% Its longest answer
longest = found.samples.tokens.idxmax()
vlm_r1.show(found[longest]).save(folder / "longest.png")
print(f"pictures: {folder}")
