"""Tables as Hugging Face stores them: rows and embedded images on disk, made once."""

import datetime
import decimal
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlm_r1.config import DataSource
from vlm_r1.data.hub import cache_folder, local_rows
from vlm_r1.data.images import load_image
from vlm_r1.data.records import RecordFile
from vlm_r1.data.sources import load_sources
from vlm_r1.errors import DataError


def png(colour):
    content = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(content, "PNG")
    return content.getvalue()


def parquet(path, rows, schema=None):
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return str(path)


def embedded(colour, name="1.png"):
    return {"bytes": png(colour), "path": name}


def colours(record):
    return [load_image(path).getpixel((0, 0)) for path in record.images]


RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        pytest.param({"image": embedded(RED)}, [RED], id="struct of bytes and path"),
        pytest.param({"image": png(RED)}, [RED], id="bytes"),
        pytest.param({"images": [embedded(RED), embedded(BLUE)]}, [RED, BLUE], id="list of structs"),
        pytest.param({"image": {"bytes": None, "path": "own.png"}}, [BLUE], id="struct with a path alone"),
        pytest.param({"image": "own.png"}, [BLUE], id="path beside the table"),
        pytest.param({"image": None}, [], id="none"),
    ],
)
def test_images_of_a_parquet_file(tmp_path, images, expected):
    Image.new("RGB", (4, 4), BLUE).save(tmp_path / "own.png")
    path = parquet(tmp_path / "a.parquet", [{"problem": "which?", "answer": "x", **images}])
    (record,) = load_sources([DataSource(path=path, task="vqa")], cache=tmp_path / "cache")
    assert colours(record) == expected
    assert record.source == f"{path}:1"
    assert record.problem == "<image>" * len(expected) + "which?"


def test_conversations_with_embedded_images(tmp_path):
    content = [{"type": "image", "text": None, "image": embedded(RED)}, {"type": "text", "text": "?", "image": None}]
    path = parquet(tmp_path / "a.parquet", [{"prompt": [{"role": "user", "content": content}], "solution": "x"}])
    (record,) = load_sources([DataSource(path=path, task="vqa")], cache=tmp_path / "cache")
    assert (colours(record), record.problem) == ([RED], "<image>?")


def test_many_rows_in_order_and_each_image_once(tmp_path):
    rows = [{"id": i, "problem": "?", "answer": i, "image": embedded((i % 3, 0, 0), f"{i}.png")} for i in range(150)]
    rows.append({"id": 150, "problem": "?", "answer": 150, "image": embedded((0, 0, 0), "0.png")})
    path = parquet(tmp_path / "a.parquet", rows)
    records = RecordFile(DataSource(path=path, task="counting"), cache=tmp_path / "cache")
    assert [record.answer for record in records] == list(range(151))
    assert [colours(records[i])[0][0] for i in (0, 1, 2, 100, 150)] == [0, 1, 2, 1, 0]
    assert len(list((tmp_path / "cache/images").rglob("*.png"))) == 3


def test_values_that_json_has_no_form_for(tmp_path):
    rows = [{"day": datetime.date(2025, 4, 1), "cost": decimal.Decimal("1.50"), "score": np.nan, "n": {"a": [1, 2.5]}}]
    with open(local_rows(parquet(tmp_path / "a.parquet", rows), tmp_path), encoding="utf-8") as file:
        assert json.load(file) == {"day": "2025-04-01", "cost": "1.50", "score": None, "n": {"a": [1, 2.5]}}


def test_a_table_is_converted_once_and_again_when_it_changed(tmp_path):
    path = parquet(tmp_path / "a.parquet", [{"problem": "?", "answer": 1}])
    first = local_rows(path, tmp_path / "cache")
    written = os.stat(first).st_mtime_ns
    assert local_rows(path, tmp_path / "cache") == first
    assert os.stat(first).st_mtime_ns == written
    parquet(tmp_path / "a.parquet", [{"problem": "?", "answer": 1}, {"problem": "?", "answer": 2}])
    assert len(RecordFile(DataSource(path=path, task="vqa"), cache=tmp_path / "cache")) == 2


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path):
    path = parquet(tmp_path / "a.parquet", [{"image": embedded(RED)}])
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/images").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cannot read the data set: .*Not a directory"):
        local_rows(path, tmp_path / "cache")
    assert [entry for entry in (tmp_path / "cache").rglob("*") if entry.is_file()] == [tmp_path / "cache/images"]


@pytest.mark.parametrize("content", [pytest.param(None, id="missing"), pytest.param(b"PAR1 no", id="broken")])
def test_unreadable_parquet(tmp_path, content):
    path = tmp_path / "a.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet: cannot read the data set: "):
        load_sources([DataSource(path=str(path))], cache=tmp_path)


def test_other_files_stand_for_themselves(tmp_path):
    for path in ("a.jsonl", "a.json", str(tmp_path)):
        assert local_rows(path, tmp_path) == path


def test_saved_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "problem": datasets.Value("string"), "solution": datasets.Value("string")}
    )
    rows = {"image": [embedded(RED), embedded(BLUE)], "problem": ["a", "b"], "solution": ["<answer>1</answer>", "2"]}
    saved = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": saved, "test": saved.select([1])}).save_to_disk(str(tmp_path / "d"))
    sources = [DataSource(path=str(tmp_path / "d" / split), task="counting") for split in ("train", "test")]
    records = load_sources(sources, cache=tmp_path / "cache")
    assert [(record.answer, *colours(record)) for record in records] == [("1", RED), ("2", BLUE), ("2", BLUE)]
    with pytest.raises(DataError, match=r"several splits; name one of them: .*/d/test, .*/d/train"):
        load_sources([DataSource(path=str(tmp_path / "d"))], cache=tmp_path / "cache")


