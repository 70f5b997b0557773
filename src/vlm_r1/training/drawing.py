"""Draws the records of a step. A record that has become bad is skipped, counted and named, up to a limit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.data.prompts import Draw, PromptStream, shard
from vlm_r1.data.rows import Problem, summarise
from vlm_r1.errors import DataError, DataFileError, ModelError, OverlongError, brief
from vlm_r1.runtime.atomic import replacing
from vlm_r1.training.processes import as_agreed
from vlm_r1.types import Record


class _Overlong(Problem):
    """A record that is left out because its prompt is too long."""


@dataclass
class Drawing:
    """Draws the same records on all processes and gives each its share. Its state is in checkpoints.

    Attributes:
        stream: the order of the records.
        most_bad: how many different records may be skipped.
        rank, world: number of this process, and of all.
        gather: accelerate's `gather_object`.
        bad: the records that were skipped, by `file:line`: `{"step": 7, "source": "a.jsonl:3", "error": …}`.
        leaves_out_overlong: skip records whose prompts are too long, without limit; otherwise they are bad.
        n_overlong: how often such a record was drawn and skipped.
    """

    stream: PromptStream
    most_bad: int
    rank: int
    world: int
    gather: Callable[[list[Any]], list[Any]]
    bad: dict[str, dict[str, Any]]
    leaves_out_overlong: bool = False
    n_overlong: int = 0

    def next(
        self, n: int, step: int, prepare: Callable[[Record], object], skip: Callable[[Sequence[str]], None]
    ) -> tuple[list[int], list[Record]]:
        """Draw the next n records, and return this process's share.

        The next record of the stream takes the place of a bad one. All processes choose alike, and the choice does not
        depend on their number.

        Args:
            step: number of the step, from 1.
            prepare: reads what the record names, and raises DataError or ModelError if it cannot be used.
            skip: called before records are skipped that were not skipped before, with a line for each.

        Returns:
            For each record how many the run drew before it, over all processes; and the records.

        Raises:
            DataError: more than `most_bad` records are bad, or all are. All processes raise it.
            DataFileError: a data file has gone.
        """
        draws, tried = self.stream.draw(n), n
        records: dict[int, Record] = {}
        places = list(range(n))
        while places:
            own = set(shard(range(n), self.rank, self.world))
            found = {place: self._read(draws[place], prepare) for place in places if place in own}
            records |= {place: one for place, one in found.items() if isinstance(one, Record)}
            own_problems = {place: one for place, one in found.items() if isinstance(one, Problem)}
            everyone: dict[int, Problem] = {}
            for problems in self.gather([own_problems]):
                everyone |= problems
            places = sorted(everyone)
            self._count([everyone[place] for place in places], step, skip)
            tried += len(places)
            if tried > n + len(self.stream):
                raise as_agreed(DataError(f"no record can be used any more: {summarise(list(everyone.values()))}"))
            for place, draw in zip(places, self.stream.draw(len(places)), strict=True):
                draws[place] = draw
        mine = shard(range(n), self.rank, self.world)
        return [draws[place].number for place in mine], [records[place] for place in mine]

    def upcoming(self, n: int) -> list[Record]:
        """Return this process's share of the next n records, without those whose rows are bad, and do not advance."""
        found = (self._read(draw, lambda _: None) for draw in shard(self.stream.upcoming(n), self.rank, self.world))
        return [one for one in found if isinstance(one, Record)]

    def _read(self, draw: Draw, prepare: Callable[[Record], object]) -> Record | Problem:
        """Read a record and prepare it; returns the problem if it is bad."""
        source = ""
        try:
            record = draw.read()
            source = record.source
            prepare(record)
        except DataFileError:
            raise
        except (DataError, ModelError) as error:
            text = str(error)
            source = source or text.partition(": ")[0]
            leave_out = self.leaves_out_overlong and isinstance(error, OverlongError)
            return (_Overlong if leave_out else Problem)(source, text.removeprefix(f"{source}: "))
        return record

    def _count(self, problems: Sequence[Problem], step: int, skip: Callable[[Sequence[str]], None]) -> None:
        bad = [problem for problem in problems if not isinstance(problem, _Overlong)]
        self.n_overlong += len(problems) - len(bad)
        new = {problem.source: problem for problem in bad if problem.source not in self.bad}
        if not new:
            return
        skip([str(problem) for problem in new.values()])
        if len(self.bad) + len(new) > self.most_bad:
            raise as_agreed(
                DataError(
                    f"{summarise(list(new.values()))}\nThat makes {len(self.bad) + len(new)} bad records, more than "
                    f"{self.most_bad}: mend them and go on with --resume, or raise data.max_bad_records"
                )
            )
        self.bad |= {
            source: {"step": step, "source": source, "error": brief(problem.message)} for source, problem in new.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        overlong = {"overlong_prompts": self.n_overlong} if self.leaves_out_overlong else {}
        return {"stream": self.stream.state_dict(), "bad_records": list(self.bad.values()), **overlong}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the drawing stood that returned `state`."""
        self.stream.load_state_dict(state["stream"])
        self.bad = {entry["source"]: entry for entry in state.get("bad_records", ())}
        self.n_overlong = state.get("overlong_prompts", 0)

    def write_bad(self, path: Path) -> None:
        """Write the bad records so far, a JSON object on each line; without any, the file is removed."""
        if not self.bad:
            path.unlink(missing_ok=True)
            return
        with replacing(path) as temporary:
            lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in self.bad.values())
            temporary.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
