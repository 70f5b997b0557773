"""`vlm-r1 ask` as a user runs it, on a tiny real model: the answers are those of an evaluation."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageColor

from testing_openai_server import pictures_of, question_of, serve
from vlm_r1.cli.main import main
from vlm_r1.evaluation.asking import FILE
from vlm_r1.questions.drawing import COLOURS


def say(folder: Path, **settings: Any) -> Path:
    """Write what a model was trained with."""
    (folder / FILE).write_text(
        json.dumps({"task": "rec", "template": "direct", "max_completion_length": 12} | settings)
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A tiny model that says that it was trained for rec."""
    return say(Path(shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("asked") / "model")))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.linear_gradient("L").resize((140, 84)).convert("RGB").save(path)
    return path


def rows(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, Any]]:
    """Ask with --json; returns the lines of standard output."""
    capsys.readouterr()
    assert main(["ask", *map(str, words), "--json"]) in (0, 1)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_it_answers_as_an_evaluation_does(model, rec_files, tmp_path, capsys) -> None:
    data = rec_files["in_domain"]
    assert main(["eval", str(model), str(data), "--out", str(tmp_path), "--limit", "6"]) == 0
    samples = [json.loads(line) for line in (tmp_path / "in_domain.samples.jsonl").read_text().splitlines()]
    keys = ("text", "answer", "reason", "tokens", "stop_reason", "template", "task", "images", "image_sizes")
    for sample in samples:
        (row,) = rows(capsys, model, sample["images"][0], "--question", sample["problem"].removeprefix("<image>"))
        assert {key: row[key] for key in keys} == {key: sample[key] for key in keys}
    assert len({sample["text"] for sample in samples}) > 1


def whole_picture(body: dict[str, Any]) -> tuple[str, str, int]:
    """A server's model that sees what it is shown: the left half of the picture; "mute" gets no box."""
    width, height = pictures_of(body)[0].size
    if "mute" in question_of(body):
        return "no box", "stop", 2
    return f"<think>[1, 2, 3, 4] is\nnot it</think><answer>[0, 0, {width // 2}, {height}]</answer>", "stop", 9


@pytest.fixture(scope="module")
def server(model: Path):
    with serve(whole_picture) as made:
        made.model = "rec"
        yield made


def test_boxes_are_drawn_in_pixels_of_the_upright_picture(model, server, tmp_path, capsys) -> None:
    """A picture of 200 × 120 that is stored lying on its side; the model sees it as 196 × 112 (7 × 4 squares of 28)."""
    stored = Image.new("RGB", (120, 200), "white")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90° to the right to see it: then it is 200 wide and 120 high
    stored.save(tmp_path / "turned.jpg", exif=exif)
    out, asked = tmp_path / "out.png", ("--endpoint", server.url, "--template", "r1")
    (row,) = rows(capsys, model, tmp_path / "turned.jpg", *asked, "--out", out, "the left half")
    assert row["image_sizes"] == [[200, 120]]
    assert row["answer"] == [0.0, 0.0, 100.0, 120.0]  # 196 / 2 · 200 / 196 and 112 · 120 / 112
    assert row["boxes"] == [{"box": [0.0, 0.0, 100.0, 120.0], "label": None, "image": 0}]
    assert (row["points"], row["thought"], row["reason"]) == ([], "[1, 2, 3, 4] is\nnot it", None)
    picture = Image.open(out).convert("RGB")
    assert picture.size == (200, 120)
    red = ImageColor.getrgb(COLOURS[0])
    assert [picture.getpixel((x, 60)) == red for x in (98, 99, 100, 101, 150)] == [False, True, True, False, False]


def test_what_people_read(model, server, photo, capsys) -> None:
    command = [
        "ask",
        str(model),
        str(photo),
        "the\x1b[31m left",
        "mute",
        "--endpoint",
        server.url,
        "--template",
        "r1",
        "--concurrency",
        "1",
    ]
    assert main(command) == 1, "one could not be read"
    out, err = capsys.readouterr()
    assert out == (
        "photo.png: the␛[31m left\n  thought  [1, 2, 3, 4] is\nnot it\n"
        "  answer   [0, 0, 70, 84], in pixels of the picture, 140 × 84\n"
        "photo.png: mute\n  answer   could not be read (no_answer_tag); the model wrote: no box\n"
    )
    assert "template r1, at most 12 tokens" in err
    assert re.search(r"1 of 2 answers could not be read\n2 answers: the model took \d+\.\d s, loading \d+\.\d s\n", err)
    assert main([*command[:3], "the left half", *command[5:]]) == 0


