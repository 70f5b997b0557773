"""How each task asks, and which gold answers it takes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards import REWARDS, RewardInput
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.ovd import Ovd
from vlm_r1.tasks.rec import Rec
from vlm_r1.types import BoxFormat, ImageFrame, Record, Thinking

SENTENCE = "<image>Please provide the bounding box coordinates of the region this sentence describes: "
FRAMES = (ImageFrame(original_wh=(640, 480), input_wh=(320, 960)),)
CAT = LabelledBox("cat", (1.0, 2.0, 3.0, 4.0))
ROUGH_CAT = LabelledBox("cat", (1.0, 2.0, 3.0, 3.0))  # IoU 2 / 4: the lowest of the ten thresholds
FAR_CAT = LabelledBox("cat", (50.0, 2.0, 53.0, 4.0))
DOG = LabelledBox("dog", (5.0, 5.0, 9.0, 9.0))


def _record(task, answer, problem="<image>the dog", images=("a.png",), **columns):
    return Record("1", task, problem, images, answer, source="f.jsonl:7", columns=columns)


@pytest.mark.parametrize(
    ("problem", "question"),
    [
        pytest.param(
            "<image>the man on the left",
            SENTENCE + "the man on the left.",
            id="expression",
        ),
        pytest.param(
            "A dog. <image>\n",
            SENTENCE + "A dog.",
            id="one_full_stop_and_the_image_first",
        ),
        pytest.param(
            "<image>a {curly} %s expression",
            SENTENCE + "a {curly} %s expression.",
            id="braces_are_text",
        ),
        pytest.param(
            "<image>Output the Bounding Box of it", "<image>Output the Bounding Box of it", id="an_instruction"
        ),
    ],
)
def test_rec_question(problem, question):
    assert Rec().question(_record("rec", None, problem)) == question


OVD_QUESTION = (
    "<image>Please carefully check the image and detect the following objects: cat, red {car}. Output each detected "
    "target's bbox coordinates in JSON format. The format of the bbox coordinates is: ```json "
    '[{"bbox_2d": [x1, y1, x2, y2], "label": "target name"}, {"bbox_2d": [x1, y1, x2, y2], "label": "target name"}] '
    "```. If there are no such targets in the image, simply respond with None."
)


@pytest.mark.parametrize(
    ("problem", "question"),
    [
        pytest.param("<image>cat, red {car}", OVD_QUESTION, id="targets"),
        pytest.param("cat, red {car}.\n<image>", OVD_QUESTION, id="one_full_stop_and_the_image_first"),
        pytest.param(OVD_QUESTION, OVD_QUESTION, id="the_question_itself"),
        pytest.param("<image>Detect cats: give BBox and label", "<image>Detect cats: give BBox and label", id="other"),
    ],
)
def test_ovd_question(problem, question):
    assert Ovd().question(_record("ovd", None, problem)) == question


@pytest.mark.parametrize("task", ["counting", "vqa", "math", "gui_defect", "classification", "document"])
def test_other_questions_stay_as_they_are(task):
    assert get_task(task).question(_record(task, "3", "How many? <image>")) == "How many? <image>"


@pytest.mark.parametrize("task", ["gui_defect", "classification"])
def test_labels_follow_the_question(task):
    record = _record(task, "cat", "<image>What is it? ", labels=["cat", "dog", 7])
    assert get_task(task).question(record) == "<image>What is it? Answer with one of these: cat, dog, 7."


@pytest.mark.parametrize(
    ("task", "answer", "gold"),
    [
        pytest.param("rec", [10, 20, 110, 220], (10.0, 20.0, 110.0, 220.0), id="rec_list"),
        pytest.param("rec", [10.5, 1e-7, 110, 220], (10.5, 1e-7, 110.0, 220.0), id="rec_floats"),
        pytest.param("rec", "[10, 20, 110, 220]", (10.0, 20.0, 110.0, 220.0), id="rec_string"),
        pytest.param("rec", {"bbox_2d": [10, 20, 110, 220]}, (10.0, 20.0, 110.0, 220.0), id="rec_object"),
        pytest.param("rec", '{"bbox_2d": [10, 20, 110, 220]}', (10.0, 20.0, 110.0, 220.0), id="rec_object_string"),
        pytest.param(
            "rec", [{"bbox_2d": [10, 20, 110, 220], "label": "dog"}], (10.0, 20.0, 110.0, 220.0), id="rec_list1"
        ),
        pytest.param("ovd", [{"bbox_2d": [1, 2, 3, 4], "label": "cat"}], (CAT,), id="ovd_list"),
        pytest.param("ovd", {"bbox_2d": [1, 2, 3, 4], "label": "cat"}, (CAT,), id="ovd_object"),
        pytest.param("ovd", '```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]\n```', (CAT,), id="ovd_string"),
        pytest.param("ovd", "None", (), id="ovd_none"),
        pytest.param("ovd", [], (), id="ovd_empty_list"),
        pytest.param("math", " \\frac{1}{2} ", "\\frac{1}{2}", id="math_formula"),
        pytest.param("math", 42, "42", id="math_number"),
        pytest.param("counting", 3, 3, id="count_integer"),
        pytest.param("counting", 3.0, 3, id="count_float"),
        pytest.param("counting", "3", 3, id="count_string"),
        pytest.param("vqa", " No Defect ", "No Defect", id="vqa_string"),
        pytest.param("vqa", 12, "12", id="vqa_number"),
        pytest.param("vqa", True, "True", id="vqa_boolean"),
        pytest.param("gui_defect", "No Defect", "No Defect", id="gui_defect"),
        pytest.param("classification", "cat", "cat", id="classification"),
        pytest.param("document", "12 May", ("12 May",), id="document_string"),
        pytest.param("document", 2024, ("2024",), id="document_number"),
        pytest.param("document", ["12 May", 2024], ("12 May", "2024"), id="document_list"),
    ],
)
def test_gold(task, answer, gold):
    found = get_task(task).gold(_record(task, answer))
    assert found == gold
    assert type(found) is type(gold)


@pytest.mark.parametrize(
    ("task", "answer", "message"),
    [
        pytest.param(
            "rec", "on the left", r"the gold answer on the left is no box \(no_box\); wanted \[x1,", id="rec_text"
        ),
        pytest.param("rec", [1, 2, 3], r"no box \(wrong_arity\)", id="rec_three_numbers"),
        pytest.param("rec", [[1, 2, 3, 4], [5, 6, 7, 8]], r"no box \(several_boxes\)", id="rec_two_boxes"),
        pytest.param("rec", [float("nan"), 2, 3, 4], r"no box \(number_out_of_range\)", id="rec_nan"),
        pytest.param("rec", None, r"no box \(no_box\)", id="rec_none"),
        pytest.param("rec", [10, 20, 10, 220], "has no area", id="rec_line"),
        pytest.param("rec", [110, 220, 10, 20], "its corners are out of order", id="rec_swapped"),
        pytest.param("multi_rec", [[110, 20, 10, 220]], "its corners are out of order", id="multi_rec_swapped"),
        pytest.param("ovd", [{"bbox_2d": [1, 4, 3, 2], "label": "cat"}], "out of order", id="ovd_swapped"),
        pytest.param("ovd", '[{"bbox": [1, 4, 3, 2], "label": "cat"}]', "out of order", id="ovd_swapped_text"),
        pytest.param("ovd", "a cat", r"no list of labelled boxes \(no_box\); wanted \"None\", or \[{", id="ovd_text"),
        pytest.param("ovd", [1, 2, 3, 4], r"labelled boxes \(item_without_box\)", id="ovd_bare_box"),
        pytest.param("ovd", None, r"labelled boxes \(no_box\)", id="ovd_null"),
        pytest.param("ovd", [{"bbox_2d": [1, 2, 1, 4], "label": "cat"}], "has no area", id="ovd_line"),
        pytest.param("math", ["1"], r"is no formula \(not_a_text\); wanted a number", id="math_list"),
        pytest.param("math", True, "is no formula", id="math_boolean"),
        pytest.param("math", " ", r"is no formula \(empty_answer\)", id="math_blank"),
        pytest.param("math", "1+" * 501, r"is no formula \(too_long\)", id="math_too_long"),
        pytest.param("counting", "three", r"is no count \(no_number\); wanted an integer", id="count_word"),
        pytest.param("counting", 2.5, r"is no count \(not_an_integer\)", id="count_fraction"),
        pytest.param("counting", True, "is no count", id="count_boolean"),
        pytest.param("counting", [3], "is no count", id="count_list"),
        pytest.param("vqa", ["a", "b"], "is no short text", id="vqa_list"),
        pytest.param("vqa", None, "is no short text", id="vqa_none"),
        pytest.param("vqa", " ", "is no short text", id="vqa_blank"),
        pytest.param("vqa", "...", "is no short text", id="vqa_full_stops"),
        pytest.param("gui_defect", None, r"is no verdict \(not_a_text\); wanted the name", id="gui_defect_none"),
        pytest.param("classification", ["cat"], r"is no label \(not_a_text\); wanted a", id="classification_list"),
        pytest.param("document", [], r"is no short text \(empty_answer\); wanted a string", id="document_empty_list"),
        pytest.param("document", ["a", ["b"]], r"is no short text \(not_a_text\)", id="document_list_of_lists"),
        pytest.param("document", ["a", " "], r"is no short text \(empty_answer\)", id="document_blank"),
    ],
)
def test_unusable_gold_names_the_line(task, answer, message):
    with pytest.raises(DataError, match=rf"^f\.jsonl:7: .*{message}"):
        get_task(task).gold(_record(task, answer))


@pytest.mark.parametrize("task", ["gui_defect", "classification"])
def test_a_gold_label_is_one_of_the_records_labels(task):
    labels = ["cat", "Dog"]
    assert get_task(task).gold(_record(task, "dog.", labels=labels)) == "dog."
    with pytest.raises(DataError, match=r"'cow' is no \w+ \(not_among_labels\); wanted .* column \"labels\""):
        get_task(task).gold(_record(task, "cow", labels=labels))


@pytest.mark.parametrize("images", [(), ("a.png", "b.png")])
@pytest.mark.parametrize("task", ["rec", "ovd"])
def test_boxes_want_one_image(task, images):
    with pytest.raises(DataError, match=rf"^f\.jsonl:7: task {task} wants exactly 1 image, got {len(images)}"):
        get_task(task).gold(_record(task, [1, 2, 3, 4], images=images))


@pytest.mark.parametrize(
    ("box_format", "text"),
    [
        pytest.param(BoxFormat.ORIGINAL_PIXELS, "[160, 240, 320, 480]", id="original_pixels"),
        pytest.param(BoxFormat.INPUT_PIXELS, "[80, 480, 160, 960]", id="input_pixels"),
        pytest.param(BoxFormat.NORM_1000, "[250, 500, 500, 1000]", id="norm_1000"),
        pytest.param(BoxFormat.NORM_1000_YX, "[500, 250, 1000, 500]", id="norm_1000_y_first"),
    ],
)
def test_rec_writes_its_gold_in_the_models_coordinates(box_format, text):
    assert Rec().gold_text((160.0, 240.0, 320.0, 480.0), FRAMES, box_format) == text


def test_ovd_writes_its_gold_in_the_models_coordinates():
    gold = (LabelledBox("Größe", (160.0, 240.0, 320.0, 480.0)),)
    assert (
        Ovd().gold_text(gold, FRAMES, BoxFormat.NORM_1000_YX)
        == '```json\n[{"bbox_2d": [500, 250, 1000, 500], "label": "Größe"}]\n```'
    )
    assert Ovd().gold_text((), FRAMES, BoxFormat.NORM_1000_YX) == "None"


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        pytest.param((CAT,), (CAT,), (1.0, 1.0, 1.0, 1.0, 1.0, 1.0), id="equal"),
        pytest.param((CAT, DOG), (CAT,), (1.0, 1.0, 1 / 2, 1.0, 1 / 2, 1.0), id="surplus"),
        pytest.param((CAT, CAT), (CAT,), (1.0, 1.0, 1 / 2, 1.0, 1.0, 1.0), id="a_label_counts_once"),
        pytest.param((CAT,), (CAT, DOG), (1 / 2, 1 / 2, 1.0, 1 / 2, 1.0, 1 / 2), id="missing"),
        pytest.param((ROUGH_CAT,), (CAT,), (1 / 10, 1.0, 1.0, 1.0, 1.0, 1.0), id="rough"),
        pytest.param((FAR_CAT,), (CAT,), (0.0, 0.0, 0.0, 0.0, 1.0, 1.0), id="seen_but_elsewhere"),
        pytest.param((), (), (1.0, 1.0, 1.0, 1.0, 1.0, 1.0), id="none_and_none"),
        pytest.param((CAT,), (), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0), id="nothing_there"),
        pytest.param((), (CAT,), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0), id="nothing_seen"),
        pytest.param(None, (), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0), id="nothing_parsed"),
    ],
)
def test_ovd_metrics(value, gold, expected):
    names = ("map", "ap50", "precision_iou50", "recall_iou50", "label_precision", "label_recall")
    assert Ovd().metrics(value, gold) == pytest.approx(dict(zip(names, expected, strict=True)), abs=1e-12)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param((0.0, 0.0, 10.0, 10.0), {"accuracy_iou50": 1.0, "iou": 1.0}, id="equal"),
        pytest.param((0.0, 0.0, 10.0, 6.0), {"accuracy_iou50": 1.0, "iou": 60 / 100}, id="above_one_half"),
        pytest.param((0.0, 0.0, 10.0, 5.0), {"accuracy_iou50": 0.0, "iou": 50 / 100}, id="exactly_one_half_is_a_miss"),
        pytest.param(None, {"accuracy_iou50": 0.0, "iou": 0.0}, id="nothing_parsed"),
    ],
)
def test_rec_metrics(value, expected):
    assert Rec().metrics(value, (0.0, 0.0, 10.0, 10.0)) == expected


@pytest.mark.parametrize(
    ("value", "gold", "accuracy", "presence"),
    [
        pytest.param("no defect.", "No Defect", 1.0, 1.0, id="none_and_none"),
        pytest.param("Unexpected Result", "Unexpected Result", 1.0, 1.0, id="the_same_defect"),
        pytest.param("No Response", "Unexpected Result", 0.0, 1.0, id="another_defect"),
        pytest.param("No Defect", "Unexpected Result", 0.0, 0.0, id="missed"),
        pytest.param("No Response", "No Defect", 0.0, 0.0, id="invented"),
        pytest.param(None, "No Response", 0.0, 0.0, id="nothing_parsed"),
    ],
)
def test_gui_defect_metrics(value, gold, accuracy, presence):
    expected = {"accuracy": accuracy, "presence_accuracy": presence}
    assert get_task("gui_defect").metrics(value, gold) == expected


@pytest.mark.parametrize(
    ("value", "golds", "anls", "accuracy"),
    [
        pytest.param("12  MAY", ("12 May", "May 12"), 1.0, 1.0, id="case_and_white_space"),
        pytest.param("12 May.", ("12 May",), 1 - 1 / 7, 1.0, id="a_final_full_stop"),  # one of seven characters
        pytest.param("May 13", ("12 May", "May 12"), 1 - 1 / 6, 0.0, id="the_nearest_gold"),
        pytest.param("abXX", ("abcd",), 0.5, 0.0, id="half_is_near_enough"),
        pytest.param("aXXX", ("abcd",), 0.0, 0.0, id="more_than_half_is_too_far"),
        pytest.param("abcXX", ("abcde",), 1 - 2 / 5, 0.0, id="less_than_half"),
        pytest.param(None, ("12 May",), 0.0, 0.0, id="nothing_parsed"),
    ],
)
def test_document_metrics(value, golds, anls, accuracy):
    assert get_task("document").metrics(value, golds) == pytest.approx({"anls": anls, "accuracy": accuracy})


words = st.text("ab .", min_size=1, max_size=6)


@settings(deadline=None)
@given(words, st.lists(words, min_size=1, max_size=3).map(tuple))
def test_document_anls_is_the_reward(value, golds):
    frames, template = (), Thinking.ABSENT
    given = RewardInput(value, split_tags(value), template, value, golds, frames, _record("document", list(golds)))
    assert get_task("document").metrics(value, golds)["anls"] == REWARDS["anls"](given)


def test_tasks_are_found_by_name_and_by_import_path():
    assert [get_task(name).name for name in TASKS] == list(TASKS)
    assert isinstance(get_task("vlm_r1.tasks.rec:Rec"), Rec)
    assert get_task("vlm_r1.tasks.texts:VQA") is TASKS["vqa"]
    with pytest.raises(ConfigError, match=r'^unknown task "rec2"\. Did you mean "rec"'):
        get_task("rec2")


@pytest.mark.parametrize("name", ["subprocess:Popen", "fractions:Fraction", "string:ascii_letters", "os:system"])
def test_what_is_no_task_is_looked_at_and_not_made(name):
    """`Fraction()` could be made without arguments; it is refused by what its objects lack."""
    with pytest.raises(ConfigError, match=f'task "{name}" is .*, which has no question, gold, .*; wanted a task'):
        get_task(name)
