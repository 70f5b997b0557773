"""Lines about the data of a run, said at its start and by `--dry-run`: how many records there are, and of how many."""

from __future__ import annotations

from collections.abc import Mapping

from vlm_r1.config.secrets import masked
from vlm_r1.data.reward_keys import unused_reward_keys
from vlm_r1.data.sources import Sources, evenly, readable, shared_pictures

LOOKED_AT = 2000
"""Number of rows that are read again to find keys which may mean a reward."""


def source_lines(records: Sources) -> list[str]:
    """Return a line for each training file of which some records are left out, and how many more may be."""
    lines = [f"data         {masked(file.source.path)}: {file.describe()}" for file in records.files if file.is_partial]
    n, measured = records.overlong
    if n:
        lines.append(
            f"data         of {measured:,} records that were measured, {n:,} have prompts longer than "
            "max_prompt_length: such records are left out when they are drawn"
        )
    return lines


def reward_lines(records: Sources) -> list[str]:
    """Return a line for each key of the training rows that may mean a reward but is not used.

    At most `LOOKED_AT` rows are looked at, evenly spaced. One that cannot be read is named when it is drawn.
    """
    looked_at = [*readable(evenly(records, LOOKED_AT))]
    of = "" if len(looked_at) == len(records) else f" (of {len(looked_at):,} records that were looked at)"
    return [f"data.train: {sentence}{of}" for sentence in unused_reward_keys(looked_at)]


def held_out_lines(records: Sources, held_out: Mapping[str, Sources]) -> list[str]:
    """Return a line for each held-out set, with the number of its records whose pictures are trained on."""
    lines: list[str] = []
    for name, n_shared in shared_pictures(records, held_out).items():
        advice = " (split_by: image keeps them apart)" if n_shared else ""
        (file,) = held_out[name].files
        lines.append(
            f"held out     {name}: {file.describe()}, of which {n_shared:,} show pictures that are trained on{advice}"
        )
    return lines
