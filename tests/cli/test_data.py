"""`vlm-r1 data check` and `vlm-r1 data synth`, as a user meets them."""

import argparse
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

import testing_tools
from vlm_r1.cli import data
from vlm_r1.errors import ConfigError, RewardError

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*arguments):
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    return data.run(parser.parse_args([str(argument) for argument in arguments]))


def write(folder, *lines):
    path = folder / "train.jsonl"
    path.write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")
    return path


def line(answer, question="<image>the cat", image="a.png", **extra):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return json.dumps({"id": 1, "image": image, "conversations": turns, **extra})


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    Image.new("RGB", (32, 16)).save(tmp_path / "b.png")
    return tmp_path


def output_table(capsys):
    """The rows of the report as {name: value}."""
    lines = capsys.readouterr().out.splitlines()
    return {name.strip(): value.strip() for name, _, value in (text.strip().partition("  ") for text in lines)}


def test_good_data(folder, capsys):
    path = write(folder, line([10, 20, 110, 220]), line("<think>a cat</think>[1, 2, 3, 9]", image="b.png"))
    assert run("check", path) == 0
    table = output_table(capsys)
    assert table["good records"] == "2"
    assert table["images per record"] == "1 (2)"
    assert table["image sizes"] == "smallest 32x16, median 640x480, largest 640x480, 2 read"
    assert table["answers"] == "list (1), text (1)"
    assert table["with a thought"] == "1"
    assert table["reward"] == "iou (2)"
    assert table["gold accuracy"] == table["gold format"] == "mean 1.0000, least 1.0000"
    assert "all well" in table


def test_bad_lines_beside_good_ones(folder, capsys):
    path = write(folder, line([10, 20, 110, 220]), line([10, 20, 900, 220]), *["{"] * 21)
    assert run("check", path) == 1
    out = capsys.readouterr().out
    assert "cannot be used: 22\n" in out
    assert f"{path}:2: box (10, 20, 900, 220) outside its image 640x480" in out
    assert out.count("not valid JSON") == 1
    assert f"{path}:3: not valid JSON" in out
    assert "    and 20 more with the same message: lines 4, 5, 6, 7, 8, …\n" in out
    assert out.endswith("not ready for training\n")


def test_truncated_image_is_found(folder, capsys):
    Image.linear_gradient("L").convert("RGB").save(folder / "torn.png", compress_level=0)
    (folder / "torn.png").write_bytes((folder / "torn.png").read_bytes()[:5000])
    assert run("check", write(folder, line([1, 2, 3, 4], image="torn.png"))) == 1
    assert "torn.png: image cannot be decoded" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "task", "message"),
    [
        pytest.param("next to the door", "rec", "is no box", id="rec: not a box"),
        pytest.param("several", "counting", "is no count", id="counting: not a number"),
        pytest.param([1, 2], "vqa", "is no short text", id="vqa: a list"),
    ],
)
def test_gold_that_the_task_cannot_read(folder, capsys, answer, task, message):
    path = write(folder, line(answer))
    assert run("check", path, "--task", task) == 1
    out = capsys.readouterr().out
    assert out.count(f"{path}:1: ") == 1
    assert message in out


@pytest.mark.parametrize(
    ("box", "status"),
    [
        # written as [10, 20, 110, 221]: IoU = 100 · 200.5 / (100 · 201) = 0.9975
        pytest.param([10, 20, 110, 220.5], 0, id="fractions of a large box only round"),
        # written as [10, 10, 12, 12]: IoU = 1.2² / 2² = 0.36
        pytest.param([10.4, 10.4, 11.6, 11.6], 1, id="a box too small for whole pixels"),
    ],
)
def test_boxes_between_pixels(folder, capsys, box, status):
    assert run("check", write(folder, line(box))) == status
    out = capsys.readouterr().out
    wanted = 'scores accuracy 0.36 by the reward "iou"; wanted 1'
    assert (wanted in out) == bool(status)


