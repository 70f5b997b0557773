"""A model on a server against the same model here: equal texts and scores; and what happens when the server fails."""

from __future__ import annotations

import copy
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from testing_openai_server import Answer, Body, TinyModel, pictures_of, question_of, serve
from testing_tasks import GOLD
from vlm_r1.errors import DataError, EndpointError, VlmR1Error
from vlm_r1.models import Adapter
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.groups import sample_groups
from vlm_r1.rollouts.remote import RemoteModel, as_completion, in_threads
from vlm_r1.runtime.phases import Phases
from vlm_r1.sampling import SamplingParams, greedy
from vlm_r1.sampling import endpoint as endpoint_module
from vlm_r1.sampling.endpoint import Endpoint
from vlm_r1.sampling.endpoint_chat import Reply
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.tasks import TASKS
from vlm_r1.tasks.templates import make_templates
from vlm_r1.types import BoxFormat, EncodedPrompt, Group, ImageFrame, Record, StopReason

REWARDS = {"accuracy": 1.0, "format": 1.0}
FAMILIES = {"qwen2_5_vl": BoxFormat.INPUT_PIXELS, "qwen3_vl": BoxFormat.NORM_1000, "gemma3": BoxFormat.NORM_1000_YX}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def env_of(adapter: Adapter, template: str = "r1") -> Env:
    return Env(adapter, make_templates(template), REWARDS)


def drawn(folder: Path, count: int) -> list[Record]:
    """Records of a dark box on a white picture: sizes that no model sees as they are, some turned by EXIF."""
    records, rng = [], random.Random(0)
    for number in range(count):
        width, height = rng.randrange(90, 300), rng.randrange(90, 300)
        x, y = rng.randrange(5, 30), rng.randrange(5, 30)
        box = [x, y, x + rng.randrange(30, 60), y + rng.randrange(30, 60)]
        image = Image.new("RGB", (width, height), "white")
        ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill="black")
        exif = Image.Exif()
        if number % 3 == 0:
            exif[0x0112], image = (
                6,
                image.transpose(Image.Transpose.ROTATE_90),
            )  # stored turned, so that 6 turns it back
        image.save(folder / f"{number}.png", exif=exif)
        source = f"drawn.jsonl:{number + 1}"
        path = str(folder / f"{number}.png")
        records.append(Record(f"{number}", "rec", f"<image>item {number}", (path,), list(box), source=source))
    return records


def numbers(body: Body) -> int:
    """The number in the question of a drawn record."""
    return int(question_of(body).partition("item ")[2].split(".")[0].split()[0])


def texts(groups: list[tuple[int, Group]]) -> dict[int, list[str]]:
    return {place: [rollout.completion.text for rollout in group.rollouts] for place, group in groups}


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_equal_those_of_the_model_here(
    family, family_checkpoint, family_adapter, family_model64, tmp_path
):
    records = drawn(tmp_path, 6)
    env, params = env_of(family_adapter(family)), greedy(24)
    here = sample_groups(
        records, env, HFSampler(family_model64(family), env.adapter), params, n=1, run_seed=0, phases=Phases()
    )
    said: list[str] = []
    with serve(TinyModel(family_checkpoint(family))) as server:
        remote = RemoteModel(env, Endpoint(server.url, "tiny", concurrency=3), params, say=said.append)
        there = dict(remote.answer(records, range(len(records))))
    assert sorted(there) == list(range(len(records)))
    for place, group in enumerate(here):
        (ours,), (theirs,) = group.rollouts, there[place].rollouts
        assert theirs.completion.text == ours.completion.text
        assert theirs.completion.length == ours.completion.length
        assert theirs.completion.stop_reason is ours.completion.stop_reason
        assert theirs.score == ours.score
        assert there[place].encoded.frames == group.encoded.frames
        assert there[place].encoded.box_format is group.encoded.box_format
    assert len(set(map(str, texts(list(there.items())).values()))) > 1, "the pictures make no difference"
    assert said == []


