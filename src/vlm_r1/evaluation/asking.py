"""The settings that a model was trained with and is asked with. An export has them as `vlm_r1.json`.

The file may come from a stranger, together with the weights, and so may the recipe of a run. They may name built-in
objects and hold texts. Names of code are refused (docs/security.md).
"""

# pyright: standard

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import Field, ValidationError

from vlm_r1.config import Config, load_config
from vlm_r1.config.base import PositiveInt, Section
from vlm_r1.config.data import Switches, SystemPrompt
from vlm_r1.config.schema import TemplateSection
from vlm_r1.config.words import ThinkingChoice
from vlm_r1.errors import ConfigError
from vlm_r1.files import read_text
from vlm_r1.registry import quoted
from vlm_r1.tasks.templates import TEMPLATES, make_templates
from vlm_r1.types import BoxFormat

FILE = "vlm_r1.json"
DEFAULT_TASK = "rec"
_NAMES = ("task", "template", "adapter")  # settings that can name code
_RUN_LIES_ABOVE = 2  # folders: RUN/model, RUN/checkpoints/step-N


class TaskAsking(Section):
    """How one of several tasks of a model is asked; see `Asking`."""

    template: str
    thinking: ThinkingChoice | None = None
    system_prompt: SystemPrompt | None = None


class Asking(Section):
    """Settings with which a model is asked as in training. The defaults are for a model without such a file.

    Attributes:
        task: the task that it was trained for; None: several tasks, or unknown.
        tasks: if it was trained for several tasks: how each is asked, in the order of the recipe.
        thinking: whether the template asks for a thought before the answer; None: not given.
        system_prompt: the system message of questions whose rows have none; None: none.
        chat_template_kwargs: switches of the chat template, e.g. {"enable_thinking": False}.
        templates: definitions of templates that are not built in, by name.
    """

    task: str | None = None
    tasks: dict[str, TaskAsking] = Field(default_factory=dict)
    template: str = "r1"
    thinking: ThinkingChoice | None = None
    system_prompt: SystemPrompt | None = None
    chat_template_kwargs: Switches = Field(default_factory=dict)
    templates: dict[str, TemplateSection] = Field(default_factory=dict)
    max_completion_length: PositiveInt = 512
    adapter: str | None = None
    box_format: BoxFormat | None = None
    min_pixels: PositiveInt | None = None
    max_pixels: PositiveInt | None = None

    def of_task(self, task: str | None) -> Asking:
        """Return the settings for one of the tasks; for another, or None, these."""
        own = self.tasks.get(task) if task else None
        return self if own is None else self.model_copy(update={"task": task, **dict(own)})


def find_asking(model: str, given: Collection[str] = (), task: str | None = None) -> tuple[Asking, str | None]:
    """Find the settings of a model: in its `vlm_r1.json`, or in the recipe of its run, or else the defaults.

    Args:
        model: folder or hub name.
        given: names of settings that the user has given; the file may say anything about them.
        task: the task that is asked, if the user has named it; of several, its own settings are taken.

    Returns:
        The settings, and the file that they come from; None for the defaults.

    Raises:
        ConfigError: the file or the recipe is broken, or names code that the user has not given.
    """
    if not os.path.isdir(model):
        file = _of_hub(model)
        return (read_asking(file, given, task), f"{model}/{FILE}") if file else (Asking(), None)
    folder = Path(os.path.abspath(model))
    if (folder / FILE).exists():
        return read_asking(folder / FILE, given, task), str(folder / FILE)
    recipes = [above / "config.yaml" for above in folder.parents[:_RUN_LIES_ABOVE]]
    recipe = next((path for path in recipes if path.exists()), None)
    if recipe is None:
        return Asking(), None
    asking = asking_of(load_config(recipe)).of_task(task)
    refuse_code(recipe, _not_given(asking, given))
    return asking, str(recipe)


def find_templates(logged: Path) -> tuple[dict[str, TemplateSection], str]:
    """Find the definitions of templates that are not built in, for answers that were logged in a run or an export.

    Args:
        logged: RUN, RUN/rollouts/F.parquet, RUN/eval/F.samples.jsonl, or such a file in an export.

    Returns:
        The definitions by name, and a text that names their file; it is empty if there is no recipe.
    """
    place = Path(os.path.abspath(logged))
    folders = [place, *place.parents[:_RUN_LIES_ABOVE]]
    files = [folder / name for folder in folders for name in (FILE, "config.yaml")]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        return {}, ""
    try:
        if found.name == FILE:
            return read_asking(found, _NAMES).templates, f"templates of the run's own as in {found}"
        data = load_config(found).data
    except ConfigError:
        return {}, f"{found} is no recipe of a run, so it says nothing of templates"
    model = found.parent / "model" / FILE
    if ":" in data.template and model.is_file():  # code is not imported for its words: the model has them
        return {**data.templates, **read_asking(model, _NAMES).templates}, f"templates of the run's own as in {model}"
    return data.templates, f"templates of the run's own as in {found}"


def asking_of(config: Config) -> Asking:
    """Return the settings of a run: task, template and system prompt of its training files.

    If the files differ, these are no task, `data.template` and `data.system_prompt`; so for the files of each task.
    """
    tasks = list(dict.fromkeys(source.task for source in config.data.train))
    template, system_prompt = _asked_in(config)
    return Asking(
        task=tasks[0] if len(tasks) == 1 else None,
        tasks={task: TaskAsking(template=own, system_prompt=system) for task, (own, system) in _by_task(config, tasks)},
        template=template,
        system_prompt=system_prompt,
        chat_template_kwargs=config.data.chat_template_kwargs,
        templates=config.data.templates,
        max_completion_length=config.sampling.max_completion_length,
        adapter=config.model.adapter,
        box_format=config.model.box_format,
        min_pixels=config.model.min_pixels,
        max_pixels=config.model.max_pixels,
    )


