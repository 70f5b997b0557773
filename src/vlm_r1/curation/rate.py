"""Ratings of records for a curriculum: the share of G sampled answers that are right says how hard a record is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlm_r1.errors import DataError
from vlm_r1.files import read_text
from vlm_r1.rewards.base import TRAINED
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.groups import sample_groups
from vlm_r1.runtime.phases import Phases
from vlm_r1.sampling import Sampler, SamplingParams
from vlm_r1.types import Group, Record


@dataclass(frozen=True)
class Rating:
    """The accuracies of a model's answers to one record.

    Attributes:
        source: the record's line, e.g. "train.jsonl:17".
        accuracies: the accuracy reward of each of the G answers, e.g. (0.0, 0.71, 0.64, 0.0). Answers that the reward
            left out are missing, so it may be empty.
    """

    source: str
    accuracies: tuple[float, ...]

    def pass_rate(self, pass_from: float) -> float | None:
        """Share of the answers whose accuracy reaches `pass_from`, in [0, 1]; None if none was judged.

        >>> Rating("a.jsonl:1", (0.0, 0.71, 0.5, 0.1)).pass_rate(0.5)
        0.5
        """
        if not self.accuracies:
            return None
        return sum(accuracy >= pass_from for accuracy in self.accuracies) / len(self.accuracies)

    @property
    def mean_accuracy(self) -> float:
        """Mean of the accuracies; 0 if there are none."""
        return sum(self.accuracies) / max(len(self.accuracies), 1)


def rate_records(
    records: Sequence[Record],
    env: Env,
    sampler: Sampler,
    params: SamplingParams,
    *,
    n: int,
    seed: int,
    batch_size: int,
) -> Iterator[list[Rating]]:
    """Sample n answers of each record and judge them; yields the ratings of `batch_size` records at a time, in order.

    A rating depends on its record, the model, `params` and the seed, not on the batch it is in.
    """
    for start in range(0, len(records), batch_size):
        batch = list(records[start : start + batch_size])
        groups = sample_groups(batch, env, sampler, params, n=n, run_seed=seed, phases=Phases(), trainer_state=TRAINED)
        yield [_rating(group) for group in groups]


def _rating(group: Group) -> Rating:
    accuracies = [rollout.score.parts["accuracy"] for rollout in group.rollouts]
    return Rating(group.record.source, tuple(accuracy for accuracy in accuracies if accuracy is not None))


def continue_ratings(
    path: Path,
    settings: Mapping[str, Any],
    records: Sequence[Record],
    rate: Callable[[Sequence[Record]], Iterator[list[Rating]]],
) -> Iterator[list[Rating]]:
    """Yield the ratings of all records: first those in the file `path`, then new ones, which are appended to it.

    Args:
        path: a line with the settings, then a line for each rated record; created if missing. An incomplete last line,
            left by a killed run, is dropped.
        settings: everything except the records that the ratings depend on.
        rate: rates the records that are not in the file yet.

    Raises:
        DataError: the file was made with other settings or other records.
    """
    header = json.dumps({"settings": settings}, sort_keys=True)
    done = _read(path, header, records) if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w" if not done else "r+", encoding="utf-8") as file:
        kept = "".join(f"{line}\n" for line in (header, *(json.dumps(asdict(rating)) for rating in done)))
        file.write(kept)
        file.truncate()
        file.flush()
        if done:
            yield done
        for ratings in rate(records[len(done) :]):
            file.write("".join(f"{json.dumps(asdict(rating))}\n" for rating in ratings))
            file.flush()
            yield ratings


def _read(path: Path, header: str, records: Sequence[Record]) -> list[Rating]:
    first, *lines = read_text(path).split("\n")[:-1] or [""]
    if first and first != header:
        raise DataError(
            f"{path}: made with other settings: {first:.500}; now {header:.500}. Choose another --out, or delete it"
        )
    rows = [json.loads(line) for line in lines]
    ratings = [Rating(row["source"], tuple(row["accuracies"])) for row in rows]
    for rating, record in zip(ratings, records, strict=False):
        if rating.source != record.source:
            raise DataError(f"{path}: rates {rating.source} where the data has {record.source}: made of other records")
    if len(ratings) > len(records):
        raise DataError(f"{path}: rates {len(ratings)} records, but the data has {len(records)}")
    return ratings
