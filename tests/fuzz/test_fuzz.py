"""Damaged inputs of every reader, converter and page: each is read, or is a clear error, in bounded time.

`make fuzz` tries many with other seeds; here are few, always the same, and the failures found before (corpus/).
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from testing_mutations import CannotBeWrittenError, damaged_bytes, damaged_tree, tagged_yaml, written
from testing_targets import Target, make_targets, write_run
from vlm_r1.errors import VlmR1Error

CORPUS = Path(__file__).parent / "corpus"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
LIMIT_S = 20
"""Seconds of processor time for one input. One that waits for something is ended after ten times as long."""
LIMIT_BYTES = 1 << 30
TOO_LONG = 20_000
"""Characters of a message."""

with tempfile.TemporaryDirectory() as made:
    TARGETS = make_targets(write_run(Path(made)))


class TooSlowError(BaseException):
    """Not an Exception, so that no reader takes it for an error of its input."""


def _too_slow(*_: object) -> None:
    raise TooSlowError("still running at the limit")


def _peak_bytes() -> int:
    """The largest memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def try_one(name: str, changed: Mapping[str, bytes]) -> str:
    """Read a target with changed files; returns what the user sees: an error as `DataError: …`, or what was read."""
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        target.write(folder, changed)
        before = _peak_bytes()
        signal.signal(signal.SIGPROF, _too_slow)
        signal.signal(signal.SIGALRM, _too_slow)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        signal.alarm(10 * LIMIT_S)
        try:
            outcome = _outcome(target, folder, fails=not name.startswith("report"))
            assert _peak_bytes() - before < LIMIT_BYTES, "too much memory"
        except BaseException as error:
            content = {path: {"base64": base64.b64encode(data).decode()} for path, data in changed.items()}
            error.add_note("for tests/fuzz/corpus: " + json.dumps({"target": name, "files": content})[:5000])
            raise
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
    return outcome.replace(f"{folder}/", "").replace(str(folder), "FOLDER")


def _outcome(target: Target, folder: Path, fails: bool) -> str:
    """What is read, or the error, unless the target `fails` never: a report always comes out."""
    try:
        return target.read(folder)
    except VlmR1Error as error:
        if not fails or len(str(error)) > TOO_LONG:
            raise AssertionError(str(error)[:1000]) from error
        return f"{type(error).__name__}: {error}"


@cache
def of_sound_input(name: str) -> str:
    """What comes of a target as it is."""
    return try_one(name, {})


@st.composite
def changes(draw: st.DrawFn, target: Target) -> dict[str, bytes]:
    """Changed contents of one file of a target, the first for a report."""
    files = list(target.files)[:1] if len(target.files) > 4 else list(target.files)
    name = draw(st.sampled_from(files))
    content = target.files[name]
    if name in ("recipe.yaml", "config.yaml", "overrides.txt") and draw(st.integers(0, 2)) == 0:
        whole = content if isinstance(content, bytes) else written(name, content)
        return {name: draw(tagged_yaml(whole.decode())).encode()}
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
    assert of_sound_input(name).splitlines()[-1] == TARGETS[name].sound, of_sound_input(name)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of a target with a picture, in notes of hypothesis
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
    outcome, sound = try_one(found["target"], files), of_sound_input(found["target"])
    wanted, left_out = found["outcome"], found.get("left_out", [])
    assert [piece for piece in wanted if piece not in outcome] == [], outcome
    assert [piece for piece in left_out if piece in outcome] == [], outcome
    assert [piece for piece in left_out if piece not in sound] == [], sound
    assert left_out or any(piece not in sound for piece in wanted), "this comes of a sound input too"
