"""A prompt's messages in every family's chat template, against transformers' own; templates that drop some."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from testing_families import FAMILIES, GENERIC, picture_of
from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.models.adapter import Adapter
from vlm_r1.models.chat import chat_messages, template_switches, with_images, with_long_texts, with_plain_context
from vlm_r1.models.loading import adapter_of
from vlm_r1.models.stock import stock_inputs, stock_processor
from vlm_r1.parsing.tags import END_THINK, THINK
from vlm_r1.types import Prompt, Turn

WITHOUT = {"smolvlm", "glmga"}
"""Families whose processor cannot be built here (test_stock.py)."""

NO_SYSTEM = set(GENERIC)
"""Families in small whose templates write every role as the user's."""

PICTURES = [picture_of(84, 56, 2), picture_of(50, 121), picture_of(56, 56, 3)]
TURNS = (Turn("user", "<image>what is red and <image>?"), Turn("assistant", "the circle"))
PROMPT = Prompt("and in <image>, what is blue?", ("a", "b", "c"), "Answer in one word.", TURNS)

MESSAGES = [
    {"role": "system", "content": [{"type": "text", "text": "Answer in one word."}]},
    {
        "role": "user",
        "content": [
            {"type": "image", "image": PICTURES[0]},
            {"type": "text", "text": "what is red and "},
            {"type": "image", "image": PICTURES[1]},
            {"type": "text", "text": "?"},
        ],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "the circle"}]},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "and in "},
            {"type": "image", "image": PICTURES[2]},
            {"type": "text", "text": ", what is blue?"},
        ],
    },
]
"""The same, written by hand as transformers' documentation says."""


def transformers_text(adapter: Adapter, messages: list[dict[str, Any]]) -> str:
    """What transformers renders, without the `<think>` that some templates open."""
    text = adapter.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text.rstrip("\n").removesuffix(THINK) if text.rstrip("\n").endswith(THINK) else text


@pytest.mark.parametrize("family", [*FAMILIES, *GENERIC])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # GLM's
def test_tokens_are_those_of_transformers(family: str, family_adapter) -> None:
    adapter = family_adapter(family)
    encoded = adapter.encode(PROMPT, PICTURES)
    assert encoded.text == transformers_text(adapter, MESSAGES)
    assert adapter.prompt_length(PROMPT, [picture.size for picture in PICTURES]) == len(encoded.ids_L)
    assert len(encoded.frames) == 3
    assert [frame.original_wh for frame in encoded.frames] == [picture.size for picture in PICTURES]
    if family in WITHOUT:
        return
    processor = stock_processor(adapter)
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    theirs = processor.apply_chat_template(MESSAGES, **options)["input_ids"][0].tolist()
    assert theirs[: len(encoded.ids_L)] == list(encoded.ids_L)
    assert adapter.decode(theirs[len(encoded.ids_L) :]).strip() in ("", THINK)
    assert stock_inputs(processor, adapter, PROMPT, PICTURES)["input_ids"][0].tolist() == list(encoded.ids_L)


@pytest.mark.parametrize("family", [*FAMILIES, *GENERIC])
@pytest.mark.parametrize(
    "less",
    [
        pytest.param(replace(PROMPT, system=None), id="no system message"),
        pytest.param(replace(PROMPT, history=(), images=("c",)), id="no earlier turns"),
        pytest.param(replace(PROMPT, history=(TURNS[0], Turn("assistant", "the square"))), id="another answer"),
    ],
)
def test_each_message_counts(family: str, less: Prompt, family_adapter) -> None:
    """The control: a prompt that lost a message on the way would have other tokens."""
    adapter = family_adapter(family)
    assert adapter.render(less) != adapter.render(PROMPT)


def test_pictures_go_to_their_turns() -> None:
    messages = chat_messages(PROMPT, [{"type": "image"}] * 3)
    assert with_images(messages, PICTURES) == MESSAGES
    swapped = with_images(messages, [PICTURES[1], PICTURES[0], PICTURES[2]])
    assert swapped != MESSAGES
    plain = with_plain_context(messages)
    assert [type(message["content"]) for message in plain] == [str, list, str, list]
    assert with_images(plain, PICTURES)[1] == MESSAGES[1]


# Templates that leave something out ---------------------------------------------------------------------------------

QWEN = "qwen2_5_vl"
START, END = "<|im_start|>", "<|im_end|>\n"
PARTS = (
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
)
TURN = f"{START}{{{{ message['role'] }}}}\n{PARTS}{END}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
SHORT = replace(PROMPT, history=(Turn("user", "a"), Turn("assistant", "b")), images=("c",))


@pytest.fixture
def with_template(family_adapter):
    """`with_template(text, enable_thinking=False)`: the adapter of Qwen2.5-VL with another template and switches."""

    def make(template: Any, **switches: Any) -> Adapter:
        adapter = copy.copy(family_adapter(QWEN))
        for cached in ("opens_thought", "turn_end"):
            adapter.__dict__.pop(cached, None)
        adapter.tokenizer = copy.deepcopy(adapter.tokenizer)
        adapter.tokenizer.chat_template = template
        adapter.chat_template_kwargs = switches
        return adapter

    return make


