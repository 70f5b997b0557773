"""Protocols: small declared files that say exactly how a model is measured, so that two numbers can be compared.

A shipped one is a YAML file in `evaluation/protocols/`, described in docs/evaluation.md; an own one is a path. A
protocol is data: it names built-in tasks and templates, or what the command line names too (docs/security.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

from vlm_r1.config.base import (
    NonNegativeFloat,
    NonNegativeInt,
    PlainName,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
)
from vlm_r1.config.data import SystemPrompt
from vlm_r1.config.yaml_text import NO_YAML, read_yaml
from vlm_r1.errors import ConfigError
from vlm_r1.files import read_text
from vlm_r1.parsing.json_values import is_object
from vlm_r1.registry import suggestion

_FOLDER = files("vlm_r1.evaluation") / "protocols"

Several = Literal["error", "first", "last", "largest"]
"""Which of several different boxes in an answer to `rec` counts; error: none, the answer cannot be read."""

Reading = Literal["strict", "official", "official_baseline"]
"""Who reads the answers: our parsers, or the original VLM-R1's evaluation of models with or without thinking."""


class DataSet(Section):
    """The records that a protocol is about.

    Attributes:
        set: name of the published set, e.g. "RefCOCO".
        split: e.g. "val"; None: it has no splits.
        records: how many records the converted file has; another number is said. None: it varies, or is not known.
        splits: splits of a set that are measured alike, with their numbers of records. The name of the protocol means
            the first; the others are NAME_SPLIT, e.g. refcoco_testA. A loaded protocol has the chosen one under
            `split` and `records`, and none here.
        convert: the command that makes the file, with {split} for the name of the split.
        source: where the set is published, and the paper to cite.
    """

    set: str
    split: str | None = None
    records: PositiveInt | None = None
    splits: Mapping[str, PositiveInt | None] = Field(default_factory=dict[str, PositiveInt | None])
    convert: str | None = None
    source: str | None = None


class Decoding(Section):
    """How answers are drawn. Greedy, temperature 0, is the default.

    Attributes:
        temperature, top_p, top_k, min_p: see `SamplingParams`.
        repetition_penalty: the same; results do not name one of 1, so they can be compared with older ones.
        max_completion_length: cap in tokens; None: as the model was trained.
        samples: k, answers to each record.
        seed: decides the draws of a temperature above 0.
    """

    temperature: NonNegativeFloat = 0.0
    top_p: Probability = 1.0
    top_k: NonNegativeInt = 0
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    repetition_penalty: PositiveFloat = 1.0
    max_completion_length: PositiveInt | None = None
    samples: PositiveInt = 1
    seed: NonNegativeInt = 0

    @model_serializer(mode="wrap")
    def _without_a_neutral_penalty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        if content.get("repetition_penalty") == 1:
            del content["repetition_penalty"]
        return content

    @model_validator(mode="after")
    def _has_effect(self) -> Decoding:
        if self.temperature == 0:
            for key in ("top_p", "top_k", "min_p", "seed"):
                if self.changes(key):
                    raise ValueError(f"{key} has no effect at temperature 0, which takes the likeliest token")
            if self.samples > 1:
                raise ValueError("samples has no effect at temperature 0: all answers to a record would be the same")
        return self


class Subset(Section):
    """A part of the records: "the first 2,000 after a shuffle with seed 42" is n 2000, seed 42.

    Attributes:
        n: how many records count; all, if there are fewer.
        seed: of the shuffle, `random.Random(seed).shuffle` of the records in the order of the file; None: no shuffle.
    """

    n: PositiveInt
    seed: NonNegativeInt | None = None


