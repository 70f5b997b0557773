"""The table of checks, and the only place where an exception of other people's code becomes a failed check."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vlm_r1.conformance import encoding, outputs, training
from vlm_r1.conformance.base import Check, Finding, Result, Status
from vlm_r1.conformance.context import Context
from vlm_r1.errors import ConfigError, VlmR1Error
from vlm_r1.registry import suggestion

LOADS = "loads"

CHECKS: tuple[Check, ...] = (
    Check(LOADS, "config, tokenizer, template, image processor and weights load and fit together", encoding.loads),
    Check("encode", "as many placeholder tokens as image features, known from sizes alone", encoding.encode),
    Check("frames", "sizes of images before and after processing, and a box format", encoding.frames),
    Check("neighbours", "how an image is seen does not depend on other images", encoding.neighbours),
    Check("stop", "gold answers end with a stop token of the generation config", encoding.stop),
    Check("banned", "tokens that stand for images cannot be sampled", outputs.banned),
    Check("positions", "log-probabilities equal those of transformers' own forward", outputs.positions),
    Check("processor", "tokens and log-probabilities equal those of the checkpoint's own processor", outputs.processor),
    Check("prefix", "a prompt computed once for all its completions equals plain rows", outputs.prefix),
    Check("sampler", "tokens are drawn with the log-probabilities that are trained", outputs.sampler),
    Check("generate", "greedy completions equal those of transformers' generate", outputs.generate),
    Check("images", "other pixels change what the model says", outputs.images),
    Check("freeze", "exactly what makes image features is frozen", training.freeze),
    Check("step", "an optimizer step changes exactly what should train", training.step),
    Check("lora", "LoRA leaves out what makes image features, and trains adapters only", training.lora),
    Check("save", "a saved model is the same in plain transformers", training.save),
)
"""The checks in the order in which they run. A failure often explains later ones. The last four change models."""


def select_checks(only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[Check]:
    """Return the checks of the names in `only`, or all, except those in `skip`.

    Raises:
        ConfigError: a name is unknown, or no check is left.
    """
    names = [check.name for check in CHECKS]
    for name in (*only, *skip):
        if name not in names:
            raise ConfigError(f'unknown check "{name}". {suggestion(name, names)}Known: {", ".join(names)}')
    chosen = [check for check in CHECKS if check.name not in skip and (not only or check.name in only)]
    if not chosen:
        raise ConfigError("no check is left: --only and --skip name the same ones")
    return chosen


def run_checks(
    context: Context, checks: Sequence[Check] = CHECKS, begin: Callable[[Check], None] = lambda check: None
) -> Iterator[Result]:
    """Run the checks one after the other, even if some fail; stop only if the checkpoint does not load.

    Args:
        begin: called before each check, to show progress.
    """
    for check in checks:
        begin(check)
        started = time.perf_counter()
        finding = _find(check, context)
        status = Status.FAILED if finding.problems else Status.NOT_APPLICABLE if finding.not_applicable else Status.OK
        message = "\n".join(finding.problems) or finding.not_applicable
        yield Result(check.name, status, finding.numbers, message, time.perf_counter() - started)
        if check.name == LOADS and not finding.numbers:
            return


def _find(check: Check, context: Context) -> Finding:
    """Run a check. Adapters and model code from anywhere run here, and may raise anything."""
    try:
        return check.function(context)
    except VlmR1Error as error:
        return Finding(problems=(str(error),))
    except Exception as error:  # noqa: BLE001
        lines = str(error).strip().splitlines()
        said = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        return Finding(problems=(f"{said} ({_place(error)})",))


def _place(error: Exception) -> str:
    """Return the place of an error: the deepest line outside installed packages, most often in the adapter."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name}"
