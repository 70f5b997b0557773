"""`--dry-run`: does everything that training does before its first step, but loads no weights and writes nothing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.panel import Panel
from rich.text import Text

from vlm_r1.config import Config
from vlm_r1.config.secrets import refuse_masked
from vlm_r1.data.images import image_size
from vlm_r1.data.sources import Sources, evenly, readable
from vlm_r1.errors import CheckpointError
from vlm_r1.evaluation.asking import recipe_notes
from vlm_r1.grpo.trainer import check_objective
from vlm_r1.models.loading import empty_model
from vlm_r1.models.parts import check_rates, size_by_part
from vlm_r1.parsing.tags import END_THINK
from vlm_r1.policy.build import setup_of
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.reward_check import call_rewards
from vlm_r1.runtime.run_folder import RunFolder
from vlm_r1.runtime.terminal import Terminal, styled
from vlm_r1.training.budget import with_steps
from vlm_r1.training.data_lines import held_out_lines, reward_lines, source_lines
from vlm_r1.training.new_run import check_new_run
from vlm_r1.training.optimizer import check_schedule
from vlm_r1.training.overlong import fitting, leave_out_overlong
from vlm_r1.training.run import check_engines, load_checked_records, load_env
from vlm_r1.training.start import start_table
from vlm_r1.types import EncodedPrompt, Record, Thinking

_ENCODED_RECORDS = 64
"""Number of prompts that are encoded to estimate lengths, spread evenly over the data."""

_MEASURED_RECORDS = 1000
"""Number of records whose images are measured; only their headers are read."""


def print_plan(config: Config, stage: Literal["grpo", "sft"], resume: bool = False) -> None:
    """Validate data, rewards and run folder, encode prompts, and print the first one and the plan.

    Args:
        resume: whether a run would go on, so that the folder may hold one.

    Raises:
        VlmR1Error: the same errors that training raises before its first step.
    """
    from vlm_r1.cli.console import quiet_libraries, warn_of_code

    quiet_libraries()
    refuse_masked(config.model_dump(mode="json"), "")
    check_engines(config)
    if stage == "grpo":
        check_objective(config)
    held = "" if resume else _held_run(config, stage)
    records, held_out = load_checked_records(config)
    warn_of_code(config.model.path, config.model.trust_remote_code)
    env = load_env(config, [records, *held_out.values()])
    records, held_out = leave_out_overlong(config, env, records, held_out)
    config = with_steps(config, len(records))
    check_schedule(config.training)
    called = call_rewards([records, *held_out.values()], env, config.training.max_steps)
    sample = fitting(evenly(records, _ENCODED_RECORDS), env, config)
    encoded = [env.encode(record) for record in sample]
    console = Terminal()
    if held:
        console.print(f"training would not start here: {held}", style="yellow", soft_wrap=True)
    for record in _first_of_each_source(records, sample[0], env):
        console.print(_first_prompt(record, env.encode(record), env))
    # without an adapter of its own, a family's parts are unknown until weights are loaded
    if env.adapter.vision_modules:
        sizes = size_by_part(empty_model(config.model, env.adapter), env.adapter)
        check_rates(config.training.learning_rates, sizes)
        console.print(start_table(sizes, config))
    notes = [*recipe_notes(config), *_closed_thought(sample[0], encoded[0], env)]
    notes += reward_lines(records) if stage == "grpo" else []
    for sentence in (*notes, *called):
        console.print(sentence)
    for line in _plan(config, stage, len(records), encoded, env):
        console.print(line)
    for line in _images(evenly(records, _MEASURED_RECORDS), env):
        console.print(line)
    measured = evenly(records, _MEASURED_RECORDS)
    for line in (*source_lines(records), *held_out_lines(records, held_out), *_context(measured, config)):
        console.print(line)
    verdict = "all checks passed but that of the run folder, see above" if held else "all checks passed"
    console.print(f"dry run: {verdict}, nothing was written", style="yellow" if held else "green", soft_wrap=True)


def _held_run(config: Config, stage: Literal["grpo", "sft"]) -> str:
    """Return why training would not start in a folder that holds a run; "" if the folder holds none.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    run = RunFolder(Path(config.output_dir))
    try:
        check_new_run(run, config, stage)
    except CheckpointError as error:
        if not run.config.exists():
            raise
        return str(error)
    return ""


def _first_of_each_source(records: Sources, first: Record, env: Env) -> list[Record]:
    """Return a record of each training source of a mixture, the first that can be asked; of a single one, `first`."""
    if len(records.files) == 1:
        return [first]
    asked = (readable(file, records.bad) for file in records.files)
    found = (next((one for one in file if not env.is_overlong(one)), None) for file in asked)
    return [record for record in found if record is not None]


