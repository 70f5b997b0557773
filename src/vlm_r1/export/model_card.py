"""Writes the model card of an exported model: what it is, its results, how to load it, how it was trained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vlm_r1.config import Config
from vlm_r1.data.hub import HUB
from vlm_r1.doctor.examine import examine
from vlm_r1.doctor.read import read_seen
from vlm_r1.export.snippet import how_to_load, is_hub_name, shown
from vlm_r1.models.adapter import Adapter
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.run_folder import RunFolder

_STAGES = {"grpo": "reinforcement learning with rule-based rewards (GRPO)", "sft": "supervised fine-tuning"}


def model_card(
    run: RunFolder, config: Config, *, adapter: Adapter, step: int, moment: str, check: str, as_adapter: bool
) -> str:
    """Return the text of `README.md`, with the front matter of the Hugging Face Hub.

    It names no folder of this machine; of local files it has only the names.

    Args:
        step: step of the exported weights.
        moment: moment of the evaluations of these weights, e.g. "after" or "step-000050".
        check: result of the comparison of the export with the run's model.
        as_adapter: whether it is a LoRA adapter for its base model.
    """
    environment, stage = _read(run.path / "environment.json"), str(read_metrics(run.metrics)[-1]["stage"])
    name = Path(config.output_dir).name
    kind = "LoRA adapter" if as_adapter else "merged LoRA" if config.model.lora is not None else "all weights"
    sections = [
        f"# {name}",
        f"`{shown(config.model.path)}` after {step} steps of {_STAGES[stage]} with VLM-R1 ({kind}).",
        "## Results",
        _results(run, config, moment),
        *findings_section(run.path, step),
        "## How to load it",
        how_to_load(config, adapter, as_adapter),
        "## How it was trained",
        _training(config, environment),
        _recipe(config),
        f"Checked when it was exported: {check}.",
    ]
    return f"---\n{_front_matter(config, stage, as_adapter)}---\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(config: Config, stage: str, as_adapter: bool) -> str:
    tasks = sorted({source.task for source in config.data.train if ":" not in source.task})
    sets = sorted({s.path.removeprefix(HUB).partition(":")[0] for s in config.sources if s.path.startswith(HUB)})
    matter: dict[str, Any] = {"library_name": "peft" if as_adapter else "transformers"}
    if is_hub_name(config.model.path):
        matter["base_model"] = config.model.path
    matter |= {"pipeline_tag": "image-text-to-text", "tags": ["vlm-r1", stage, *tasks]}
    if sets:
        matter["datasets"] = sets
    return yaml.safe_dump(matter, sort_keys=False)


def _results(run: RunFolder, config: Config, moment: str) -> str:
    rows = [row for name in config.data.eval for row in _result_rows(run, name, moment)]
    if not rows:
        return "Nothing was held out, so nothing was measured."
    head = ["Held out, answered greedily; means with 95 % bootstrap intervals.", ""]
    return "\n".join([*head, "| set | records | metric | before | after |", "|---|---|---|---|---|", *rows])


def findings_section(run: Path, step: int) -> list[str]:
    """Return a section with what the doctor finds up to the step of the weights; [] if it finds nothing."""
    lines = [
        f"* **{finding.name}**{f' ({_plain(finding.about)})' if finding.about else ''}: {_plain(finding.evidence)}. "
        f"Likely: {_plain(finding.cause)}."
        for finding in examine(read_seen(run, until=step)[0])
    ]
    intro = "The signs of docs/doctor.md that were found in the training of these weights:"
    return ["## Findings of the doctor", "\n".join([intro, "", *lines])] if lines else []


def _plain(text: str) -> str:
    """Return a text, which may hold words of a model, without effect as Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&])", r"\\\1", text)


def _result_rows(run: RunFolder, name: str, moment: str) -> Iterator[str]:
    before, after = (_read(run.evaluations / f"{when}-{name}.json") for when in ("before", moment))
    n, overlong = ((after or before).get(key) for key in ("n", "overlong_prompts"))
    counted = f"{n}, without {overlong} whose prompts are too long" if overlong else f"{n}"
    for metric in (after or before).get("metrics", {}):
        cells = [_interval(evaluation.get("metrics", {}).get(metric)) for evaluation in (before, after)]
        yield f"| {name} | {counted} | {metric} | {' | '.join(cells)} |"


def _interval(value: dict[str, Any] | None) -> str:
    if value is None:
        return "not measured"
    low, high = value["ci95"]
    return f"{value['mean']:.3f} [{low:.3f}, {high:.3f}]"


def _training(config: Config, environment: dict[str, Any]) -> str:
    counts = environment.get("records", {})
    train = counts.get("train") or [{"path": source.path} for source in config.data.train]
    lines = [
        f"* trained on `{shown(file['path'])}` ({source.task}): {_count(file)}"
        for file, source in zip(train, config.data.train, strict=True)
    ]
    for name, source in config.data.eval.items():
        lines.append(
            f"* held out `{shown(source.path)}` ({source.task}): {_count(counts.get('eval', {}).get(name, {}))}"
        )
    if sizes := environment.get("parameters"):
        counted = [f"{part} {size['trainable']:,} of {size['total']:,}" for part, size in sizes.items()]
        lines.append(f"* parameters that trained: {', '.join(counted)}")
    versions = [f"{package} {version}" for package, version in environment.get("packages", {}).items()]
    lines.append(f"* seed {config.seed}; commit {environment.get('commit') or 'unknown'}; {', '.join(versions)}")
    return "\n".join(lines)


def _count(file: dict[str, Any]) -> str:
    return f"{file['records']:,} records" if "records" in file else "not counted"


def _recipe(config: Config) -> str:
    """Return the options that differ from their defaults, as YAML."""
    sources = [source.model_copy(update=_named(source)) for source in config.data.train]
    held = {name: source.model_copy(update=_named(source)) for name, source in config.data.eval.items()}
    public = config.model_copy(
        update={
            "output_dir": Path(config.output_dir).name,
            "model": config.model.model_copy(update={"path": shown(config.model.path)}),
            "data": config.data.model_copy(update={"train": sources, "eval": held}),
        }
    )
    options = public.model_dump(mode="json", exclude_defaults=True)
    return f"```yaml\n{yaml.safe_dump(options, sort_keys=False, allow_unicode=True)}```"


def _named(source: Any) -> dict[str, str]:
    return {"path": shown(source.path), "image_root": shown(source.image_root) if source.image_root else ""}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