LOAD = """
import sys
from pathlib import Path
from vlm_r1.config import DataSource
from vlm_r1.data import load_sources
from vlm_r1.errors import DataError
for path in sys.argv[1:]:
    if path == "without":
        sys.modules["datasets"] = None
        continue
    try:
        print([record.answer for record in load_sources([DataSource(path=path, task="counting")])])
    except DataError as error:
        print(error)
"""


def test_data_sets_of_the_hub(tmp_path):
    folder = tmp_path / "data"  # `datasets` reads a folder by the same call as a data set of the hub
    folder.mkdir()
    parquet(folder / "train.parquet", [{"problem": "?", "answer": 1}, {"problem": "?", "answer": 2}])
    caches = {"HF_HOME": str(tmp_path / "hf"), "XDG_CACHE_HOME": str(tmp_path / "xdg"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, f"hub:{folder}:train", f"hub:{folder}:test", "without", f"hub:{folder}"]
    done = subprocess.run(command, env={**os.environ, **caches}, capture_output=True, text=True, check=True)
    loaded, no_split, no_package = done.stdout.splitlines()
    assert loaded == "[1, 2]"
    assert no_split.startswith(f"hub:{folder}:test: cannot be loaded: Unknown split")
    assert no_package.startswith(f"hub:{folder}: the package datasets is needed")
    assert no_package.endswith("pip install -e '.[hub]'")
    assert len(list((tmp_path / "xdg/vlm-r1/rows").iterdir())) == 1


def test_cache_folder_is_below_the_users():
    assert cache_folder().parts[-1] == "vlm-r1"


# ---- tables from strangers -----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """`saved("state.json", key, value)`: a saved data set of which one setting is changed."""
    datasets = pytest.importorskip("datasets")

    def save(file, key, value):
        folder = tmp_path / "saved"
        datasets.Dataset.from_list([{"problem": "which?", "answer": "x"}]).save_to_disk(str(folder))
        tree = json.loads((folder / file).read_text())
        tree[key] = value
        (folder / file).write_text(json.dumps(tree))
        return str(folder)

    return save


@pytest.mark.parametrize("name", ["../pipe", "/dev/zero", "{folder}/pipe", 5, None, "saved/../../pipe"])
@pytest.mark.parametrize("key", ["_data_files", "_indices_files"])
def test_a_saved_data_set_names_only_its_own_files(saved, tmp_path, key, name):
    """A pipe would block for ever, and a link or a path would read another table of this disk."""
    os.mkfifo(tmp_path / "pipe")
    name = name.format(folder=tmp_path) if isinstance(name, str) else name
    path = saved("state.json", key, [{"filename": name}])
    with pytest.raises(DataError, match="names the file"):
        local_rows(path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("state.json", "_format_kwargs", {"x": 1}),
        ("state.json", "_data_files", 5),
        ("state.json", "_data_files", [5]),
        ("state.json", "_format_type", ["x"]),
        ("dataset_info.json", "features", {"problem": []}),
        ("dataset_info.json", "features", {"problem": {"_type": "os.system"}}),
        ("dataset_info.json", "features", 5),
    ],
)
def test_settings_of_a_saved_data_set_of_other_kinds_are_an_error(saved, tmp_path, file, key, value):
    with pytest.raises(DataError):
        local_rows(saved(file, key, value), tmp_path / "cache")


def test_a_saved_data_set_that_is_whole_is_read(saved, tmp_path):
    """The control of the two tests above."""
    rows = local_rows(saved("state.json", "_fingerprint", "abc"), tmp_path / "cache")
    assert [json.loads(line) for line in Path(rows).read_text().splitlines()] == [{"problem": "which?", "answer": "x"}]


def test_settings_that_are_nested_without_end_are_an_error(saved, tmp_path):
    path = saved("state.json", "_fingerprint", "abc")
    (tmp_path / "saved/dataset_info.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="RecursionError"):
        local_rows(path, tmp_path / "cache")


def test_a_value_that_python_lacks_is_an_error(tmp_path):
    late = pa.table({"problem": ["which?"], "answer": ["x"], "day": pa.array([2**31 - 1], pa.date32())})
    pq.write_table(late, tmp_path / "late.parquet")
    with pytest.raises(DataError, match="cannot read the data set: days="):
        local_rows(str(tmp_path / "late.parquet"), tmp_path / "cache")


def test_a_table_that_would_fill_the_disk_is_not_unpacked(tmp_path):
    """32 equal rows of 10 MB in a file of a few kB; the control is a table that grows as much, to less."""
    path, cache = tmp_path / "bomb.parquet", tmp_path / "cache"
    for n, fits in ((32, False), (2, True)):
        answers = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array(["x" * 10_000_000]))
        pq.write_table(pa.table({"problem": ["which?"] * n, "answer": answers}), path, compression="zstd")
        assert path.stat().st_size < 10_000
        if fits:
            assert len(Path(local_rows(str(path), cache)).read_text().splitlines()) == n
        else:
            with pytest.raises(DataError, match="far more than the table"):
                local_rows(str(path), cache)
            assert not [file for file in cache.rglob("*") if file.is_file()]
