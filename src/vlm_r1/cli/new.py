"""Write a first recipe for your data and your GPU, with a comment on every option and the numbers of the memory plan.

  vlm-r1 new my.yaml --data my.jsonl --task ovd --gpu 24GB
  vlm-r1 new my.yaml --data my.jsonl --gpu 80GB --model Qwen/Qwen2.5-VL-7B-Instruct --eval val.jsonl

The data decide the task (if none is named), the unit of the boxes, the size of pictures, the length of answers, the
number of steps, and what is held out; the plan decides what fits. An existing file is never overwritten. Then try the
recipe: vlm-r1 train my.yaml --rehearse (docs/rehearsal.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vlm_r1.cli.options import local_path, path_text
from vlm_r1.cli.plan import memory
from vlm_r1.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the new file, the data, the GPU, and what the user already knows."""
    parser.add_argument("recipe", metavar="RECIPE", type=local_path, help="the new YAML file")
    parser.add_argument("--data", type=path_text, required=True, metavar="FILE", help="data file (docs/data.md)")
    parser.add_argument(
        "--gpu", type=memory, required=True, metavar="SIZE", help="memory of the GPU, e.g. 24GB or 79GiB"
    )
    parser.add_argument("--task", help="task that asks and judges, e.g. rec (default: as the answers look)")
    parser.add_argument("--model", type=path_text, help="folder or name of the model (default: one that suits the GPU)")
    parser.add_argument(
        "--eval",
        type=path_text,
        metavar="FILE",
        help="file of held-out records (default: a tenth of the data is held out, by pictures)",
    )
    parser.add_argument(
        "--image-root",
        type=path_text,
        default="",
        help="folder or URL that image paths are relative to (default: the file's folder)",
    )


def run(args: argparse.Namespace) -> int:
    """Look at the data, plan, and write the recipe.

    Raises:
        ConfigError: the file is there already; an option names something unknown; or nothing fits.
        DataError: a row cannot be used.
    """
    from vlm_r1.cli.console import quiet_libraries
    from vlm_r1.config.data import DataSource
    from vlm_r1.planning.data_facts import look_at_data
    from vlm_r1.planning.recipe_text import plan_lines, recipe_text
    from vlm_r1.planning.recommend import recommend
    from vlm_r1.runtime.terminal import Terminal, styled
    from vlm_r1.tasks import get_task

    recipe: Path = args.recipe
    _refuse_existing(recipe)
    if args.task is not None:
        get_task(args.task)
    quiet_libraries()
    console = Terminal()
    with console.status(styled("looking at the data")) as status:
        facts = look_at_data(DataSource(path=args.data, image_root=args.image_root), args.task)
        held_out = DataSource(path=args.eval, image_root=args.image_root) if args.eval else None
        found = recommend(
            facts,
            gpu=args.gpu,
            output_dir=f"runs/{recipe.stem}",
            model=args.model,
            held_out=held_out,
            say=lambda line: status.update(styled(line)),
        )
    _write(recipe, recipe_text(found, str(recipe), args.gpu))
    counts = ", ".join(f"{n:,} {'to train on' if name == 'train' else 'held out'}" for name, n in found.counts.items())
    console.print(f"data        {facts.records:,} records of task {facts.source.task}: {counts}", soft_wrap=True)
    for line in facts.said:
        console.print(f"            {line}", style="yellow", soft_wrap=True)
    console.print(f"model       {found.config.model.path}", soft_wrap=True)
    if found.plan is None:
        console.print(f"memory      not planned: {found.why_no_plan}", style="yellow", soft_wrap=True)
    else:
        console.print(f"memory      {plan_lines(found.plan, args.gpu)[0]}", soft_wrap=True)
    console.print(f"written     {recipe}", f"next        vlm-r1 train {recipe} --rehearse", sep="\n", soft_wrap=True)
    return 0


def _refuse_existing(recipe: Path) -> None:
    if recipe.exists() or recipe.is_symlink():
        raise ConfigError(f"{recipe}: is there already, and nothing is overwritten: choose another name")


def _write(recipe: Path, text: str) -> None:
    """Write a new file; one that came to be meanwhile is not overwritten either."""
    try:
        recipe.parent.mkdir(parents=True, exist_ok=True)
        with recipe.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        _refuse_existing(recipe)
    except OSError as error:
        raise ConfigError(f"{recipe}: cannot be written: {error.strerror}") from error
