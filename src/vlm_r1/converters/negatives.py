"""Absent names added to the questions of a detection file, so that a model learns to say what is not there.

A name is added only if no answer about that image holds it, so the images must be annotated with all the names, as
COCO's are. A name is also not added in two cases: the question already asks for it or for a synonym, or all its words
are in a name that is present. With "brown dog" in the image, "dog" is no negative.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from heapq import nlargest
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

from vlm_r1.converters.base import Conversion, Converter, Job, Line, clean_text, option
from vlm_r1.converters.files import shown, take
from vlm_r1.data.instructions import is_whole_instruction
from vlm_r1.errors import DataError
from vlm_r1.files import read_text
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.parsing.labelled_boxes import parse_labelled_boxes
from vlm_r1.parsing.names import list_names, split_names
from vlm_r1.parsing.tags import read_gold
from vlm_r1.types import IMAGE_TOKEN, AnswerValue, ParseFailure

OWN_SENTENCE = "question in words of its own, left as it is"
NONE_LEFT = "no absent name left to add"
_LIST = re.compile(r"(?P<before>.*\bfollowing objects: )(?P<names>.*?)(?P<after>\. .*)", flags=re.DOTALL)  # paper §5.1
_NEAREST_FOR_EACH = 4  # names that "similar" chooses from, for each one that it adds
_REMEMBERED = 1 << 16  # names whose words are remembered


@dataclass(frozen=True)
class NegativesOptions:
    """Number and choice of the added names."""

    per_record: tuple[int, int] = option((1, 3), "how many names are added to each question, e.g. 2 or 1:3")
    strategy: str = option(
        "uniform",
        "uniform; frequency: those that occur often; similar: those that share words and spelling with a name asked",
        ("uniform", "frequency", "similar"),
    )
    labels: str | None = option(None, "file of names, one on a line, to draw from in addition to the file's own")
    synonyms: str | None = option(None, "file of names that mean the same, one group on a line: couch = sofa = settee")
    seed: int = option(0, "names the random choice; each record has its own stream")


def convert(job: Job, options: NegativesOptions) -> Conversion:
    """Convert a detection file of docs/data.md to one with longer questions; other keys stay as they are.

    Raises:
        DataError: a line is not a detection record, or the file of an option cannot be read.
    """
    rows = [_parse(job.source, number, text) for number, text in _lines_of(job.source)]
    groups = _synonyms(Path(options.synonyms).expanduser()) if options.synonyms else {}
    extra = [text for _, text in _lines_of(Path(options.labels).expanduser())] if options.labels else []
    pool = Pool.of(rows, [clean_text(name) for name in extra], groups)
    return Conversion("ovd", job.images or job.source.parent, _with_negatives(job, options, rows, pool))


@dataclass(frozen=True)
class Question:
    """The question of one record.

    Attributes:
        line: the record.
        names: the names that it asks for; None: the question is a sentence without a list of names.
        present: the names for which its answer has boxes.
        before, after: the sentence around the names, or "".
    """

    line: Line
    names: Sequence[str] | None
    present: frozenset[str]
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Pool:
    """Names to draw from.

    Attributes:
        counts: name → number of records whose answer has it, in alphabetical order.
        present: image → all names in the answers about it.
        synonyms: key of a name → keys of all names that mean the same (see `key_of`).
    """

    counts: Mapping[str, int]
    present: Mapping[str, frozenset[str]]
    synonyms: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, rows: Sequence[Question], extra: Sequence[str], synonyms: Mapping[str, frozenset[str]]) -> Pool:
        """Collect the names of all answers and questions and of an extra list; count those of the answers."""
        counts: Counter[str] = Counter()
        present: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            counts.update(row.present)
            present[row.line.image] |= row.present
        everything = {*counts, *(name for row in rows for name in row.names or ()), *extra} - {""}
        by_image = {image: frozenset(names) for image, names in present.items()}
        return cls({name: counts[name] for name in sorted(everything)}, by_image, synonyms)

    def candidates(self, row: Question) -> list[str]:
        """The names that may be added to a question, in alphabetical order."""
        there = self.present[row.line.image]
        keys = {key for name in (*there, *(row.names or ())) for key in self._same(key_of(name))}
        excluded = {name for key in keys for name in self._by_key.get(key, ())}
        for words in map(words_of, there):
            excluded |= {name for word in words for name in self._by_word.get(word, ()) if words_of(name) <= words}
        return [name for name in self.counts if name not in excluded]

    def nearest(self, name: str) -> list[str]:
        """The other names of the pool with a similarity above 0, the most similar first."""
        if name not in self._nearest:
            scores = {other: similarity(name, other) for other in self.counts}
            self._nearest[name] = sorted((n for n in scores if scores[n] > 0), key=lambda n: (-scores[n], n))
        return self._nearest[name]

    def _same(self, key: str) -> frozenset[str]:
        return self.synonyms.get(key, frozenset({key}))

    @cached_property
    def _nearest(self) -> dict[str, list[str]]:
        return {}

    @cached_property
    def _by_key(self) -> dict[str, list[str]]:
        return _grouped((key_of(name), name) for name in self.counts)

    @cached_property
    def _by_word(self) -> dict[str, list[str]]:
        return _grouped((word, name) for name in self.counts for word in words_of(name))


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for key, name in pairs:
        groups[key].append(name)
    return dict(groups)


def choose(pool: Pool, row: Question, n: int, strategy: str, rng: Random) -> list[str]:
    """Draw up to n names for a question; see `NegativesOptions.strategy`."""
    candidates = pool.candidates(row)
    if strategy == "frequency":  # Efraimidis and Spirakis 2006: the n largest u^(1/weight) are a weighted sample
        keys = {name: rng.random() ** (1 / (pool.counts[name] + 1)) for name in candidates}
        return nlargest(n, candidates, key=keys.__getitem__)
    chosen: list[str] = []
    if strategy == "similar":
        chosen = _sample(_most_similar(pool, row, set(candidates), _NEAREST_FOR_EACH * n), n, rng)
    rest = [name for name in candidates if name not in chosen] if chosen else candidates
    return chosen + _sample(rest, n - len(chosen), rng)


def _most_similar(pool: Pool, row: Question, allowed: set[str], most: int) -> list[str]:
    """At least `most` of the allowed names, if there are so many: the nearest to each asked name, then the second, …"""
    found: dict[str, None] = {}
    for rank in zip_longest(*(pool.nearest(name) for name in row.names or ())):
        if len(found) >= most:
            break
        found |= dict.fromkeys(name for name in rank if name in allowed)
    return list(found)


def similarity(a: str, b: str) -> float:
    """Similarity of two names in [0, 1]: the mean of the shares of common words and of common triples of letters.

    >>> similarity("red car", "red bus"), similarity("cat", "dog")  # words 1/3; " re", "red", "ed " of 11 triples
    (0.303030303030303, 0.0)
    """
    return (_share(words_of(a), words_of(b)) + _share(_triples(a), _triples(b))) / 2


@lru_cache(maxsize=_REMEMBERED)
def key_of(name: str) -> str:
    """Return the key by which names are compared: case, white space, punctuation and a plural s do not count.

    >>> key_of("Brown  Dogs, asleep"), key_of("glass")
    ('brown dog asleep', 'glass')
    """
    return " ".join(_singular(word) for word in re.findall(r"\w+", name.casefold()))


@lru_cache(maxsize=_REMEMBERED)
def words_of(name: str) -> frozenset[str]:
    """The words of a name's key."""
    return frozenset(key_of(name).split())


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


