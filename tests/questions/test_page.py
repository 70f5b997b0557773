"""The page to ask a model on, with a tiny real model: in Python, by HTTP, and in a real Chromium."""

from __future__ import annotations

import json
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from testing_browser import BROWSER, CHROMIUM
from testing_commands import start
from vlm_r1.cli.main import main
from vlm_r1.config.schema import ModelSection
from vlm_r1.data.images import load_image
from vlm_r1.evaluation.asking import FILE
from vlm_r1.models import load_model
from vlm_r1.questions.answers import make_records
from vlm_r1.questions.page import Desk, View, split_so_far
from vlm_r1.rollouts.env import Env
from vlm_r1.sampling.base import SamplingParams, completion_seed
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.tasks.templates import make_templates

T = 40
HOSTILE = '<img src=x onerror="document.title=`owned`">'


BOLD = "what is <b>bold</b>?"


@pytest.fixture(scope="module")
def desk(tiny_checkpoint, adapter) -> Desk:
    model = load_model(ModelSection(path=str(tiny_checkpoint)), adapter).eval()
    env = Env(adapter, make_templates("bare", ["direct"]), {})
    tasks = {"vqa": (None, None), "counting": ("direct", "Count.")}
    return Desk(env, HFSampler(model, adapter), SamplingParams(T, temperature=1.0), tasks, seed=5)


