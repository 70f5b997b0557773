"""`vlm_r1.evaluate`: what `vlm-r1 eval` does, from Python."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vlm_r1.api.frames import estimates, frame
from vlm_r1.cli import eval as command
from vlm_r1.errors import ConfigError
from vlm_r1.evaluation.samples import Sample, read_samples, samples_path
from vlm_r1.registry import suggestion
from vlm_r1.runtime.run_folder import read_json

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        path: of `NAME.json`; `NAME.samples.jsonl` lies beside it.
        result: the content of `NAME.json` (docs/evaluation.md): metrics with intervals, protocol, provenance.
    """

    path: Path
    result: Mapping[str, Any]

    @property
    def metrics(self) -> pd.DataFrame:
        """A row for each metric: metric, mean, low, high (ends of the 95 % interval), n."""
        return frame(estimates(self.result["metrics"]))

    @property
    def samples(self) -> pd.DataFrame:
        """A row for each answer, with the columns of `NAME.samples.jsonl` (docs/runs.md)."""
        return frame(sample.row for sample in self)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the answers, in the order of the records."""
        return read_samples(samples_path(self.path))

    def __getitem__(self, place: int) -> Sample:
        """Return the answer at a place, from 0; negative ones count from the end."""
        return list(self)[place]

    def _repr_html_(self) -> str:
        return self.metrics.to_html(index=False)  # pyright: ignore[reportUnknownMemberType]


def evaluate(model: str | Path, data: str | Path, protocol: str | Path | None = None, **options: Any) -> Evaluation:
    """Ask a model a data file, measure its answers by a protocol, and return the result.

    Args:
        model: run folder, Hugging Face folder (a run's model/, checkpoint or export), LoRA adapters, or hub name.
        data: data file, of any format of docs/data.md.
        protocol: a shipped one by name, or the path of a YAML file (docs/evaluation.md); None: as the model was
            trained, without a protocol.
        **options: the options of `vlm-r1 eval`, with _ for -, e.g. out="eval", image_root="coco/train2014", limit=100.

    Returns:
        The result. Its files are in the folder `out`, by default "eval".

    Raises:
        ConfigError: an option is unknown or has a wrong value.
        VlmR1Error: model, data or protocol cannot be used.
    """
    if protocol is not None:
        options["protocol"] = protocol
    words, hidden = [str(model), str(data)], {"data_file", "protocols"}
    path = command.evaluate(parse("evaluate", command.add_arguments, words, options, hidden=hidden))
    if path is None:
        raise ConfigError("the first of several processes has the result; call vlm-r1 eval for several processes")
    return Evaluation(path, read_json(path))


def parse(
    name: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    words: Sequence[str],
    options: Mapping[str, Any],
    *,
    hidden: Set[str],
) -> argparse.Namespace:
    """Read options of a command that were given as arguments of a function.

    Args:
        name: of command and function.
        words: the arguments of the command.
        hidden: options of the command that the function has not.

    Raises:
        ConfigError: an option is unknown or has a wrong value.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    add_arguments(parser)
    known = {action.dest for action in parser._actions if action.option_strings} - hidden
    if unknown := [option for option in options if option not in known]:
        raise ConfigError(
            f'{name}() has no option "{unknown[0]}". {suggestion(unknown[0], known)}See vlm-r1 '
            f"{'eval' if name == 'evaluate' else name} --help"
        )
    given = [word for option, value in options.items() for word in _words(f"--{option.replace('_', '-')}", value)]
    try:
        return parser.parse_args([*given, "--", *words])
    except argparse.ArgumentError as error:
        raise ConfigError(f"{name}(): {error}") from error


def _words(option: str, value: Any) -> Iterator[str]:
    """Write an option as on the command line; None and False leave it out."""
    if value is True:
        yield option
    elif isinstance(value, list | tuple):
        for one in cast("Sequence[object]", value):
            yield f"{option}={one}"
    elif isinstance(value, dict):
        yield f"{option}={json.dumps(value)}"
    elif value is not None and value is not False:
        yield f"{option}={value}"
