"""Splits by picture: no picture on both sides, the same on every machine; and what two sets share."""

import json

import pytest

from vlm_r1.config import DataSource
from vlm_r1.config.load import load_config
from vlm_r1.data.records import RecordFile
from vlm_r1.data.sources import Sources, shared_pictures
from vlm_r1.data.split import split_position
from vlm_r1.errors import ConfigError

PARTS = ((0.0, 0.3), (0.3, 0.6), (0.6, 1.0))


def written(path, rows):
    path.write_text("".join(json.dumps({"problem": "?", "answer": 1, **row}) + "\n" for row in rows), encoding="utf-8")
    return DataSource(path=str(path), task="vqa", split_by="image", split_range=(0.0, 0.3))


def parts(source):
    """The rows of each part, read without a look at their pictures."""
    return [list(RecordFile(source.model_copy(update={"split_range": part})).scan(None)) for part in PARTS]


def test_all_records_of_a_picture_fall_on_the_same_side(tmp_path):
    source = written(tmp_path / "a.jsonl", [{"id": i, "image": f"{i % 60}.png"} for i in range(600)])
    found = parts(source)
    assert sum(map(len, found)) == 600
    shown = [{path for record in part for path in record.images} for part in found]
    assert len(shown[0] | shown[1] | shown[2]) == sum(map(len, shown)) == 60
    assert all(shown)
    by_hand = {f"{tmp_path}/{i}.png" for i in range(60) if split_position(f"{i}.png") < 0.3}
    assert shown[0] == by_hand


def test_pictures_that_stand_in_one_record_stay_together(tmp_path):
    # chains a-b, b-c, c-d …: one component, its name the least, "00.png"
    rows = [{"images": [f"{i:02}.png", f"{i + 1:02}.png"]} for i in range(40)] + [
        {"image": f"x{i}.png"} for i in range(40)
    ]
    sizes = [sum(len(record.images) == 2 for record in part) for part in parts(written(tmp_path / "a.jsonl", rows))]
    side = [first <= split_position("00.png") < last for first, last in PARTS].index(True)
    assert sizes == [40 if place == side else 0 for place in range(3)]


def test_the_same_for_the_same_names_wherever_the_folder_and_whatever_is_added(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    few = written(tmp_path / "a.jsonl", [{"id": i, "image": f"{i}.png"} for i in range(100)])
    rows = [{"id": f"b{i}", "image": f"./{i}.png"} for i in range(200)]
    many = written(tmp_path / "elsewhere/b.jsonl", rows)
    names = [{path.rsplit("/")[-1] for record in parts(source)[0] for path in record.images} for source in (few, many)]
    assert names[0] == {name for name in names[1] if int(name.removesuffix(".png")) < 100}


def test_rows_without_pictures_go_by_their_id_and_broken_ones_are_not_lost(tmp_path):
    source = written(tmp_path / "a.jsonl", [{"id": i} for i in range(99)])
    with open(source.path, "a", encoding="utf-8") as file:
        file.write("{\n")
    assert sum(map(len, parts(source))) == 100
    assert all(map(len, parts(source)))


def test_split_by_alone_is_an_option_without_effect(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "output_dir: x\nmodel: {path: m}\ndata: {train: [{path: a.jsonl, split_by: image}]}\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="split_by has no effect without split_range"):
        load_config(recipe)


@pytest.mark.parametrize(
    ("held", "n"),
    [
        pytest.param([{"image": "1.png"}, {"image": "9.png"}, {"image": "2.png"}], 2, id="two of three"),
        pytest.param([{"images": ["9.png", "./1.png"]}], 1, id="one of its two pictures"),
        pytest.param([{"image": {"path": "2.png"}}, {"image_path": "1.png"}], 2, id="under other keys"),
        pytest.param([{"image": "8.png"}, {"image": "9.png"}], 0, id="none"),
        pytest.param([{}], 0, id="no pictures"),
    ],
)
def test_held_out_records_whose_pictures_are_trained_on(tmp_path, held, n):
    def whole(path, rows):
        return Sources([RecordFile(written(path, rows).model_copy(update={"split_range": (0.0, 1.0)}))])

    train = whole(tmp_path / "train.jsonl", [{"image": f"{i}.png"} for i in range(4)])
    assert shared_pictures(train, {"held": whole(tmp_path / "held.jsonl", held)}) == {"held": n}


def test_a_linked_folder_holds_the_same_pictures(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    def whole(name, folder):
        source = written(tmp_path / name, [{"image": f"{folder}/1.png"}])
        return Sources([RecordFile(source.model_copy(update={"split_range": (0.0, 1.0)}))])

    held = {folder: whole(f"{folder}.jsonl", folder) for folder in ("link", "real", "other")}
    assert shared_pictures(whole("train.jsonl", "real"), held) == {"link": 1, "real": 1, "other": 0}
