"""Options and loading for the commands in which a model answers a data file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_r1.cli.options import (
    add_allowed,
    add_reading,
    add_trust,
    allowed_of,
    columns_of,
    count,
    local_path,
    path_text,
    sampling_seed,
)
from vlm_r1.parsing.json_values import is_object
from vlm_r1.types import BoxFormat

if TYPE_CHECKING:
    from vlm_r1.data.sources import Sources
    from vlm_r1.rollouts.env import Env
    from vlm_r1.sampling import Sampler

REWARDS = {"accuracy": 1.0, "format": 1.0}

_SETTINGS = (
    *("task", "template", "system_prompt", "chat_template_kwargs", "max_completion_length", "adapter", "box_format"),
    *("min_pixels", "max_pixels"),
)
"""Settings that a model was trained with; it is asked with them unless other values are given."""


_MODEL_FILES = ("config.json", "config.yaml", "adapter_config.json")
"""Files of which a folder with a model or a run has one."""


def add_answering_arguments(parser: argparse.ArgumentParser, data: str | None = None) -> None:
    """Declare model, data, and how questions are asked and answered.

    Args:
        data: `nargs` of DATA; "?" if it may be given otherwise.
    """
    add_model(parser)
    parser.add_argument(
        "data", metavar="DATA", type=local_path, nargs=data, help="data file, of any format of docs/data.md"
    )
    add_allowed(parser)
    add_reading(parser)
    parser.add_argument("--reward", help="accuracy reward of records that name none (default: the task's own)")
    add_settings(parser)
    parser.add_argument("--batch-size", type=int, default=32, help="prompts answered at once (default: 32)")
    parser.add_argument("--limit", type=count, help="answer only this many records, the first ones")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the model that answers."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=path_text,
        help="run folder, Hugging Face folder (a run's model/, checkpoint or export), LoRA adapters, or hub name",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare how questions are asked; see `complete_arguments`."""
    parser.add_argument("--task", help="task that asks and reads answers (default: the run's, else rec)")
    parser.add_argument("--template", help="words around the question (default: the run's, else r1)")
    parser.add_argument(
        "--system-prompt",
        metavar="TEXT",
        type=_system_text,
        help='system message of questions whose rows have none (default: the run\'s, else none; "": none)',
    )
    parser.add_argument(
        "--chat-template-kwargs",
        metavar="JSON",
        type=_switches,
        help="switches of the model's chat template, e.g. '{\"enable_thinking\": false}' (default: the run's)",
    )
    parser.add_argument("--max-completion-length", type=int, help="cap on answer tokens (default: the run's, else 512)")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=["auto", "checkpoint", "float32", "bfloat16"],
        help="weights (default: float32; auto: by the device)",
    )
    parser.add_argument("--adapter", help="family it is treated as, or package.module:Name (default: the run's)")
    parser.add_argument(
        "--box-format",
        choices=[box_format.value for box_format in BoxFormat],
        help="how the model writes boxes (default: the run's, else its family's)",
    )
    add_trust(parser)
    parser.add_argument(
        "--min-pixels", type=int, help="smallest image the model sees, in pixels of area (default: the run's)"
    )
    parser.add_argument(
        "--max-pixels", type=int, help="largest image the model sees, in pixels of area (default: the run's)"
    )