@pytest.mark.parametrize(
    ("template", "prompt", "message"),
    [
        pytest.param(
            f"{{% for message in messages %}}{{% if message['role'] != 'system' %}}{TURN}{{% endif %}}"
            f"{{% endfor %}}{ASK}",
            PROMPT,
            "does not write the system message 'Answer in one word.': it has no system role. Put these words into",
            id="the system message is dropped",
        ),
        pytest.param(
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
            + ASK,
            PROMPT,
            "chat template fails: TemplateError: System role not supported",
            id="the system message is refused",
        ),
        pytest.param(
            f"{{% for message in messages %}}{{% if loop.last or message['role'] == 'system' %}}{TURN}{{% endif %}}"
            f"{{% endfor %}}{ASK}",
            with_long_texts(SHORT),
            "does not write turn",
            id="only the last turn, and the earlier texts were short",
        ),
        pytest.param(
            f"{{% for message in [messages[0], messages[-1]] %}}{TURN}{{% endfor %}}{ASK}",
            PROMPT,
            "does not write turn 1 of 3, user 'what is red and ', in its place: it knows no earlier turns",
            id="only the last turn",
        ),
        pytest.param(
            f"{{% for message in messages | reverse %}}{TURN}{{% endfor %}}{ASK}",
            PROMPT,
            "does not write turn",
            id="the wrong order",
        ),
        pytest.param(
            "{% for message in messages %}" + START + "{{ message['content'] }}{% endfor %}" + ASK,
            replace(PROMPT, history=(), images=(), text="<|x|>"),
            "writes a message's list of parts instead of their texts",
            id="lists as they are",
        ),
    ],
)
def test_a_template_that_leaves_something_out_is_named(template, prompt, message, with_template) -> None:
    with pytest.raises(ModelError) as raised:
        with_template(template).render(prompt)
    assert message in str(raised.value)
    with_template(f"{{% for message in messages %}}{TURN}{{% endfor %}}{ASK}").render(prompt)  # the control


def test_a_template_may_cut_the_thought_of_an_earlier_answer(with_template) -> None:
    said = f"{THINK}a hat{END_THINK}Yes."
    prompt = Prompt("And now?", (), None, (Turn("user", "Red?"), Turn("assistant", said)))
    cuts = TURN.replace("part['text']", "part['text'].split('</think>')[-1]")
    text = with_template(f"{{% for message in messages %}}{cuts}{{% endfor %}}{ASK}").render(prompt)
    assert "a hat" not in text
    assert "Yes." in text


def test_a_template_that_takes_texts_only_gets_texts(with_template) -> None:
    texts = (
        "{% for message in messages %}{% if message['role'] == 'user' %}" + TURN + "{% else %}" + START
        + "{{ message['role'] + ': ' + message['content'] }}" + END + "{% endif %}{% endfor %}" + ASK
    )  # fmt: skip
    text = with_template(texts).render(PROMPT)
    assert f"{START}system: Answer in one word.{END}" in text
    assert f"{START}assistant: the circle{END}" in text


# Switches -----------------------------------------------------------------------------------------------------------

SWITCHED = (
    "{% for message in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}" + START + "assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}{% endif %}{{ '' if tools else '' }}{% if add_vision_id %}{% endif %}"
)  # fmt: skip


def test_the_switches_of_a_template(with_template) -> None:
    for template in (SWITCHED, {"default": SWITCHED, "tool_use": "{{ other }}"}):
        assert template_switches(with_template(template).tokenizer) == {"enable_thinking", "add_vision_id"}
    with pytest.raises(ModelError, match="chat template cannot be read: TemplateSyntaxError"):
        template_switches(with_template("{% for %}").tokenizer)


@pytest.mark.parametrize(
    ("switches", "ends", "opens"),
    [
        pytest.param({}, "assistant\n", True, id="the template opens the thought: it is left to the completion"),
        pytest.param({"enable_thinking": True}, "assistant\n", True, id="on, as by default"),
        pytest.param({"enable_thinking": False}, f"assistant\n{THINK}\n\n{END_THINK}\n\n", False, id="off: closed"),
    ],
)
def test_a_switch_decides_how_the_prompt_ends(switches, ends, opens, with_template) -> None:
    adapter = with_template(SWITCHED, **switches)
    assert adapter.render(Prompt("Red?", ())).endswith(f"Red?{END}{START}{ends}")
    assert adapter.opens_thought is opens
    inputs = stock_inputs(stock_processor(adapter), adapter, Prompt("Red?", ()), [])
    assert inputs["input_ids"][0].tolist() == list(adapter.encode(Prompt("Red?", ()), []).ids_L)


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        pytest.param(
            {"enable_thinkng": False},
            r"data\.chat_template_kwargs\.enable_thinkng: has no effect, because the chat template of .* reads no such "
            "switch; it has add_vision_id, enable_thinking",
            id="misspelt",
        ),
        pytest.param({"bos_token": "x"}, "bos_token: has no effect|bos_token: is set by the program", id="a token"),
        pytest.param({"tokenize": False}, "tokenize: is set by the program itself", id="an argument"),
    ],
)
def test_a_switch_that_the_template_ignores_is_an_error(switches, message, family_checkpoint, tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in family_checkpoint(QWEN).iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "chat_template.jinja").write_text(SWITCHED, encoding="utf-8")
    section = ModelSection(path=str(folder))
    known = adapter_of(section, chat_template_kwargs={"enable_thinking": False})
    assert known.chat_template_kwargs == {"enable_thinking": False}
    with pytest.raises(ConfigError, match=message):
        adapter_of(section, chat_template_kwargs=switches)
    with pytest.raises(ConfigError, match=r"; it has none$"):
        adapter_of(ModelSection(path=str(family_checkpoint(QWEN))), chat_template_kwargs={"enable_thinking": False})
