"""What `data check` warns of: each warning on a record that deserves it, and none on one that does not."""

import json

import numpy as np
import pytest
from PIL import Image

from vlm_r1.config import DataSource
from vlm_r1.curation.data_check import check_data
from vlm_r1.curation.data_warnings import AS_TEXT, COMMAS, EARLIER, LABELS, MARKS, TOKENS, TWICE
from vlm_r1.data.instructions import is_whole_instruction
from vlm_r1.tasks.templates import get_template


@pytest.fixture
def check(tmp_path):
    """`check({"problem": …}, task="ovd")`: what is found in a file of these rows, which share a picture."""
    Image.new("RGB", (160, 120)).save(tmp_path / "a.png")

    def found(*rows, task="ovd", template="r1"):
        path = tmp_path / "a.jsonl"
        lines = [json.dumps({"image": "a.png", **row}) for row in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
        check = check_data(DataSource(path=str(path), task=task), get_template(template), images=True)
        assert not check.problems, check.problems
        return check

    return found


def boxes(*labels, box=(10, 20, 50, 60)):
    return [{"bbox_2d": [box[0] + i, *box[1:]], "label": label} for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("problem", "label", "kinds"),
    [
        pytest.param("cat, dog", "cat", [], id="asked"),
        pytest.param("<image>cat, dog.", "dog", [], id="asked, before a full stop"),
        pytest.param("red car, blue car", "red car", [], id="of two words"),
        pytest.param("cars and dogs", "dogs", [], id="after and"),
        pytest.param("猫、狗", "狗", [], id="between Chinese commas"),
        pytest.param("red car", "car", [], id="a word of a name"),
        pytest.param("cat, dog", "bird", [LABELS], id="never asked"),
        pytest.param("cats, dog", "cat", [LABELS], id="a part of a word"),
        pytest.param("dog, ceramic, bowl, ceramic", "bowl, ceramic", [COMMAS], id="a name with a comma"),
        pytest.param("dog; bowl, ceramic", "bowl, ceramic", [], id="a name with a comma between semicolons"),
        pytest.param("bowl, ceramic", "bowl, ceramic", [], id="the one name"),
        pytest.param('dog, ceramic, "bowl, ceramic"', "bowl, ceramic", [], id="a name with a comma in quotes"),
        pytest.param("Find all animals; give bbox and label", "cat", [], id="a whole question"),
        pytest.param("Find every animal in the image", "cat", [], id="an order, which is said of the file"),
        pytest.param("狗、碗，陶瓷", "碗，陶瓷", [COMMAS], id="a name with a Chinese comma"),
    ],
)
def test_labels(check, problem, label, kinds):
    assert list(check({"problem": problem, "answer": boxes(label)}).warnings) == kinds


def test_a_label_in_another_case_costs_what_was_asked_for(check):
    found = check({"problem": "cat, dog", "answer": boxes("dog", "Cat")})
    [problem] = found.low
    assert problem.message.startswith('the gold label "Cat" is asked for as "cat": who writes that earns')
    assert not found.is_ready
    assert check({"problem": "cat, dog", "answer": boxes("dog", "cat")}).is_ready


@pytest.mark.parametrize(
    ("task", "answer", "n"),
    [
        pytest.param("ovd", [*boxes("cat"), *boxes("cat")], 2, id="the same"),
        pytest.param("ovd", [*boxes("cat"), *boxes("cat"), *boxes("cat")], 3, id="three times"),
        pytest.param("ovd", [*boxes("cat"), *boxes("cat", box=(10.4, 19.6, 50, 60))], 2, id="the same once rounded"),
        pytest.param("ovd", [*boxes("cat"), *boxes("dog")], None, id="other labels"),
        pytest.param("ovd", boxes("cat", "cat"), None, id="other boxes"),
        pytest.param("multi_rec", [[1, 2, 30, 40], [1, 2, 30, 40]], 2, id="without labels"),
        pytest.param("multi_rec", [[1, 2, 30, 40], [1, 2, 30, 41]], None, id="other boxes without labels"),
    ],
)
def test_equal_gold_boxes(check, task, answer, n):
    listed = check({"problem": "cat, dog", "answer": answer}, task=task).warnings.get(TWICE, [])
    assert [f"stands {n} times" in problem.message for problem in listed] == [True] * (n is not None)


def test_control_tokens_are_named_with_their_line(check):
    token = {"problem": "<|vision_start|><|image_pad|>How many?", "answer": "1<|im_end|>"}
    found = check({"problem": "How many?", "answer": "1"}, token, task="vqa")
    [problem] = found.warnings[TOKENS]
    assert problem.source.endswith("a.jsonl:2")
    for text in ("<|image_pad|> in the question", "<|im_end|> in the answer"):
        assert text in problem.message
    assert found.is_ready
    assert TOKENS not in check({"problem": "Is 1 < 2 > 0? <b>", "answer": "yes"}, task="vqa").warnings


def test_marks_beside_the_picture_s_own_are_text_and_said(check):
    found = check({"problem": "<image>What does <img src='b.png'> do?", "answer": "x"}, task="vqa")
    assert [problem.message.split(" in the")[0] for problem in found.warnings[MARKS]] == ["<img src='b.png'>"]


WHOLE = [
    "Find all the helmets.",
    "Please detect every car in the picture",
    "Detect cats; answer as JSON",
    "helmet coordinates",
    "You are a detector. Look closely. Then list what there is, and say where.",
    "请检测图片中的所有安全帽，以JSON格式输出坐标",
    "找出图中的猫",
    "画像の中の猫をすべて検出してください。",
    "이 이미지에서 고양이를 찾아 주세요",
    "Bitte finde alle Helme",
    "Trouve tous les casques",
    "Encuentra todos los cascos y da las coordenadas",
    "Найди все каски на изображении",
    "Znajdź wszystkie kaski",
    "x" * 301,
]
BARE = [
    "cat, red car",
    "the man on the left",
    "A man who points at all the others.",
    "the woman in the picture frame",
    "安全帽",
    "猫、狗、红色的汽车",
    "the label on the bottle",
    "check shirt",
    "point of the pencil",
    ", ".join(f"name {i}" for i in range(99)),
    "、".join("猫狗" for i in range(40)),
    "left giraffe, the one that is looking at us",
    "the dog's box",
]


@pytest.mark.parametrize(("problem", "whole"), [*((text, True) for text in WHOLE), *((text, False) for text in BARE)])
def test_whole_instructions_in_any_language(problem, whole):
    assert is_whole_instruction(problem) == whole


@pytest.mark.parametrize(
    ("problem", "task", "template", "said"),
    [
        pytest.param("请检测图片中的所有安全帽，以JSON格式输出坐标", "ovd", "r1", True, id="wrapped"),
        pytest.param("请检测图片中的所有安全帽，以JSON格式输出坐标", "ovd", "bare", False, id="not wrapped by bare"),
        pytest.param("cat, dog", "ovd", "r1", False, id="names"),
        pytest.param("Find all cats, give the bbox", "ovd", "r1", False, id="kept by the task"),
        pytest.param("Find the settings", "gui_click", "r1", False, id="every click is an order"),
        pytest.param("Click OK, answer as JSON", "gui_click", "r1", True, id="a click that speaks of JSON"),
        pytest.param("Find out how many there are.", "vqa", "r1", False, id="a task that wraps nothing"),
    ],
)
def test_whole_instructions_that_are_wrapped_are_said(check, problem, task, template, said):
    answer = {"ovd": [], "gui_click": [1, 2, 30, 40], "vqa": "3"}[task]
    notes = check({"problem": problem, "answer": answer}, task=task, template=template).notes
    assert ["wraps: false" in note for note in notes] == [True] * said


def test_the_first_question_is_shown_as_it_is_asked(check):
    found = check({"problem": "How many?", "answer": 1}, {"problem": "And now?", "answer": 1}, task="counting")
    source, text = found.first
    assert source.endswith("a.jsonl:1")
    assert text.startswith("<image>How many? First output the thinking process")


@pytest.mark.parametrize(
    ("greatest", "said"),
    [
        pytest.param(1023, "of a range of 65,535 only 1,023 is used; scale it", id="10 bits"),
        pytest.param(4095, "of a range of 65,535 only 4,095 is used; scale it", id="12 bits"),
        pytest.param(65535, None, id="16 bits"),
        pytest.param(0, None, id="black"),
    ],
)
def test_dark_16_bit_pictures(check, tmp_path, greatest, said):
    values = np.linspace(0, greatest, 64).round().astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "scan.png")
    notes = check({"problem": "?", "answer": "no", "image": "scan.png"}, task="vqa").notes
    assert [said in note for note in notes] == [True] * (said is not None)


