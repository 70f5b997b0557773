"""ScreenSpot, its second version, and Pro."""

import pytest

from vlm_r1.errors import DataError


def item(name, instruction="view the menu", bbox=(10, 20, 100, 40), **more):
    return {
        "img_filename": name,
        "bbox": list(bbox),
        "instruction": instruction,
        "data_type": "icon",
        "data_source": "ios",
        **more,
    }


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        pytest.param(("screenspot_mobile", "screenspot_web"), "screenspot_imgs", id="version 1"),
        pytest.param(("screenspot_mobile_v2", "screenspot_web_v2"), "screenspotv2_image", id="version 2"),
    ],
)
def test_screenspot(convert, tmp_path, picture_file, json_file, names, folder):
    picture_file(tmp_path / folder / "mobile_1.png", (400, 800))
    picture_file(tmp_path / folder / "web_1.png", (800, 400))
    mobile, web = names
    json_file(tmp_path / f"{mobile}.json", [item("mobile_1.png"), item("gone.png")])
    json_file(tmp_path / f"{web}.json", [item("web_1.png", bbox=(790, 0, 50, 40)), item("web_1.png", instruction=" ")])
    done = convert("screenspot", tmp_path)
    assert (done.task, done.image_root) == ("gui_click", tmp_path / folder)
    assert done.rows[0] == {
        "id": f"{mobile}-0",
        "image": "mobile_1.png",
        "conversations": [
            {"from": "human", "value": "<image>view the menu"},
            {"from": "gpt", "value": [10, 20, 110, 60]},  # x, y, width, height
        ],
        "size": [400, 800],
        "data_type": "icon",
        "data_source": "ios",
    }
    assert done.answers() == {f"{mobile}-0": [10, 20, 110, 60], f"{web}-0": [790, 0, 800, 40]}
    assert done.dropped == {"instruction: image not found": 1, "instruction: empty": 1}
    assert list(convert("screenspot", tmp_path, part="web").answers()) == [f"{web}-0"]


def test_pro_has_corners_and_sizes(convert, tmp_path, picture_file, json_file):
    picture_file(tmp_path / "images" / "vscode" / "1.png", (800, 400))
    pro = item("vscode/1.png", bbox=(10, 20, 100, 40), img_size=[800, 400], id="vscode_macos_0", application="vscode")
    json_file(tmp_path / "annotations" / "vscode_macos.json", [pro])
    done = convert("screenspot", tmp_path, verify=True)
    assert done.answers() == {"vscode_macos_0": [10, 20, 100, 40]}
    assert done.rows[0]["application"] == "vscode"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param({"a": 1}, r"screenspot_web.json: got {'a': 1}, wanted a list", id="no list"),
        pytest.param([{}], r"screenspot_web.json: \[0\].img_filename: missing", id="no picture"),
        pytest.param([item("a.png", bbox=(1, 2))], r"\[0\].bbox: got \[1, 2\], wanted 4 numbers", id="no box"),
    ],
)
def test_bad_files_are_named(convert, tmp_path, picture_file, json_file, rows, message):
    picture_file(tmp_path / "a.png")
    with pytest.raises(DataError, match=message):
        convert("screenspot", json_file(tmp_path / "screenspot_web.json", rows))


def test_another_folder(convert, tmp_path, json_file):
    json_file(tmp_path / "screenspot_web.json", [])
    with pytest.raises(DataError, match=r"no screenspot_\*.json with 'tv' in its name; found screenspot_web.json"):
        convert("screenspot", tmp_path, part="tv")
