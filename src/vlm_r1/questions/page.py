"""A page on this machine to ask a model on: a picture, a question, the thought as it comes, the boxes drawn.

Gradio makes the page (`pip install -e '.[app]'`). It listens on the loopback address only, sends nothing anywhere,
serves no file but the pictures of the session, and keeps those in a folder that is removed at the end.
"""

from __future__ import annotations

import html
import os
import socket
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from vlm_r1.errors import ConfigError, VlmR1Error, install_line
from vlm_r1.parsing.tags import ANSWER, END_ANSWER, END_THINK, THINK
from vlm_r1.questions.answers import Answer, answer_streaming, check_tokens, make_records
from vlm_r1.rollouts.env import Env
from vlm_r1.runtime.text import visible
from vlm_r1.sampling import SamplingParams
from vlm_r1.sampling.hf import HFSampler

HOST = "127.0.0.1"
_MAX_FILE = "256mb"
_SECONDS_BETWEEN = 0.1
"""The page is told of new text so often at most."""

_CSS = ".gradio-container {width: 100%; max-width: 1100px !important; margin: auto} h1 {overflow-wrap: anywhere}"
_HEIGHT_PX = 320  # of the pictures


class View(NamedTuple):
    """What the page shows of an answer: so far, or at its end with the picture and its boxes."""

    thought: str = ""
    answer: str = ""
    picture: Image.Image | None = None
    note: str = ""


@dataclass(frozen=True)
class Desk:
    """A loaded model, and how it is asked.

    Attributes:
        tasks: name of each task that may be asked, with its template (None: the env's) and its system message.
        seed: of what is drawn, if the temperature is not 0.
    """

    env: Env
    sampler: HFSampler
    params: SamplingParams
    tasks: Mapping[str, tuple[str | None, str | None]]
    seed: int = 0

    def ask(self, picture: str | None, question: str, task: str) -> Iterator[View]:
        """Answer a question about a picture; yields what is to be seen, often. A mistake is a note, not an error."""
        if not picture or not question.strip():
            yield View(note="Choose a picture first." if not picture else "Write a question first.")
            return
        try:
            yield from self._answer(Path(picture), question.strip(), task)
        except VlmR1Error as error:
            yield View(note=visible(str(error).replace(str(Path(picture).absolute()), "the picture")))

    def _answer(self, picture: Path, question: str, task: str) -> Iterator[View]:
        if task not in self.tasks:
            raise ConfigError(f"there is no task {task!r:.100} here")
        template, system = self.tasks[task]
        records = make_records([picture], [question], task=task, system=system, template=template)
        check_tokens(records, self.env)
        yield View(note="The model looks at the picture …")
        stream = answer_streaming(records[0], self.env, self.sampler, self.params, seed=self.seed)
        final = yield from _seldom(stream)
        yield _final(final)


def _seldom(stream: Generator[str, None, Answer]) -> Generator[View, None, Answer]:
    """Turn texts into views, a few of them each second; returns what the stream returns."""
    shown = 0.0
    while True:
        try:
            text = next(stream)
        except StopIteration as stop:
            return stop.value
        if time.monotonic() - shown >= _SECONDS_BETWEEN:
            shown = time.monotonic()
            thought, answer = split_so_far(text)
            yield View(visible(thought), visible(answer), None, "The model writes …")


def split_so_far(text: str) -> tuple[str, str]:
    """Split a text that is being written into thought and answer; tags that are complete are not shown.

    >>> split_so_far("<think>a hat"), split_so_far("<think>a hat</think> <answer>[1, 2")
    (('a hat', ''), ('a hat', '[1, 2'))
    >>> split_so_far("[1, 2")
    ('', '[1, 2')
    """
    before, opened, rest = text.partition(THINK)
    thought, _, after = rest.partition(END_THINK) if opened else ("", "", before)
    return thought.strip(), after.replace(ANSWER, "").replace(END_ANSWER, "").strip()


