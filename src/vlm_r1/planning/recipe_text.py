"""A recommendation as a recipe with comments: each option with the reason why it is set."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from vlm_r1.errors import install_line
from vlm_r1.parsing.json_values import is_object
from vlm_r1.planning.plan import GB, Plan
from vlm_r1.planning.recommend import MOST_PIXELS, Recommendation

_WIDTH = 98

_WHY: Mapping[str, str] = {
    "output_dir": "The run folder: metrics, checkpoints, model and report. It must not hold another run.",
    "model.path": "The model that learns: a name on the Hub, or a folder.",
    "model.gradient_checkpointing": "Activations are computed again in the backward pass: less memory, more time.",
    "model.lora": "Small adapters are trained in the language model, and vision stays as it is: that needs little "
    "memory. Values of the original VLM-R1. Without this line all weights train: ask `vlm-r1 plan` first.",
    "model.max_pixels": f"Some pictures are larger; the model sees them in this area, at most {MOST_PIXELS // 784:,} "
    "tokens of 28 x 28 pixels. Boxes are converted.",
    "model.load_in_4bit": "The frozen weights are held in 4 bits, because they would not fit otherwise. "
    f"Needs: {install_line('qlora')}.",
    "data.train": "The records to learn from.",
    "data.eval": "Held-out records, which are never trained on. They say whether it learns.",
    "data.template": "The words around a question: they ask for a thought, then an answer, in tags.",
    "rewards": "What an answer earns: how right it is, and whether it has the form that the template asks for.",
    "sampling.max_completion_length": "Most tokens of an answer: a thought of some 400, and your longest gold answer.",
    "grpo.num_generations": "Answers to each question. They are compared with one another.",
    "grpo.beta": "How strongly the model is held near its start; the value of the paper.",
    "training.prompts_per_step": "Questions in a step.",
    "training.max_tokens_per_micro_batch": "Tokens that go through the model at once. It changes memory and speed, not "
    "the result.",
    "training.learning_rate": "The original's rate for LoRA.",
    "training.lr_scheduler_type": "The rate stays the same to the end.",
    "training.mixed_precision": "The model computes in 16 bits; what trains is held in 32.",
    "training.max_steps": "Steps of the run.",
    "training.eval_steps": "Steps between two evaluations of the held-out records.",
    "training.eval_batch_size": "Held-out questions that are answered at once.",
}
"""Why an option is set, by its dotted name."""


_SPLIT: Mapping[str, str] = {
    "": "",
    "id": " Of the file, the part in split_range; the rest is held out. A hash of the id decides.",
    "image": " Of the file, the part in split_range; the rest is held out. A hash of the picture decides, so all "
    "records of a picture are on one side.",
}
"""How the file was split, by what `_split` returns."""

_ALONE = " Nothing is held out: all records share pictures, or they are few. Name a file of your own by data.eval."


def recipe_text(found: Recommendation, file: str, gpu: int) -> str:
    """Return the recipe as YAML with comments.

    Args:
        file: where it will lie, for the commands in its header.
        gpu: bytes of the GPU.
    """
    lines = [*_header(found, file, gpu), ""]
    for section, content in found.tree.items():
        if not is_object(content) or section == "rewards":
            lines += [*_comment(_why(section, found), ""), f"{section}: {_inline(content)}", ""]
            continue
        lines.append(f"{section}:")
        for option, value in _sorted_options(content):
            lines += [*_comment(_why(f"{section}.{option}", found), "  "), *_option(option, value)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def plan_lines(plan: Plan, gpu: int) -> list[str]:
    """Return lines with the numbers of a plan, in GB."""
    own = plan.static
    parts = {
        "weights": own.weights,
        "gradients": own.gradients,
        "optimizer": own.optimizer,
        "policy pass": plan.policy.total,
        "sampling": plan.sampling.total,
        "margin": plan.margin,
    }
    peak = max(plan.phases, key=lambda phase: plan.phases[phase])
    lengths = f"prompts of at most {plan.lengths.prompt:,} tokens, answers of {plan.lengths.completion:,}"
    return [
        f"{plan.total / GB:.1f} of {gpu / GB:.4g} GB at the peak ({peak}), {(gpu - plan.total) / GB:.1f} GB free",
        ", ".join(f"{name} {needed / GB:.1f}" for name, needed in parts.items()),
        lengths,
    ]


def _header(found: Recommendation, file: str, gpu: int) -> Iterator[str]:
    facts, model = found.facts, Path(found.tree["model"]["path"]).name
    yield from _comment(
        f"Task {facts.source.task}, {model}, one GPU of {gpu / GB:.4g} GB. Written by `vlm-r1 new` from your data; "
        "change what you like. `vlm-r1 config` lists all options.",
        "",
    )
    yield "#"
    yield from _entry("Data", _data_text(found))
    for line in facts.said:
        yield from _entry("", f"Found out from the rows: {line}.")
    if found.plan is None:
        yield from _entry("Memory", f"Not planned: {found.why_no_plan}")
        yield from _entry("", f"Ask where the model is at hand: vlm-r1 plan {file} --gpu {gpu / GB:.4g}GB")
    else:
        first, *more = plan_lines(found.plan, gpu)
        yield from _entry("Memory", f"`vlm-r1 plan` says {first}.")
        for line in more:
            yield from _entry("", f"{line}.".capitalize() if line.startswith("prompts") else f"Of these: {line}.")
        yield from _entry("", f"Planned by {found.planned_by}.")
    yield f"# Next       vlm-r1 train {file} --rehearse"
    yield f"#            vlm-r1 train {file}"


def _data_text(found: Recommendation) -> str:
    facts, (trained, *held) = found.facts, found.counts.values()
    images = "no pictures"
    if facts.sizes_wh:
        (w1, h1), (w2, h2) = facts.sizes_wh[0], facts.sizes_wh[-1]
        span = f"{w1} x {h1}" if (w1, h1) == (w2, h2) else f"{w1} x {h1} to {w2} x {h2}"
        images = (
            f"{'one picture' if facts.most_images == 1 else f'up to {facts.most_images} pictures'} each, {span} pixels"
        )
    text = f"{facts.records:,} records, {images}; {trained:,} to train on"
    return f"{text}, {held[0]:,} held out." if held else f"{text}. Nothing is held out."


def _why(option: str, found: Recommendation) -> str:
    facts, counts = found.facts, found.counts
    text = _WHY[option]
    if option == "data.train":
        text += _SPLIT[_split(found)] if len(counts) > 1 else _ALONE
    if option == "training.max_steps":
        steps, prompts = found.tree["training"]["max_steps"], found.tree["training"]["prompts_per_step"]
        times = steps * prompts / counts["train"]
        text = f"Each record is seen {times:.2g} times: {steps:,} x {prompts} of {counts['train']:,}."
    if option == "data.eval" and "sampling_strategy" in found.tree["data"]["eval"]["held_out"]:
        text += f" {counts['held_out']:,} of them, so that an evaluation is short."
    if option == "rewards":
        text += f" accuracy is the reward of task {facts.source.task} (docs/rewards.md)."
    return text


def _split(found: Recommendation) -> str:
    """Return by what the file was split: "image", "id", or "" if the user has a file of held-out records."""
    (source,) = found.tree["data"]["train"]
    return source.get("split_by", "id") if "split_range" in source else ""


def _sorted_options(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the options in the order in which they are explained."""
    order = [name.rpartition(".")[2] for name in _WHY]
    yield from sorted(content.items(), key=lambda item: order.index(item[0]))


def _option(option: str, value: Any) -> Iterator[str]:
    if option == "train":
        yield "  train:"
        for source in value:
            yield f"    - {_inline(source)}"
    elif option == "eval":
        yield "  eval:"
        for name, source in value.items():
            yield f"    {name}: {_inline(source)}"
    else:
        yield f"  {option}: {_inline(value)}"


def _inline(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1 << 30)
    return text.removesuffix("...\n").strip()


def _comment(text: str, indent: str) -> list[str]:
    wrapped = textwrap.wrap(text, _WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    return [f"{indent}# {line}" for line in wrapped]


def _entry(name: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, _WIDTH - 13, break_long_words=False, break_on_hyphens=False)
    return [f"# {name if n == 0 else '':10} {line}" for n, line in enumerate(lines)]
