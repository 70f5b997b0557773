"""A recipe for a data file and a GPU: what is recommended, and why; the plan says whether it fits."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlm_r1.config import Config
from vlm_r1.config.data import DataSource
from vlm_r1.config.load import make_config, parse_overrides
from vlm_r1.data.records import RecordFile
from vlm_r1.data.sources import Sources, shared_pictures
from vlm_r1.errors import ConfigError, DataError, ModelError
from vlm_r1.models import adapter_of
from vlm_r1.planning.data_facts import DataFacts
from vlm_r1.planning.plan import GB, Plan
from vlm_r1.planning.prompts import longest_prompt
from vlm_r1.planning.propose import Search, propose
from vlm_r1.planning.published import PUBLISHED, write_published
from vlm_r1.rehearsal.family import find_family
from vlm_r1.rehearsal.inputs import corpus, templates_of
from vlm_r1.training.run import load_checked_records

MODELS = (
    (40 * GB, "Qwen/Qwen2.5-VL-7B-Instruct"),
    (16 * GB, "Qwen/Qwen2.5-VL-3B-Instruct"),
    (0, "Qwen/Qwen3-VL-2B-Instruct"),
)
"""Least memory of a GPU, in bytes, and the model that is taken for it if the user names none."""

MOST_PIXELS = 1280 * 28 * 28
"""Pictures that are larger are shown in this area: 1,280 tokens of Qwen2.5-VL; as the model's authors suggest."""

_BY_AREA = ("qwen", "glm")
"""Beginnings of the model types whose image tokens grow with the area of a picture."""

_EPOCHS = 2
_STEPS = (100, 1000)
_EVALUATED = 200
_GROUPS = ((8, 32), (4, 8))
"""Prompts in a step, and in a batch of evaluations; the second is for GPUs on which sampling the first does not fit."""

Says = Callable[[str], None]


@dataclass(frozen=True)
class Recommendation:
    """A recipe that suits a data file and a GPU.

    Attributes:
        tree: its options that differ from the defaults or are worth a look, as a tree.
        facts: about the data.
        counts: records to train on and held out, by the name of the set; "train" is the first.
        plan: of memory; None: it could not be asked.
        why_no_plan: in this case the reason.
        planned_by: the config that the plan read, for people.
    """

    tree: dict[str, Any]
    facts: DataFacts
    counts: dict[str, int]
    plan: Plan | None
    why_no_plan: str = ""
    planned_by: str = ""

    @property
    def config(self) -> Config:
        """The recipe, validated."""
        return make_config(self.tree)


def recommend(
    facts: DataFacts, *, gpu: int, output_dir: str, model: str | None, held_out: DataSource | None, say: Says
) -> Recommendation:
    """Choose the options of a recipe, check its data, and plan its memory.

    Args:
        gpu: bytes of the GPU.
        model: folder or name of the model; None: by the GPU (`MODELS`).
        held_out: the user's own file of held-out records; None: a share of the data is split off, by pictures.
        say: called with a line about what is done now.

    Raises:
        DataError: a row is bad, or a held-out record shows a picture that is trained on.
        ConfigError: nothing fits into this memory.
    """
    path = model or next(name for least, name in MODELS if gpu >= least)
    tree = _tree(facts, path, output_dir)
    _hold_out(tree, facts, held_out)
    say("checking the data")
    records, sets = load_checked_records(make_config(tree))
    shared = shared_pictures(records, sets)
    if n := sum(shared.values()):
        raise DataError(
            f"{n:,} held-out records show pictures that are trained on, so their numbers would say too much: take "
            "another --eval file, or leave it out, and a part of the data is held out by pictures"
        )
    counts = {"train": len(records), **{name: len(one) for name, one in sets.items()}}
    tree["training"] |= _budget(counts)
    base = Recommendation(tree, facts, counts, None)
    with tempfile.TemporaryDirectory() as folder:
        try:
            by, at = _planned_model(make_config(tree), records, sets, Path(folder))
            return _fitted(base, gpu, by, at, say)
        except ModelError as error:
            return replace(base, why_no_plan=f"{error}")


def _tree(facts: DataFacts, model: str, output_dir: str) -> dict[str, Any]:
    source = facts.source.model_dump(mode="json", exclude_defaults=True)
    tree: dict[str, Any] = {
        "output_dir": output_dir,
        "model": {"path": model, "gradient_checkpointing": True, "lora": {"r": 64, "lora_alpha": 128}},
        "data": {"train": [{"path": facts.source.path, "task": facts.source.task, **source}], "template": "r1"},
        "rewards": {"accuracy": 1.0, "format": 1.0},
        "sampling": {"max_completion_length": _completion_length(facts)},
        "grpo": {"num_generations": 8, "beta": 0.04},
        "training": {
            "prompts_per_step": _GROUPS[0][0],
            "max_tokens_per_micro_batch": 8192,
            "learning_rate": 1e-5,
            "lr_scheduler_type": "constant",
            "mixed_precision": "bf16",
        },
    }
    is_large = facts.sizes_wh and math.prod(facts.sizes_wh[-1]) > MOST_PIXELS
    if is_large and _family_of(make_config(tree)).startswith(_BY_AREA):
        tree["model"]["max_pixels"] = MOST_PIXELS
    return tree


