"""What the benchmarks of a training step share: its sizes, a checkpoint with random weights, scenes, a reward.

Both sides of a comparison read the same files and are paid by the same rule.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from string import ascii_lowercase

from vlm_r1.data.jsonl import read_jsonl
from vlm_r1.rewards.base import RewardInput
from vlm_r1.synthetic import RecWorld, write_rec_dataset
from vlm_r1.testing import TinySize, write_tiny_qwen2_5_vl
from vlm_r1.types import Record

MODEL = TinySize(
    hidden_size=256,
    num_hidden_layers=6,
    num_attention_heads=4,
    vision_hidden_size=256,
    vision_depth=4,
    vocab_size=4085,  # 4,096 with special tokens: a stop token is drawn by chance about once in 4,096 tokens
    initializer_range=0.02,
)
"""10 million parameters; what TinySize does not name (key-value heads, intermediate sizes) follows from the width."""

REWARDS = {"accuracy": 1.0, "format": 0.5, "benchmarks.scenes:letters": 1.0}
"""The demo's reward, which is 0 for random texts, and one that tells them apart: no group is without signal."""

_TOKEN_PX = 28  # side of the square of pixels that one image token stands for: patches of 14, merged two by two


@dataclass(frozen=True)
class Sizes:
    """One point of the benchmark.

    Attributes:
        image_tokens: of the one image of each prompt, e.g. 256 for 448 x 448 pixels.
        completion_tokens: length cap; random weights seldom stop earlier.
        generations: G.
        prompts: in one step.
        rows_per_micro_batch: completions in one forward and backward; a divisor of prompts times generations.
        steps: measured ones; one more warms up.
        beta: weight of the KL term; above 0 there is a reference pass.
        threads: of torch, on both sides.
    """

    image_tokens: int
    completion_tokens: int
    generations: int
    prompts: int
    rows_per_micro_batch: int
    steps: int
    beta: float
    threads: int

    @property
    def rows(self) -> int:
        """Completions in a step."""
        return self.prompts * self.generations

    @property
    def image_wh(self) -> tuple[int, int]:
        """Width and height in pixels, each a multiple of 28, that the processor leaves as they are; nearly square.

        Raises:
            ValueError: no rectangle of that many tokens is less than four times as long as it is high.
        """
        height = next(h for h in range(math.isqrt(self.image_tokens), 0, -1) if self.image_tokens % h == 0)
        width = self.image_tokens // height
        if width >= 4 * height:
            raise ValueError(f"{self.image_tokens} image tokens make no picture: wanted a number like 64, 256 or 1024")
        return width * _TOKEN_PX, height * _TOKEN_PX

    @property
    def image_px(self) -> int:
        """Area of an image in pixels: lower and upper limit of the image processor on both sides."""
        return self.image_tokens * _TOKEN_PX**2


def write_inputs(folder: Path, sizes: Sizes) -> None:
    """Write what every worker reads: `sizes.json`, the checkpoint `model/`, and `data/` with a record for each prompt.

    Every step sees new records, so that nothing can be kept from one step for the next.
    """
    (folder / "sizes.json").write_text(json.dumps(asdict(sizes)), encoding="utf-8")
    write_tiny_qwen2_5_vl(folder / "model", _corpus(), size=MODEL)
    counts = {"train": sizes.prompts * (sizes.steps + 1), "warmup": 0, "in_domain": 0, "out_of_domain": 0}
    write_rec_dataset(folder / "data", counts=counts, world=RecWorld(image_sizes=(sizes.image_wh,)))


def read_sizes(folder: Path) -> Sizes:
    """The sizes that `write_inputs` was given."""
    return Sizes(**json.loads((folder / "sizes.json").read_text(encoding="utf-8")))


def read_records(folder: Path) -> list[Record]:
    """The training records that `write_inputs` wrote."""
    return read_jsonl(data_file(folder), task="rec")


def data_file(folder: Path) -> Path:
    """The training records as a file."""
    return folder / "data" / "train.jsonl"


def letters(given: RewardInput) -> float:
    """A reward with signal in random texts: the share of letters, in [0, 1]."""
    return sum(character.isalpha() for character in given.text) / max(len(given.text), 1)


def _corpus() -> Iterator[str]:
    """Random words, enough of them for thousands of merges."""
    rng = Random(0)
    for _ in range(20_000):
        yield "".join(rng.choices(ascii_lowercase, k=rng.randint(3, 8)))
