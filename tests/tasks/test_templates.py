from dataclasses import replace

import pytest

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.tasks import get_task
from vlm_r1.tasks.templates import TEMPLATES, build_prompt, get_template, gold_completion
from vlm_r1.types import BoxFormat, ImageFrame, Prompt, Record, Turn

FRAMES = (ImageFrame((640, 480), (640, 480)),)
REC = Record("1", "rec", "<image>the dog", ("a.png",), [10, 20, 110, 220], thought="A dog.", source="f.jsonl:7")
VQA = Record("1", "vqa", "<image><image>Same?", ("a.png", "b.png"), "no")
QUESTION = "<image>Please provide the bounding box coordinates of the region this sentence describes: the dog."


@pytest.mark.parametrize(
    ("template", "record", "text"),
    [
        pytest.param(
            "r1",
            REC,
            QUESTION
            + " First output the thinking process in <think> </think> tags and then output the final answer in "
            "<answer> </answer> tags. Output the final answer in JSON format.",
            id="r1_box",
        ),
        pytest.param(
            "r1",
            VQA,
            "<image><image>Same? First output the thinking process in <think> </think> tags and then output the final "
            "answer in <answer> </answer> tags.",
            id="r1_text",
        ),
        pytest.param(
            "paper",
            REC,
            QUESTION + " Output the thinking process in <think> </think> and final answer in <answer> </answer> tags.",
            id="paper_box",
        ),
        pytest.param(
            "direct", REC, QUESTION + " Please provide the bounding box coordinate in JSON format.", id="direct_box"
        ),
        pytest.param("direct", VQA, "<image><image>Same?", id="direct_text"),
        pytest.param(
            "r1_default",
            REC,
            QUESTION
            + " First output the thinking process in <think> </think> tags and then output the final answer in "
            "<answer> </answer> tags.",
            id="r1_default_box",
        ),
        pytest.param(
            "r1_ovd",
            VQA,
            "<image><image>First thinks about the reasoning process in the mind and then provides the user with the "
            "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> "
            "tags, respectively, i.e., <think> reasoning process here </think><answer> answer here </answer>\nSame?",
            id="r1_ovd_before_the_question",
        ),
        pytest.param(
            "r1_ic",
            REC,
            QUESTION
            + " First thinks about the reasoning process in the mind and then provides the user with the answer. The "
            "reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
            "respectively, i.e., <think> reasoning process here </think><answer> json format answer here </answer>",
            id="r1_ic_after_the_question",
        ),
        pytest.param(
            "free",
            VQA,
            "<image><image>Same? If it helps, first think in <think> </think> tags. Output the final answer in "
            "<answer> </answer> tags.",
            id="free",
        ),
        pytest.param("bare", REC, "<image>the dog", id="bare"),
    ],
)
def test_prompts_word_for_word(template, record, text):
    prompt = build_prompt(get_task(record.task), record, get_template(template))
    assert prompt.text == text
    assert prompt.images == record.images


def test_image_marks_must_match_the_images():
    record = Record("1", "vqa", "Same?", ("a.png",), "no", source="f.jsonl:7")
    with pytest.raises(DataError, match=r"^f\.jsonl:7: the prompt has 0 <image> marks for 1 images"):
        build_prompt(get_task("vqa"), record, get_template("r1"))


@pytest.mark.parametrize(
    ("template", "record", "text"),
    [
        pytest.param("r1", REC, "<think>A dog.</think><answer>[10, 20, 110, 220]</answer>", id="with_thought"),
        pytest.param("paper", VQA, "<think></think><answer>no</answer>", id="without_thought"),
        pytest.param("direct", REC, "[10, 20, 110, 220]", id="direct"),
        pytest.param("free", REC, "<think>A dog.</think><answer>[10, 20, 110, 220]</answer>", id="free_with_thought"),
        pytest.param("free", VQA, "<answer>no</answer>", id="free_without_thought"),
    ],
)
def test_gold_completion(template, record, text):
    task = get_task(record.task)
    assert gold_completion(task, record, FRAMES, BoxFormat.ORIGINAL_PIXELS, get_template(template)) == text


def test_a_template_keeps_marks_within_the_question_in_their_place():
    record = Record("1", "vqa", "Is <image> like <image>?", ("a.png", "b.png"), "no")
    text = build_prompt(get_task("vqa"), record, get_template("r1_ovd")).text
    assert text.endswith("</answer>\nIs <image> like <image>?")


def test_templates_are_found_by_name():
    assert [get_template(name).name for name in TEMPLATES] == list(TEMPLATES)
    with pytest.raises(ConfigError, match=r'^unknown template "dirct"\. Did you mean "direct"'):
        get_template("dirct")
    with pytest.raises(ConfigError, match=r'^template "os:path" is <module .*; wanted a vlm_r1\.tasks\.templates'):
        get_template("os:path")


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_what_stands_before_the_question_stays_as_it_is(template):
    """A message of the system and earlier turns get no words of the template, and the question keeps its own."""
    turns = (Turn("user", "<image>Is it red?"), Turn("assistant", "Yes."))
    told = replace(REC, system="Be brief.\n", history=turns, images=("earlier.png", *REC.images))
    bare = build_prompt(get_task("rec"), REC, get_template(template))
    prompt = build_prompt(get_task("rec"), told, get_template(template))
    assert prompt == Prompt(bare.text, ("earlier.png", *REC.images), "Be brief.\n", turns)
    assert prompt.turns == (*turns, Turn("user", bare.text))
