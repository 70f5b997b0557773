"""Options and loading for the commands in which a model answers a data file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_r1.cli.options import add_allowed, allowed_of, local_path, path_text
from vlm_r1.types import BoxFormat

if TYPE_CHECKING:
    from vlm_r1.rollouts.env import Env
    from vlm_r1.sampling import Sampler
    from vlm_r1.types import Record

REWARDS = {"accuracy": 1.0, "format": 1.0}

_SETTINGS = ("task", "template", "max_completion_length", "adapter", "box_format", "min_pixels", "max_pixels")
"""Settings that a model was trained with; it is asked with them unless other values are given."""


def add_answering_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare model, data, and how questions are asked and answered."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=path_text,
        help="Hugging Face folder (a run's model/, checkpoint or export) or hub name",
    )
    parser.add_argument("data", metavar="DATA", type=local_path, help="data file, of any format of docs/data.md")
    add_allowed(parser)
    parser.add_argument("--format", default="auto", help="how a line is laid out (default: recognised by its keys)")
    parser.add_argument("--task", help="task that asks and judges (default: the run's, else rec)")
    parser.add_argument("--reward", help="accuracy reward of records that name none (default: the task's own)")
    parser.add_argument("--template", help="words around the question (default: the run's, else r1)")
    parser.add_argument("--batch-size", type=int, default=32, help="prompts answered at once (default: 32)")
    parser.add_argument("--max-completion-length", type=int, help="cap on answer tokens (default: the run's, else 512)")
    parser.add_argument("--limit", type=int, help="answer only this many records, the first ones")
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
    parser.add_argument(
        "--min-pixels", type=int, help="smallest image the model sees, in pixels of area (default: the run's)"
    )
    parser.add_argument(
        "--max-pixels", type=int, help="largest image the model sees, in pixels of area (default: the run's)"
    )


def complete_arguments(args: argparse.Namespace) -> str:
    """Fill in settings that were not given: those that the model was trained with, or else the defaults.

    `args.templates` gets the definitions of templates that are not built in.

    Returns:
        A line that says with which task and template the model is asked, and where they come from.

    Raises:
        ConfigError: see `find_asking`.
    """
    from vlm_r1.evaluation.asking import DEFAULT_TASK, find_asking

    given = [key for key in _SETTINGS if getattr(args, key) is not None]
    asking, where = find_asking(args.model, given)
    args.box_format = args.box_format and BoxFormat(args.box_format)
    for key in [key for key in _SETTINGS if key not in given]:
        setattr(args, key, getattr(asking, key))
    args.templates, args.task = asking.templates, args.task or DEFAULT_TASK
    rest = f"as in {where}" if where else f"the default: {args.model} has no vlm_r1.json and lies in no run"
    line = f"task {args.task}, template {args.template}, at most {args.max_completion_length} tokens"
    if "template" in given:
        return f"{line} (as given); what was not given is {rest}"
    return f"{line} ({rest})" + (f"; as given: {', '.join(given)}" if given else "")


def open_data(args: argparse.Namespace) -> Sequence[Record]:
    """Load and check the records of the data file, at most `--limit`.

    Raises:
        ConfigError, DataError: something is wrong with the file, its records or its rewards.
    """
    from vlm_r1.config.schema import DataSource
    from vlm_r1.data.sources import load_sources
    from vlm_r1.tasks.judge import check_rewards

    source = DataSource(
        path=str(args.data), image_root=args.image_root, format=args.format, task=args.task, reward=args.reward
    )
    records = load_sources([source], allowed_of(args))[: args.limit]
    check_rewards(REWARDS, records)
    return records


def load_answering(args: argparse.Namespace) -> tuple[Env, Sampler]:
    """Load env and sampler of the model; `complete_arguments` must have filled in the settings.

    Raises:
        CheckpointError: the model's folder has a manifest, and its files are others now.
        ConfigError, ModelError: the model cannot be loaded.
    """
    from vlm_r1.config.schema import ModelSection, SamplingSection
    from vlm_r1.data.access import access_of
    from vlm_r1.data.ahead import ImagesAhead
    from vlm_r1.models import load_adapter
    from vlm_r1.models.precision import look_at, this_device
    from vlm_r1.policy.build import build_policy, choose_setup
    from vlm_r1.rollouts.env import Env
    from vlm_r1.runtime.manifest import check_manifest
    from vlm_r1.sampling.build import build_sampler
    from vlm_r1.tasks.templates import make_templates

    check_manifest(Path(args.model))
    adapter = load_adapter(
        args.model,
        min_pixels=args.min_pixels,
        max_pixels=args.max_pixels,
        adapter=args.adapter,
        box_format=args.box_format,
    )
    access = access_of(allowed_of(args), [args.image_root])
    env = Env(adapter, make_templates(args.template, sections=args.templates), REWARDS, images=ImagesAhead(0, access))
    section = ModelSection(path=args.model, dtype=args.dtype)
    setup = choose_setup(section, adapter, look_at(this_device()))
    policy = build_policy(section, adapter, setup, device=this_device())
    return env, build_sampler(policy, SamplingSection())
