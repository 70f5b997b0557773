"""A run starts only in a folder without one, and the error says how the run that is there goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from vlm_r1.config import Config, as_dict, load_config
from vlm_r1.errors import CheckpointError, ConfigError
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.runtime.checkpoint import checkpoint_step, latest_checkpoint
from vlm_r1.runtime.run_folder import RunFolder, check_writable, planned_steps, read_json
from vlm_r1.training.stopping import command_to_resume, n_launched

FREE = (
    *("output_dir", "training.save_", "training.on_save_failure", "data.dataloader_num_workers"),
    *("training.report_to", "training.project", "training.log_completions_steps"),
)
"""Beginnings of options that may change at any time: they decide what is kept and shown, not what is trained."""

Stage = Literal["grpo", "sft"]
"""Which trainer makes a run: that of `vlm-r1 train`, or that of `vlm-r1 sft`."""

Resume = bool | Literal["auto"]
"""Whether a run goes on from its newest checkpoint; "auto": it does if its folder holds one, else it starts."""

COMMANDS = {"grpo": "train", "sft": "sft"}

_AUTO = "--resume auto goes on if there is a run, and starts else"


class Change(NamedTuple):
    """An option that differs from the run so far, or whose input does; `key` is e.g. "training.max_steps"."""

    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what}"


def goes_on(run: RunFolder, resume: Resume) -> bool:
    """Return whether a run goes on; a folder with a config.yaml holds one. Call it with the folder locked.

    Raises:
        ConfigError: `resume` is another value, e.g. the path of a checkpoint.
    """
    if resume not in (True, False, "auto"):
        raise ConfigError(f'resume: wanted True, False or "auto", got {resume!r:.100}; the newest checkpoint is taken')
    return run.config.exists() if resume == "auto" else resume


def check_new_run(run: RunFolder, config: Config, stage: Stage) -> None:
    """Check, without writing, that a run may start in this folder.

    Raises:
        CheckpointError: the folder cannot be written; or it holds a run. Then it says which, how far it is, what is
            different in its recipe, and how it goes on.
    """
    check_writable(run.path)
    anew = f"To start anew, choose another --output_dir, or delete {run.path}"
    if not run.config.exists():
        if run.metrics.exists():
            raise CheckpointError(f"{run.path}: already holds a run, but its config.yaml is gone: restore it. {anew}")
        return
    made_by: Any = (read_json(run.environment) if run.environment.exists() else {}).get("stage", stage)
    newest = latest_checkpoint(run.checkpoints)
    step = (
        "it has saved no step yet" if newest is None else f"its newest checkpoint is of step {checkpoint_step(newest)}"
    )
    held = f"{run.path}: already holds a run of `vlm-r1 {COMMANDS.get(made_by, made_by)}`; {step}"
    try:
        old = load_config(run.config)
    except ConfigError as error:
        raise CheckpointError(f"{held}. Its recipe is of another version or damaged: {error}. {anew}") from error
    found = [c for c in differences(as_dict(old), as_dict(config)) if not c.key.startswith(FREE)]
    command = command_to_resume(made_by, run.config, n_launched(), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if found:
        how = "Its recipe is another:\n  " + "\n  ".join(map(str, found)) + f"\nGo on with its own: {command}"
    elif made_by != stage:
        how = f"Go on with: {command}"
    else:
        how = f"Its recipe is the same. Go on with: {command}; or add --resume to this command ({_AUTO})"
    steps = planned_steps(run.path, old)
    of_all = "" if steps is None else f" of {steps}"
    raise CheckpointError(f"{held}{of_all}. {how}. {anew}")


def differences(old: Any, new: Any, prefix: str = "") -> Iterator[Change]:
    """Compare trees of options; lists are compared by index."""
    if is_list(old) and is_list(new):
        old, new = ({str(place): item for place, item in enumerate(items)} for items in (old, new))
    if not (is_object(old) and is_object(new)):
        if old != new:
            yield Change(prefix, f"run {old!r}, now {new!r}")
        return
    for key in sorted(old.keys() | new.keys()):
        yield from differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