def test_reward_of_a_line_is_the_one_that_scores(folder, capsys):
    path = write(folder, line([1, 2, 3, 4], accu_reward_method="iuo"))
    assert run("check", path) == 1
    assert 'unknown reward "iuo". Did you mean "iou"?' in capsys.readouterr().out


@pytest.mark.parametrize("option", ["task", "reward", "template"])
def test_unknown_name_in_an_option(folder, option):
    with pytest.raises(ConfigError, match=f'unknown {option} "nope"'):
        run("check", write(folder, line([1, 2, 3, 4])), f"--{option}", "nope")


def test_no_images_and_image_root(folder, capsys, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("elsewhere"), line([1, 2, 3, 4]))
    assert run("check", path) == 1
    assert run("check", path, "--image-root", folder) == 0
    assert run("check", path, "--no-images") == 0
    assert output_table(capsys)["image sizes"] == "not looked at"


def test_a_real_file_of_the_original_repository(capsys):
    path = REPOSITORY / "../shared/reference/gui_multi-image.jsonl"
    if not path.exists():
        pytest.skip("the reference files are not here")
    assert run("check", path, "--task", "vqa", "--no-images") == 0
    table = output_table(capsys)
    assert (table["good records"], table["images per record"]) == ("1797", "2 (1797)")


def test_synth_then_check(tmp_path, capsys):
    assert run("synth", "--out", tmp_path, "--train", 8, "--warmup", 4, "--in-domain", 3, "--out-of-domain", 2) == 0
    out = capsys.readouterr().out.splitlines()
    counts = {"train": 8, "warmup": 4, "in_domain": 3, "out_of_domain": 2}
    assert out == [f"{tmp_path / name}.jsonl: {n} records" for name, n in counts.items()]
    assert [run("check", tmp_path / f"{name}.jsonl") for name in counts] == [0, 0, 0, 0]


