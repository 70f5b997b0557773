"""A server that is asked: what goes there, what comes back, and each fault with its outcome."""

from __future__ import annotations

import json
import time
from threading import Event, Thread

import pytest
from PIL import Image

from testing_openai_server import Answer, Body, pictures_of, serve
from vlm_r1.config.secrets import masked
from vlm_r1.errors import ConfigError, EndpointError
from vlm_r1.sampling import SamplingParams, greedy
from vlm_r1.sampling import endpoint as endpoint_module
from vlm_r1.sampling.endpoint import Endpoint, ask, base_of, make_endpoint
from vlm_r1.sampling.endpoint_chat import Reply, chat_content, chat_messages
from vlm_r1.types import Prompt, StopReason, Turn

KEY = "sk-of-a-test-0123456789"
QUESTION = [{"role": "user", "content": [{"type": "text", "text": "How many?"}]}]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of hundredths of a second, and no key of this machine's user."""
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def seven(body: Body) -> Answer:
    return "<answer>7</answer>", "stop", 5


SEVEN = Reply("<answer>7</answer>", StopReason.STOP, 5, None)


def asked(server, retries: int = 2, **options) -> Reply:
    return ask(Endpoint(server.url, "tiny", retries=retries, **options), QUESTION, greedy(16), 0, where="a.jsonl:3")


def test_a_greedy_question_is_sent_as_it_is() -> None:
    with serve(seven) as server:
        assert asked(server) == SEVEN
        assert server.bodies == [
            {
                "model": "tiny",
                "messages": QUESTION,
                "temperature": 0.0,
                "max_tokens": 16,
            }
        ]


def test_filters_and_the_seed_are_sent_if_they_have_an_effect() -> None:
    params = SamplingParams(16, temperature=0.7, top_p=0.9)
    with serve(seven) as server:
        ask(Endpoint(server.url, "tiny"), QUESTION, params, 2**31 + 5)
        (body,) = server.bodies
    assert {k: body[k] for k in body.keys() - {"model", "messages"}} == {
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 16,
        "seed": 5,  # 31 bits are what every server can hold
    }


@pytest.mark.parametrize(
    ("engine", "params", "sent"),
    [
        pytest.param("tests", greedy(16), {}, id="unknown, greedy"),
        pytest.param("tests", SamplingParams(16), {"top_p": 1.0, "seed": 1}, id="unknown, drawn"),
        pytest.param("tests", SamplingParams(16, top_k=9), {"top_p": 1.0, "top_k": 9, "seed": 1}, id="unknown, filter"),
        pytest.param("vllm", greedy(16), {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0}, id="vLLM, greedy"),
        pytest.param(
            "sglang",
            SamplingParams(16, top_k=9, min_p=0.1),
            {"repetition_penalty": 1.0, "top_k": 9, "min_p": 0.1, "top_p": 1.0, "seed": 1},
            id="SGLang, drawn",
        ),
        pytest.param("llamacpp", greedy(16), {"repeat_penalty": 1.0, "top_k": 0, "min_p": 0.0}, id="llama.cpp, greedy"),
    ],
)
def test_nothing_is_left_to_the_settings_of_a_known_server(engine, params, sent) -> None:
    with serve(seven) as server:
        server.engine = engine
        ask(make_endpoint(server.url, "tiny"), QUESTION, params, 1)
        (body,) = server.bodies
    assert {k: body[k] for k in body.keys() - {"model", "messages", "temperature", "max_tokens"}} == sent


def test_messages_before_the_question_and_switches_are_sent() -> None:
    turns = (Turn("user", "<image>Red?"), Turn("assistant", "Yes."))
    prompt = Prompt("And <image>?", ("a.png", "b.png"), "Be brief.", turns)
    pictures = [Image.new("RGB", (2, 3), "red"), Image.new("RGB", (3, 2), "blue")]
    messages = chat_messages(prompt, pictures)
    with serve(seven) as server:
        ask(Endpoint(server.url, "tiny", chat_template_kwargs={"enable_thinking": False}), messages, greedy(16), 0)
        (body,) = server.bodies
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    system, first, answer, question = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in first["content"]] == ["image_url", "text"]
    assert answer == {"role": "assistant", "content": "Yes."}
    assert [part.get("text") for part in question["content"]] == ["And ", None, "?"]
    assert [picture.size for picture in pictures_of(body)] == [(2, 3), (3, 2)], "each in the turn that shows it"


