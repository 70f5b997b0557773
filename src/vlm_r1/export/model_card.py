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
from vlm_r1.models.adapter import Adapter
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.run_folder import RunFolder
from vlm_r1.tasks import get_task
from vlm_r1.tasks.templates import build_prompt, make_templates
from vlm_r1.types import IMAGE_TOKEN, BoxFormat, Record

BOXES = {
    BoxFormat.ORIGINAL_PIXELS: "`[x1, y1, x2, y2]` in pixels of the image as it was given",
    BoxFormat.INPUT_PIXELS: "`[x1, y1, x2, y2]` in pixels of the image as the processor resized it",
    BoxFormat.NORM_1000: "`[x1, y1, x2, y2]`, from 0 to 1000 of the image's width and height",
    BoxFormat.NORM_1000_YX: "`[y1, x1, y2, x2]`, from 0 to 1000 of the image's height and width",
    BoxFormat.NORM_1: "`[x1, y1, x2, y2]`, from 0 to 1 of the image's width and height",
}

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
        f"`{_shown(config.model.path)}` after {step} steps of {_STAGES[stage]} with VLM-R1 ({kind}).",
        "## Results",
        _results(run, config, moment),
        "## How to load it",
        _loading(config, adapter, as_adapter),
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
    if _is_hub_name(config.model.path):
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


def _loading(config: Config, adapter: Adapter, as_adapter: bool) -> str:
    imports, load = (
        ["from transformers import AutoModelForImageTextToText, AutoProcessor"],
        ['folder = "."  # this one'],
    )
    if as_adapter:
        imports = ["from peft import PeftModel", *imports]
        load = [f'base, adapter = "{_shown(config.model.path)}", "."  # the model that it belongs to, and this folder']
    folder, trust = "base" if as_adapter else "folder", ", trust_remote_code=True" * config.model.trust_remote_code
    load += [f'model = AutoModelForImageTextToText.from_pretrained({folder}, dtype="auto"{trust})']
    load += ["model = PeftModel.from_pretrained(model, adapter)"] if as_adapter else []
    lines = [
        *imports,
        "",
        *load,
        f"processor = AutoProcessor.from_pretrained({folder}{trust})",
        f"text = {_question(config)!r}",
        'content = [{"type": "image", "url": "picture.jpg"}, {"type": "text", "text": text}]',
        'messages = [{"role": "user", "content": content}]',
        *_around(config),
        'options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}',
        *([f"options |= {switches!r}"] if (switches := config.data.chat_template_kwargs) else []),
        "inputs = processor.apply_chat_template(messages, **options).to(model.device)",
        f"answer = model.generate(**inputs, do_sample=False, max_new_tokens={config.sampling.max_completion_length})",
        'print(processor.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]
    notes = [
        "This is how it was asked in training, with the question itself in the place of `{question}`. "
        f"Boxes are {BOXES[adapter.box_format]}."
    ]
    if pixels := _pixels(config):
        sees_to = "have to be set in the base model's processor" if as_adapter else "are set in the processor here"
        notes.append(f"It was trained on images of {pixels} pixels of area; these limits {sees_to}.")
    return "\n".join(["```python", *lines, "```", "", *notes])


def _around(config: Config) -> list[str]:
    """Return the line that puts the system message before the question, if the first training file has one."""
    if not (system := config.data.train_sources[0].system_prompt):
        return []
    return [f'messages.insert(0, {{"role": "system", "content": [{{"type": "text", "text": {system!r}}}]}})']


def _question(config: Config) -> str:
    """Return the user turn of the first training file, without its image."""
    source = config.data.train[0]
    templates = make_templates(config.data.template, [source.template], config.data.templates)
    record = Record("", source.task, f"{IMAGE_TOKEN}{{question}}", ("",), None, template=source.template)
    return build_prompt(get_task(source.task), record, templates.of(record)).text.replace(IMAGE_TOKEN, "", 1)


def _pixels(config: Config) -> str:
    limits = {"at least": config.model.min_pixels, "at most": config.model.max_pixels}
    return " and ".join(f"{word} {limit:,}" for word, limit in limits.items() if limit is not None)


def _training(config: Config, environment: dict[str, Any]) -> str:
    counts = environment.get("records", {})
    train = counts.get("train") or [{"path": source.path} for source in config.data.train]
    lines = [
        f"* trained on `{_shown(file['path'])}` ({source.task}): {_count(file)}"
        for file, source in zip(train, config.data.train, strict=True)
    ]
    for name, source in config.data.eval.items():
        lines.append(
            f"* held out `{_shown(source.path)}` ({source.task}): {_count(counts.get('eval', {}).get(name, {}))}"
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
            "model": config.model.model_copy(update={"path": _shown(config.model.path)}),
            "data": config.data.model_copy(update={"train": sources, "eval": held}),
        }
    )
    options = public.model_dump(mode="json", exclude_defaults=True)
    return f"```yaml\n{yaml.safe_dump(options, sort_keys=False, allow_unicode=True)}```"


def _named(source: Any) -> dict[str, str]:
    return {"path": _shown(source.path), "image_root": _shown(source.image_root) if source.image_root else ""}


def _shown(path: str) -> str:
    """Return a hub name, URL or data set of the hub unchanged, and the last name of a local path."""
    return path if _is_hub_name(path) or path.startswith(HUB) or "://" in path else Path(path).name


def _is_hub_name(path: str) -> bool:
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", path) is not None and not Path(path).exists()


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
