"""What stands for a picture, video or sound in a row: it is read, or refused in one short line; never passed over."""

import pytest

from testing_messages import SYSTEM, assistant, text, user
from vlm_r1.data.formats import AUTO, read_row
from vlm_r1.errors import DataError

BASE64 = "iVBORw0KGgo" * 400_000
PNG = "data:image/png;base64," + BASE64
VIDEO = "videos and sound are not read"
ASKED = {"problem": "<image>?", "answer": 1, "images": ["a.png"]}
PLAIN = {"problem": "?", "answer": 1}
REFUSED = [
    pytest.param({**PLAIN, "videos": ["clip.mp4"]}, f'"videos" is ["clip.mp4"]: {VIDEO}', id="videos"),
    pytest.param({**ASKED, "video": "clip"}, f'"video" is "clip": {VIDEO}', id="video beside an image"),
    pytest.param({**ASKED, "audio_path": "a.wav"}, f'"audio_path" is "a.wav": {VIDEO}', id="audio"),
    pytest.param({**ASKED, "video_url": {"url": "x"}}, '"video_url" is {"url": "x"}', id="video_url"),
    pytest.param({**PLAIN, "clip": "a.mp4"}, f'"clip" is "a.mp4": {VIDEO}', id="a video by its name"),
    pytest.param({**ASKED, "problem": "<image><video>?"}, f"the question holds <video>; {VIDEO}", id="<video>"),
    pytest.param({**PLAIN, "problem": "<audio>?"}, "the question holds <audio>", id="<audio>"),
    pytest.param({**ASKED, "image_1": "b.png"}, 'both "images" and "image_1" are there', id="images and image_1"),
    pytest.param({**ASKED, "img": "b.png"}, 'both "images" and "img" are there', id="images and img"),
    pytest.param({**PLAIN, "image_1": "a.png", "image_3": "c.png"}, "picture 2 is not", id="image_2 is missing"),
    pytest.param({**PLAIN, "screenshot": "a.png"}, '"screenshot" is "a.png": a picture that is not', id="unknown key"),
    pytest.param({**PLAIN, "media": [{"file": "a.png"}]}, '"media" is', id="unknown key, nested"),
    pytest.param({**ASKED, "crop": PNG}, '"crop" is "data:image/png…', id="data URI under another key"),
    pytest.param({**PLAIN, "answer": {"url": PNG}}, '"answer" is {"url": "data:image/png…', id="data URI as an answer"),
    pytest.param({**PLAIN, "problem": f"![]({PNG})"}, "the question holds data:image/png;", id="data URI in the text"),
    pytest.param({**PLAIN, "problem": '<img src="a.png">?'}, 'holds <img src="a.png">; wanted <image>', id="<img src>"),
    pytest.param({**ASKED, "problem": "<img>?"}, "the question holds <img>; wanted <image>", id="<img>"),
    pytest.param({**ASKED, "problem": "![x](a.png)?"}, "the question holds ![x](a.png)", id="markdown"),
    pytest.param({**ASKED, "problem": "[IMG] who?"}, "the question holds [IMG]; wanted <image>", id="[IMG]"),
    pytest.param({**ASKED, "problem": "{image} who?"}, "the question holds {image}", id="{image}"),
    pytest.param({**ASKED, "problem": "<IMAGE> who?"}, "the question holds <IMAGE>", id="<IMAGE>"),
    pytest.param({**ASKED, "problem": "<image 2>?"}, "<image 2> in the question for 1 image; wanted", id="no image 2"),
    pytest.param({**PLAIN, "problem": "<image 1>?"}, "<image 1> in the question for 0 images; wanted", id="no image"),
    pytest.param({**ASKED, "problem": "<image 1>, <image 1>?"}, "<image 1>, <image 1> in the", id="one image twice"),
    pytest.param({**ASKED, "problem": "<image><image 1>?"}, "wanted <image 1> once, and no other", id="both marks"),
    pytest.param({**PLAIN, "picture": BASE64}, '"picture" is "iVBORw0KGgoi… (4400000', id="bare base64, unknown key"),
    pytest.param({**ASKED, "crop": BASE64}, '"crop" is "iVBORw0KGgoi… (4400000', id="bare base64 beside an image"),
    pytest.param({**PLAIN, "problem": "<video_1>?"}, f"the question holds <video_1>; {VIDEO}", id="<video_1>"),
    pytest.param({**ASKED, "problem": "<image><audio 2>?"}, "the question holds <audio 2>", id="<audio 2>"),
    pytest.param({**ASKED, "problem": "<image>a.png</image>?"}, "the question holds </image>", id="path between marks"),
    pytest.param({**ASKED, "problem": "< image > who?"}, "the question holds < image >", id="mark with spaces"),
    pytest.param({**ASKED, "problem": "＜image＞谁?"}, "the question holds ＜image＞", id="full-width mark"),
    pytest.param({**ASKED, "problem": "&lt;image&gt; who?"}, "the question holds &lt;image&gt;", id="HTML's escapes"),
    pytest.param({**ASKED, "problem": "<image>Find <ref-object>"}, "the question holds <ref-object>", id="ms-swift"),
    pytest.param({**ASKED, "answer": "a <bbox>"}, "the answer holds <bbox>; wanted what it stands for", id="<bbox>"),
    pytest.param(
        {"query": "and now?", "response": "b", "history": ["<image>?", "a"], "images": ["a.png"]},
        '"history" is ["<image>?", "a"]; wanted earlier turns [[question, answer], …]',
        id="earlier turns that are no pairs",
    ),
    pytest.param(
        {"messages": [SYSTEM | {"content": "Look at <image 1>"}, user("?"), assistant("I")], "image": "a.png"},
        "the system's message holds <image 1>",
        id="a numbered mark for the system",
    ),
    pytest.param({**ASKED, "image": "b.png"}, 'both "image" and "images" are there', id="image and images"),
    pytest.param({**PLAIN, "scan": "/c/images/0a/" + "0a" * 16}, '"scan" is "/c/images/0a/', id="kept from a table"),
    pytest.param(
        {**PLAIN, "image": "/c/images/0a/" + "0a" * 16, "images": ["/c/images/1b/" + "1b" * 16]},
        'both "image" and "images" are there, with different',
        id="two kept from a table",
    ),
    pytest.param({**PLAIN, "problem": " "}, "the question is empty", id="nothing is asked"),
    pytest.param(
        {"messages": '[{"role": "user", "content": "?"}]', "answer": 1},
        'the messages are "[{\\"role\\": \\"user\\"',
        id="messages as one text",
    ),
    pytest.param({"prompt": "[{'role': 'user'}]", "answer": 1}, "a text that spells a list", id="as Python spells it"),
    pytest.param({**ASKED, "image_url": "b.png"}, 'both "images" and "image_url" are there', id="image_url is a path"),
    pytest.param(
        {"messages": [user([text("?"), {"type": "video_url", "video_url": {"url": PNG}}]), assistant("I")]},
        'a part of the content is {"type": "video_url", "video_url": {"url": "data:image/png…',
        id="a part of the content is a video",
    ),
    pytest.param(
        {"messages": [SYSTEM | {"content": "Look: <video>"}, user("?"), assistant("I")]},
        "the system's message holds <video>",
        id="video for the system",
    ),
    pytest.param(
        {"messages": [user([{"type": "image", "image": "a.png"}]), assistant("I")], "images": ["b.png"]},
        'pictures stand in the message and under "images"',
        id="pictures in two places",
    ),
]