def _system_text(text: str) -> str:
    from vlm_r1.config.data import system_text

    try:
        return system_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _switches(text: str) -> dict[str, Any]:
    """Read `--chat-template-kwargs`: an object of JSON."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not is_object(value):
        raise argparse.ArgumentTypeError(f'{text!r:.80}: wanted an object of JSON, e.g. {{"enable_thinking": false}}')
    return value


def check_order(args: argparse.Namespace) -> None:
    """Refuse a data file in the place of the model, as in `eval DATA MODEL`.

    Raises:
        ConfigError: so it is; the message has the right order.
    """
    from vlm_r1.errors import ConfigError

    model, data = Path(args.model), args.data or getattr(args, "data_file", None)
    is_swapped = data is not None and not model.exists() and any((data / file).is_file() for file in _MODEL_FILES)
    if not (model.is_file() or args.model.startswith("hub:") or is_swapped):
        return
    right = args.parser.prog
    if data is None:
        raise ConfigError(f"{model}: is a data file, and the model is missing; wanted {right} MODEL {model}")
    raise ConfigError(f"{model}: wanted the model first, then the data: {right} {data} {model}")


def held_out_of(model: str) -> list[str]:
    """Return the paths of the held-out files of a run; empty if the model is no run, or its recipe cannot be read."""
    from vlm_r1.config import load_config
    from vlm_r1.errors import ConfigError

    try:
        return [source.path for source in load_config(Path(model) / "config.yaml").data.eval.values()]
    except ConfigError:
        return []


def find_model(path: str) -> str:
    """Return the model of a run folder, its `model/` or else its newest whole checkpoint; other paths as they are.

    Raises:
        CheckpointError: the run has neither yet.
    """
    from vlm_r1.errors import CheckpointError
    from vlm_r1.runtime.checkpoint import list_checkpoints
    from vlm_r1.training.state import why_not_usable

    folder = Path(path)
    if not (folder / "config.yaml").is_file() or (folder / "config.json").is_file():
        return path
    if (folder / "model").is_dir():
        return str(folder / "model")
    whole = (one for one in reversed(list_checkpoints(folder / "checkpoints")) if why_not_usable(one) is None)
    if (newest := next(whole, None)) is None:
        raise CheckpointError(f"{path}: this run has no model/ and no whole checkpoint yet; wanted a trained model")
    return str(newest)


def complete_arguments(args: argparse.Namespace, task_must_be_known: bool = False) -> str:
    """Fill in settings that were not given: those that the model was trained with, or else the defaults.

    `args.templates` gets the definitions of templates that are not built in, `args.trained_with` the template that the
    model was trained with, None if that is not known; `args.tasks` how each of several tasks was asked in training.

    Args:
        task_must_be_known: a model that was trained for several tasks is asked none by default.

    Returns:
        A line that says with which task and template the model is asked, and where they come from.

    Raises:
        ConfigError: see `find_asking`; or a task has to be named.
    """
    from vlm_r1.errors import ConfigError
    from vlm_r1.evaluation.asking import DEFAULT_TASK, find_asking
    from vlm_r1.tasks import TASKS

    given = [key for key in _SETTINGS if getattr(args, key) is not None]
    asking, where = find_asking(args.model, given, args.task)
    if task_must_be_known and where and not (args.task or asking.task):
        names = ", ".join(asking.tasks or TASKS)
        raise ConfigError(f"{where}: the model was trained for several tasks: say which is asked, --task NAME: {names}")
    args.box_format = args.box_format and BoxFormat(args.box_format)
    for key in [key for key in _SETTINGS if key not in given]:
        setattr(args, key, getattr(asking, key))
    args.tasks, args.templates, args.task = asking.tasks, asking.templates, args.task or DEFAULT_TASK
    args.trained_with = asking.template if where else None
    rest = f"as in {where}" if where else f"the default: {args.model} has no vlm_r1.json and lies in no run"
    line = f"task {args.task}, template {args.template}, at most {args.max_completion_length} tokens"
    line += f", system prompt {args.system_prompt!r:.80}" if args.system_prompt else ""
    line += f", chat template with {json.dumps(args.chat_template_kwargs)}" if args.chat_template_kwargs else ""
    if "template" in given:
        return f"{line} (as given); what was not given is {rest}"
    return f"{line} ({rest})" + (f"; as given: {', '.join(given)}" if given else "")


def open_data(args: argparse.Namespace) -> Sources:
    """Load and check the records of the data file.

    Raises:
        ConfigError, DataError: something is wrong with the file, its records or its rewards.
    """
    from vlm_r1.config.schema import DataSource
    from vlm_r1.data.sources import load_sources
    from vlm_r1.tasks.judge import check_rewards

    source = DataSource(
        path=str(args.data),
        image_root=args.image_root,
        format=args.format,
        task=args.task,
        reward=args.reward,
        columns=columns_of(args),
        coordinates=args.coordinates,
        box=args.box,
        orientation=args.orientation,
        system_prompt=args.system_prompt or None,
        sampling_strategy=args.sampling_strategy,
    )
    records = load_sources([source], allowed_of(args), seed=sampling_seed(args))
    check_rewards(REWARDS, records)
    return records


def load_env(args: argparse.Namespace) -> Env:
    """Load what asks and judges, without weights; `complete_arguments` must have filled in the settings.

    Raises:
        CheckpointError: the model's folder has a manifest, and its files are others now.
        ConfigError, ModelError: there is no such adapter or template.
    """
    from vlm_r1.cli.console import warn_of_code
    from vlm_r1.data.access import access_of
    from vlm_r1.data.ahead import ImagesAhead
    from vlm_r1.models import load_adapter
    from vlm_r1.rollouts.env import Env
    from vlm_r1.runtime.manifest import check_manifest
    from vlm_r1.tasks.templates import make_templates

    check_manifest(Path(args.model))
    warn_of_code(args.model, args.trust_remote_code)
    adapter = load_adapter(
        args.model,
        min_pixels=args.min_pixels,
        max_pixels=args.max_pixels,
        adapter=args.adapter,
        box_format=args.box_format,
        chat_template_kwargs=args.chat_template_kwargs,
        trust_remote_code=args.trust_remote_code,
    )
    access = access_of(allowed_of(args), [args.image_root])
    return Env(adapter, make_templates(args.template, sections=args.templates), REWARDS, images=ImagesAhead(0, access))


def load_answering(args: argparse.Namespace) -> tuple[Env, Sampler]:
    """Load env and sampler of the model.

    Raises:
        CheckpointError, ConfigError, ModelError: see `load_env`; or the weights cannot be loaded.
    """
    from vlm_r1.config.schema import ModelSection, SamplingSection
    from vlm_r1.models.precision import look_at, this_device
    from vlm_r1.policy.build import build_policy, choose_setup
    from vlm_r1.sampling.build import build_sampler

    env = load_env(args)
    section = ModelSection(path=args.model, dtype=args.dtype, trust_remote_code=args.trust_remote_code)
    setup = choose_setup(section, env.adapter, look_at(this_device()))
    policy = build_policy(section, env.adapter, setup, device=this_device())
    return env, build_sampler(policy, SamplingSection())
