"""Files of any world: the bytes depend on the arguments alone, splits are apart, options mean what they say."""

import json
from pathlib import Path
from random import Random

import pytest

from vlm_r1.data.jsonl import read_jsonl
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.synthetic import (
    ALL_SHIFTS,
    SHIFTS,
    WORLDS,
    OvdWorld,
    RecWorld,
    SizeRange,
    make_world,
    shifted,
    write_dataset,
)

SMALL = {"train": 5, "warmup": 2, "in_domain": 3, "out_of_domain": 3}


def folder_bytes(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", WORLDS)
def test_same_seed_same_bytes_and_longer_starts_with_shorter(tmp_path, name):
    world = make_world(name)
    write_dataset(tmp_path / "a", world, seed=1, counts=SMALL)
    write_dataset(tmp_path / "b", world, seed=1, counts=SMALL)
    write_dataset(tmp_path / "other", world, seed=2, counts=SMALL)
    write_dataset(tmp_path / "longer", world, seed=1, counts={**SMALL, "train": 7, "warmup": 7})
    first = folder_bytes(tmp_path / "a")
    assert first == folder_bytes(tmp_path / "b")
    other, longer = folder_bytes(tmp_path / "other"), folder_bytes(tmp_path / "longer")
    assert [name for name, content in first.items() if other[name] == content] == []
    assert [name for name, content in first.items() if not longer[name].startswith(content)] == []


@pytest.mark.parametrize("name", WORLDS)
def test_files_are_read_by_our_reader(tmp_path, name):
    world = make_world(name)
    files = write_dataset(tmp_path, world, counts=SMALL, shifts=(*SHIFTS, ALL_SHIFTS))
    assert {path.name for path in tmp_path.iterdir()} == {"images", *(f"{split}.jsonl" for split in files)}
    assert set(files) == {"train", "warmup", "in_domain", "out_of_domain"} | {f"out_of_domain_{s}" for s in SHIFTS}
    records = {split: read_jsonl(path, task=world.task) for split, path in files.items()}
    assert {split: len(found) for split, found in records.items()} == {split: SMALL.get(split, 3) for split in files}
    taught = zip(records["warmup"], records["train"], strict=False)
    assert all((a.problem, a.images) == (b.problem, b.images) and a.thought for a, b in taught)
    images = [image for split, found in records.items() if split != "warmup" for r in found for image in r.images]
    assert len(images) == len(set(images)) == len(list(tmp_path.glob("images/*/*.png")))


def test_a_line_of_two_pictures(tmp_path):
    files = write_dataset(tmp_path, make_world("change"), counts=SMALL)
    row = json.loads(files["train"].read_text(encoding="utf-8").splitlines()[0])
    assert row["image"] == ["images/train/000001_1.png", "images/train/000001_2.png"]
    assert row["conversations"][0]["value"] == "<image><image>what changed?"
    assert set(row["scene"]) == {"size", "change", "objects"}
    assert len(row["scene"]["objects"]) == 2


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_each_shift_changes_its_own_thing(name, difficulty):
    world = make_world(name, difficulty)
    trained = [world.draw(Random(i)).pictures[0] for i in range(200)]
    sizes = {picture.wh for picture in trained}
    most = world.most_objects
    assert max(len(picture.things) for picture in trained) <= most
    for shift in (*SHIFTS, ALL_SHIFTS):
        for i in range(15):
            example = shifted(world, shift).draw(Random(i))
            assert (example.pictures[0].wh not in sizes) == (shift in ("sizes", ALL_SHIFTS))
            crowd = max(len(picture.things) for picture in example.pictures)
            assert crowd == most + 1 if shift in ("crowding", ALL_SHIFTS) else crowd <= most
            there = {t.kind for picture in example.pictures for t in picture.things}
            unseen = there & set(world.held_out_kinds)
            asked = {kind for kind in world.held_out_kinds if str(kind) in f"{example.question} {example.answer}"}
            if shift in ("kinds", ALL_SHIFTS):
                assert asked or example.answer in ("None", "no change")
            else:
                assert not unseen | asked


@pytest.mark.parametrize(
    ("sizes", "unseen"),
    [
        pytest.param(((56, 56),), ((84, 56), (56, 84)), id="half as long again"),
        pytest.param(((56, 56), (84, 56)), ((112, 56), (56, 112)), id="one of them is known: twice as long"),
        pytest.param((SizeRange((50, 50), (90, 90)),), ((100, 50), (50, 100)), id="beyond a range"),
        pytest.param((SizeRange((40, 60), (50, 70)),), ((60, 60), (40, 90)), id="outside of a range"),
    ],
)
def test_unseen_sizes(sizes, unseen):
    assert shifted(RecWorld(image_sizes=sizes), "sizes").image_sizes == unseen


def test_sizes_of_a_range():
    world = RecWorld(image_sizes=(SizeRange((40, 50), (43, 51)), (64, 64)))
    drawn = {world.draw(Random(i)).pictures[0].wh for i in range(200)}
    assert drawn == {(width, height) for width in (40, 41, 42, 43) for height in (50, 51)} | {(64, 64)}


def test_options_go_before_the_difficulty():
    assert make_world("ovd", "hard").max_objects == 7
    assert make_world("ovd", "hard", max_objects=5) == OvdWorld(
        min_objects=3, max_objects=5, side_range=make_world("ovd", "hard").side_range
    )
    assert make_world("rec") == RecWorld()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: make_world("odv"), 'unknown world "odv". Did you mean "ovd"?', id="world"),
        pytest.param(lambda: make_world("ovd", "heard"), 'unknown difficulty "heard". Did you mean "hard"', id="level"),
        pytest.param(
            lambda: make_world("counting", relation_share=0.5),
            'relation_share has no effect in the world "counting". Leave it out, or choose another world: rec',
            id="option of another world",
        ),
        pytest.param(lambda: make_world("rec", pace=1), "pace has no effect .*: none has it", id="option of no world"),
        pytest.param(lambda: OvdWorld(negatives="soft"), 'unknown kind of negatives "soft"', id="negatives"),
        pytest.param(lambda: RecWorld(thought="presence"), 'unknown thought "presence". Known: question', id="thought"),
        pytest.param(lambda: shifted(RecWorld(), "size"), 'unknown shift "size". Did you mean "sizes"', id="shift"),
        pytest.param(lambda: RecWorld(image_sizes=((16, 300),)), "16x300 pixels would be 4 pixels small", id="tiny"),
        pytest.param(
            lambda: OvdWorld(min_objects=2, max_objects=3, side_range=(0.6, 0.7)).draw(Random(0)),
            "OvdWorld: in 2000 attempts no picture of .* with 2 to 3 objects could be drawn",
            id="what does not fit",
        ),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_more_warm_up_than_training(tmp_path):
    with pytest.raises(DataError, match="3 warm-up records of 2 training records"):
        write_dataset(tmp_path, RecWorld(), counts={"train": 2, "warmup": 3, "in_domain": 1, "out_of_domain": 1})


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: cannot write the data set: Not a directory"):
        write_dataset(tmp_path / "file", RecWorld(), counts=SMALL)


def test_the_documentation_tells_the_difficulties():
    text = (Path(__file__).resolve().parents[2] / "docs/synthetic.md").read_text(encoding="utf-8")
    for name, kind in WORLDS.items():
        assert f"| `{name}` | " in text
        for difficulty in kind.levels:
            world = make_world(name, difficulty)
            sides = f" {world.side_range[0]}–{world.side_range[1]}" if hasattr(world, "side_range") else ""
            assert f"| `{name}` | {difficulty} | {world.min_objects}–{world.max_objects} |{sides} |" in text
        assert f"| {', '.join(f'`{thought}`' for thought in kind.thoughts)} |" in text
        assert f"| `{kind.task}` |" in text