@lru_cache(maxsize=_REMEMBERED)
def _triples(name: str) -> frozenset[str]:
    padded = f" {key_of(name)} "
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))


def _share(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(len(a | b), 1)


def _sample(names: Sequence[str], n: int, rng: Random) -> list[str]:
    return rng.sample(names, min(n, len(names)))


def _with_negatives(job: Job, options: NegativesOptions, rows: Sequence[Question], pool: Pool) -> Iterator[Line]:
    for row in job.track(rows):
        if row.names is None:
            job.tally.note(OWN_SENTENCE, example=row.line.id)
            yield row.line
            continue
        rng = Random(f"{options.seed}/{row.line.id}".encode("utf-8", "surrogatepass"))
        chosen = choose(pool, row, rng.randint(*options.per_record), options.strategy, rng)
        job.tally.kept["added name"] += len(chosen)
        job.tally.note(NONE_LEFT, not chosen and options.per_record[0] > 0, row.line.id)
        names = [*row.names, *chosen]
        if chosen:
            rng.shuffle(names)  # otherwise a name's place in the list would reveal whether it is present
        question = f"{row.before}{list_names(names)}{row.after}"
        extra: dict[str, AnswerValue] = {**row.line.extra, "targets": [*names]}
        yield Line(row.line.id, row.line.image, question, row.line.answer, extra)


def _lines_of(path: Path) -> list[tuple[int, str]]:
    """Number and text of each line that is not blank."""
    try:
        texts = read_text(path, "utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from error
    return [(number, text) for number, text in enumerate(texts, start=1) if text.strip()]


def _parse(path: Path, number: int, text: str) -> Question:
    source = f"{path}:{number}"
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: not valid JSON: {error}. Wanted one JSON object on the line") from error
    turns = take(row, "conversations", list, source)
    if len(turns) != 2:
        raise DataError(f"{source}: {len(turns)} turns, wanted the question and the answer")
    asked = take(turns[0], "value", str, source, "conversations", 0).replace(IMAGE_TOKEN, "").strip()
    image = row.get("image")
    image = image[0] if is_list(image) and len(image) == 1 else image
    if not isinstance(image, str):
        raise DataError(f'{source}: "image" is {shown(image)}, wanted one path')
    answer = turns[1].get("value") if is_object(turns[1]) else None
    others = {key: value for key, value in row.items() if key not in ("id", "image", "conversations", "targets")}
    line = Line(str(row.get("id", number)), image, asked, answer, others)
    present = _present(answer, source)
    in_sentence = _LIST.fullmatch(asked)
    before, after = (in_sentence["before"], in_sentence["after"]) if in_sentence else ("", "")
    return Question(line, _names(row, in_sentence["names"] if in_sentence else asked, source), present, before, after)


def _names(row: Mapping[str, Any], asked: str, source: str) -> list[str] | None:
    """The names that are asked for, from `targets` or else from the list in the question; None: there is no list."""
    if "targets" in row:
        return [str(name) for name in take(row, "targets", list, source)]
    if is_whole_instruction(asked):
        return None
    return split_names(asked.rstrip("."))


def _present(answer: Any, source: str) -> frozenset[str]:
    text = read_gold(answer)[1] if isinstance(answer, str) else json.dumps(answer)
    parsed = parse_labelled_boxes(text)
    if isinstance(parsed, ParseFailure) and parsed.reason != "too_long":
        raise DataError(
            f"{source}: the gold answer {shown(answer)} is no list of labelled boxes ({parsed.reason}); wanted "
            '[{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}, …], or "None"'
        )
    return frozenset() if isinstance(parsed, ParseFailure) else frozenset(item.label for item in parsed.value)


def _synonyms(path: Path) -> dict[str, frozenset[str]]:
    """Read a file of synonyms: key of each name → the keys of its group."""
    groups: dict[str, frozenset[str]] = {}
    for _, text in _lines_of(path):
        keys = frozenset(key_of(name) for name in text.split("=") if name.strip())
        groups |= {key: groups.get(key, frozenset()) | keys for key in keys}
    return groups


NEGATIVES = Converter(
    name="negatives",
    summary="absent names added to the questions of a detection file",
    layout="a JSONL file for task ovd, e.g. one made by the formats above",
    options=NegativesOptions,
    convert=convert,
    gives_sizes=False,
)
