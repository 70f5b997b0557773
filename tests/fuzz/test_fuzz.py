"""Damaged inputs of every reader, converter and page: each is read, or is a clear error, in bounded time.

`make fuzz` tries many with other seeds; here are few, always the same, and the failures found before (corpus/).
"""

from __future__ import annotations

import base64
import json
import os
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from testing_mutations import CannotBeWrittenError, damaged_bytes, damaged_tree, written
from testing_targets import Target, make_targets, write_run
from vlm_r1.errors import VlmR1Error

CORPUS = Path(__file__).parent / "corpus"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
LIMIT_S = 30
TOO_LONG = 20_000
"""Characters of a message."""

with tempfile.TemporaryDirectory() as made:
    TARGETS = make_targets(write_run(Path(made)))


class TooSlowError(BaseException):
    """Not an Exception, so that no reader takes it for an error of its input."""


def _too_slow(*_: object) -> None:
    raise TooSlowError(f"still running after {LIMIT_S} s")


def try_one(name: str, changed: Mapping[str, bytes]) -> VlmR1Error | None:
    """Read a target with changed files; returns the error that says what is wrong with them, if any."""
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        target.write(folder, changed)
        signal.signal(signal.SIGALRM, _too_slow)
        signal.alarm(LIMIT_S)
        try:
            target.read(folder)
        except VlmR1Error as error:
            if name.startswith("report") or len(str(error)) > TOO_LONG:  # a report always comes out
                raise AssertionError(f"{name}: {str(error)[:1000]}") from error
            return error
        except BaseException as error:
            content = {path: base64.b64encode(data).decode() for path, data in changed.items()}
            error.add_note("for tests/fuzz/corpus: " + json.dumps({"target": name, "files": content})[:5000])
            raise
        finally:
            signal.alarm(0)
    return None


@st.composite
def changes(draw: st.DrawFn, target: Target) -> dict[str, bytes]:
    """Changed contents of one file of a target, the first for a report."""
    files = list(target.files)[:1] if len(target.files) > 4 else list(target.files)
    name = draw(st.sampled_from(files))
    content = target.files[name]
    if isinstance(content, bytes):
        return {name: draw(damaged_bytes(content))}
    if draw(st.integers(0, 4)) == 0:
        return {name: draw(damaged_bytes(written(name, content)))}
    tree = draw(damaged_tree(content))
    try:
        return {name: written(name, tree)}
    except CannotBeWrittenError:
        assume(False)
        raise


@pytest.mark.parametrize("name", TARGETS)
def test_control_a_sound_input_is_read(name: str) -> None:
    error = try_one(name, {})
    assert error is None or "no record is left" in str(error), error


@pytest.mark.parametrize("name", TARGETS)
def test_damage_is_read_or_is_a_clear_error(name: str) -> None:
    @settings(
        max_examples=EXAMPLES or 6,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        changed = data.draw(changes(TARGETS[name]))
        assume(changed)
        try_one(name, changed)

    run()


@pytest.mark.parametrize("case", sorted(CORPUS.glob("*.json")), ids=lambda path: path.stem)
def test_a_failure_of_before_stays_mended(case: Path) -> None:
    found = json.loads(case.read_text(encoding="utf-8"))
    files = {
        path: content.encode() if isinstance(content, str) else base64.b64decode(content["base64"])
        for path, content in found["files"].items()
    }
    error = try_one(found["target"], files)
    assert found["error"] in str(error or ""), error