class Protocol(Section):
    """How a model is measured on a data set. Two results can be compared only if their protocols are the same.

    Boxes are read in the space in which the model's adapter says that it writes them. It is never guessed from the
    numbers, and never chosen by looking at the gold answer, so it is no option.

    Attributes:
        name: of the protocol, which the shipped file has too.
        title: one line for people.
        data: the records.
        task: the task that asks, reads and measures; None: that of each record.
        template: the words around the question; None: those with which the model was trained.
        system_prompt: the system message of questions whose rows have none; None: the model's of training; "": none.
        several: which of several boxes counts.
        reading: "strict": by our parsers; "official": as the original VLM-R1 reads, its mistakes included, which is how
            the paper's numbers were made; "official_baseline": as it reads models that were not trained to think.
        level: "expression": each record counts once; "object": the records of an object (same images, same gold boxes)
            count once together, by their mean.
        thresholds: of IoU, for accuracies; an answer is right if its IoU is greater, or at least as great.
        inclusive: whether an IoU equal to the threshold is right. COCO's is; the paper's REC is not.
        confidence: scores of boxes for data-set AP, since a text has none. "one": all 1.0, as in the paper; "order":
            the first box written is the surest, 1 / (1 + number of boxes written before).
        metrics: what is reported, the main number first.
        aspects: the overall number is the mean over these of the mean of each one's subsets, e.g. {"object":
            ["celebrity", "logo", "landmark"], …}; empty: there is no such number.
        subsets_by: keys of the records by whose values results are split, e.g. ["platform"].
        decoding: how answers are drawn.
        sample: a part of the records; None: all.
    """

    name: PlainName
    title: str
    data: DataSet
    task: str | None = None
    template: str | None = None
    system_prompt: SystemPrompt | None = None
    several: Several = "error"
    reading: Reading = "strict"
    level: Literal["expression", "object"] = "expression"
    thresholds: tuple[Probability, ...] = (0.5, 0.75, 0.9)
    inclusive: bool = False
    confidence: Literal["one", "order"] = "one"
    metrics: tuple[str, ...] = ()
    aspects: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    subsets_by: tuple[str, ...] = ()
    decoding: Decoding = Field(default_factory=Decoding)
    sample: Subset | None = None

    @model_validator(mode="after")
    def _reads_boxes(self) -> Protocol:
        read = {"official": ("rec", "ovd"), "official_baseline": ("rec",)}.get(self.reading)
        if read and self.task not in (None, *read):
            raise ValueError(f"reading {self.reading} is for task {' or '.join(read)}, got {self.task}")
        return self


def protocol_names() -> list[str]:
    """Return the names of the shipped protocols, in order."""
    return sorted(_shipped())


@cache
def _shipped() -> Mapping[str, Protocol]:
    found: dict[str, Protocol] = {}
    for path in sorted(_FOLDER.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".yaml"):
            protocol = _read(path.read_text(encoding="utf-8"), path.name)
            found |= {one.name: one for one in _each_split(protocol)}
    return found


def _each_split(protocol: Protocol) -> Iterator[Protocol]:
    """Yield a protocol for each split of its data, the first under its own name."""
    data = protocol.data
    if not data.splits:
        yield protocol
    for number, (split, records) in enumerate(data.splits.items()):
        convert = data.convert and data.convert.replace("{split}", split)
        chosen: dict[str, Any] = {"split": split, "records": records, "splits": {}, "convert": convert}
        named = {
            "name": f"{protocol.name}_{split}" if number else protocol.name,
            "title": f"{protocol.title} ({split})",
        }
        yield protocol.model_copy(update={**named, "data": data.model_copy(update=chosen)})


def load_protocol(name: str) -> Protocol:
    """Load a shipped protocol by its name, or one of a YAML file by its path.

    Raises:
        ConfigError: there is no such protocol, or the file is none.
    """
    if name in _shipped():
        return _shipped()[name]
    if Path(name).suffix not in (".yaml", ".yml"):
        known = protocol_names()
        raise ConfigError(
            f"--protocol {name}: there is no such protocol. {suggestion(name, known)}Known: {', '.join(known)}. Your "
            "own: the path of a .yaml file (docs/evaluation.md)"
        )
    try:
        text = read_text(Path(name))
    except OSError as error:
        raise ConfigError(f"--protocol {name}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--protocol {name}: is no text: {error}") from error
    return next(_each_split(_read(text, name)))


def _read(text: str, where: str) -> Protocol:
    try:
        content = read_yaml(text)
    except NO_YAML as error:
        raise ConfigError(f"protocol {where}: is no valid YAML: {error}") from error
    return as_protocol(content, where)


def as_protocol(content: Any, where: str) -> Protocol:
    """Validate a protocol that was read from YAML or JSON.

    Raises:
        ConfigError: a key is unknown or its value is wrong; names all such keys.
    """
    try:
        return Protocol.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"protocol {where}: {wrong} (docs/evaluation.md)") from None


def differences(one: Any, other: Any, prefix: str = "") -> Iterator[str]:
    """Yield the keys in which two resolved protocols, as JSON has them, differ, with both values.

    >>> list(differences({"task": "rec", "sample": {"n": 10}}, {"task": "ovd", "sample": {"n": 20}}))
    ["task: 'rec' and 'ovd'", 'sample.n: 10 and 20']
    """
    if is_object(one) and is_object(other):
        for key in dict.fromkeys([*one, *other]):
            yield from differences(one.get(key), other.get(key), f"{prefix}.{key}" if prefix else key)
    elif one != other:
        yield f"{prefix}: {one!r} and {other!r}"
