"""`vlm_r1.load_run`: the files of a run folder as pandas frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_r1.api.frames import estimates, frame
from vlm_r1.config import as_dict, load_config
from vlm_r1.errors import CheckpointError, DataError
from vlm_r1.evaluation.samples import SUFFIX, read_samples, result_path
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import RolloutRow, list_rollouts, read_rollouts
from vlm_r1.runtime.run_folder import RunFolder, read_json

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LoadedRun:
    """A run folder (docs/runs.md). The frames are read when they are first used.

    Attributes:
        path: of the run folder.
    """

    path: Path

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The recipe, as nested dictionaries."""
        return as_dict(load_config(self._folder.config))

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """The content of `summary.json`: results before and after, seconds; empty if the run has not finished."""
        file = self.path / "summary.json"
        return read_json(file) if file.exists() else {}

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row for each step, with the columns of `metrics.jsonl`; empty before the first step."""
        return frame(read_metrics(self._folder.metrics) if self._folder.metrics.exists() else ())

    @cached_property
    def rollouts(self) -> pd.DataFrame:
        """A row for each completion of training: step, group, completion, text, reward, parts, advantage, …"""
        files = list_rollouts(self._folder.rollouts).values()
        return frame(asdict(row) for file in files for row in read_rollouts(file))

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """A row for each metric of each evaluation: evaluation, step, metric, mean, low, high, n."""
        found = ((path.stem, read_json(path)) for path in sorted(self._folder.evaluations.glob("*.json")))
        return frame(
            {"evaluation": name, "step": result.get("step"), **row}
            for name, result in found
            for row in estimates(result.get("metrics") or {})
        )

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row for each answer of each evaluation, with the columns of its samples and `evaluation`, its name."""
        return frame(self._samples())

    def group(self, step: int, group: int = 0) -> list[RolloutRow]:
        """Return the completions of one group of a step, for `vlm_r1.show`.

        Raises:
            DataError: there is no such step or group; says which there are.
        """
        files = list_rollouts(self._folder.rollouts)
        if step not in files:
            there = f"there are {min(files)} to {max(files)}" if files else "there are none"
            raise DataError(f"{self.path}: no rollouts of step {step}; {there}")
        rows = read_rollouts(files[step])
        if not (found := [row for row in rows if row.group == group]):
            raise DataError(f"{files[step]}: no group {group}; there are 0 to {max(row.group for row in rows)}")
        return found

    @property
    def _folder(self) -> RunFolder:
        return RunFolder(self.path)

    def _samples(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self._folder.evaluations.glob(f"*{SUFFIX}")):
            name = result_path(path).stem
            yield from ({"evaluation": name, **sample.row} for sample in read_samples(path))


def load_run(path: str | Path) -> LoadedRun:
    """Open a run folder.

    Raises:
        CheckpointError: there is no run.
    """
    run = LoadedRun(Path(path))
    if not (run.path / "config.yaml").is_file():
        raise CheckpointError(f"{path}: holds no run (no config.yaml); wanted the output_dir of a recipe")
    return run
