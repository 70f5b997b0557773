"""The three trackers: how each is opened, and how it is sent numbers, and tables of texts and pictures."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlm_r1.errors import ConfigError, brief
from vlm_r1.runtime.text import json_text, visible


@dataclass(frozen=True)
class Account:
    """Where a tracker keeps a run: the project, the name that people see, and the id that stays the same."""

    project: str
    name: str
    id: str


# Each is opened with its account, the run folder, and the recipe; None instead of it: the run goes on.


class TensorBoard:
    """Event files in the run folder itself, so that `tensorboard --logdir runs` names the run as its folder.

    A resumed run adds a file. TensorBoard shows a step twice that stands in two of them, although the second may say
    that it takes the place of the first (`purge_step`).
    """

    def __init__(self, account: Account, folder: Path, recipe: Mapping[str, Any] | None):
        self.account = account
        folder.mkdir(parents=True, exist_ok=True)
        self.writer = import_module("torch.utils.tensorboard").SummaryWriter(str(folder))
        if recipe is not None:
            self.writer.add_text("recipe", _indented(json_text(recipe, indent=2)), 0)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        for n, row in enumerate(rows, start=1):
            if isinstance(row.get("picture"), Image.Image):
                self.writer.add_image(f"{name}/row {n}", np.asarray(row["picture"]), step, dataformats="HWC")
        shown = [
            {"row": n, **{key: value for key, value in row.items() if not isinstance(value, Image.Image)}}
            for n, row in enumerate(rows, start=1)
        ]
        self.writer.add_text(name, _as_markdown(shown), step)

    def finish(self, failed: bool) -> None:
        del failed
        self.writer.close()


class Trackio:
    """A run in trackio's local store, or where its own environment variables say. It measures no machine."""

    def __init__(self, account: Account, folder: Path, recipe: Mapping[str, Any] | None):
        del folder
        self.module: Any = import_module("trackio")
        if recipe is not None:
            account = Account(account.project, self._free_name(account), account.id)
        try:
            self.run = self.module.init(
                project=account.project,
                name=account.name,
                resume="allow" if recipe is None else "never",
                config=dict(recipe or {}),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        except (ValueError, OSError) as error:
            raise ConfigError(f"training.report_to: trackio does not take the run: {brief(str(error))}") from error
        self.account = Account(account.project, account.name, str(self.run.id))

    def _free_name(self, account: Account) -> str:
        """Trackio finds a run by its name: a second folder of the same name gets the beginning of its id with it."""
        try:
            taken = {run.name for run in self.module.Api().runs(account.project)}
        except ValueError:  # a new project
            return account.name
        return f"{account.name}-{account.id[:4]}" if account.name in taken else account.name

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self.run.log(dict(numbers), step=step)

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        made = [{key: self._cell(value) for key, value in row.items()} for row in rows]
        self.run.log({name: self.module.Table(data=made)}, step=step)

    def _cell(self, value: Any) -> Any:
        if isinstance(value, Image.Image):
            return self.module.Image(value)
        return visible(value) if isinstance(value, str) else value  # its page shows texts as they are

    def finish(self, failed: bool) -> None:
        del failed
        self.run.finish()


class Wandb:
    """A run of wandb. It gets neither the code, nor what is printed, nor anything about the machine."""

    def __init__(self, account: Account, folder: Path, recipe: Mapping[str, Any] | None):
        self.account = account
        self.module: Any = import_module("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        quiet = {"save_code": False, "disable_git": True, "console": "off", "disable_job_creation": True}
        without = {"x_disable_meta": True, "x_disable_stats": True, "x_disable_machine_info": True}
        try:
            self.run = self.module.init(
                project=account.project,
                name=account.name,
                id=account.id,
                resume="allow",
                dir=str(folder),
                config=dict(recipe or {}),
                settings=self.module.Settings(**quiet, **without, x_save_requirements=False, silent=True),
            )
        except (self.module.errors.Error, ValueError) as error:
            raise ConfigError(
                f"training.report_to: wandb does not take the run: {brief(str(error)).rstrip('.')}. Log in; or "
                "WANDB_MODE=offline keeps the run in its folder"
            ) from error
        self.run.define_metric("*", step_metric="step")

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self.run.log({**numbers, "step": step})

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        columns = list(rows[0])
        data = [[self._cell(row.get(column)) for column in columns] for row in rows]
        self.run.log({name: self.module.Table(columns=columns, data=data), "step": step})

    def _cell(self, value: Any) -> Any:
        return self.module.Image(value) if isinstance(value, Image.Image) else value

    def finish(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


def _as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as a table of Markdown, in which no text of a model is a mark.

    >>> print(_as_markdown([{"text": "a | <b>", "reward": 0.5}]))
    | text | reward |
    |---|---|
    | a &#124; &lt;b&gt; | 0.5 |
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [[_escaped(_text(row.get(column))) for column in columns] for row in rows]
    head = ["|" + "|".join(f" {column} " for column in columns) + "|", "|" + "---|" * len(columns)]
    return "\n".join([*head, *("|" + "|".join(f" {cell} " for cell in line) + "|" for line in lines)])


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


_MARKS = {ord(mark): f"&#{ord(mark)};" for mark in "|*_`[]#!~\\"} | {ord("\n"): " ⏎ "}


def _escaped(text: str) -> str:
    """Write a text so that a page which reads HTML or Markdown shows its characters."""
    return visible(html.escape(text.replace("\n", " ⏎ "), quote=False).translate(_MARKS))


def _indented(text: str) -> str:
    """Write a text as a block of code of Markdown, which needs no fence that the text could close."""
    return "\n".join(f"    {visible(line)}" for line in text.splitlines())