def _family_of(config: Config) -> str:
    try:
        return find_family(config.model).model_type
    except ConfigError:
        return ""


def _completion_length(facts: DataFacts) -> int:
    """Room for a thought of some 400 tokens, and for the longest gold answer at two characters a token."""
    least = 1024 if facts.source.task == "math" else 512
    return min(2048, max(least, -(-(400 + facts.longest // 2) // 128) * 128))


def _hold_out(tree: dict[str, Any], facts: DataFacts, own: DataSource | None) -> None:
    """Add the held-out set to the recipe: the user's file, or a share of the data by pictures, if it can be split."""
    if own is not None:
        same = facts.source.model_dump(mode="json", exclude_defaults=True, exclude={"path", "image_root"})
        root = {"image_root": own.image_root} if own.image_root else {}
        tree["data"]["eval"] = {"held_out": {**same, "path": own.path, "task": facts.source.task, **root}}
        return
    share = 0.2 if facts.records < 200 else min(0.1, 500 / facts.records)
    cut = round(1 - share, 4)
    by = {"split_by": "image"} if facts.sizes_wh else {}
    (train,) = tree["data"]["train"]
    parts = [{**train, "split_range": list(part), **by} for part in ((0.0, cut), (cut, 1.0))]
    try:
        sizes = [len(RecordFile(DataSource.model_validate(part))) for part in parts]
    except DataError:  # all rows share a picture, or there are too few
        return
    tree["data"]["train"] = [parts[0]]
    fewer = {"sampling_strategy": f"random:{_EVALUATED}"} if sizes[1] > _EVALUATED else {}
    tree["data"]["eval"] = {"held_out": {**parts[1], **fewer}}


def _budget(counts: dict[str, int]) -> dict[str, int]:
    wanted = math.ceil(_EPOCHS * counts["train"] / _GROUPS[0][0])
    steps = min(max(wanted, _STEPS[0]), _STEPS[1])
    return {"max_steps": steps, **({"eval_steps": max(1, steps // 4)} if len(counts) > 1 else {})}


def _planned_model(config: Config, records: Sources, sets: dict[str, Sources], folder: Path) -> tuple[str, str]:
    """Return what a plan reads: where it comes from, for people, and its path.

    Raises:
        ModelError: the model's config, tokenizer or image processor cannot be had.
    """
    name = config.model.path
    try:
        cached = find_family(config.model).found.startswith("as ")
    except ConfigError:
        cached = False
    if name in PUBLISHED and not cached:
        texts = corpus(records, sets, templates_of(config))
        write_published(name, folder / "model", texts)
        return f"the known shape of {name}; text is counted by a tokenizer made from the data", str(folder / "model")
    adapter_of(config.model, chat_template_kwargs=config.data.chat_template_kwargs)
    return f"the config of {name}", name


def _fitted(base: Recommendation, gpu: int, by: str, at: str, say: Says) -> Recommendation:
    """Return the recommendation with its plan, after changes that make it fit.

    Raises:
        ConfigError: none of the changes makes it fit.
    """
    for prompts, evaluated in _GROUPS:
        tree = _changed(base.tree, _grouped(base, prompts, evaluated))

        def load(overrides: Sequence[str], tree: dict[str, Any] = tree) -> Config:
            return make_config(_changed(tree, overrides), {"model.path": at})

        say("planning the memory, some ten seconds each time")
        search = Search(load, longest_prompt(load(())), gpus=1, limit=gpu)
        plan = search.plan(())
        if search.fits(plan):
            return replace(base, tree=tree, plan=plan, planned_by=by)
        say("looking for settings that fit")
        if (proposal := propose(search)) is not None:
            return replace(base, tree=_changed(tree, proposal.overrides), plan=proposal.plan, planned_by=by)
    raise ConfigError(
        f"nothing that a recipe can change makes {base.config.model.path} fit into {gpu / GB:.4g} GB. Take a smaller "
        f"model, e.g. --model {MODELS[-1][1]}, or a larger GPU"
    )


def _grouped(base: Recommendation, prompts: int, evaluated: int) -> list[str]:
    options = [f"--training.prompts_per_step={prompts}"]
    return [*options, f"--training.eval_batch_size={evaluated}"] if len(base.counts) > 1 else options


def _changed(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of a tree with the values of overrides of sections, e.g. "--model.load_in_4bit=true"."""
    changed: dict[str, Any] = deepcopy(tree)
    for (section, option), value in parse_overrides(overrides):
        changed[section][option] = value
    return changed
