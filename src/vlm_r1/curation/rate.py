"""Ratings of records for a curriculum: the share of G sampled answers that are right says how hard a record is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlm_r1.errors import CheckpointError, DataError
from vlm_r1.files import read_text
from vlm_r1.parsing.json_values import is_list, is_object
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
        record: hash of what the record asks and is judged by, but for the bytes of its pictures.
        accuracies: the accuracy reward of each of the G answers, e.g. (0.0, 0.71, 0.64, 0.0). Answers that the reward
            left out are missing, so it may be empty.
    """

    source: str
    record: str
    accuracies: tuple[float, ...]

    def pass_rate(self, pass_from: float) -> float | None:
        """Share of the answers whose accuracy reaches `pass_from`, in [0, 1]; None if none was judged.

        >>> Rating("a.jsonl:1", "5f…", (0.0, 0.71, 0.5, 0.1)).pass_rate(0.5)
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
    kept = tuple(accuracy for accuracy in accuracies if accuracy is not None)
    return Rating(group.record.source, hash_record(group.record), kept)


def hash_record(record: Record) -> str:
    """Return a hash of a record, but for the bytes of its pictures."""
    return hashlib.blake2b(repr((record, record.row)).encode(errors="surrogatepass"), digest_size=8).hexdigest()


def continue_ratings(
    path: Path,
    settings: Mapping[str, Any],
    records: Sequence[Record],
    rate: Callable[[Sequence[Record]], Iterator[list[Rating]]],
) -> Iterator[list[Rating]]:
    """Yield the ratings of all records: first those in the file `path`, then new ones, which are appended to it.

    Args:
        path: a line with the settings, then a line for each rated record; created if missing. An incomplete last line,
            left by a killed run, is dropped. The caller holds the lock of the output.
        settings: everything except the records that the ratings depend on.
        rate: rates the records that are not in the file yet.

    Raises:
        DataError: the file was made with other settings or other records, or a line before the last is damaged.
        CheckpointError: it cannot be written.
    """
    header = json.dumps({"settings": settings}, sort_keys=True)
    done = _read(path, header, records) if path.exists() else []
    _write(path, "r+" if path.exists() else "w", "".join(f"{line}\n" for line in (header, *map(_line, done))))
    if done:
        yield done
    for ratings in rate(records[len(done) :]):
        _write(path, "a", "".join(f"{_line(rating)}\n" for rating in ratings))
        yield ratings


def _write(path: Path, mode: str, text: str) -> None:
    """Write lines at the end of the file, or from its start; then nothing that was there follows them."""
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
            file.truncate()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written: {error.strerror}. Wanted a writable file and free space; then go on"
        ) from error


def _line(rating: Rating) -> str:
    return json.dumps(asdict(rating))


def _read(path: Path, header: str, records: Sequence[Record]) -> list[Rating]:
    try:
        *whole, torn = read_text(path).split("\n")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}. Choose another --out, or delete it"
        ) from error
    first = whole[0] if whole else torn
    if first != header and not (not whole and header.startswith(torn)):
        raise DataError(
            f"{path}: made with other settings: {first:.500}; now {header:.500}. Choose another --out, or delete it"
        )
    ratings = [_rating_of(f"{path}:{number}", line) for number, line in enumerate(whole[1:], start=2)]
    for rating, record in zip(ratings, records, strict=False):
        if rating.source != record.source:
            raise DataError(f"{path}: rates {rating.source} where the data has {record.source}: made of other records")
        if rating.record != hash_record(record):
            raise DataError(
                f"{path}: {record.source} has changed since it was rated. Choose another --out, or delete it"
            )
    if len(ratings) > len(records):
        raise DataError(f"{path}: rates {len(ratings)} records, but the data has {len(records)}")
    return ratings


def _rating_of(place: str, line: str) -> Rating:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    accuracies = row.get("accuracies") if is_object(row) else None
    if not is_object(row) or not is_list(accuracies) or not all(type(value) in (int, float) for value in accuracies):
        raise DataError(
            f'{place}: wanted a rating, {{"source": …, "record": …, "accuracies": [numbers]}}, got {line:.80}. Only '
            "the last line may be torn. Restore the file, or delete it to rate anew"
        )
    return Rating(str(row.get("source")), str(row.get("record")), tuple(accuracies))
