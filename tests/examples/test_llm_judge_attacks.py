"""The judge of examples/llm_judge.py against servers that mean no good: its time and its memory stay bounded."""

import time

import pytest

from testing_judge import JudgeError, read_verdict, reply, rewards


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n{", id="in the body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", id="in a header"),
        pytest.param(b"HTTP/1.1 500 Oops\r\n\r\n", id="in the text of an error"),
    ],
)
def test_a_reply_that_drips_is_not_waited_for_forever(trickster, judge, head):
    server = trickster(head, b" ", 0.05)
    with pytest.raises(JudgeError, match=r"no verdict of small within deadline_s=0\.5 on .*a kitten"):
        rewards(judge(base_url=server.base_url, timeout_s=5.0, deadline_s=0.5), "a kitten", "a dog")


def test_an_endless_reply_is_not_read(trickster, judge):
    server = trickster(b"HTTP/1.1 200 OK\r\n\r\n", b" " * (1 << 16), 0.0)
    with pytest.raises(JudgeError, match=r"after 2 attempts; the last: the reply has more than 1,048,576 bytes"):
        rewards(judge(base_url=server.base_url, attempts=2), "a kitten")
    assert server.sent_bytes < 100 << 20  # what the kernel's buffers hold beside


def test_nested_brackets_are_tried_again(server, judge):
    server.script = lambda n, request: (200, b"[" * 200_000) if n == 0 else reply("Score: 1")
    assert rewards(judge(), "a kitten") == [1.0]
    assert len(server.requests) == 2


@pytest.mark.parametrize("wait", ["99999", "9" * 400, "Fri, 01 Jan 2100 00:00:00 GMT", "-1"])
def test_a_server_may_not_say_to_wait_for_ever(server, judge, wait):
    server.headers = {"Retry-After": wait}
    server.script = lambda n, request: (429, {}) if n == 0 else reply("Score: 1")
    assert rewards(judge(deadline_s=30.0), "a kitten") == [1.0]


def test_cases_that_wait_for_their_turn_are_not_late(server, judge):
    def slow(n, request):
        time.sleep(0.3)
        return reply("Score: 1")

    server.script = slow  # eight turns of 0.3 s, each in time
    assert rewards(judge(concurrency=1, deadline_s=1.5), *map(str, range(8))) == [1.0] * 8


def test_a_long_number_is_read_in_linear_time():
    assert read_verdict("Score: " + "0" * 1_000_000 + "/") is None  # quadratic steps would take hours
