"""How each task asks, and which gold answers it takes."""

import pytest

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.rec import Rec
from vlm_r1.types import BoxFormat, ImageFrame, Record

SENTENCE = "<image>Please provide the bounding box coordinates of the region this sentence describes: "
FRAMES = (ImageFrame(original_wh=(640, 480), input_wh=(320, 960)),)


def _record(task, answer, problem="<image>the dog", images=("a.png",)):
    return Record(id="1", task=task, problem=problem, images=images, answer=answer, source="f.jsonl:7")


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


@pytest.mark.parametrize("task", ["counting", "vqa"])
def test_other_questions_stay_as_they_are(task):
    assert get_task(task).question(_record(task, "3", "How many? <image>")) == "How many? <image>"


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
        pytest.param("rec", [110, 220, 10, 20], (10.0, 20.0, 110.0, 220.0), id="rec_swapped"),
        pytest.param("counting", 3, 3, id="count_integer"),
        pytest.param("counting", 3.0, 3, id="count_float"),
        pytest.param("counting", "3", 3, id="count_string"),
        pytest.param("vqa", " No Defect ", "No Defect", id="vqa_string"),
        pytest.param("vqa", 12, "12", id="vqa_number"),
        pytest.param("vqa", True, "True", id="vqa_boolean"),
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
        pytest.param("counting", "three", r"is no count \(no_number\); wanted an integer", id="count_word"),
        pytest.param("counting", 2.5, r"is no count \(not_an_integer\)", id="count_fraction"),
        pytest.param("counting", True, "is no count", id="count_boolean"),
        pytest.param("counting", [3], "is no count", id="count_list"),
        pytest.param("vqa", ["a", "b"], "is no short text", id="vqa_list"),
        pytest.param("vqa", None, "is no short text", id="vqa_none"),
        pytest.param("vqa", " ", "is no short text", id="vqa_blank"),
        pytest.param("vqa", "...", "is no short text", id="vqa_full_stops"),
    ],
)
def test_unusable_gold_names_the_line(task, answer, message):
    with pytest.raises(DataError, match=rf"^f\.jsonl:7: .*{message}"):
        get_task(task).gold(_record(task, answer))


@pytest.mark.parametrize("images", [(), ("a.png", "b.png")])
def test_rec_wants_one_image(images):
    with pytest.raises(DataError, match=rf"^f\.jsonl:7: task rec wants exactly 1 image, got {len(images)}"):
        Rec().gold(_record("rec", [1, 2, 3, 4], images=images))


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


def test_tasks_are_found_by_name_and_by_import_path():
    assert [get_task(name).name for name in TASKS] == list(TASKS)
    assert isinstance(get_task("vlm_r1.tasks.rec:Rec"), Rec)
    with pytest.raises(ConfigError, match=r'^unknown task "rec2"\. Did you mean "rec"'):
        get_task("rec2")