def seen_box(picture: Image.Image, box_format: BoxFormat) -> list[int]:
    """Where the dark box lies on the picture that a server got, as a model of that family writes it."""
    dark = np.asarray(picture.convert("L")) < 128
    ys, xs = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    box = [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]
    if box_format is BoxFormat.NORM_1000:
        scale = [1000 / picture.width, 1000 / picture.height] * 2
        return [round(value * factor) for value, factor in zip(box, scale, strict=True)]
    if box_format is BoxFormat.NORM_1000_YX:
        scaled = seen_box(picture, BoxFormat.NORM_1000)
        return [scaled[1], scaled[0], scaled[3], scaled[2]]
    return [int(value) for value in box]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_server_that_sees_is_right_in_every_box_format(family, family_adapter, tmp_path) -> None:
    records, adapter = drawn(tmp_path, 9), family_adapter(family)
    assert adapter.box_format is (FAMILIES[family])

    def look(body: Body) -> Answer:
        (picture,) = pictures_of(body)
        return f"<think>it</think><answer>{seen_box(picture, adapter.box_format)}</answer>", "stop", 9

    env = env_of(adapter)
    with serve(look) as server:
        groups = dict(RemoteModel(env, Endpoint(server.url, "tiny"), greedy(32)).answer(records, range(9)))
        sizes = {picture.size for body in server.bodies for picture in pictures_of(body)}
    ious = [groups[place].rollouts[0].score.metrics["iou"] for place in range(9)]
    assert min(ious) > 0.93, ious
    if family.startswith("qwen"):
        assert sizes == {group.encoded.frames[0].input_wh for group in groups.values()}, (
            "pictures as the model sees them"
        )
        assert sizes.isdisjoint({group.encoded.frames[0].original_wh for group in groups.values()})


def sevens(body: Body) -> Answer:
    return f"<think>{numbers(body)}</think><answer>[1, 2, 3, 4]</answer>", "stop", 5


def test_answers_belong_to_their_records_whatever_their_order_and_come_at_once(adapter, tmp_path) -> None:
    records = drawn(tmp_path, 12)
    four = threading.Barrier(4)

    def late(body: Body) -> Answer:
        four.wait(30)  # four at once, or it breaks
        time.sleep(0.02 * (12 - numbers(body)))  # the first are the last
        return sevens(body)

    with serve(late) as server:
        remote = RemoteModel(env_of(adapter), Endpoint(server.url, "tiny", concurrency=4), greedy(8))
        groups = list(remote.answer(records, range(12)))
        assert server.most_at_once == 4
    assert [place for place, _ in groups] != list(range(12))
    assert {place: group.record.id for place, group in groups} == {n: str(n) for n in range(12)}
    assert all(group.rollouts[0].completion.text.startswith(f"<think>{place}<") for place, group in groups)


def test_several_answers_of_a_record_have_seeds_of_their_own(adapter, tmp_path) -> None:
    records = drawn(tmp_path, 3)

    def seeded(body: Body) -> Answer:
        return str(body["seed"]), "stop", 1

    def run() -> tuple[dict[int, list[str]], list[int]]:
        with serve(seeded) as server:
            params = SamplingParams(8, temperature=1.0)
            remote = RemoteModel(env_of(adapter), Endpoint(server.url, "tiny", concurrency=2), params, n=3, run_seed=4)
            return texts(list(remote.answer(records, range(3)))), [body["seed"] for body in server.bodies]

    (one, seeds), (other, _) = run(), run()
    assert one == other, "answers of a record stay in the order of their numbers"
    assert len(set(seeds)) == 9


def test_a_refusal_has_a_reason_of_its_own(adapter, tmp_path) -> None:
    records = drawn(tmp_path, 3)
    with serve(sevens, lambda body: "filtered" if numbers(body) == 1 else None) as server:
        groups = dict(RemoteModel(env_of(adapter), Endpoint(server.url, "tiny"), greedy(8)).answer(records, range(3)))
    rollouts = [groups[place].rollouts[0] for place in range(3)]
    assert [rollout.score.reason for rollout in rollouts] == [None, "refused", None]
    assert rollouts[1].completion.stop_reason is StopReason.REFUSED
    assert rollouts[1].score.answer is None