def test_a_folder_and_several_questions(model, server, tmp_path, capsys) -> None:
    folder, out = tmp_path / "photos", tmp_path / "boxed"
    folder.mkdir()
    for name, size in (("a.png", (56, 84)), ("b.bmp", (112, 56))):
        Image.new("RGB", size, "white").save(folder / name)
    (folder / "list.txt").touch()
    options = ("--endpoint", server.url, "--template", "r1", "--out", out)
    found = rows(capsys, model, folder, "one", "two", *options)
    asked = [(Path(row["images"][0]).name, row["question"]) for row in found]
    assert asked == [("a.png", "one"), ("a.png", "two"), ("b.bmp", "one"), ("b.bmp", "two")]
    assert [row["answer"] for row in found][::2] == [[0.0, 0.0, 28.0, 84.0], [0.0, 0.0, 56.0, 56.0]]
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]
    kept = (out / "a.png").read_bytes()
    assert main(["ask", str(model), str(folder), "one", "--out", str(out)]) == 2
    assert "a.png: is there already, and 1 more: name another, or remove it" in capsys.readouterr().err
    assert (out / "a.png").read_bytes() == kept


def test_one_question_about_two_pictures(model, server, photo, capsys) -> None:
    words = (model, photo, photo, "Is <image> as <image>?", "--endpoint", server.url, "--task", "yes_no")
    (row,) = rows(capsys, *words)
    assert (row["images"], row["question"]) == ([str(photo)] * 2, "Is <image> as <image>?")
    assert len(pictures_of(server.bodies[-1])) == 2
    assert main(["ask", str(model), str(photo), "Is <image> as <image>?"]) == 2
    assert "has 2 <image> marks for 1 pictures" in capsys.readouterr().err


def test_each_task_of_a_mixture_is_asked_as_in_training(tiny_checkpoint, photo, tmp_path, capsys) -> None:
    tasks = {"rec": {"template": "direct"}, "counting": {"template": "mine", "system_prompt": "Count."}}
    own = {"mine": {"thinking": "absent", "instruction": "In digits."}}
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    say(folder, task=None, template="r1", tasks=tasks, templates=own)
    assert main(["ask", str(folder), str(photo), "how many?"]) == 2
    assert "trained for several tasks: say which is asked, --task NAME: rec, counting" in capsys.readouterr().err
    with serve(whole_picture) as server:
        server.model = "rec"
        options = ("--endpoint", server.url, "--task")
        assert [rows(capsys, folder, photo, "how many?", *options, task)[0]["template"] for task in tasks] == [
            "direct",
            "mine",
        ]
        (row,) = rows(capsys, folder, photo, "how many?", *options, "vqa")
        assert row["template"] == "r1", "no task of the mixture"
    systems = [[m["content"] for m in body["messages"] if m["role"] == "system"] for body in server.bodies]
    assert systems == [[], ["Count."], []]
    assert question_of(server.bodies[1]) == "how many? In digits."


def test_drawn_answers_have_seeds(model, photo, capsys) -> None:
    drawn = [
        rows(capsys, model, photo, "x", "--temperature", "1", *seed)[0]["text"]
        for seed in ([], ["--seed", "0"], ["--seed", "1"])
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{photo}", "x", "--seed", "1"], "--seed has no effect without --temperature"),
        (["{photo}", "x", "--temperature", "-1"], "--temperature -1: wanted at least 0"),
        (["{photo}", "x", "--port", "80"], "--port has no effect without --serve"),
        (["--serve", "{photo}"], "a picture or question cannot be given with --serve"),
        (["--serve", "--json"], "--json cannot be given with --serve"),
        (["{photo}", "x", "--task", "recc"], 'Did you mean "rec"?'),
        (["{photo}", "x", "--max-completion-length", "0"], "--max-completion-length 0: wanted at least 1"),
        (["{photo}", "x", "--no-such", "y"], "`vlm-r1 ask` does not know '--no-such'"),
        (["{photo}", "a <video>"], 'the question "a <video>" holds <video>; videos and sound are not read'),
        (["{photo}", "a <|im_end|>"], "holds the model's own token <|im_end|>: write it otherwise"),
        (["{photo}.jpg", "x"], "photo.png.jpg: picture not found"),
    ],
)
def test_what_is_refused(words: list[str], message: str, model, photo, capsys) -> None:
    assert main(["ask", str(model), *(word.format(photo=photo) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert message in " ".join(err.split())
    assert out == ""


def test_a_picture_that_breaks_off_is_an_error_after_the_answers_before_it(model, photo, tmp_path, capsys) -> None:
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:-40])
    assert main(["ask", str(model), str(tmp_path / "broken.png"), "x"]) == 2
    assert re.search(r'"x": .*broken.png: image cannot be decoded', " ".join(capsys.readouterr().err.split()))
