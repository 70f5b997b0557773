"""A run with a system prompt, earlier turns with pictures and a switch of the chat template; what asks its model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from testing_openai_server import serve
from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.evaluation.asking import FILE, recipe_notes
from vlm_r1.export.model_card import model_card
from vlm_r1.models import adapter_of
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path
from vlm_r1.runtime.run_folder import RunFolder

ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n"
SWITCH = "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
CLOSED = "assistant\n<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_checkpoint, rec_files) -> Path:
    """The folder `run` of a trained model, beside its `recipe.yaml` and `rows.jsonl`."""
    home = tmp_path_factory.mktemp("chat")
    shutil.copytree(tiny_checkpoint, home / "model")
    template = home / "model/chat_template.jinja"
    assert ASK in template.read_text()
    template.write_text(template.read_text().replace(ASK, ASK + SWITCH))
    rows = []
    lines = rec_files["train"].read_text(encoding="utf-8").splitlines()[:8]
    for number, line in enumerate(lines):
        row = json.loads(line)
        picture = str(rec_files["train"].parent / row["image"])
        before = [{"from": "human", "value": "<image>the circle"}, {"from": "gpt", "value": "the red circle"}]
        told = {"conversations": [*before, *row["conversations"]], "image": [picture, picture]}
        rows.append({**row, "image": picture, **(told if number % 2 else {})})
    rows[3]["system"] = "Be kind."
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tree = {
        "output_dir": str(home / "run"),
        "model": {"path": str(home / "model")},
        "data": {
            "train": [{"path": str(home / "rows.jsonl"), "image_root": "/"}],
            "system_prompt": "Be brief.",
            "chat_template_kwargs": {"enable_thinking": False},
            "template": "bare",
            "shuffle": False,
        },
        "sampling": {"max_completion_length": 4},
        "grpo": {"num_generations": 2},
        "training": {"max_steps": 1, "prompts_per_step": 4, "learning_rate": 1e-4},
    }
    (home / "recipe.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert main(["train", str(home / "recipe.yaml")]) == 0
    return home / "run"


def samples(folder: Path, name: str = "rows") -> list[dict]:
    return [json.loads(line) for line in (folder / f"{name}.samples.jsonl").read_text().splitlines()]


def test_the_run_asked_so_and_its_trust_checks_passed(run: Path) -> None:
    prompts = {row.record_id: row.prompt for row in read_rollouts(rollouts_path(run, 1))}
    assert len(prompts) == 4
    assert all(prompt.endswith(CLOSED) for prompt in prompts.values())
    first, second, _, last = prompts.values()
    assert first.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    assert "the circle<|im_end|>\n<|im_start|>assistant\nthe red circle<|im_end|>\n<|im_start|>user\n" in second
    assert second.count("<|image_pad|>") == 2
    assert last.startswith("<|im_start|>system\nBe kind.<|im_end|>"), "the row's own message wins"


def test_eval_asks_as_in_training(run: Path, tmp_path: Path, capsys) -> None:
    told = json.loads((run / "model" / FILE).read_text(encoding="utf-8"))
    assert told["system_prompt"] == "Be brief."
    assert told["chat_template_kwargs"] == {"enable_thinking": False}
    data = run.parent / "rows.jsonl"
    common = ["--image-root", "/", "--limit", "4", "--batch-size", "4"]
    moved = tmp_path / "elsewhere"
    shutil.copytree(run / "model", moved)
    assert main(["eval", str(moved), str(data), "--out", str(tmp_path / "a"), *common]) == 0
    assert "system prompt 'Be brief.', chat template with {\"enable_thinking\": false}" in capsys.readouterr().out
    rows = samples(tmp_path / "a")
    assert [row["context"][0]["content"] for row in rows] == ["Be brief."] * 3 + ["Be kind."]
    assert [len(row["context"]) for row in rows] == [1, 3, 1, 3]
    result = json.loads((tmp_path / "a/rows.json").read_text())
    assert result["protocol"]["system_prompt"] == "Be brief."
    assert result["provenance"]["asked"]["chat_template_kwargs"] == {"enable_thinking": False}
    other = ["--system-prompt", "", "--chat-template-kwargs", '{"enable_thinking": true}']
    assert main(["eval", str(moved), str(data), "--out", str(tmp_path / "b"), *common, *other]) == 0
    assert ["context" in row for row in samples(tmp_path / "b")] == [False, True, False, True]
    assert main(["compare", str(tmp_path / "a/rows.json"), str(tmp_path / "b/rows.json")]) == 2
    assert "system_prompt: 'Be brief.' and None" in capsys.readouterr().err


def test_a_server_is_asked_as_in_training(run: Path, tmp_path: Path) -> None:
    with serve(lambda body: ("<answer>[1, 2, 3, 4]</answer>", "stop", 5)) as server:
        command = ["eval", str(run), str(run.parent / "rows.jsonl"), "--out", str(tmp_path), "--endpoint", server.url]
        assert main([*command, "--image-root", "/", "--limit", "2", "--concurrency", "1"]) == 0
    first, second = server.bodies
    assert {tuple(body["chat_template_kwargs"].items()) for body in server.bodies} == {(("enable_thinking", False),)}
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert [message["role"] for message in second["messages"]] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        pytest.param(["--system-prompt", " "], "a system prompt of blanks says nothing", id="blanks"),
        pytest.param(["--chat-template-kwargs", "[1]"], "wanted an object of JSON", id="no object"),
        pytest.param(["--chat-template-kwargs", '{"x": 1}'], "no such switch; it has enable_thinking", id="unread"),
    ],
)
def test_wrong_options_are_one_line(option, message, run: Path, tmp_path: Path, capsys) -> None:
    try:
        status = main(
            ["eval", str(run), str(run.parent / "rows.jsonl"), "--out", str(tmp_path), "--image-root", "/", *option]
        )
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_dry_run_and_check_say_which_message_is_asked(run: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    recipe = str(run.parent / "recipe.yaml")
    again = [f"--output_dir={run.parent / 'other'}", "--data.template=r1"]
    assert main(["train", recipe, "--dry-run", *again]) == 0
    out = capsys.readouterr().out
    assert "system       data.system_prompt in 7, of the row in 1 of 8 records" in out
    assert "turns        4 of 8 records have earlier turns" in out
    assert 'chat         the template with {"enable_thinking": false}' in out
    assert "it has closed the thought, but template r1 asks for one in the answer" in " ".join(out.split())
    assert main(["data", "check", str(run.parent / "rows.jsonl"), "--image-root", "/"]) in (0, 1)
    out = capsys.readouterr().out
    assert "earlier turns" in out
    wrong = [*again, "--data.chat_template_kwargs={enable_thinkin: false}"]
    assert main(["train", recipe, "--dry-run", *wrong]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "data.chat_template_kwargs.enable_thinkin: has no effect" in error


def test_the_card_and_the_notes_carry_them(run: Path) -> None:
    config = load_config(run / "config.yaml")
    adapter = adapter_of(config.model, chat_template_kwargs=config.data.chat_template_kwargs)
    card = model_card(RunFolder(run), config, adapter=adapter, step=1, moment="after", check="x", as_adapter=False)
    assert "systems = {'rec': 'Be brief.'}" in card
    assert 'messages.insert(0, {"role": "system", "content": [{"type": "text", "text": systems[task]}]})' in card
    assert "options |= {'enable_thinking': False}" in card
    model = config.model.model_copy(update={"path": str(run / "model")})
    same = config.model_copy(update={"model": model})
    assert recipe_notes(same) == []
    data = config.data.model_copy(update={"system_prompt": None, "chat_template_kwargs": {}})
    notes = recipe_notes(same.model_copy(update={"data": data}))
    assert [note.split()[0] for note in notes] == ["system_prompt", "chat_template_kwargs"]
