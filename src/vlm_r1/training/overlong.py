"""Leaves out and counts the records whose prompts are too long (`data.filter_overlong_prompts`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlm_r1.config import Config
from vlm_r1.data.records import CHECKED_LINES, RecordFile
from vlm_r1.data.rows import Problem, summarise
from vlm_r1.data.sources import Sources, evenly
from vlm_r1.errors import DataError, DataFileError
from vlm_r1.rollouts.env import Env
from vlm_r1.types import Record


def leave_out_overlong(
    config: Config, env: Env, records: Sources, held_out: Mapping[str, Sources]
) -> tuple[Sources, dict[str, Sources]]:
    """Leave out the records whose prompts have more than `max_prompt_length` tokens, if the recipe asks for it.

    Held-out sets, and training data of at most `CHECKED_LINES` records, are measured whole, by the texts and the
    headers of the images. Of larger training data that many records are measured and counted; every record that is too
    long is left out when it is drawn (`Drawing`).

    Raises:
        DataError: a record cannot be measured, e.g. its image is missing; or a source has none left.
    """
    if not config.data.filter_overlong_prompts:
        return records, dict(held_out)
    whole = len(records) <= CHECKED_LINES
    train = _measure_whole(records, env) if whole else _measure_sample(records, env)
    return train, {name: _measure_whole(one_set, env) for name, one_set in held_out.items()}


def fitting(sample: Sequence[Record], env: Env, config: Config) -> Sequence[Record]:
    """Return the records of a sample that are not left out because their prompts are too long.

    Raises:
        DataError: all are.
    """
    if not config.data.filter_overlong_prompts:
        return sample
    found = [record for record in sample if not env.is_overlong(record)]
    if not found:
        raise _all_overlong(len(sample), env)
    return found


def _measure_whole(sources: Sources, env: Env) -> Sources:
    problems: list[Problem] = []
    files: list[RecordFile] = []
    for file in sources.files:
        found = {place: _measure(file, place, env, sources) for place in range(len(file))}
        problems += [one for one in found.values() if isinstance(one, Problem)]
        overlong = {place for place, one in found.items() if one is True}
        if len(overlong) == len(file):
            least = min(env.prompt_length(record) for record in file)
            problems.append(
                Problem(
                    file.source.path,
                    f"all {len(file):,} prompts are longer than max_prompt_length {env.max_prompt_length}, the "
                    f"shortest has {least} tokens: raise data.max_prompt_length, or lower model.max_pixels",
                )
            )
        files.append(file.without_overlong(overlong) if overlong else file)
    if problems:
        raise DataError(summarise(problems))
    return Sources(files, sources.bad)


def _measure(file: RecordFile, place: int, env: Env, sources: Sources) -> bool | Problem:
    """Return whether a record is too long; False for one that is known to be bad, which the drawing skips."""
    source = ""
    try:
        record = file[place]
        source = record.source
        return source not in sources.bad and env.is_overlong(record)
    except DataFileError:
        raise
    except DataError as error:
        source = source or str(error).partition(": ")[0]
        return False if source in sources.bad else Problem(source, str(error).removeprefix(f"{source}: "))


def _measure_sample(sources: Sources, env: Env) -> Sources:
    looked_at = evenly(sources, CHECKED_LINES)
    overlong = [record.source for record in looked_at if env.is_overlong(record)]
    if len(overlong) == len(looked_at):
        raise _all_overlong(len(overlong), env)
    return Sources(sources.files, {*sources.bad, *overlong}, (len(overlong), len(looked_at)))


def _all_overlong(n: int, env: Env) -> DataError:
    return DataError(
        f"data.train: all {n:,} prompts that were measured are longer than max_prompt_length {env.max_prompt_length}: "
        "raise data.max_prompt_length, or lower model.max_pixels"
    )
