"""A record is asked as its task, its template and its image folder say, whatever was asked of the same line before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

import vlm_r1.rollouts.env as encoding_module
from vlm_r1.config import load_config
from vlm_r1.config.schema import DataSource
from vlm_r1.data.sources import load_sources
from vlm_r1.errors import ModelError
from vlm_r1.evaluation.protocol import Decoding
from vlm_r1.evaluation.runner import answer_records
from vlm_r1.grpo.trainer import train
from vlm_r1.rollouts.env import Env, same_encoding
from vlm_r1.sampling.scripted import ScriptedSampler
from vlm_r1.tasks.templates import make_templates
from vlm_r1.types import Group, Record


@pytest.fixture
def line(picture, tmp_path: Path) -> Path:
    """A file of one record that the tasks `vqa` and `counting` both take; other pictures lie in other/."""
    shutil.copy(picture(84, 56, 1), tmp_path / "a.png")
    (tmp_path / "other").mkdir()
    shutil.copy(picture(56, 84, 2), tmp_path / "other/a.png")
    turns = [{"from": "human", "value": "<image>How many?"}, {"from": "gpt", "value": "3"}]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"id": 1, "image": "a.png", "conversations": turns}), encoding="utf-8")
    return path


def env_of(records: Sequence[Record], adapter) -> Env:
    names = [record.template for record in records]
    return Env(adapter, make_templates("r1", names), {"accuracy": 1.0})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"template": "r1"}, {"template": "bare"}, id="two templates"),
        pytest.param({"task": "rec", "template": "r1"}, {"task": "vqa", "template": "r1"}, id="two tasks"),
        pytest.param({"image_root": ""}, {"image_root": "other"}, id="two image folders"),
    ],
)
def test_two_sources_of_one_file_are_encoded_apart(one: dict, other: dict, line: Path, adapter) -> None:
    sources = []
    for options in (one, other):
        root = str(line.parent / options["image_root"]) if options.get("image_root") else ""
        sources.append(DataSource(path=str(line), **{"task": "vqa", **options, "image_root": root}))
    records = [load_sources([source])[0] for source in sources]
    assert len({(record.source, record.id) for record in records}) == 1, "both are the same line"
    shared = env_of(records, adapter)
    found = [shared.encode(record) for record in records]
    for record, encoded in zip(records, found, strict=True):
        fresh = env_of(records, adapter).encode(record)
        assert same_encoding(encoded, fresh)
        assert (encoded.text, encoded.template) == (fresh.text, fresh.template)
    assert not same_encoding(*found), "the control: the two do differ"
    assert shared.encode(records[0]) is found[0], "and are remembered"


def test_the_same_prompt_of_two_lines_is_encoded_once(line: Path, adapter) -> None:
    text = line.read_text(encoding="utf-8")
    line.write_text(f"{text}\n{text.replace('3', '4')}", encoding="utf-8")
    records = load_sources([DataSource(path=str(line), task="vqa")])
    shared = env_of(records, adapter)
    assert shared.encode(records[0]) is shared.encode(records[1])


def test_held_out_sets_of_one_file_answer_their_own_prompts(recipe, rec_files, adapter, tmp_path: Path) -> None:
    """`b` has the same answers whether `a`, the same file in other words, was asked before it or not."""
    file = str(rec_files["in_domain"])
    b = {"path": file, "template": "bare"}
    for name, sets in (("both", {"a": {"path": file, "template": "r1"}, "b": b}), ("alone", {"b": b})):
        options = {"data.eval": sets, "training.max_steps": 1, "output_dir": str(tmp_path / name)}
        train(load_config(recipe(**options)))
    samples = [(tmp_path / name / "eval/before-b.samples.jsonl").read_text() for name in ("both", "alone")]
    assert samples[0] == samples[1]
    of_a = (tmp_path / "both/eval/before-a.samples.jsonl").read_text()
    assert [json.loads(line)["text"] for line in of_a.splitlines()] != [
        json.loads(line)["text"] for line in samples[0].splitlines()
    ]
    records = load_sources([DataSource(**b)])
    env = env_of(records, adapter)
    texts = [[json.loads(line)["text"]] for line in samples[0].splitlines()]
    replayed = answer_records(
        records, env, ScriptedSampler(texts, adapter), decoding=Decoding(max_completion_length=64), batch_size=4
    )
    assert {group.encoded.template for group in replayed} == {"bare"}


def test_a_prompt_that_cannot_be_encoded_is_named_with_its_line(line: Path, adapter) -> None:
    row = {"problem": "<image>What is <|image_pad|>?", "answer": "3", "image": "a.png"}
    line.write_text(json.dumps(row), encoding="utf-8")
    records = load_sources([DataSource(path=str(line), task="vqa")])
    with pytest.raises(ModelError, match=r"rows\.jsonl:1: the prompt's text contains the model's own placeholder"):
        env_of(records, adapter).encode(records[0])


def test_text_alone_fills_the_memory_too(line: Path, adapter, monkeypatch) -> None:
    """A prompt without images has no pixels to count: its tokens are."""
    rows = [json.dumps({"problem": f"What is {n}?", "answer": "3"}) for n in range(9)]
    line.write_text("\n".join(rows), encoding="utf-8")
    records = load_sources([DataSource(path=str(line), task="vqa")])
    env = env_of(records, adapter)
    first = env.encode(records[0])
    assert env.encode(records[0]) is first
    monkeypatch.setattr(encoding_module, "CACHE_BYTES", 40 * 3 * len(first.ids_L))
    kept = [env.encode(record) for record in records]
    assert env.encode(records[-1]) is kept[-1]
    assert env.encode(records[0]) is not first, "it was the oldest of nine, and there is room for about three"


def test_pictures_are_kept_as_the_model_sees_them(line: Path, adapter) -> None:
    (record,) = load_sources([DataSource(path=str(line), task="vqa")])
    encoded = env_of([record], adapter).encode(record)
    assert [image.size for image in encoded.images] == [frame.input_wh for frame in encoded.frames]
    group = Group(record, encoded, ()).light()
    assert (group.encoded.images, group.encoded.vision, group.record.row) == ((), {}, {})
    assert (group.encoded.ids_L, group.encoded.frames) == (encoded.ids_L, encoded.frames)