@pytest.mark.parametrize("template", ["r1", "direct"])
@pytest.mark.parametrize("task", TASKS)
def test_an_empty_text_is_no_answer_of_any_task(task, template, adapter) -> None:
    """A refusal is judged by its empty text, which must earn nothing."""
    record = Record("1", task, "<image>?", ("a.png",), GOLD[task], columns={"options": ["a dog", "a cat"]})
    refusal = as_completion(Reply("", StopReason.REFUSED, None, None), adapter)
    frames = (ImageFrame((100, 100), (112, 112)),)
    (score,) = env_of(adapter, template).judge([(record, EncodedPrompt((1,), {}, frames, ""), refusal)])
    assert score.answer is None
    assert not any(score.metrics.values()) or task == "counting", score.metrics


def test_what_was_answered_before_a_failure_is_there(adapter, tmp_path) -> None:
    records, kept = drawn(tmp_path, 12), []
    with serve(sevens, lambda body: "422" if numbers(body) == 9 else None) as server:
        remote = RemoteModel(env_of(adapter), Endpoint(server.url, "tiny", concurrency=1), greedy(8))
        with pytest.raises(EndpointError, match=r"drawn.jsonl:10: .*HTTP 422"):
            keep(kept, remote.answer(records, range(12)))
        assert [place for place, _ in kept] == list(range(9))
        asked, server.faults = len(server.bodies), lambda body: None
        keep(kept, remote.answer(records, [place for place in range(12) if place not in dict(kept)]))
        assert len(server.bodies) <= asked + 3
    assert sorted(place for place, _ in kept) == list(range(12))


def keep(kept: list, results: Iterable) -> None:
    for one in results:  # an error in the middle must not lose those before it
        kept.append(one)


def test_a_picture_that_has_gone_is_named(adapter, tmp_path) -> None:
    records = drawn(tmp_path, 2)
    (tmp_path / "1.png").unlink()
    with serve(sevens) as server, pytest.raises(DataError, match=r"1.png: image not found"):
        list(RemoteModel(env_of(adapter), Endpoint(server.url, "tiny"), greedy(8)).answer(records, range(2)))


def test_a_prompt_that_the_server_reads_otherwise_is_said_once(family_checkpoint, family_adapter, tmp_path) -> None:
    """The server has the family's template; ours is another one, or ours sees larger pictures."""
    records, said = drawn(tmp_path, 4), []
    with serve(TinyModel(family_checkpoint("qwen2_5_vl"))) as server:
        server.answer.adapter.limit_pixels(None, 56 * 56)  # it makes the pictures smaller
        env = env_of(family_adapter("qwen2_5_vl"))
        list(RemoteModel(env, Endpoint(server.url, "tiny"), greedy(4), say=said.append).answer(records, range(4)))
    (line,) = said
    assert "tokens of the prompt" in line
    assert "input_pixels of MODEL" in line


def test_retries_are_said_once_for_each_kind(adapter, tmp_path) -> None:
    records, said = drawn(tmp_path, 6), []
    with serve(sevens, ["500", "html"] * 3) as server:
        remote = RemoteModel(env_of(adapter), Endpoint(server.url, "tiny", concurrency=1), greedy(4), say=said.append)
        assert len(list(remote.answer(records, range(6)))) == 6
    assert [line.partition(": ")[2][:8] for line in said] == ["HTTP 500", "HTTP 200"]


