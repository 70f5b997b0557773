"""What commands share that let a model answer a data file: their options, and loading it all."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_r1.types import BoxFormat

if TYPE_CHECKING:
    from vlm_r1.config.schema import TemplateSection
    from vlm_r1.policy.encoding import Examiner
    from vlm_r1.sampling.hf import HFSampler
    from vlm_r1.types import Record

REWARDS = {"accuracy": 1.0, "format": 1.0}


def add_answering_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare model, data and how it asks and answers."""
    parser.add_argument("model", metavar="MODEL", help="Hugging Face folder (a run's model/ or checkpoint) or hub name")
    parser.add_argument("data", metavar="DATA", type=Path, help="data file, of any format of docs/data.md")
    parser.add_argument(
        "--image-root", default="", help="folder that image paths are relative to (default: the file's)"
    )
    parser.add_argument("--format", default="auto", help="how a line is laid out (default: recognised by its keys)")
    parser.add_argument("--task", default="rec", help="task that asks and judges (default: rec)")
    parser.add_argument("--reward", help="accuracy reward of records that name none (default: the task's own)")
    parser.add_argument("--template", help="how the question is put (default: the run's, else r1)")
    parser.add_argument("--batch-size", type=int, default=32, help="prompts answered at once (default: 32)")
    parser.add_argument("--max-completion-length", type=int, help="cap on answer tokens (default: the run's, else 512)")
    parser.add_argument("--limit", type=int, help="only the first so many records")
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


def open_data(args: argparse.Namespace) -> Sequence[Record]:
    """The checked records of the data file, at most `--limit`.

    Raises:
        ConfigError, DataError: the file, its records or its rewards are not as they should be.
    """
    from vlm_r1.config.schema import DataSource
    from vlm_r1.data.sources import load_sources
    from vlm_r1.tasks.judge import check_rewards

    source = DataSource(
        path=str(args.data), image_root=args.image_root, format=args.format, task=args.task, reward=args.reward
    )
    records = load_sources([source])[: args.limit]
    check_rewards(REWARDS, records)
    return records


def load_answering(args: argparse.Namespace) -> tuple[Examiner, HFSampler, str]:
    """The model as it was trained to be asked: examiner, sampler, and a line that says with which settings.

    `args.max_completion_length` is set to the value in force.
    """
    import torch

    from vlm_r1.config.schema import ModelSection
    from vlm_r1.models import load_adapter, load_model
    from vlm_r1.policy.encoding import Examiner
    from vlm_r1.sampling.hf import HFSampler
    from vlm_r1.tasks.templates import make_templates

    settings, own_templates, origin = _settings(args)
    box_format = settings["box_format"] and BoxFormat(settings["box_format"])
    adapter = load_adapter(args.model, settings["min_pixels"], settings["max_pixels"], settings["adapter"], box_format)
    examiner = Examiner(adapter, make_templates(settings["template"], sections=own_templates), REWARDS)
    model = load_model(ModelSection(path=args.model, dtype=args.dtype), adapter)
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]
    args.max_completion_length = settings["max_completion_length"]
    told = f"template {settings['template']}, at most {settings['max_completion_length']} tokens ({origin})"
    return examiner, HFSampler(model, adapter), told


def _settings(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, TemplateSection], str]:
    """What was given, else what the run trained with that the model lies in, else the defaults; where from.

    Between the two: the own templates of that run.
    """
    from vlm_r1.config import load_config

    of_model = ("min_pixels", "max_pixels", "adapter", "box_format")
    given = {key: getattr(args, key) for key in ("template", "max_completion_length", *of_model)}
    folders = [folder for folder in Path(args.model).absolute().parents[:2] if (folder / "config.yaml").exists()]
    templates: dict[str, TemplateSection] = {}
    if folders:
        run = load_config(folders[0] / "config.yaml")
        templates = run.data.templates
        known = {"template": run.data.template, "max_completion_length": run.sampling.max_completion_length}
        known |= {key: getattr(run.model, key) for key in of_model}
    else:
        known = {"template": "r1", "max_completion_length": 512, **dict.fromkeys(of_model)}
    chosen = {key: known[key] if value is None else value for key, value in given.items()}
    own = "as given" if chosen != known else f"as in {folders[0] / 'config.yaml'}" if folders else "defaults"
    return chosen, templates, own