def test_a_picture_arrives_as_it_is_and_in_its_place() -> None:
    picture = Image.effect_noise((31, 17), 90).convert("RGB")
    picture.info |= {"exif": b"Exif\x00\x00MM", "icc_profile": b"x", "transparency": (0, 0, 0)}
    content = chat_content("<image>One <image> two", [picture, picture.rotate(90, expand=True)])
    assert [part["type"] for part in content] == ["image_url", "text", "image_url", "text"]
    first, second = pictures_of({"messages": [{"content": content}]})
    assert (first.format, first.mode, first.size, second.size) == ("PNG", "RGB", (31, 17), (17, 31))
    assert first.tobytes() == picture.tobytes()
    assert not first.info, "a server would turn the picture, or see through it"


@pytest.mark.parametrize(
    ("fault", "reply"),
    [
        pytest.param("empty", Reply("", StopReason.STOP, 1, 9), id="a text of a stop token alone"),
        pytest.param("filtered", Reply("", StopReason.REFUSED, 5, None), id="a filter"),
        pytest.param("null", Reply("", StopReason.REFUSED, 5, None), id="no text"),
        pytest.param(
            "thought", Reply("<think>a hat</think><answer>7</answer>", StopReason.STOP, 5, None), id="thought"
        ),
        pytest.param("cut thought", Reply("<think>a ha", StopReason.LENGTH, 5, None), id="a thought that was cut off"),
        pytest.param("half a letter", Reply("? <answer>7</answer>", StopReason.STOP, 5, None), id="half a letter"),
    ],
)
def test_odd_answers_are_answers(fault: str, reply: Reply) -> None:
    with serve(seven, [fault]) as server:
        assert asked(server) == reply
        assert len(server.bodies) == 1


PASSING = [
    *("busy", "408", "500", "503", "reset", "cut", "half a JSON", "html", "a list", "error in 200", "no choices"),
    *("two choices", "no message", "aborted", "empty, not counted"),
]


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_asked_again(fault: str) -> None:
    said: list[str] = []
    with serve(seven, [fault, fault]) as server:
        endpoint = Endpoint(server.url, "tiny", retries=2)
        assert ask(endpoint, QUESTION, greedy(16), 0, say=lambda kind, text: said.append(text)) == SEVEN
        assert len(server.bodies) == 3
    assert len(said) == 2
    assert all("asked again in" in text for text in said)


