"""Where a run starts, and everything that may be wrong with a run that goes on, found before it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

from vlm_r1.config import Config, as_dict, load_config
from vlm_r1.errors import CheckpointError, ConfigError
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.registry import suggestion
from vlm_r1.runtime.checkpoint import checkpoint_step, list_checkpoints, put_right
from vlm_r1.runtime.history import find_changes, tell_changes
from vlm_r1.runtime.lock import Lock, lock_folder
from vlm_r1.runtime.manifest import FILE
from vlm_r1.runtime.metrics_log import check_steps, read_metrics
from vlm_r1.runtime.run_folder import RunFolder, check_writable, read_json
from vlm_r1.training.held_out import read_evaluation
from vlm_r1.training.new_run import COMMANDS, FREE, Change, Stage, check_new_run, differences
from vlm_r1.training.processes import first_does
from vlm_r1.training.state import read_state, why_not_usable
from vlm_r1.training.stopping import command_to_resume


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        checkpoint: the checkpoint that it goes on from; None: it starts at step 0.
        state: the trainer's state in it; {} without one.
        damaged: later checkpoints, which cannot be used.
        changes: what differs from the run so far and was allowed.
        said: lines for people.
    """

    checkpoint: Path | None = None
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    damaged: tuple[Path, ...] = ()
    changes: tuple[Change, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        return self.state.get("step", 0)


def lock_run(path: Path) -> RunFolder:
    """Lock a run folder by the first process; in the others the lock is None.

    Raises:
        CheckpointError: another run holds the lock, or the folder cannot be written; on all processes.
    """
    locks: list[Lock] = []

    def lock() -> None:
        check_writable(path)
        locks.append(lock_folder(path))

    first_does(lock)
    return RunFolder(path, locks[0] if locks else None)


def find_start(run: RunFolder, config: Config, resume: bool, allow: Sequence[str], stage: Stage) -> Start:
    """Find where a run starts, and check its folder. Call it with the folder locked.

    The newest checkpoint that is whole is taken. What a kill left in the folder is put right first.

    Args:
        allow: options that may differ from the run so far, or beginnings of them, e.g. "training".

    Raises:
        ConfigError: `allow` names no option, or there is no run that goes on.
        CheckpointError: the folder holds another run; or there is nothing to resume; or the other command made the
            run; or the recipe differs; or metrics, evaluations or all checkpoints are lost or damaged.
    """
    if not resume:
        if allow:
            raise ConfigError("--allow has no effect without --resume, which continues a run")
        check_new_run(run, config, stage)
        return Start()
    if not run.config.exists():
        raise CheckpointError(f"{run.path}: --resume, but there is no config.yaml of a run. Start it without --resume")
    environment = read_json(run.environment) if run.environment.exists() else {}
    _check_stage(run, stage, environment.get("stage"))
    changes = _changes(run, config, allow)
    put_right(run.path)
    put_right(run.checkpoints)
    found = _find_checkpoint(run, lost=bool(environment.get("saved")) or not environment)
    step = found.step
    if step and (forms := [change for change in changes if change.key.startswith("model.lora")]):
        raise CheckpointError(
            f"{found.checkpoint}: holds the weights that the run has trained so far, whose form cannot change:\n  "
            + "\n  ".join(map(str, forms))
            + "\nLeave model.lora as it was, or start a new run from an export of this one (vlm-r1 export)"
        )
    check_steps(run.metrics, step)
    rows = [row for row in (read_metrics(run.metrics) if step else []) if float(row["step"]) <= step]
    if rows:  # environment.json may be missing, or of an older version
        _check_stage(run, stage, rows[0].get("stage"))
    _check_evaluations(run, config, rows)
    said = [*found.said, *_changed_files(run, found, _recorded(run))]
    if not environment:
        said.append("environment.json is missing: it is written anew")
    return replace(found, changes=tuple(changes), said=tuple(said))


def check_budget(start: Start, config: Config, run: RunFolder) -> Start:
    """Check that the run does not end before the step that it goes on from; returns the start, with a line at its end.

    Args:
        config: from `with_steps`.

    Raises:
        CheckpointError: it does.
    """
    steps, epochs = config.training.max_steps, config.training.num_train_epochs
    option = "training.max_steps" if epochs is None else "training.num_train_epochs"
    if start.step > steps:
        now = f"{steps}" if epochs is None else f"{epochs:g}, which is {steps} steps"
        raise CheckpointError(
            f"{run.path}: the newest checkpoint is of step {start.step}, but {option} is now {now}; wanted "
            f"{start.step} {'' if epochs is None else 'steps '}or more"
        )
    if start.checkpoint is None or start.step < steps:
        return start
    ended = f"all {steps} steps are done: only what is missing of the end is made. To train on, add "
    return replace(start, said=(*start.said, f"{ended}--{option}=N --allow {option}"))


def check_inputs(start: Start, inputs: Mapping[str, str], allow: Sequence[str], run: RunFolder) -> Start:
    """Compare data and model with those of the checkpoint; returns the start with what was allowed to change.

    Args:
        inputs: from `hash_inputs`.

    Raises:
        CheckpointError: a data file or the model changed, and `allow` does not name it.
        ConfigError: `allow` names something that did not change.
    """
    said = list(start.said)
    before: Mapping[str, str] = start.state.get("inputs", {})
    if start.checkpoint is not None and not before:
        said.append("the checkpoint is of an older version, which kept no hashes: data and model are not compared")
    found = [
        Change(key, f"its {_content_of(key)} are not those that the run has used so far")
        for key in inputs
        if key in before and inputs[key] != before[key]
    ]
    refused = [change for change in found if not _is_allowed(change.key, allow)]
    if refused:
        raise CheckpointError(
            f"{run.path}: what the run is made from changed:\n  "
            + "\n  ".join(map(str, refused))
            + f"\nRestore it; or, to go on with what is there now, add {_options(refused)}"
        )
    changes = (*start.changes, *found)
    known = [*(change.key for change in changes), *(str(entry.get("option")) for entry in _recorded(run))]
    for key in allow:
        if not any(_is_allowed(name, [key]) for name in known):
            raise ConfigError(f"--allow {key} has no effect: nothing changed there since the run started; remove it")
    return replace(start, changes=changes, said=tuple(said))


def _content_of(key: str) -> str:
    return "rows" if key.startswith("data.") and key.endswith(".path") else "files"


def stream_state(start: Start, n_records: Sequence[int]) -> Mapping[str, Any]:
    """Return the state of the stream of prompts; data that were allowed to change may have another number of records.

    Args:
        n_records: of each stream now.

    Raises:
        CheckpointError: there is another number of weighted files, so that no position is known.
    """
    state = dict(start.state["stream"])
    if any(change.key.startswith("data.train") for change in start.changes):
        if len(state["drawn"]) != len(n_records):
            raise CheckpointError(
                f"the checkpoint knows how far it was in {len(state['drawn'])} weighted files, but data.train has "
                f"{len(n_records)} now; wanted as many as before"
            )
        state["records"] = list(n_records)
    return state


def _changes(run: RunFolder, config: Config, allow: Sequence[str]) -> list[Change]:
    old, new = as_dict(load_config(run.config)), as_dict(config)
    for key in allow:
        names = {name for tree in (old, new) for name in _names(tree)}
        if key not in names:
            raise ConfigError(f"--allow {key}: there is no such option. {suggestion(key, names)}See vlm-r1 config")
    found = [change for change in differences(old, new) if change.key != "output_dir"]
    refused = [c for c in found if not (c.key.startswith(FREE) or _is_allowed(c.key, allow))]
    if refused:
        longer = any(change.key in ("training.max_steps", "training.num_train_epochs") for change in refused)
        schedule = f" The learning rate then follows its schedule ({config.training.lr_scheduler_type}) over the new "
        schedule += "number of steps, and model/, the evaluation after training and the report are made anew."
        raise CheckpointError(
            f"{run.path}: --resume with another recipe than the run was started with:\n  "
            + "\n  ".join(map(str, refused))
            + f"\nUse the run's own config.yaml; or, to go on with the new values, add {_options(refused)}."
            + schedule * longer
        )
    return found


def _check_stage(run: RunFolder, stage: Stage, made_by: object) -> None:
    if isinstance(made_by, str) and made_by in COMMANDS and made_by != stage:
        raise CheckpointError(
            f"{run.path}: `vlm-r1 {COMMANDS[made_by]}` made this run, not `vlm-r1 {COMMANDS[stage]}`. Go on with: "
            f"{command_to_resume(made_by, run.config)}; or choose another --output_dir"
        )


def _find_checkpoint(run: RunFolder, lost: bool) -> Start:
    """Find the newest checkpoint that is whole.

    Args:
        lost: whether the run is known to have had a checkpoint.
    """
    damaged: list[Path] = []
    reasons: list[str] = []
    for checkpoint in reversed(list_checkpoints(run.checkpoints)):
        reason = why_not_usable(checkpoint)
        if reason is None:
            said = [
                *(f"checkpoint {one}" for one in reasons),
                *([f"going on from {checkpoint.name}"] if reasons else []),
            ]
            if not (checkpoint / FILE).exists():
                said.append(f"{checkpoint.name} has no {FILE}: an older version wrote it, so damage would not show")
            state = read_state(checkpoint / "state", checkpoint_step(checkpoint))
            return Start(checkpoint, state, tuple(damaged), said=tuple(said))
        damaged.append(checkpoint)
        reasons.append(f"{checkpoint.name} is damaged: {reason}")
    if reasons:
        raise CheckpointError(
            f"{run.checkpoints}: no checkpoint is whole:\n  "
            + "\n  ".join(reasons)
            + "\nRestore one from a copy, or start a new run in another --output_dir"
        )
    if lost:
        raise CheckpointError(
            f"{run.checkpoints}: the run has saved checkpoints, but there are none now. Restore one from a copy; or, "
            f"to start again at step 0, delete {run.path} and leave --resume out"
        )
    return Start(said=("no checkpoint was saved yet: the run starts again at step 0",))


def _check_evaluations(run: RunFolder, config: Config, rows: Sequence[Mapping[str, Any]]) -> None:
    """Check that the evaluations of finished steps, which the end and the report need, are whole."""
    names = [f"before-{name}" for name in config.data.eval] if rows else []
    for row in rows:
        sets = sorted({key.split("/")[1] for key in row if key.startswith("eval/") and key.count("/") > 1})
        names += [f"step-{int(row['step']):06d}-{name}" for name in sets]
    for name in names:
        read_evaluation(run, name)


def _recorded(run: RunFolder) -> list[dict[str, Any]]:
    """Return the changes of options that resumptions made, from `environment.json`.

    Raises:
        CheckpointError: they are not as `continue_run` writes them.
    """
    found: Any = read_json(run.environment).get("changes", []) if run.environment.exists() else []
    if not is_list(found) or not all(map(is_object, found)):
        raise CheckpointError(
            f'{run.environment}: wanted a list of objects as "changes", got {found!r:.80}. Restore it'
        )
    return list(found)


def _changed_files(run: RunFolder, found: Start, recorded: Sequence[Mapping[str, Any]]) -> list[str]:
    """Compare the run's files with those that its checkpoint knows; returns lines for people.

    Args:
        recorded: changes of options that resumptions made.

    Raises:
        CheckpointError: somebody else than a resumption changed `config.yaml`.
    """
    if found.checkpoint is None:
        return []
    changed = find_changes(found.checkpoint, run)
    by_resumption = any(entry.get("after_step") == found.step for entry in recorded)
    if run.config.name in changed and not by_resumption:
        raise CheckpointError(
            f"{run.config}: is not what the run wrote before it saved {found.checkpoint.name}. Restore it; to change "
            "an option, give it on the command line, with --allow"
        )
    return tell_changes([name for name in changed if name != run.config.name], run)


def _names(tree: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all options and sections."""
    items: Iterable[tuple[Any, Any]] = tree.items() if is_object(tree) else enumerate(tree) if is_list(tree) else ()
    for key, value in items:
        name = f"{prefix}.{key}" if prefix else str(key)
        yield name
        yield from _names(value, name)


def _is_allowed(key: str, allow: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in allow)


def _options(changes: Sequence[Change]) -> str:
    return " ".join(f"--allow {quote(change.key)}" for change in changes)
