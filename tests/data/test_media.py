"""What stands for a picture, video or sound in a row: it is read, or refused in one short line; never passed over."""

import pytest

from vlm_r1.data.formats import AUTO, read_row
from vlm_r1.errors import DataError

SYSTEM = {"role": "system", "content": "Be brief."}


def text(words):
    return {"type": "text", "text": words}


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


PNG = "data:image/png;base64," + "iVBORw0KGgo" * 400_000
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
