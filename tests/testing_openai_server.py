"""A server of OpenAI's protocol for tests, on this machine: a tiny checkpoint by stock transformers, or a function.

`python tests/testing_openai_server.py FOLDER [PORT]` serves a checkpoint. Faults are given by name, see `FAULTS`.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from PIL import Image

Body = dict[str, Any]
Answer = tuple[str | None, str, int]
"""Text, finish_reason, and the number of its tokens."""

Answerer = Callable[[Body], Answer]


def question_of(body: Body) -> str:
    """The texts of the last message of a request, joined."""
    return "".join(part["text"] for part in body["messages"][-1]["content"] if part["type"] == "text")


def pictures_of(body: Body) -> list[Image.Image]:
    """The pictures of a request, as they arrived: a server turns none and reads no metadata."""
    parts = [part for message in body["messages"] for part in _parts(message["content"])]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


def _parts(content: str | list[Body]) -> list[Body]:
    """The parts of a message; vLLM too makes parts of a text if the template wants them."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class TinyModel:
    """Answers greedily with the checkpoint's own processor and transformers' `generate`; nothing of our sampler."""

    def __init__(self, folder: Path | str, dtype: str = "float64") -> None:
        from vlm_r1.config.schema import ModelSection
        from vlm_r1.models import load_adapter, load_model
        from vlm_r1.models.stock import stock_processor

        self.adapter = load_adapter(folder)
        self.model = load_model(ModelSection(path=str(folder), dtype=dtype), self.adapter).eval()
        self.processor = stock_processor(self.adapter)
        self._lock = threading.Lock()
        self.prompt_tokens = 0

    def __call__(self, body: Body) -> Answer:
        pictures = iter(pictures_of(body))
        messages: list[Body] = [{"role": message["role"], "content": []} for message in body["messages"]]
        for message, given in zip(messages, body["messages"], strict=True):
            for part in _parts(given["content"]):
                is_text = part["type"] == "text"
                message["content"].append(part if is_text else {"type": "image", "image": next(pictures)})
        with self._lock, torch.no_grad():
            inputs = self.processor.apply_chat_template(
                messages,
                add_generation_prompt=True,
                **body.get("chat_template_kwargs", {}),
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
            placed = {k: x.to(self.model.dtype) if x.is_floating_point() else x for k, x in inputs.items()}
            ids = self.model.generate(
                **placed,
                do_sample=False,
                max_new_tokens=body["max_tokens"],
                suppress_tokens=list(self.adapter.banned_ids()),
                pad_token_id=self.adapter.pad_id,
            )[0, inputs["input_ids"].shape[1] :].tolist()
            self.prompt_tokens = inputs["input_ids"].shape[1]
        stopped = ids[-1] in self.adapter.stop_ids(self.model)
        text = self.adapter.tokenizer.decode(ids, skip_special_tokens=True)
        return text, "stop" if stopped else "length", len(ids)


class Server(ThreadingHTTPServer):
    """Attributes: the bodies and headers of all requests so far, and the most that were answered at once."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answerer, faults: Callable[[Body], str | None], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answer, self.faults = answer, faults
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.model, self.engine = "tiny", "tests"
        self.bodies: list[Body] = []
        self.keys: list[str | None] = []
        self.asked_models = 0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        """Set at the end: a slow answer waits for it."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients break off on purpose."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: Any) -> None:
        """Be silent."""

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self.server.asked_models += 1
            self.reply(200, {"object": "list", "data": [{"id": self.server.model, "owned_by": self.server.engine}]})
        else:
            self.reply(200 if self.path == "/health" else 404, {})

    counts = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.bodies.append(body)
            server.keys.append(self.headers["Authorization"])
            server.at_once += 1
            self.counts = True
            server.most_at_once = max(server.most_at_once, server.at_once)
            fault = server.faults(body)
        try:
            if self.path != "/v1/chat/completions":
                self.reply(404, {"error": {"message": f"no route {self.path}"}})
            elif fault:
                FAULTS[fault](self, body)
            elif body["model"] != server.model:
                self.reply(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
            else:
                self.reply(200, self.completion(body))
        finally:
            self.end_of_count()

    def end_of_count(self) -> None:
        """Count this question no longer: once its answer is sent, the client may ask the next one."""
        with self.server.lock:
            self.server.at_once -= int(self.counts)
            self.counts = False

    def completion(self, body: Body) -> Body:
        text, finish_reason, tokens = self.server.answer(body)
        message = {"role": "assistant", "content": text}
        usage: Body = {"completion_tokens": tokens}
        usage |= (
            {"prompt_tokens": self.server.answer.prompt_tokens} if isinstance(self.server.answer, TinyModel) else {}
        )
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        return {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}

    def reply(self, status: int, content: Body | str, **headers: str) -> None:
        data = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.end_of_count()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def without(self, body: Body, **changes: Any) -> Body:
        """A completion of which the choice, its message or the usage is another."""
        completion = self.completion(body)
        message = {name: changes[name] for name in ("content", "reasoning_content") if name in changes}
        completion["choices"][0]["message"] |= message
        completion["choices"][0] |= {name: changes[name] for name in ("finish_reason",) if name in changes}
        return completion | {name: changes[name] for name in ("usage", "choices") if name in changes}


def _busy(handler: _Handler, body: Body) -> None:
    handler.reply(429, {"error": {"message": "Rate limit reached"}}, Retry_After="0.3")


def _quota(handler: _Handler, body: Body) -> None:
    handler.reply(429, {"error": {"message": "Quota of today is used up"}}, Retry_After="86400")


def _failing(status: int, message: str = "internal error") -> Callable[[_Handler, Body], None]:
    return lambda handler, body: handler.reply(status, {"error": {"message": message}})


def _slow(handler: _Handler, body: Body) -> None:
    handler.server.released.wait(120)


def _dripping(handler: _Handler, body: Body) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def _reset(handler: _Handler, body: Body) -> None:
    """Break the connection in the middle of the head of the response."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def _cut(handler: _Handler, body: Body) -> None:
    data = json.dumps(handler.completion(body)).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])


def _changed(**changes: Any) -> Callable[[_Handler, Body], None]:
    return lambda handler, body: handler.reply(200, handler.without(body, **changes))


def _half(handler: _Handler, body: Body) -> None:
    handler.reply(200, json.dumps(handler.completion(body))[:40])


def _doubled(handler: _Handler, body: Body) -> None:
    completion = handler.completion(body)
    handler.reply(200, completion | {"choices": completion["choices"] * 2})


def _quoting(handler: _Handler, body: Body) -> None:
    key = (handler.headers["Authorization"] or "").removeprefix("Bearer ")
    handler.reply(401, {"error": {"message": f"Incorrect API key provided: {key}. You have no access."}})


def _moved(handler: _Handler, body: Body) -> None:
    handler.reply(307, "", Location="http://127.0.0.1:9/elsewhere?api_key=sk-in-the-address")


FAULTS: dict[str, Callable[[_Handler, Body], None]] = {
    "busy": _busy,
    "quota": _quota,
    "408": _failing(408),
    "500": _failing(500),
    "503": _failing(503, "loading"),
    "slow": _slow,
    "dripping": _dripping,
    "reset": _reset,
    "cut": _cut,
    "half a JSON": _half,
    "html": lambda handler, body: handler.reply(200, "<html><body>Bad gateway</body></html>", Content_Type="text/html"),
    "a list": lambda handler, body: handler.reply(200, "[1]"),
    "error in 200": lambda handler, body: handler.reply(200, {"error": {"message": "provider gone"}}),
    "no choices": _changed(choices=[]),
    "two choices": _doubled,
    "no message": _changed(choices=[{"finish_reason": "stop"}]),
    "aborted": _changed(finish_reason="abort"),
    "empty, not counted": _changed(content="", usage=None),
    "empty": _changed(content="", usage={"completion_tokens": 1, "prompt_tokens": 9}),
    "filtered": _changed(content="I can", finish_reason="content_filter"),
    "null": _changed(content=None),
    "thought": _changed(content="<answer>7</answer>", reasoning_content="a hat"),
    "cut thought": _changed(content=None, reasoning_content="a ha", finish_reason="length"),
    "half a letter": _changed(content="\ud83d <answer>7</answer>"),
    "400": _failing(400, "temperature must be 1 for this model"),
    "too long": _failing(400, "This model's maximum context length is 4096 tokens. You requested 9000"),
    "401": _quoting,
    "403": _failing(403, "no access"),
    "413": _failing(413, "request entity too large"),
    "422": _failing(422, "unprocessable"),
    "moved": _moved,
}
"""What may go wrong, by name."""


@contextmanager
def serve(
    answer: Answerer, faults: Callable[[Body], str | None] | Sequence[str] = (), port: int = 0
) -> Iterator[Server]:
    """Serve for the time of the block.

    Args:
        faults: names of the faults of the first requests in the order in which they come, or a function of the request.
    """
    queue = iter(()) if callable(faults) else iter(faults)
    server = Server(answer, faults if callable(faults) else lambda _: next(queue, None), port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    with serve(TinyModel(sys.argv[1], "float32"), port=int(sys.argv[2]) if len(sys.argv) > 2 else 0) as running:
        sys.stdout.write(f"{running.url}\n")
        sys.stdout.flush()
        while True:
            time.sleep(1)
