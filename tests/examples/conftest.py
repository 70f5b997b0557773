"""A local server that answers as a test says, and judges of examples/llm_judge.py that ask it."""

from typing import Any

import pytest

from testing_judge import Server, Trickster
from vlm_r1.rewards.call import resolve_reward


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def judge(server, tmp_path, monkeypatch):
    """`judge(**options)`: a judge of that server with a cache in tmp_path, as a recipe would make it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def make(**options: Any):
        options = {
            "base_url": server.base_url,
            "model": "small",
            "cache": str(tmp_path / "cache"),
            "first_wait_s": 0.01,
            "max_wait_s": 0.05,
        } | options
        spelled = ", ".join(f"{name}={value!r}" for name, value in options.items())
        return resolve_reward(f"llm_judge:LlmJudge({spelled})", {})

    return make


@pytest.fixture
def trickster():
    """`trickster(head, piece, pause_s)`: a server of that kind, closed at the end."""
    made: list[Trickster] = []

    def make(head: bytes, piece: bytes, pause_s: float) -> Trickster:
        made.append(Trickster(head, piece, pause_s))
        return made[-1]

    yield make
    for server in made:
        server.close()
