"""The part of a model card that loads the model and asks it as in training, in plain transformers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vlm_r1.config import Config
from vlm_r1.data.hub import HUB
from vlm_r1.models import load_adapter
from vlm_r1.models.adapter import Adapter
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

_TO_PIXELS = {
    BoxFormat.ORIGINAL_PIXELS: ["x_scale = y_scale = 1"],
    BoxFormat.INPUT_PIXELS: [
        '_, rows, columns = inputs["image_grid_thw"][0].tolist()  # patches of the picture as the model saw it',
        "patch = processor.image_processor.patch_size",
        "x_scale, y_scale = width / (columns * patch), height / (rows * patch)",
    ],
    BoxFormat.NORM_1000: ["x_scale, y_scale = width / 1000, height / 1000"],
    BoxFormat.NORM_1000_YX: ["x_scale, y_scale = width / 1000, height / 1000"],
    BoxFormat.NORM_1: ["x_scale, y_scale = width, height"],
}
"""Lines that say by what a coordinate is multiplied."""


def how_to_load(config: Config, adapter: Adapter, as_adapter: bool) -> str:
    """Return code that asks the model each of its tasks, with the boxes in pixels of the picture, and notes about it.

    Args:
        as_adapter: whether the folder holds a LoRA adapter for its base model.
    """
    notes = [
        "This is how it was asked in training, with the question itself in the place of `{question}`. "
        f"The model writes boxes as {BOXES[adapter.box_format]}; the code converts them to pixels of the picture. "
        "Without torchvision the code takes the processor from VLM-R1, which has to be installed then."
    ]
    if pixels := _pixels(config):
        sees_to = "are set by the code above" if as_adapter else "are set in the processor here"
        notes.append(f"It was trained on images of {pixels} pixels of area; these limits {sees_to}.")
    lines = [*_loading(config, adapter, as_adapter), "", *_asking(config), *_answering(config, adapter.box_format)]
    return "\n".join(["```python", *lines, "```", "", *notes])


def _loading(config: Config, adapter: Adapter, as_adapter: bool) -> list[str]:
    """Return the lines that load model and processor."""
    folder, trust = "base" if as_adapter else "folder", ", trust_remote_code=True" * config.model.trust_remote_code
    place = ['folder = "."  # this one']
    if as_adapter:
        place = [f'base, adapter = "{shown(config.model.path)}", "."  # the model that it belongs to, and this folder']
    return [
        "import re",
        "",
        *(["from peft import PeftModel"] if as_adapter else []),
        "from PIL import Image, ImageOps",
        "from transformers import AutoModelForImageTextToText, AutoProcessor",
        "",
        *place,
        f'model = AutoModelForImageTextToText.from_pretrained({folder}, dtype="auto"{trust})',
        *(["model = PeftModel.from_pretrained(model, adapter)"] if as_adapter else []),
        "try:",
        f"    processor = AutoProcessor.from_pretrained({folder}{trust})",
        "except ImportError:  # the processor wants torchvision for videos; VLM-R1 makes it without them",
        "    from vlm_r1.models import load_adapter",
        "    from vlm_r1.models.stock import stock_processor",
        "",
        f"    processor = stock_processor(load_adapter({folder}{trust}))",
        *(_limits(config, adapter) if as_adapter else []),
    ]


def _limits(config: Config, adapter: Adapter) -> list[str]:
    """Return lines that set the limits of pixels in the base model's image processor, which does not know them."""
    if not _pixels(config):
        return []
    own = config.model
    base = load_adapter(
        own.path, adapter=own.adapter, box_format=own.box_format, trust_remote_code=own.trust_remote_code
    )
    before: dict[str, Any] = base.image_processor.to_dict()
    after: dict[str, Any] = adapter.image_processor.to_dict()
    changed = [name for name, value in after.items() if before.get(name) != value]
    return [f"processor.image_processor.{name} = {after[name]!r}" for name in changed]


def _asking(config: Config) -> list[str]:
    """Return the lines that say how each task is asked: the words around a question, and system messages."""
    texts, systems = dict[str, str](), dict[str, str]()
    for source, filled in zip(config.data.train, config.data.train_sources, strict=True):
        if source.task not in texts:
            texts[source.task] = _question(config, source)
            systems |= {source.task: filled.system_prompt} if filled.system_prompt else {}
    lines = [
        "tasks = {  # the words around a question",
        *(f"    {task!r}: {text!r}," for task, text in texts.items()),
        "}",
    ]
    return [*lines, f"systems = {systems!r}"] if systems else lines


def _question(config: Config, source: Any) -> str:
    """Return the user turn of a training file, without its image."""
    templates = make_templates(config.data.template, [source.template], config.data.templates)
    record = Record("", source.task, f"{IMAGE_TOKEN}{{question}}", ("",), None, template=source.template)
    return build_prompt(get_task(source.task), record, templates.of(record)).text.replace(IMAGE_TOKEN, "", 1)


def _answering(config: Config, box_format: BoxFormat) -> list[str]:
    """Return the lines that ask, and print the answer and its boxes."""
    has_systems = any(source.system_prompt for source in config.data.train_sources)
    order = "y1, x1, y2, x2" if box_format is BoxFormat.NORM_1000_YX else "x1, y1, x2, y2"
    return [
        'question, picture = "the red circle", ImageOps.exif_transpose(Image.open("picture.jpg")).convert("RGB")',
        "width, height = picture.size",
        'options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}',
        *([f"options |= {switches!r}"] if (switches := config.data.chat_template_kwargs) else []),
        r'box = r"\[\s*" + r"\s*,\s*".join([r"(-?\d+(?:\.\d+)?)"] * 4) + r"\s*\]"',
        "for task, words in tasks.items():",
        '    text = {"type": "text", "text": words.replace("{question}", question)}',
        '    messages = [{"role": "user", "content": [{"type": "image", "image": picture}, text]}]',
        *(_system_lines() if has_systems else []),
        "    inputs = processor.apply_chat_template(messages, **options).to(model.device, dtype=model.dtype)",
        f"    ids = model.generate(**inputs, do_sample=False, max_new_tokens={config.sampling.max_completion_length})",
        '    answer = processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)',
        '    print(task, answer, sep=": ")',
        *(f"    {line}" for line in _TO_PIXELS[box_format]),
        '    for found in re.findall(box, answer.rpartition("<answer>")[2]):',
        f"        {order} = map(float, found)",
        '        print("box in pixels of the picture:", [x1 * x_scale, y1 * y_scale, x2 * x_scale, y2 * y_scale])',
    ]


def _system_lines() -> list[str]:
    return [
        "    if task in systems:",
        '        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": systems[task]}]})',
    ]


def _pixels(config: Config) -> str:
    limits = {"at least": config.model.min_pixels, "at most": config.model.max_pixels}
    return " and ".join(f"{word} {limit:,}" for word, limit in limits.items() if limit is not None)


def shown(path: str) -> str:
    """Return a hub name, URL or data set of the hub unchanged, and the last name of a local path."""
    return path if is_hub_name(path) or path.startswith(HUB) or "://" in path else Path(path).name


def is_hub_name(path: str) -> bool:
    """Return whether a path is a name of the Hub, and no folder here."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", path) is not None and not Path(path).exists()