@pytest.mark.parametrize("fault", PASSING)
def test_what_does_not_pass_is_an_error_and_never_an_answer(fault: str) -> None:
    with serve(seven, [fault] * 9) as server:
        with pytest.raises(EndpointError) as caught:
            asked(server)
        assert len(server.bodies) == 3
    message = str(caught.value)
    assert message.startswith(f"a.jsonl:3: {server.url}, model tiny, asked with 9 characters, 0 pictures")
    assert "no answer after 3 attempts" in message
    assert "kept" in message


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param("400", ("HTTP 400", "temperature must be 1"), id="bad request"),
        pytest.param("too long", ("maximum context length", "--max-completion-length (now 16)"), id="context"),
        pytest.param("401", ("HTTP 401", "Incorrect API key provided: ***", "$TEST_KEY", "--api-key-env"), id="key"),
        pytest.param("403", ("HTTP 403", "$TEST_KEY"), id="no access"),
        pytest.param("413", ("HTTP 413", "--max-pixels"), id="too large"),
        pytest.param("422", ("HTTP 422", "unprocessable"), id="unprocessable"),
        pytest.param("moved", ("HTTP 307", "elsewhere?api_key=***", "--endpoint"), id="redirect"),
    ],
)
def test_what_will_not_pass_ends_at_once(fault: str, says: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with serve(seven, [fault] * 9) as server:
        with pytest.raises(EndpointError) as caught:
            asked(server, api_key_env="TEST_KEY")
        assert len(server.bodies) == 1
        assert server.keys == [f"Bearer {KEY}"]
    message = str(caught.value)
    assert [text for text in (*says, "a.jsonl:3", "kept") if text not in message] == []
    assert KEY not in message
    assert "sk-in-the-address" not in message


def test_an_unknown_model_is_told_the_known_ones() -> None:
    with serve(seven) as server, pytest.raises(EndpointError, match=r"serves tiny, asked was tyni \(--model\)"):
        ask(Endpoint(server.url, "tyni"), QUESTION, greedy(16), 0)


def test_a_wrong_path_is_named() -> None:
    with serve(seven) as server, pytest.raises(EndpointError, match=r"no list of models.*/v2/chat/completions"):
        ask(Endpoint(server.url.replace("v1", "v2"), "tiny"), QUESTION, greedy(16), 0)


def test_the_pause_that_a_server_asks_for_is_kept() -> None:
    with serve(seven, ["busy"]) as server:
        start = time.monotonic()
        assert asked(server) == SEVEN
        assert time.monotonic() - start >= 0.3  # Retry-After


def test_a_quota_of_a_day_is_not_waited_for() -> None:
    with serve(seven, ["quota"] * 9) as server:
        with pytest.raises(EndpointError, match=r"1 attempts.*Quota of today is used up.*Retry-After: 86400"):
            asked(server)
        assert len(server.bodies) == 1


@pytest.mark.parametrize("fault", ["slow", "dripping"])
def test_one_answer_takes_no_longer_than_its_time(fault: str) -> None:
    with serve(seven, [fault]) as server:
        start = time.monotonic()
        assert asked(server, timeout_s=0.5) == SEVEN
        assert time.monotonic() - start >= 0.5
        assert len(server.bodies) == 2


def test_nobody_there_is_an_error_of_the_connection() -> None:
    with serve(seven) as server:
        pass
    with pytest.raises(EndpointError, match="ConnectionRefusedError"):
        asked(server)


def test_a_pause_ends_when_nobody_wants_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT_S", 60.0)
    stopped, ended = Event(), Event()

    def run() -> None:
        with pytest.raises(EndpointError):
            ask(Endpoint(server.url, "tiny"), QUESTION, greedy(16), 0, stopped=stopped)
        ended.set()

    with serve(seven, ["500"] * 9) as server:
        Thread(target=run, daemon=True).start()
        assert not ended.wait(0.5)
        stopped.set()
        assert ended.wait(20)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        pytest.param("http://localhost:8000", "http://localhost:8000/v1", id="no path"),
        pytest.param("http://localhost:8000/", "http://localhost:8000/v1", id="a slash"),
        pytest.param("https://api.host/v1/", "https://api.host/v1", id="a path"),
        pytest.param("https://host/openai/v1/chat/completions", "https://host/openai/v1", id="the whole address"),
    ],
)
def test_addresses(url: str, base: str) -> None:
    assert base_of(url) == base


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "ftp://host/v1", "http://", "http://host:99999", "http://host:0/v1", "http://host/a b"),
        *("http://me:secretpw@host/v1", "http://host/v1?key=secretpw", "http://[host", "http://hôst/v1"),
    ],
)
def test_addresses_that_make_no_sense(url: str) -> None:
    with pytest.raises(ConfigError, match="--endpoint") as caught:
        make_endpoint(url, "m")
    assert "secretpw" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"retries": -1}, {"timeout_s": 0.0}, {"timeout_s": float("nan")}]
)
def test_numbers_that_are_too_small(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="wanted at least 1, 0 and more than 0"):
        make_endpoint("http://host", "m", **wrong)


def test_the_only_model_of_a_server_need_not_be_named() -> None:
    with serve(seven) as server:
        assert make_endpoint(server.url).model == "tiny"
    with pytest.raises(EndpointError, match="Is the server up"):
        make_endpoint(server.url)


def test_the_usual_key_is_sent_and_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve(seven) as server:
        endpoint = make_endpoint(server.url, "tiny")
        ask(endpoint, QUESTION, greedy(16), 0)
        assert server.keys == [f"Bearer {KEY}"]
    assert KEY not in repr(endpoint)
    assert masked(f"the server says {KEY}") == "the server says ***"


@pytest.mark.parametrize("key", ["", "two words", "naïve", "a\nHost: elsewhere"])
def test_what_is_no_key_is_not_sent(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", key)
    with pytest.raises(ConfigError, match="TEST_KEY: the variable is empty, or holds what is no key"):
        make_endpoint("http://host", "m", api_key_env="TEST_KEY")


@pytest.mark.parametrize("name", [KEY, "NO_SUCH_VARIABLE_HERE", "a b"])
def test_a_key_in_place_of_its_variable_is_not_repeated(name: str) -> None:
    with pytest.raises(ConfigError, match="Wanted the name of a variable") as caught:
        make_endpoint("http://host", "m", api_key_env=name)
    assert name not in str(caught.value)


def test_an_excerpt_of_a_huge_page_is_short() -> None:
    page = json.dumps({"error": "x " * 5_000_000})
    with serve(seven, ["500"] * 9) as server:
        server.faults = lambda body: None
        server.answer = lambda body: (page, "abort", 1)
        start = time.monotonic()
        with pytest.raises(EndpointError) as caught:
            asked(server, retries=0)
        assert time.monotonic() - start < 60
    assert len(str(caught.value)) < 1200