def _final(answer: Answer) -> View:
    note = f"{answer.tokens} tokens in {answer.seconds:.1f} s"
    if answer.stop_reason == "length":
        note += "; cut off, since the model did not end"
    thought, said = split_so_far(answer.text)
    if answer.reason is not None:
        note += f". The answer could not be read ({answer.reason})"
    else:
        said = str(answer)
    if answer.marks:
        width, height = answer.image_sizes[0]
        note += f". Boxes are in pixels of the picture, {width} × {height}"
    return View(visible(thought), visible(said), answer.picture(), note)


def check_can_serve(port: int | None) -> None:
    """Find out before a model is loaded whether a page can be served.

    Raises:
        ConfigError: Gradio is not installed, or the port is taken.
    """
    if find_spec("gradio") is None:
        raise ConfigError(f"the page needs Gradio: {install_line('app')} in a clone of VLM-R1")
    if port is not None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except (OSError, OverflowError) as error:
                raise ConfigError(f"--port {port}: the page cannot listen there: {error}") from None


def make_page(gr: Any, title: str, tasks: Sequence[str], ask: Callable[[str | None, str, str], Iterator[View]]) -> Any:
    """Make the page, a `gradio.Blocks`.

    Args:
        gr: the module `gradio`.
        title: name of the model.
        tasks: the first one is chosen.
        ask: from picture, question and task to what is shown.
    """
    with gr.Blocks(title=f"VLM-R1: {title}", analytics_enabled=False) as page:
        gr.HTML(f"<h1>Ask {html.escape(visible(title))}</h1>")
        with gr.Row():
            picture, question, task, button, stop = _inputs(gr, tasks)
            boxed, thought, answer, note = _outputs(gr)
        outputs = [thought, answer, boxed, note]
        started = gr.on([button.click, question.submit], ask, [picture, question, task], outputs, api_name="ask")
        stop.click(lambda: "Stopped.", None, note, cancels=[started], api_name=False)
    return page


def _inputs(gr: Any, tasks: Sequence[str]) -> tuple[Any, ...]:
    with gr.Column():
        # None: the file stays as it was dropped, and we read it
        as_it_is: dict[str, Any] = {"type": "filepath", "image_mode": None, "height": _HEIGHT_PX}
        picture = gr.Image(label="Picture", sources=["upload", "clipboard"], **as_it_is)
        question = gr.Textbox(label="Question", placeholder="the red circle", max_length=10_000)
        task = gr.Dropdown(list(tasks), value=tasks[0], label="Task", interactive=True)
        with gr.Row():
            return picture, question, task, gr.Button("Ask", variant="primary"), gr.Button("Stop")


def _outputs(gr: Any) -> tuple[Any, ...]:
    with gr.Column():
        shown: dict[str, Any] = {"format": "png", "height": _HEIGHT_PX, "buttons": ["download", "fullscreen"]}
        boxed = gr.Image(label="Boxes", interactive=False, **shown)
        thought = gr.Textbox(label="Thought", lines=4, max_lines=20, interactive=False)
        answer = gr.Textbox(label="Answer", lines=2, max_lines=20, interactive=False)
        return boxed, thought, answer, gr.Textbox(label="Note", interactive=False)


@contextmanager
def open_page(title: str, desk: Desk, port: int | None = None) -> Generator[str]:
    """Serve the page while the context lasts; yields its address.

    Raises:
        ConfigError: there is no free port.
    """
    with tempfile.TemporaryDirectory(prefix="vlm_r1-") as folder:
        os.environ.setdefault("GRADIO_TEMP_DIR", folder)
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # it reads both when it is imported
        gr = import_module("gradio")
        page = make_page(gr, title, list(desk.tasks), desk.ask)
        try:
            yield _launch(gr, page, port)
        finally:
            page.close(verbose=False)


def _launch(gr: Any, page: Any, port: int | None) -> str:
    try:
        _, address, _ = page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_file_size=_MAX_FILE,
            css=_CSS,
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        )
    except OSError as error:
        raise ConfigError(f"--port {port or 7860}: the page cannot listen there: {error}") from None
    return address
