"""Finds and reads the results that are compared: files, or folders that hold them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from vlm_r1.errors import CheckpointError, DataError
from vlm_r1.evaluation.compare_values import Result
from vlm_r1.evaluation.samples import SUFFIX, read_samples, result_path, samples_path
from vlm_r1.parsing.json_values import is_object
from vlm_r1.runtime.run_folder import read_json

_BEFORE, _AFTER = "before-", "after-"
_MOST_LISTED = 20


def read_results(places: Sequence[Path]) -> list[Result]:
    """Read the results that are compared.

    Args:
        places: each a `NAME.json`, a `NAME.samples.jsonl`, or a folder: of a run, or any other that holds a result.
            A single folder stands for its results before and after training; of several, a run stands for the one
            after training.

    Raises:
        DataError: there are fewer than two results, or it is not clear which ones; lists the choices.
        CheckpointError: a result cannot be read.
    """
    paths = _before_and_after(places[0]) if len(places) == 1 else [_only_result(place) for place in places]
    twice = [path for number, path in enumerate(paths) if path in paths[:number]]
    if twice:
        raise DataError(f"{twice[0]}: is given twice; wanted different results")
    return [read_result(path, label) for path, label in zip(paths, short_labels(paths), strict=True)]


def read_result(path: Path, label: str) -> Result:
    """Read `NAME.json`, and the samples beside it.

    Raises:
        CheckpointError: the file is none that an evaluation writes.
        DataError: the samples are missing or damaged, or are not as many as the result says.
    """
    summary = read_json(path)
    metrics, protocol = summary.get("metrics"), summary.get("protocol")
    if not is_object(metrics) or not (protocol is None or is_object(protocol)):
        raise CheckpointError(f"{path}: is no result of an evaluation; wanted an object with metrics (docs/runs.md)")
    beside = samples_path(path)
    if not beside.exists():
        raise DataError(f"{path}: lacks the answers. Wanted {beside.name} beside it, as `vlm-r1 eval` writes it")
    samples = tuple(read_samples(beside))
    if not samples:
        raise DataError(f"{beside}: holds no answers")
    return Result(path=path, label=label, summary=summary, samples=samples)


def short_labels(paths: Sequence[Path]) -> list[str]:
    """Return for each path what tells it from the others, without the folders that all have in common.

    >>> short_labels([Path("runs/a/eval/after-val.json"), Path("runs/b/eval/after-val.json")])
    ['a', 'b']
    >>> short_labels([Path("eval/before-val.json"), Path("eval/after-val.json")])
    ['before-val', 'after-val']
    """
    parts = [Path(os.path.abspath(path)).with_suffix("").parts for path in paths]
    start = min(_shared(parts), *(len(own) - 1 for own in parts))
    rests = [own[start:] for own in parts]
    end = _shared([own[::-1] for own in rests])
    if end == min(map(len, rests)):  # one of them would be empty
        end = 0
    return ["/".join(own[: len(own) - end]) for own in rests]


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """Return how many first parts all have in common."""
    return sum(1 for _ in takewhile(lambda same: len(set(same)) == 1, zip(*parts, strict=False)))


def _before_and_after(place: Path) -> list[Path]:
    found = _results_in(_folder(place)) if place.is_dir() else []
    by_name = {path.stem: path for path in found}
    sets = [name.removeprefix(_BEFORE) for name in by_name if name.startswith(_BEFORE)]
    sets = [name for name in sets if _AFTER + name in by_name]
    if len(sets) == 1:
        return [by_name[_BEFORE + sets[0]], by_name[_AFTER + sets[0]]]
    if sets:
        choices = "".join(f"\n  vlm-r1 compare {by_name[_BEFORE + name]} {by_name[_AFTER + name]}" for name in sets)
        raise DataError(f"{place}: has results before and after training of {len(sets)} sets. Choose one:{choices}")
    if len(found) > 1:
        raise DataError(f"{place}: has no results before and after training of one set; name two of:{_listed(found)}")
    raise DataError(f"{place}: is one result; wanted at least two, or a run with results before and after training")


def _only_result(place: Path) -> Path:
    if not place.is_dir():
        path = result_path(place) if place.name.endswith(SUFFIX) else place
        if not path.exists():
            raise DataError(f"{place}: has no result {path.name}; wanted what `vlm-r1 eval` writes, or its folder")
        return path
    found = _results_in(_folder(place))
    after = [path for path in found if path.name.startswith(_AFTER)]
    if len(after or found) == 1:
        return (after or found)[0]
    if not found:
        raise DataError(f"{place}: holds no result. Wanted NAME.json and NAME{SUFFIX}, or a run with a folder eval")
    raise DataError(f"{place}: holds {len(found)} results. Name one of:{_listed(found)}")


def _folder(place: Path) -> Path:
    """Return the folder of a run's results, or the folder itself."""
    return place / "eval" if not _results_in(place) and (place / "eval").is_dir() else place


def _results_in(folder: Path) -> list[Path]:
    return [path for path in sorted(map(result_path, folder.glob(f"*{SUFFIX}"))) if path.exists()]


def _listed(paths: Sequence[Path]) -> str:
    rest = f"\n  and {len(paths) - _MOST_LISTED} more" if len(paths) > _MOST_LISTED else ""
    return "".join(f"\n  {path}" for path in paths[:_MOST_LISTED]) + rest