@pytest.mark.parametrize(
    ("wrappers", "opens", "text", "expected"),
    [
        pytest.param((), False, "<answer>1</answer>", "<answer>1</answer>", id="as it is"),
        pytest.param(("<|box|>",), False, "<answer><|box|>1</answer>", "<answer>1</answer>", id="wrappers"),
        pytest.param((), True, "it</think><answer>1</answer>", "<think>it</think><answer>1</answer>", id="opened"),
        pytest.param((), True, "<think>it</think>", "<think>it</think>", id="opened by the model all the same"),
        pytest.param((), False, "it</think>", "it</think>", id="not opened"),
    ],
)
def test_texts_are_those_that_the_adapter_writes(wrappers, opens, text, expected, family_adapter) -> None:
    family = family_adapter("qwen3_5" if opens else "qwen2_5_vl")
    assert family.opens_thought is opens
    wrapped = copy.copy(family)
    wrapped.answer_wrappers = wrappers
    completion = as_completion(Reply(text, StopReason.STOP, 17, None), wrapped)
    assert (completion.text, completion.length) == (expected, 17)
    assert family.decode(completion.ids_T) == expected


def test_a_thousand_records_take_seconds_and_few_are_read_ahead(adapter, tmp_path, picture) -> None:
    path = picture(56, 56)
    records = [Record(f"{n}", "rec", f"<image>item {n}", (path,), [1, 2, 3, 4], source=f"a:{n}") for n in range(1000)]
    taken: list[int] = []

    def places() -> Iterator[int]:
        for place in range(1000):
            taken.append(place)
            yield place

    with serve(sevens) as server:
        remote = RemoteModel(env_of(adapter), Endpoint(server.url, "tiny", concurrency=4), greedy(8))
        ahead = [len(taken) - done for done, _ in enumerate(remote.answer(records, places()))]
        assert len(server.bodies) == 1000
    assert len(ahead) == 1000
    assert max(ahead) <= 2 * 4


def test_an_error_comes_after_the_results_before_it() -> None:
    def work(job: int, stopped: threading.Event) -> int:
        if job == 5:
            raise VlmR1Error("of the user")
        return job

    found: list[tuple[int, int]] = []
    with pytest.raises(VlmR1Error, match="of the user"):
        keep(found, in_threads(work, range(100), 1))
    assert found == [(job, job) for job in range(5)]
    assert sorted(in_threads(work, range(3), 8)) == [(0, 0), (1, 1), (2, 2)]
    assert list(in_threads(work, [], 8)) == []


def test_threads_end_with_the_iterator() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(job: int, stopped: threading.Event) -> int:
        if job:
            begun.set()
            stopped.wait(60)
            ended.set()
        return job

    results = in_threads(work, range(9), 2)
    next(results)
    assert begun.wait(10)
    results.close()
    assert ended.wait(10)


def client_command(checkpoint: Path, folder: Path, url: str) -> list[str]:
    return [
        sys.executable,
        str(Path(__file__).parents[1] / "testing_endpoint_client.py"),
        str(checkpoint),
        str(folder),
        url,
    ]


def lines_of(folder: Path) -> list[str]:
    file = folder / "answers.txt"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_is_ended_goes_on_where_it_was(end, tiny_checkpoint, tmp_path) -> None:
    drawn(tmp_path, 30)

    def late(body: Body) -> Answer:
        time.sleep(0.05)
        return sevens(body)

    with serve(late, lambda body: "slow" if numbers(body) == 20 and end == signal.SIGINT else None) as server:
        command = client_command(tiny_checkpoint, tmp_path, server.url)
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            assert wait_for(lambda: len(lines_of(tmp_path)) >= 5 or process.poll() is not None)
            process.send_signal(end)
            process.wait(timeout=60)  # a server may be silent for 120 s, and the client's limit is 300 s
        finally:
            process.kill()
        assert process.returncode == -end
        kept = lines_of(tmp_path)
        assert 5 <= len(kept) < 30
        before, server.faults = len(server.bodies), lambda body: None
        subprocess.run(command, check=True, timeout=120)
        assert len(server.bodies) - before == 30 - len(kept), "nothing is asked twice"
    assert sorted(lines_of(tmp_path)) == sorted(
        f"{n} <think>{n}</think><answer>[1, 2, 3, 4]</answer>" for n in range(30)
    )


def wait_for(condition: Callable[[], bool], timeout_s: float = 120) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
