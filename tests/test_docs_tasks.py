"""docs/add_a_task.md does what it says, and docs/tasks.md says what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from testing_tasks import GOLD
from vlm_r1.config import load_config
from vlm_r1.tasks import TASKS
from vlm_r1.tasks.templates import TEMPLATES, make_templates
from vlm_r1.types import Record, Thinking

ROOT = Path(__file__).resolve().parents[1]
ADD_A_TASK = (ROOT / "docs/add_a_task.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")


def snippets(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)


def run(folder, *arguments):
    path = os.pathsep.join([str(folder), str(ROOT / "src")])  # the package of this tree, whichever is installed
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Each Python snippet in the file that its first line names, and two clocks."""
    root = tmp_path_factory.mktemp("add_a_task")
    for snippet in snippets(ADD_A_TASK, "python"):
        file = root / snippet.partition("\n")[0].removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(snippet, encoding="utf-8")
    Image.new("RGB", (64, 64)).save(root / "a.png")
    line = '{"id": %d, "image": "a.png", "problem": "<image>What time is it?", "answer": "%s"}\n'
    (root / "clocks.jsonl").write_text(line % (1, "10:08") + line % (2, "It is 12:30"), encoding="utf-8")
    (root / "wrong.jsonl").write_text(line % (1, "10:08") + line % (2, "noon"), encoding="utf-8")
    return root


def test_the_tests_of_the_page_pass(folder):
    result = run(folder, "pytest", "-q", "-p", "no:cacheprovider", "test_my_tasks.py")
    wanted = f"{len(TEMPLATES) + 14} passed"
    assert (result.returncode, wanted in result.stdout) == (0, True), result.stdout + result.stderr


def test_the_command_of_the_page_checks_data(folder):
    (command,) = snippets(ADD_A_TASK, "bash")
    path, program, *arguments = command.split()
    assert (path, program) == ("PYTHONPATH=.", "vlm-r1")
    good = run(folder, "vlm_r1.cli.main", *arguments)
    assert (good.returncode, "all well" in good.stdout) == (0, True), good.stdout + good.stderr
    wrong = run(folder, "vlm_r1.cli.main", *[argument.replace("clocks", "wrong") for argument in arguments])
    assert wrong.returncode == 1
    assert "the gold answer 'noon' is no time (no_time); wanted hours and minutes" in wrong.stdout
    assert "the gold answer 'noon' is no time (no_time); wanted hours and minutes" in ADD_A_TASK


@pytest.mark.parametrize(
    "fragment", [*snippets(ADD_A_TASK, "yaml"), *snippets(REFERENCE, "yaml")], ids=["plug_in", "template"]
)
def test_recipes_load(fragment, tmp_path):
    base = {"output_dir": "run", "model": {"path": "model"}, "data": {"train": [{"path": "x.jsonl"}]}}
    read = yaml.safe_load(fragment)
    read["data"] = base["data"] | read["data"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(base | read), encoding="utf-8")
    config = load_config(tmp_path / "recipe.yaml")
    template = make_templates(config.data.template, sections=config.data.templates).default
    if config.data.templates:
        assert (template.name, template.thinking) == ("in_my_words", Thinking.FREE)
    else:
        assert config.data.train[0].task == "my_package.tasks:CLOCK"


def test_the_other_plug_ins_are_tasks(folder):
    tasks = [f"get_task('my_package.clicks:{name}').image" for name in ("FIRST_CLICK", "SECOND_BOX")]
    folder.joinpath("show.py").write_text(
        f"from vlm_r1.tasks import get_task\nprint({', '.join(tasks)})\n", encoding="utf-8"
    )
    result = run(folder, "show")
    assert result.stdout == "0 1\n", result.stderr


def rows(*header):
    """Cells of the table of docs/tasks.md that has this header, by the name in the first."""
    _, _, after = REFERENCE.partition(f"| {' | '.join(header)} |\n")
    lines = after[: after.index("\n\n")].splitlines()[1:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {name.strip("`"): rest for name, *rest in cells}


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_every_task_has_its_rows():
    asked = rows("task", "images", "the problem becomes", "an answer is", "gold")
    judged = rows("task", "reward", "metrics, each in [0, 1]")
    assert list(asked) == list(judged) == list(TASKS)
    for name, (reward, metrics) in judged.items():
        task = TASKS[name]
        golds = [GOLD[name], *(["None"] if name == "multi_rec" else [])]
        keys = [task.metrics(None, task.gold(Record("1", name, "<image>", ("a.png",), gold))) for gold in golds]
        assert code(reward) == [task.reward]
        assert set(code(metrics)) == set().union(*keys), name


def test_every_template_has_its_row():
    listed = rows("template", "thinking", "what is added to the question")
    assert list(listed) == list(TEMPLATES)
    for name, (thinking, words) in listed.items():
        template = TEMPLATES[name]
        assert thinking == template.thinking.value
        if name not in ("r1_default", "bare"):  # said by reference to another
            assert template.instruction.strip() in words
            assert template.box_instruction in words


@pytest.mark.parametrize("page", [ADD_A_TASK, REFERENCE], ids=["add_a_task", "tasks"])
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#]+)\)", prose)
    assert targets
    for target in targets:
        assert (ROOT / "docs" / target).exists(), target
