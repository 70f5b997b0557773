"""What many tests share: a tiny real checkpoint and a small real data set, made once per session."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio")  # read once, when trackio is imported
os.environ["HF_HUB_OFFLINE"] = "1"  # before the first import that reads it; no test asks a network
if "ATEN_CPU_CAPABILITY" in os.environ:  # set by hand: torch asks oneDNN alone whether it may pack bfloat16
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image

from testing_browser import CHROMIUM, FLAGS
from testing_families import BOX_FORMATS, write_family
from vlm_r1.config.schema import ModelSection
from vlm_r1.data.images import load_image
from vlm_r1.models import Adapter, load_adapter, load_model
from vlm_r1.synthetic import write_rec_dataset
from vlm_r1.testing import TinySize, write_tiny_qwen2_5_vl
from vlm_r1.types import EncodedPrompt, Prompt

torch.set_num_threads(1)

CORPUS = [
    "Please provide the bounding box coordinates of the region this sentence describes: the small red circle.",
    "<think>the large blue square left of the green triangle</think><answer>[1, 2, 30, 4]</answer>",
    "First output the thinking process in <think> </think> tags and then output the final answer in <answer>.",
] * 8


@pytest.fixture(autouse=True)
def a_fresh_accelerate():
    """Accelerate keeps its precision for the life of a process; here each test is a program of its own."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder of a randomly initialised Qwen2.5-VL; its weights are large enough for lively logits."""
    size = TinySize(num_key_value_heads=2)
    return write_tiny_qwen2_5_vl(tmp_path_factory.mktemp("tiny") / "model", CORPUS, seed=1, size=size)


@pytest.fixture(scope="session")
def adapter(tiny_checkpoint: Path) -> Adapter:
    return load_adapter(tiny_checkpoint)


@pytest.fixture
def model64(tiny_checkpoint: Path, adapter: Adapter):
    """The tiny model in float64, fresh for each test."""
    return load_model(ModelSection(path=str(tiny_checkpoint), dtype="float64"), adapter)


@pytest.fixture(scope="session")
def family_checkpoint(tmp_path_factory: pytest.TempPathFactory):
    """`family_checkpoint("qwen3_vl")`: folder of a tiny random checkpoint of that model type, written once."""
    folder = tmp_path_factory.mktemp("families")

    def make(family: str) -> Path:
        if not (folder / family).exists():
            write_family(family, folder / family, CORPUS)
        return folder / family

    return make


@pytest.fixture(scope="session")
def family_adapter(family_checkpoint):
    """`family_adapter("qwen3_vl")`: the adapter of that tiny checkpoint, loaded once."""
    return cache(lambda family: load_adapter(family_checkpoint(family), box_format=BOX_FORMATS.get(family)))


@pytest.fixture
def family_model64(family_checkpoint, family_adapter):
    """`family_model64("qwen3_vl")`: that tiny model in float64, fresh for each call."""

    def load(family: str):
        section = ModelSection(path=str(family_checkpoint(family)), dtype="float64")
        return load_model(section, family_adapter(family))

    return load


@pytest.fixture(scope="session")
def rec_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small synthetic data set: JSONL files by name."""
    counts = {"train": 48, "warmup": 48, "in_domain": 12, "out_of_domain": 10}
    return write_rec_dataset(tmp_path_factory.mktemp("rec"), seed=0, counts=counts)


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory):
    """`picture(width, height, seed)`: path of a noise image of that size."""
    folder = tmp_path_factory.mktemp("pictures")

    def make(width: int, height: int, seed: int = 0) -> str:
        path = folder / f"{width}x{height}-{seed}.png"
        if not path.exists():
            noise = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed))
            Image.fromarray(noise.to(torch.uint8).numpy()).save(path)
        return str(path)

    return make


@pytest.fixture(scope="session")
def prompts(adapter: Adapter, picture) -> dict[str, EncodedPrompt]:
    """Encoded prompts of every kind: one image, another size, several images, none."""

    def encode(text: str, images: Sequence[str]) -> EncodedPrompt:
        return adapter.encode(Prompt(text, tuple(images)), [load_image(path) for path in images])

    return {
        "one": encode("<image>the small red circle", [picture(56, 56)]),
        "wide": encode("<image>the large blue square left of the green triangle", [picture(112, 60, 1)]),
        "several": encode("before <image> and after <image>: the red circle", [picture(84, 56, 2), picture(56, 84, 3)]),
        "none": encode("the thinking process of the region", []),
        "twin": encode("<image>the small red circle", [picture(56, 56, 9)]),
    }


@pytest.fixture
def recipe(tmp_path: Path, tiny_checkpoint: Path, rec_files: dict[str, Path]):
    """`recipe(**{"grpo.beta": 0.1})`: path of a small GRPO recipe with these overrides; its run folder is
    tmp_path/run.
    """

    def write(**overrides: object) -> Path:
        tree: dict = {
            "output_dir": str(tmp_path / "run"),
            "seed": 3,
            "model": {"path": str(tiny_checkpoint)},
            "data": {"train": [{"path": str(rec_files["train"])}], "template": "bare"},
            "sampling": {"max_completion_length": 8},
            "grpo": {"num_generations": 4},
            "rewards": {"accuracy": 1.0, "format": 0.5, "testing_rewards:letters": 1.0},
            "training": {
                "max_steps": 3,
                "prompts_per_step": 4,
                "max_tokens_per_micro_batch": 256,
                "learning_rate": 1e-3,
            },
        }
        for dotted, value in overrides.items():
            node, keys = tree, dotted.split(".")
            for key in keys[:-1]:
                node = node.setdefault(key, {})
            node[keys[-1]] = value
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")  # while it is open, an event loop runs, which other tests must not meet
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        launched = p.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--disable-sync", "--no-first-run"])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable]:
    """Open a file; collect what it logs and fetches."""
    pages = []

    def open_file(path: Path, width: int = 1280, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        logged, fetched = [], []
        page.on("console", lambda message: logged.append(message.text))
        page.on("pageerror", lambda error: logged.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(path.as_uri())
        return page, logged, fetched

    yield open_file
    for page in pages:
        page.close()