def _by_task(config: Config, tasks: list[str]) -> list[tuple[str, tuple[str, str | None]]]:
    return [(task, _asked_in(config, task)) for task in tasks] if len(tasks) > 1 else []


def _asked_in(config: Config, task: str | None = None) -> tuple[str, str | None]:
    """Return template and system prompt of the training files of a task, or of all; the recipe's, if they differ."""
    pairs = zip(config.data.train, config.data.train_sources, strict=True)
    own = [(source, filled) for source, filled in pairs if task in (None, source.task)]
    names = {source.template or config.data.template for source, _ in own}
    systems = {filled.system_prompt for _, filled in own}
    template = names.pop() if len(names) == 1 else config.data.template
    return template, (systems.pop() if len(systems) == 1 else config.data.system_prompt) or None


def write_asking(folder: Path, config: Config, box_format: BoxFormat) -> None:
    """Write `vlm_r1.json`; a template that is not built in is written with its definition.

    Args:
        box_format: the coordinates in which the model writes boxes.
    """
    asking, own = asking_of(config), dict[str, TemplateSection]()
    settings: dict[str, object] = {**_written_out(asking.template, asking.templates, own), "box_format": box_format}
    settings["tasks"] = {
        task: one.model_copy(update=_written_out(one.template, asking.templates, own))
        for task, one in asking.tasks.items()
    }
    asking = asking.model_copy(update={**settings, "templates": own})
    text = json.dumps(asking.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def _written_out(
    name: str, sections: Mapping[str, TemplateSection], own: dict[str, TemplateSection]
) -> dict[str, object]:
    """Return name and form of thinking of a template for the file; `own` gets its definition if it is not built in."""
    template = make_templates(name, sections=sections).default
    if TEMPLATES.get(name) != template:
        name = name.rpartition(":")[2]  # of package.module:NAME
        fields = asdict(template) | {"thinking": template.thinking.value}
        own[name] = TemplateSection.model_validate({key: fields[key] for key in TemplateSection.model_fields})
    return {"template": name, "thinking": template.thinking.value}


def recipe_notes(config: Config) -> list[str]:
    """Return what a recipe asks otherwise than the model that it starts from was asked in training; the recipe wins.

    A line for each setting; none if the model's folder has no `vlm_r1.json`.

    Raises:
        ConfigError: the file is broken.
    """
    file = Path(config.model.path) / FILE
    if not file.is_file():
        return []
    trained, now = read_asking(file, _NAMES), asking_of(config)
    keys = [key for key in ("task", "box_format", "min_pixels", "max_pixels") if getattr(now, key) is not None]
    different = [key for key in keys if getattr(trained, key) not in (None, getattr(now, key))]
    different += [
        key for key in ("system_prompt", "chat_template_kwargs") if getattr(trained, key) != getattr(now, key)
    ]
    before, after = (make_templates(one.template, sections=one.templates).default for one in (trained, now))
    different += ["template"] if replace(before, name=after.name) != after else []
    return [f"{key} {getattr(now, key)}, as the recipe says; {file} says {getattr(trained, key)}" for key in different]


def read_asking(path: Path, given: Collection[str] = (), task: str | None = None) -> Asking:
    """Read `vlm_r1.json`; see `find_asking`.

    Raises:
        ConfigError: it is not such a file, or a setting that is not in `given` names code.
    """
    try:
        asking = Asking.model_validate(json.loads(read_text(path))).of_task(task)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from None
    refuse_code(path, _not_given(asking, given))
    if "template" in given:
        return asking
    try:
        thinking = make_templates(asking.template, sections=asking.templates).default.thinking.value
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if asking.thinking not in (None, thinking):
        raise ConfigError(
            f'{path}: thinking is "{asking.thinking}", but template "{asking.template}" has "{thinking}": say'
            " --template"
        )
    return asking


def refuse_code(path: Path, names: Iterable[tuple[str, str | None]], option: str = "--") -> None:
    """Refuse names of code that only a file beside a model gives; the folder may come from a stranger.

    Args:
        path: the file.
        names: what the file names and the user does not, with its kind: ("task", "rec").
        option: beginning of the option, by kind, with which the user can name it.

    Raises:
        ConfigError: a name is code.
    """
    for kind, name in names:
        if name and ":" in name:
            raise ConfigError(
                f"{path}: {kind} {quoted(name)} is code, and a model folder may not run code. If you have it and trust "
                f"it, say {option}{kind} {name:.100}"
            )


def _not_given(asking: Asking, given: Collection[str]) -> list[tuple[str, str | None]]:
    return [(key, getattr(asking, key)) for key in _NAMES if key not in given]


def _of_hub(name: str) -> Path | None:
    """Return the file of a model of the hub, or None. (Loading the model later finds out whether it exists.)"""
    from transformers.utils.hub import cached_file  # takes a second to import

    from vlm_r1.pretrained.reach import hub_trouble, is_hub_name

    try:
        found = cached_file(
            name,
            FILE,
            local_files_only=is_hub_name(name) and hub_trouble() is not None,  # it is said where the model is loaded
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError):
        return None
    return Path(found) if found else None