def test_synth_relation_share(tmp_path):
    few = ["--train", 6, "--in-domain", 1, "--out-of-domain", 1]
    assert run("synth", "--out", tmp_path, *few, "--relation-share", 1) == 0
    rows = [json.loads(text) for text in (tmp_path / "warmup.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 6
    assert {row["scene"]["asks_by"] for row in rows} == {"size", "place"}


@pytest.mark.parametrize(
    "option",
    [
        pytest.param(["--train", "0"], id="no records"),
        pytest.param(["--train", "many"], id="not a number"),
        pytest.param(["--relation-share", "2"], id="share over 1"),
        pytest.param(["--relation-share", "nan"], id="share not a number"),
    ],
)
def test_synth_options_out_of_range(tmp_path, capsys, option):
    with pytest.raises(SystemExit, match="2"):
        run("synth", "--out", tmp_path, *option)
    assert "wanted a" in capsys.readouterr().err


DOCUMENTED = {
    "3": line([10, 20, 110, 220], image="gone.png"),
    "4": line([10, 20, 110, 220], image="notes.png"),
    "5": '{"id": 5, "image": "a.png", "conversations": [',
    "6": line("yes", question="<image> and <image>: same?"),
    "7": line([10, 20, 900, 220]),
    "8": line("near the door"),
}


def test_errors_in_the_documentation_are_real(folder, capsys):
    (folder / "notes.png").write_text("not an image")
    good = line([10, 20, 110, 220])
    assert run("check", write(folder, good, good, *DOCUMENTED.values())) == 1
    out = capsys.readouterr().out.replace(f"{folder}/", "data/")
    errors = out.partition("cannot be used: 6\n")[2].partition("\n\n")[0]
    assert [text.split(": ")[0] for text in errors.splitlines()] == [f"data/train.jsonl:{n}" for n in DOCUMENTED]
    assert errors in (REPOSITORY / "docs/data.md").read_text(encoding="utf-8")


def test_the_format_is_said(folder, capsys):
    row = {"problem": "Where is the cat?", "answer": [10, 20, 110, 220], "images": ["a.png"], "level": 3}
    assert run("check", write(folder, json.dumps(row))) == 0
    table = output_table(capsys)
    assert table["format"] == "easy_r1"
    assert "level" in table


def test_boxes_of_another_unit_are_recognised_and_the_advice_helps(folder, capsys):
    path = write(folder, *(line([100, 30 * i, 900, 30 * i + 100]) for i in range(30)))
    assert run("check", path) == 1
    out = capsys.readouterr().out
    assert "coordinates: the boxes look 0-1000 (the greatest number is 970, and" in out
    assert "set coordinates: norm_1000 (here --coordinates norm_1000)\n" in out
    assert run("check", path, "--coordinates", "norm_1000") == 0
    assert "all well" in capsys.readouterr().out


def test_widths_and_heights_are_recognised_and_the_advice_helps(folder, capsys):
    path = write(folder, *(line([300, 20 * n, 120, 90]) for n in range(1, 5)))  # 300 > 120, and 300 + 120 <= 640
    assert run("check", path) == 1
    assert "the boxes look like x, y, width, height (100% have" in (out := capsys.readouterr().out)
    assert "(here --box xywh)\n" in out
    assert "    and 3 more like it: lines 2, 3, 4\n" in out
    assert run("check", path, "--box", "xywh") == 0
    assert "coordinates:" not in capsys.readouterr().out


def test_data_of_another_tool_are_said_once_with_the_command(folder, capsys):
    path = testing_tools.createml(folder)
    assert run("check", path) == 1
    what = f"{path}: this is CreateML (2 pictures, 2 names)"
    command = f"vlm-r1 data convert createml {path} --out {path.with_suffix('.jsonl')} --negatives 1:3"
    assert capsys.readouterr().out == f"{what}: {command}\n\nnot ready for training\n"


def test_a_hint_is_printed(folder, capsys):
    answer = [{"bbox_2d": [10, 20, 110, 220], "label": "cat"}, {"bbox_2d": [10, 20, 110, 20 + 90], "label": "cat"}]
    path = write(folder, line(answer))
    assert run("check", path) == 1
    hint = "hint: task rec reads nothing in 1 of 1 gold answers; as boxes with labels 1 of them can be read: --task ovd"
    assert f"\n{hint}\n" in capsys.readouterr().out
    assert run("check", path, "--task", "ovd") == 0
    assert "hint:" not in capsys.readouterr().out


def test_pictures_shared_with_the_test_set_are_found(folder, capsys):
    (folder / "test").mkdir()
    Image.new("RGB", (640, 480)).save(folder / "test/other_name.bmp")
    test = folder / "test/test.jsonl"
    test.write_text(line([1, 2, 30, 40], image="other_name.bmp") + "\n", encoding="utf-8")
    assert run("check", write(folder, line([10, 20, 110, 220])), "--against", test) == 0
    out = capsys.readouterr().out
    assert f"leakage: {folder}/train.jsonl and {test}: 1 pictures, of 1 records, stand in both" in out


def test_the_page_holds_the_boxes_and_nothing_hostile(folder):
    hostile = "<image></style><script>alert(1)</script>\u202ecat"
    path = write(folder, line([10, 20, 110, 220]), line([5, 6, 30, 16], question=hostile, image="b.png"))
    assert run("check", path, "--page", folder / "out/page.html") == 0
    page = (folder / "out/page.html").read_text(encoding="utf-8")
    assert '<rect class="edge" x="10" y="20" width="100" height="200"/>' in page
    assert '<rect class="edge" x="5" y="6" width="25" height="10"/>' in page
    assert "<script" not in page
    assert page.count("data:image/") == 2


@pytest.mark.parametrize("option", [["--page", "x.html"], ["--against", "y.jsonl"]])
def test_options_that_need_pictures_cannot_do_without(folder, option):
    with pytest.raises(ConfigError, match="--no-images looks at no picture"):
        run("check", write(folder, line([1, 2, 3, 4])), "--no-images", *option)


# ---- rewards of TRL's signature --------------------------------------------------------------------------------------

REWARDS_OF_OTHERS = """
def abstains(completions, problem, **columns):
    return [None if "0" in text else 1.0 for text in problem]


def by_length(prompts, completions, completion_ids, **columns):
    return [min(len(ids), 10) / 10 for ids in completion_ids]


def silent(completions, **columns):
    return [None] * len(completions)


def raises_for_cats(completions, problem, **columns):
    return [1.0 if "cat" not in text else {}["cat"] for text in problem]


def raises(given):
    raise RuntimeError("no")


def needs(completions, reference, **columns):
    return [1.0] * len(completions)
"""


@pytest.fixture
def check(folder, monkeypatch):
    """`check(name)`: the status of a check of three questions, numbered from 0, by that reward; one asks for cats."""
    (folder / "rewards_of_a_user.py").write_text(REWARDS_OF_OTHERS, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    questions = ["How many? 0", "How many cats? 1", "How many? 2"]
    file = write(folder, *(line(1, question, id=n) for n, question in enumerate(questions)))
    yield lambda name: run("check", file, "--task", "counting", "--reward", f"rewards_of_a_user:{name}")
    sys.modules.pop("rewards_of_a_user", None)


def test_a_reward_may_leave_records_out_and_the_check_says_which(check, folder, capsys):
    assert check("abstains") == 0
    said = capsys.readouterr().out
    assert "left out by its reward, so it earns nothing and costs nothing there: 1\n" in said
    assert f'{folder}/train.jsonl:1: the reward "rewards_of_a_user:abstains" returns None for its gold answer' in said
    assert "gold accuracy" in said
    assert "mean 1.0000, least 1.0000" in said
    assert said.endswith("all well\n")


def test_a_reward_that_leaves_all_out_is_not_ready(check, capsys):
    assert check("silent") == 1
    said = capsys.readouterr().out
    assert "gold accuracy" in said
    assert "left out by its reward, so it earns nothing and costs nothing there: 3" in said
    assert said.endswith("not ready for training\n")


def test_a_reward_of_token_ids_is_handed_some_and_told_which(check, capsys):
    assert check("by_length") == 0
    assert "stand-ins, one for each byte of the text: no tokenizer is loaded here" in capsys.readouterr().out
    assert check("abstains") == 0
    assert "stand-ins" not in capsys.readouterr().out


def test_a_reward_that_raises_for_some_lists_them(check, folder, capsys):
    assert check("raises_for_cats") == 1
    said = capsys.readouterr().out
    assert "cannot be used: 1\n" in said
    assert (
        f"{folder}/train.jsonl:2: reward \"rewards_of_a_user:raises_for_cats\" raised KeyError: 'cat' "
        "(rewards_of_a_user.py:15)\n" in said
    )


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        pytest.param(
            "raises",
            RewardError,
            r'train\.jsonl:1: reward "rewards_of_a_user:raises" raised RuntimeError: no \(',
            id="raises",
        ),
        pytest.param(
            "needs", ConfigError, 'reward "rewards_of_a_user:needs" takes "reference", and no line', id="column"
        ),
        pytest.param("absent", ConfigError, "has no attribute 'absent'", id="absent"),
    ],
)
def test_a_reward_that_can_never_be_called_is_one_error(check, name, error, message):
    with pytest.raises(error, match=message):
        check(name)


def test_the_handed_case_of_rewards_of_trl(capsys, monkeypatch):
    case = REPOSITORY.parent / "shared/cases/trl-reward-functions"
    if not case.exists():
        pytest.skip("the shared cases are not there")
    monkeypatch.syspath_prepend(case)
    for name in ("abstains", "by_length"):
        assert run("check", case / "rows.jsonl", "--task", "counting", "--reward", f"trl_rewards:{name}") == 0
    sys.modules.pop("trl_rewards", None)
    assert "left out by its reward, so it earns nothing and costs nothing there: 1" in capsys.readouterr().out