@pytest.mark.parametrize(("row", "message"), REFUSED)
def test_what_stands_for_a_picture_is_never_passed_over(row, message):
    with pytest.raises(DataError) as raised:
        read_row(row, AUTO)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 250


READ = [
    pytest.param(
        {"problem": "?", "answer": 1, "image": "/c/images/0a/" + "0a" * 16 + ".png", "image_path": "a.png"},
        ("<image>?", ("/c/images/0a/" + "0a" * 16 + ".png",)),
        id="kept from a table, and its path",
    ),
    pytest.param({**ASKED, "problem": "<image #1>?"}, ("<image>?", ("a.png",)), id="<image #1>"),
    pytest.param({**ASKED, "problem": "<image:1>?"}, ("<image>?", ("a.png",)), id="<image:1>"),
    pytest.param({**ASKED, "problem": "<image1/>?"}, ("<image>?", ("a.png",)), id="<image1/>"),
    pytest.param(
        {**PLAIN, "problem": "<picture 2>, <figure 1>?", "images": ["a.png", "b.png"]},
        ("<image>, <image>?", ("b.png", "a.png")),
        id="<picture 2>",
    ),
    pytest.param({**ASKED, "image_url": "https://x/1.png"}, ("<image>?", ("a.png",)), id="where it was fetched"),
    pytest.param({**PLAIN, "image": PNG, "image_path": "a.png"}, ("<image>?", (PNG,)), id="embedded, and its path"),
    pytest.param({**ASKED, "image_name": "The Cat"}, ("<image>?", ("a.png",)), id="a name that is no file"),
    pytest.param({**ASKED, "image": "x/a.png"}, ("<image>?", ("x/a.png",)), id="the same under image and images"),
    pytest.param({"prompt": "[{x}] = ?", "answer": 1}, ("[{x}] = ?", ()), id="brackets in a question"),
    pytest.param({**PLAIN, "md5": "0a" * 16}, ("?", ()), id="a hash is no file"),
    pytest.param({**ASKED, "history": []}, ("<image>?", ("a.png",)), id="no earlier turns"),
    pytest.param(
        {
            "messages": [
                user([{"type": "image", "source": {"type": "base64", "data": BASE64}}, text("?")]),
                assistant("I"),
            ]
        },
        ("<image>?", (BASE64,)),
        id="a part as Anthropic has it",
    ),
    pytest.param({**ASKED, "problem": "<image>Is <videos> or <imagery> here?"}, "same", id="other words in angles"),
]


@pytest.mark.parametrize(("row", "expected"), READ)
def test_what_stands_for_a_picture_is_read(row, expected):
    example = read_row(row, AUTO)
    expected = (row["problem"], ("a.png",)) if expected == "same" else expected
    assert (example.problem, example.images) == expected