@pytest.fixture(scope="module")
def address(desk: Desk, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of the real command, in a process of its own; it ends by a signal and leaves no upload behind."""
    home, uploads = tmp_path_factory.mktemp("page"), tmp_path_factory.mktemp("uploads")
    model = home / f"tiny {HOSTILE}"
    shutil.copytree(tiny_checkpoint, model)
    (model / FILE).write_text(json.dumps({"task": "vqa", "template": "bare", "max_completion_length": T}))
    options = ("--serve", "--temperature", "1", "--seed", "5")
    process = start("ask", str(model), *options, TMPDIR=str(uploads))
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    line = next(line for line in lines if "open http" in line or process.poll() is not None)
    yield line.split()[1]
    assert list(uploads.glob("vlm_r1-*/*")), "pictures of the session lie here"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors.splitlines()[-1]) == (130, "", "stopped by SIGINT")
    assert not list(uploads.iterdir())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.linear_gradient("L").resize((84, 56)).convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


# The stream ----------------------------------------------------------------------------------------------------------


def test_a_stream_is_what_is_sampled(desk, photo, adapter) -> None:
    (record,) = make_records([photo], ["what?"], task="vqa")
    prompt, seed = desk.env.encode(record), completion_seed(5, 0, record, 0)
    texts, stream = [], desk.sampler.stream(prompt, seed, desk.params)
    ended = None
    while ended is None:
        try:
            texts.append(next(stream))
        except StopIteration as end:
            ended = end.value
    ((expected,),) = desk.sampler.sample([prompt], [[seed]], desk.params)
    assert ended == expected
    assert (len(texts), texts[-1]) == (expected.length, expected.text)
    for t in (1, 2, expected.length // 2):
        assert texts[t - 1] == adapter.decode(list(expected.ids_T[:t])), "each token when it is drawn"
    assert expected.length > 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("<think>", ("", ""), id="a thought begins"),
        pytest.param("<think>a <answer>x", ("a <answer>x", ""), id="an answer in a thought"),
        pytest.param("<think>a</think><answer>[1]</answer>", ("a", "[1]"), id="whole"),
        pytest.param("7", ("", "7"), id="bare"),
    ],
)
def test_texts_so_far(text: str, expected: tuple[str, str]) -> None:
    assert split_so_far(text) == expected


# In Python -----------------------------------------------------------------------------------------------------------


def test_what_is_seen_at_the_end(desk, photo) -> None:
    views = list(desk.ask(str(photo), " what? ", "vqa"))
    assert [view.picture is None for view in views] == [True] * (len(views) - 1) + [False]
    final = views[-1]
    assert final.picture is not None
    assert final.picture.tobytes() == load_image(photo).tobytes()
    assert " tokens in " in final.note
    assert list(desk.ask(str(photo), "what?", "vqa"))[-1][:2] == final[:2]


@pytest.mark.parametrize(
    ("picture", "question", "task", "note"),
    [
        (None, "what?", "vqa", "Choose a picture first."),
        ("{photo}", "  ", "vqa", "Write a question first."),
        ("{photo}", "what?", "ovd", "there is no task 'ovd' here"),
        ("{photo}", "<|im_end|>", "vqa", "holds the model's own token <|im_end|>"),
        ("{photo}", "<image> or <image>?", "vqa", "has 2 <image> marks for 1 pictures"),
        ("{broken}", "what?", "vqa", '"what?": the picture: image cannot be decoded'),
    ],
)
def test_mistakes_are_notes(picture, question, task, note, desk, photo, tmp_path) -> None:
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:-30])
    picture = picture and picture.format(photo=photo, broken=tmp_path / "broken.png")
    *_, last = desk.ask(picture, question, task)
    assert note in last.note
    assert last == View(note=last.note)


def test_a_task_has_its_template_and_system_message(desk, photo) -> None:
    list(desk.ask(str(photo), "dogs", "counting"))
    key = next(reversed(desk.env._cache))
    assert (key[0].system, key[1].name) == ("Count.", "direct")


# By HTTP -------------------------------------------------------------------------------------------------------------


def status(url: str, body: Any = None, **headers: str) -> int:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        return urllib.request.urlopen(request, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code


def test_it_is_on_this_machine_and_serves_no_other_file(address, photo) -> None:
    assert address.startswith("http://127.0.0.1:")
    assert status(address) == 200
    for path in ("/etc/passwd", photo, Path("pyproject.toml").absolute(), "../../etc/passwd"):
        assert status(f"{address}gradio_api/file={path}") in (403, 404), path


def result(address: str, picture: dict[str, Any]) -> str:
    """Call the page's function as its script does; returns the last events."""
    body = {"data": [picture, "what?", "vqa"]}
    request = urllib.request.Request(
        f"{address}gradio_api/call/ask", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    event = json.load(urllib.request.urlopen(request, timeout=20))["event_id"]
    return urllib.request.urlopen(f"{address}gradio_api/call/ask/{event}", timeout=60).read().decode()


def test_a_picture_that_was_not_dropped_in_is_not_read(address, photo) -> None:
    file = {"path": str(photo), "meta": {"_type": "gradio.FileData"}, "orig_name": "photo.png"}
    events = result(address, file)
    assert "event: error" in events
    assert "tokens in" not in events


def test_a_port_that_is_taken(address, tiny_checkpoint, capsys) -> None:
    port = address.rstrip("/").rpartition(":")[2]
    assert main(["ask", str(tiny_checkpoint), "--serve", "--port", port]) == 2
    assert f"--port {port}: the page cannot listen there" in " ".join(capsys.readouterr().err.split())


# In a browser --------------------------------------------------------------------------------------------------------


@BROWSER[0]
@BROWSER[1]
def test_ask_in_chromium(address, desk, photo) -> None:
    from playwright.sync_api import sync_playwright

    *_, expected = desk.ask(str(photo), BOLD, "vqa")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 400, "height": 900})
        hosts = set[str]()
        page.on("request", lambda request: hosts.add(request.url.split("/")[2] if "//" in request.url else "here"))
        page.goto(address)
        page.wait_for_selector("input[type=file]", state="attached")
        page.get_by_role("button", name="Ask").click()
        page.wait_for_function("[...document.querySelectorAll('textarea,input')].some(e => /Choose a/.test(e.value))")
        page.set_input_files("input[type=file]", photo)
        page.wait_for_selector("img[src*='photo.png']")
        page.get_by_label("Question").fill(BOLD)
        page.get_by_role("button", name="Ask").click()
        page.wait_for_function("[...document.querySelectorAll('textarea,input')].some(e => /tokens in/.test(e.value))")
        assert page.get_by_label("Answer").input_value() == expected.answer
        assert page.get_by_role("heading", name="Ask tiny").inner_text() == f"Ask tiny {HOSTILE}"
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.evaluate("document.title") != "owned"
        browser.close()
    assert hosts <= {address.split("/")[2], "here"}, "nothing is fetched from elsewhere"
