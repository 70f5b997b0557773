import pytest

from vlm_r1.parsing.messages import is_context, split_context
from vlm_r1.types import Record, Turn

SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        pytest.param([], True, id="none"),
        pytest.param([SYSTEM], True, id="a system message"),
        pytest.param(
            [SYSTEM, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], True, id="turns"
        ),
        pytest.param([{"role": "tool", "content": "a"}], False, id="another role"),
        pytest.param([{"role": "user", "content": ["a"]}], False, id="a list as content"),
        pytest.param([{"role": "user"}], False, id="no content"),
        pytest.param([SYSTEM | {"name": "x"}], False, id="another key"),
        pytest.param([{"role": ["user"], "content": "a"}], False, id="a list as role"),
        pytest.param({"role": "user", "content": "a"}, False, id="no list"),
        pytest.param(None, False, id="null"),
    ],
)
def test_what_is_a_context(value, is_one):
    assert is_context(value) is is_one


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("history", [(), (Turn("user", "<image>a"), Turn("assistant", "b"))])
def test_a_context_is_taken_apart_as_it_was_made(system, history):
    record = Record("1", "vqa", "c", (), "d", system=system, history=history)
    assert is_context(record.context)
    assert split_context(record.context) == (system, history)
