"""What tests of examples/llm_judge.py share: local servers that can fail in every way, and calls of the judge."""

import contextlib
import importlib
import json
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.call import evaluate
from vlm_r1.types import Record, Thinking

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
llm_judge = importlib.import_module("llm_judge")
JudgeError, read_verdict = llm_judge.JudgeError, llm_judge.read_verdict

RECORD = Record("1", "vqa", "<image>What is on the table?", ("a.png",), "a cat", source="f.jsonl:7")


def given(answer, gold: Any = "a cat"):
    return RewardInput("", split_tags(""), Thinking.REQUIRED, answer, gold, (), RECORD)


def reply(content):
    return 200, {"choices": [{"message": {"role": "assistant", "content": content}}]}


class Server:
    """Answers the n-th request, n from 0, by `script(n, request)` → (status, JSON or bytes); None drops the line.

    Attributes:
        requests: what was asked, in order of arrival.
        keys: the Authorization headers.
        most_at_once: the largest number of requests that were open at a time.
    """

    def __init__(self) -> None:
        self.script: Callable[[int, dict[str, Any]], tuple[int, Any] | None] = lambda n, request: reply("Score: 1")
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.headers: dict[str, str] = {}
        self.most_at_once = 0
        self._open = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.base_url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            n = len(self.requests)
            self.requests.append(request | {"path": handler.path})
            self.keys.append(handler.headers["Authorization"])
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
        said = self.script(n, request)
        with self._lock:
            self._open -= 1
        if said is not None:
            body = said[1] if isinstance(said[1], bytes) else json.dumps(said[1]).encode()
            handler.send_response(said[0])
            for name, value in {**self.headers, "Content-Length": str(len(body))}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):  # the client did not wait
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Silent."""

        return Handler


class Trickster:
    """Accepts connections and sends pieces of bytes, with a pause after each, until the client goes or it is closed."""

    def __init__(self, head: bytes, piece: bytes, pause_s: float) -> None:
        self.sent_bytes = 0
        self._head, self._piece, self._pause_s = head, piece, pause_s
        self._closed = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self._closed.is_set():
            client, _ = self._socket.accept()
            threading.Thread(target=self._send, args=(client,), daemon=True).start()

    def _send(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.recv(1 << 16)
            client.sendall(self._head)
            while not self._closed.wait(self._pause_s):
                client.sendall(self._piece)
                self.sent_bytes += len(self._piece)

    def close(self) -> None:
        self._closed.set()
        self._socket.close()


def rewards(judge, *answers, **options):
    return evaluate("judge", judge, [given(answer, **options) for answer in answers])