@pytest.mark.parametrize(
    ("columns", "task", "said"),
    [
        pytest.param(
            {"mask": "m/1.png"}, "vqa", 'the column "mask" of 1 records holds file names of pictures', id="mask"
        ),
        pytest.param({"clip": "1.mp4"}, "vqa", 'the column "clip" of 1 records holds file names', id="a video"),
        pytest.param({"from": "raw/a.png"}, "vqa", None, id="where its picture came from"),
        pytest.param({"meta": {"file": "b.png"}}, "vqa", None, id="remarks in an object"),
        pytest.param({"choices": ["a", "b"]}, "vqa", "holds options, which task vqa does not ask", id="options"),
        pytest.param({"system": "Be brief."}, "vqa", 'the column "system" of 1 records is not asked', id="system"),
        pytest.param({"system_prompt": "Be brief."}, "vqa", 'the column "system_prompt" of 1 records', id="prompt"),
        pytest.param({"history": [["a", "b"]]}, "vqa", 'the column "history" of 1 records is not asked', id="history"),
        pytest.param({"history": []}, "vqa", None, id="no history"),
        pytest.param({"choices": ["no", "b"]}, "choice", None, id="options of a choice"),
        pytest.param({"level": 3, "source": "coco"}, "vqa", None, id="remarks"),
    ],
)
def test_columns_that_are_not_asked(check, columns, task, said):
    notes = check({"problem": "Is it?", "answer": "no", **columns}, task=task).notes
    assert [said in note for note in notes] == [True] * (said is not None)