def _first_prompt(record: Record, encoded: EncodedPrompt, env: Env) -> Panel:
    gold = env.gold_text(record, encoded)
    frames = ", ".join(
        f"{f.original_wh[0]}×{f.original_wh[1]} seen as {f.input_wh[0]}×{f.input_wh[1]}" for f in encoded.frames
    )
    facts = {
        "images": frames or "none",
        "tokens": str(len(encoded.ids_L)),
        "token ids": _short(encoded.ids_L),
        "gold answer": gold,
    }
    lines = [styled(f"{name:11} ", "bold").append_text(styled(value)) for name, value in facts.items()]
    body = Text("\n").join([styled(encoded.text), Text(), *lines])
    return Panel(body, title=styled(f"first prompt, {record.source}"), title_align="left")


def _plan(config: Config, stage: str, records: int, encoded: list[EncodedPrompt], env: Env) -> list[str]:
    training, lengths = config.training, [len(prompt.ids_L) for prompt in encoded]
    image_tokens = [prompt.ids_L.count(env.adapter.placeholder_id) for prompt in encoded]
    prompts = training.prompts_per_step
    G, T = (config.grpo.num_generations, config.sampling.max_completion_length) if stage == "grpo" else (1, 0)
    mean = sum(lengths) / len(lengths)
    setup = setup_of(config, env.adapter)
    positions = prompts * (mean + G * T if setup.layout == "packed" else G * (mean + T))
    budget = training.max_tokens_per_micro_batch
    lines = [
        f"data         {records} records, of which {len(encoded)} were encoded",
        f"prompt       {min(lengths)} to {max(lengths)} tokens, mean {mean:.0f}, "
        f"of which {sum(image_tokens) / len(lengths):.0f} are image tokens",
        f"steps        {training.max_steps} of {prompts} prompts: {training.max_steps * prompts / records:.2f} epochs",
        setup.layout_reason.replace("layout ", "layout       ", 1),
        f"policy pass  at most {positions:,.0f} positions a step{'' if T else ' and the answers'}, in micro-batches of "
        f"{budget:,}: {math.ceil(positions / budget)} on one process",
    ]
    if stage == "grpo":
        lines += [
            f"sampling     {prompts * G} completions a step ({G} a prompt), at most {T} tokens each, "
            f"{prompts * (mean + G * T):,.0f} together with the prompts",
        ]
    lines.append(
        f"optimizer    {training.optim}, learning rate {training.learning_rate:g} ({training.lr_scheduler_type})"
    )
    return lines


def _context(records: Sequence[Record], config: Config) -> list[str]:
    """Return lines that say where the system messages of the records come from, and how many have earlier turns."""
    of_source = {source.system_prompt for source in config.data.train}
    origins: Counter[str] = Counter()
    for record in records:
        if record.system is None:
            origins["none"] += 1
        elif record.columns.get("system") == record.system:
            origins["of the row"] += 1
        else:
            origins["of the source" if record.system in of_source else "data.system_prompt"] += 1
    talks = sum(bool(record.history) for record in records)
    counted = ", ".join(f"{name} in {n:,}" for name, n in origins.items())
    lines = [f"system       {counted} of {len(records):,} records"] if set(origins) - {"none"} else []
    lines += [f"turns        {talks:,} of {len(records):,} records have earlier turns"] if talks else []
    switches = config.data.chat_template_kwargs
    return lines + ([f"chat         the template with {json.dumps(switches)}"] if switches else [])


def _closed_thought(record: Record, encoded: EncodedPrompt, env: Env) -> list[str]:
    """Return a line if the chat template closes the thought that the template of the question asks for."""
    template = env.templates.of(record)
    if template.thinking is Thinking.ABSENT or not encoded.text.rstrip().endswith(END_THINK):
        return []
    return [
        f"the checkpoint's chat template ends in {END_THINK}: it has closed the thought, but template {template.name} "
        "asks for one in the answer. Take one without (direct), or another data.chat_template_kwargs, if that is not "
        "meant"
    ]


def _images(records: Sequence[Record], env: Env) -> list[str]:
    """Return lines with the tokens of the smallest, the median and the largest image, by area."""
    sizes_wh = sorted((image_size(path, env.access) for record in records for path in record.images), key=math.prod)
    places = {"smallest": 0, "median": len(sizes_wh) // 2, "largest": -1}
    chosen = {name: sizes_wh[place] for name, place in places.items() if sizes_wh}
    return [
        f"{'images' if name == 'smallest' else '':12} {name} {width}×{height}: "
        f"{env.adapter.image_tokens(width, height):,} tokens"
        for name, (width, height) in chosen.items()
    ]


def _short(ids: tuple[int, ...]) -> str:
    return f"{list(ids)}" if len(ids) <= 48 else f"{list(ids[:32])} … {list(ids[-8:])}"
