"""The trackers of a run: TensorBoard, trackio and wandb get its numbers, its evaluations and some of its answers.

Only the first process sends. What a tracker has got is kept in `trackers.json` of the run folder, so that a resumed run
goes on in the same place and sends no step twice.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from vlm_r1.config import Config, as_dict
from vlm_r1.config.secrets import masked_tree
from vlm_r1.errors import CheckpointError, ConfigError, install_line
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.runtime.run_folder import RunFolder, read_json, write_json
from vlm_r1.training.processes import first_does
from vlm_r1.training.trackers import Account, TensorBoard, Trackio, Wandb

FILE = "trackers.json"

TRACKERS = {"tensorboard": TensorBoard, "trackio": Trackio, "wandb": Wandb}

_EVALUATION = re.compile(r"[a-z0-9-]{1,30}-[0-9]{1,9}")

Row = Mapping[str, str | float | Image.Image | None]
"""A line of a table by column: texts, numbers, a picture."""


class Tracker(Protocol):
    """What a run sends to."""

    account: Account

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Send numbers of a step."""
        ...

    def log_table(self, name: str, rows: Sequence[Row], step: int) -> None:
        """Send a table of a step, with its pictures."""
        ...

    def finish(self, failed: bool) -> None:
        """Send what waits, and say how the run ended."""
        ...


@dataclass
class Sent:
    """What a tracker has got: the last step, -1 if none, and the evaluations, e.g. "after-100"."""

    step: int = -1
    evaluations: list[str] = field(default_factory=list[str])


@dataclass
class Tracking:
    """The open trackers of a run by name, and what each has got. It is empty in all processes but the first."""

    folder: RunFolder = field(default_factory=lambda: RunFolder(Path()))
    trackers: dict[str, Tracker] = field(default_factory=dict[str, Tracker])
    sent: dict[str, Sent] = field(default_factory=dict[str, Sent])

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Send the metrics of a step to the trackers that have not got it."""
        for name in self._due(step):
            self.sent[name].step = step
            self._save()  # before it is sent: a step that is killed between the two is missing, and never doubled
            self.trackers[name].log(_finite(numbers), step)

    def log_table(self, name: str, rows: Sequence[Row], step: int) -> None:
        """Send a table to the trackers that have not got this step; call it before `log`."""
        for tracker in self._due(step):
            self.trackers[tracker].log_table(name, rows, step)

    def log_evaluation(self, moment: str, means: Mapping[str, float], step: int) -> None:
        """Send an evaluation that belongs to no line of metrics, or was made later than its line, once."""
        key = f"{moment}-{step}"
        for name, tracker in self.trackers.items():
            if means and key not in self.sent[name].evaluations:
                self.sent[name].evaluations.append(key)
                self._save()
                tracker.log(_finite(means), step)

    def finish(self, failed: bool = False) -> None:
        """Finish the trackers; a second call does nothing."""
        while self.trackers:
            _, tracker = self.trackers.popitem()
            tracker.finish(failed)

    def _due(self, step: int) -> list[str]:
        return [name for name in self.trackers if step > self.sent[name].step]

    def _save(self) -> None:
        known = {name: {**vars(tracker.account), **vars(self.sent[name])} for name, tracker in self.trackers.items()}
        write_json(self.folder.path / FILE, {**_read(self.folder), **known})


def check_trackers(config: Config) -> None:
    """Find out whether the recipe's trackers are installed.

    Raises:
        ConfigError: one is not.
    """
    for tracker in config.training.report_to:
        if find_spec(tracker) is None:
            raise ConfigError(f"training.report_to: {tracker} is not installed: {install_line(tracker)}")


def open_tracking(config: Config, folder: RunFolder, *, resumed: bool) -> Tracking:
    """Open the recipe's trackers, in the first process; a resumed run goes on where it was sent before.

    Args:
        resumed: whether the folder holds the run already.

    Raises:
        ConfigError: a tracker does not take the run, e.g. nobody is logged in.
        CheckpointError: `trackers.json` cannot be read.
    """
    tracking = Tracking(folder)
    first_does(lambda: _open(tracking, config, resumed=resumed))
    return tracking


def _open(tracking: Tracking, config: Config, *, resumed: bool) -> None:
    folder = tracking.folder
    known = _read(folder) if resumed and config.training.report_to else {}
    recipe = masked_tree(as_dict(config))
    # TensorBoard is last, since it refuses nothing: where another one does, no file is left
    for name in sorted({*config.training.report_to}, key=lambda name: (name == "tensorboard", name)):
        found = known.get(name, {})
        goes_on = found.get("project") == config.training.project
        run_name = str(found["name"]) if goes_on else folder.path.resolve().name
        account = Account(config.training.project, run_name, str(found["id"]) if goes_on else uuid.uuid4().hex[:12])
        sent = Sent(int(found["step"]), list(found["evaluations"])) if goes_on else Sent()
        tracking.trackers[name] = TRACKERS[name](account, folder.path, None if goes_on else recipe)
        tracking.sent[name] = sent


def doubled_steps(tracking: Tracking, step: int) -> list[str]:
    """Return a line for each tracker that has steps already that a changed run will make again, and differently."""
    return [
        f"{name} keeps steps {step + 1} to {sent.step} as they were before the change: they are not sent again"
        for name, sent in tracking.sent.items()
        if sent.step > step
    ]


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """Leave out what no chart can show: None stands for numbers that are not finite."""
    return {name: value for name, value in numbers.items() if isinstance(value, int | float) and value - value == 0}


def _read(folder: RunFolder) -> dict[str, dict[str, Any]]:
    path = folder.path / FILE
    if not path.exists():
        return {}
    found = read_json(path)
    for name, entry in found.items():
        if not (is_object(entry) and _is_entry(entry)):
            raise CheckpointError(
                f"{path}: {name!r:.100} is no entry of a tracker; wanted project, name, id, step and evaluations. "
                "Restore the file, or delete it: the trackers then begin a new run"
            )
    return found


def _is_entry(entry: Mapping[str, Any]) -> bool:
    texts = all(isinstance(entry.get(key), str) for key in ("project", "name", "id"))
    evaluations = entry.get("evaluations")
    keys = evaluations if is_list(evaluations) else [None]
    return texts and type(entry.get("step")) is int and all(_EVALUATION.fullmatch(str(key)) for key in keys)