@pytest.mark.parametrize(
    ("said", "n"),
    [
        pytest.param("It is at [10, 20, 30, 40].", 1, id="a box"),
        pytest.param('{"point_2d": [10.5, 20]}', 1, id="a point"),
        pytest.param("(10,20),(30,40)", 1, id="corners"),
        pytest.param("There are 3, in 2 rows.", 0, id="numbers"),
        pytest.param("As in [1].", 0, id="a remark"),
    ],
)
def test_coordinates_in_earlier_answers_are_said(check, said, n):
    messages = [("user", "<image>Where?"), ("assistant", said), ("user", "Is it at [1, 2, 3, 4]?"), ("assistant", "no")]
    row = {"messages": [{"role": role, "content": text} for role, text in messages]}
    assert len(check(row, task="vqa").warnings.get(EARLIER, [])) == n


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        pytest.param("vqa", "[90, 80, 20, 10]", id="vqa"),
        pytest.param("math", "[90, 80, 20, 10]", id="math"),
        pytest.param("document", ["[0.1, 0.2, 0.3, 0.4]"], id="document"),
    ],
)
def test_four_numbers_are_no_box_where_no_box_is_asked_for(check, task, answer):
    assert check({"problem": "Sort them.", "answer": answer}, task=task).coordinates is None


def test_a_mark_of_a_picture_in_an_answer_is_said(check):
    found = check({"problem": "?", "answer": "<image>"}, task="vqa")
    assert [problem.message.split(":")[0] for problem in found.warnings[TOKENS]] == ["<image> in the answer"]


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        pytest.param("2√{3}", None, id="a root sign"),
        pytest.param("60°; 60°; 120°", None, id="several values"),
        pytest.param(3, None, id="a number"),
        pytest.param("No solution", "'No solution': no values are read, since not all of it can be", id="words"),
        pytest.param("2 \\foo 3", "'2 \\\\foo 3': no values are read", id="an unknown command"),
        pytest.param("$\\frac{1}{2", "'$\\\\frac{1}{2': no values are read", id="an unclosed formula"),
    ],
)
def test_formulas_that_are_not_read_as_a_whole_are_counted_and_shown(check, gold, message):
    found = check({"problem": "How long?", "answer": gold}, task="math")
    messages = [problem.message for problem in found.warnings.get(AS_TEXT, [])]
    assert [text[: len(message or "")] for text in messages] == ([message] if message else [])
    assert found.is_ready  # the same text earns 1


def test_formulas_of_other_rewards_are_not_looked_at(check):
    assert AS_TEXT not in check({"problem": "Who?", "answer": "Evelyn"}, task="vqa").warnings


@pytest.fixture
def check_two(tmp_path):
    """`check_two("testing_placed:FIND_TWICE", answer, …)`: the same for rows that share two pictures."""
    Image.new("RGB", (160, 120)).save(tmp_path / "a.png")
    Image.new("RGB", (700, 700)).save(tmp_path / "b.png")

    def found(task, *answers):
        rows = [
            {"problem": f"<image><image>no {n}", "images": ["a.png", "b.png"], "answer": answer}
            for n, answer in enumerate(answers)
        ]
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return check_data(DataSource(path=str(tmp_path / "a.jsonl"), task=task), get_template("r1"), images=True)

    return found


def test_equal_boxes_on_two_images_are_two(check_two):
    found = check_two("testing_placed:FIND_TWICE", [[10, 20, 50, 60], [10, 20, 50, 60]])
    assert found.warnings == {}
    assert found.is_ready
    twice = [[10, 20, 50, 60], [10, 20, 50, 60]]
    assert list(check_two("testing_placed:SECOND_MULTI_REC", twice).warnings) == [TWICE]


def test_a_box_outside_the_second_image_is_a_problem(check_two):
    inside, outside = [[10, 20, 50, 60], [10, 20, 680, 60]], [[10, 20, 680, 60], [10, 20, 50, 60]]
    found = check_two("testing_placed:FIND_TWICE", inside, outside)
    assert len(found.judged) == 1
    [problem] = found.problems
    assert problem.message.startswith("the gold box [10.0, 20.0, 680.0, 60.0] on image 0 reaches outside its image")


def test_boxes_of_a_larger_second_image_do_not_look_normalised(check_two):
    assert check_two("testing_placed:SECOND_REC", *([100, 20 * i, 680, 20 * i + 80] for i in range(30))).is_ready
