"""Windows: the region of the control that is asked for, found anew from the painted pixels."""

from random import Random

import numpy as np
import pytest

from vlm_r1.errors import ConfigError
from vlm_r1.synthetic import SHIFTS, ClickWorld, make_world, shifted
from vlm_r1.synthetic.click import FACE, HELD_OUT_CONTROLS, INK, LABELS, PAPER, scale_of, text_mask


def is_colour(pixels, rgb):
    return (pixels == rgb).all(axis=2)


def written(label, ink, scale):
    """Boxes of all places where a label is written, letter by letter."""
    mask = np.asarray(text_mask(label, scale)) > 0
    height, width = mask.shape
    windows = np.lib.stride_tricks.sliding_window_view(ink, mask.shape)
    return [(int(x), int(y), int(x) + width, int(y) + height) for y, x in np.argwhere((windows == mask).all((2, 3)))]


def grown(mask, x, y):
    """Box of the rectangle of true pixels round (x, y): as far along its row, then along its column."""
    x1, x2, y1, y2 = x, x, y, y
    while x1 > 0 and mask[y, x1 - 1]:
        x1 -= 1
    while x2 + 1 < mask.shape[1] and mask[y, x2 + 1]:
        x2 += 1
    while y1 > 0 and mask[y1 - 1, x]:
        y1 -= 1
    while y2 + 1 < mask.shape[0] and mask[y2 + 1, x]:
        y2 += 1
    return x1, y1, x2 + 1, y2 + 1


def control_round(text_box, image, scale):
    """(role, box) of the control that a label belongs to, by the colours round it."""
    pixels = np.asarray(image)
    x1, y1, x2, y2 = text_box
    beside = tuple(int(v) for v in pixels[y1, x1 - scale])
    ink, paper, face = (is_colour(pixels, rgb) for rgb in (INK, PAPER, FACE))
    if beside == FACE:
        return "button", grown(face | ink, x1 - scale, y1 - scale)
    if beside == PAPER:
        return "row", grown(paper | ink, x1 - scale, y1)
    middle = (y1 + y2) // 2
    left = max(x for x in range(x1) if ink[middle, x]) - 2 * scale  # inside of the check box
    box_x1, box_y1, _, box_y2 = grown(paper | ink, left, middle)
    return "checkbox", (box_x1, box_y1, x2, box_y2)


def controls_seen(picture):
    """[((label, role), box)] of all controls of a window."""
    image, scale = picture.paint(), scale_of(picture.wh)
    ink = is_colour(np.asarray(image), INK)
    found = [(label, control_round(box, image, scale)) for label in LABELS for box in written(label, ink, scale)]
    return sorted(((label, role), box) for label, (role, box) in found)


WORLDS = {
    "easy": make_world("click", "easy"),
    "medium": ClickWorld(),
    "hard": make_world("click", "hard"),
    "twice the scale": ClickWorld(image_sizes=((192, 192),)),
    **{shift: shifted(ClickWorld(), shift) for shift in SHIFTS},
}


@pytest.mark.parametrize("name", WORLDS)
def test_gold_regions_are_what_the_pixels_say(name):
    for i in range(4):
        example = WORLDS[name].draw(Random(i))
        (picture,) = example.pictures
        found = controls_seen(picture)
        assert found == sorted((tuple(thing.kind), thing.box) for thing in picture.things)
        _, _, label, role = example.question.split()
        assert [list(box) for kind, box in found if kind == (label, role)] == [example.answer]


def test_windows_have_namesakes_and_keep_held_out_controls_for_later():
    for i in range(100):
        (picture,) = ClickWorld().draw(Random(i)).pictures
        target, first, *_ = picture.things
        assert target.kind.label == first.kind.label
        assert not {thing.kind for thing in picture.things} & set(HELD_OUT_CONTROLS)
        assert shifted(ClickWorld(), "kinds").draw(Random(i)).pictures[0].things[0].kind in HELD_OUT_CONTROLS


def test_rows_stand_out_from_the_background():
    greys = {ClickWorld().draw(Random(i)).pictures[0].grey for i in range(500)}
    assert max(greys) <= PAPER[0] - 15
    assert min(greys) >= FACE[0] + 15


def test_wrong_answers_are_other_controls():
    world, wrong = ClickWorld(), 0
    for i in range(300):
        example = world.draw(Random(i))
        answer = world.misjudge(Random(i), example)
        assert tuple(answer) in {thing.box for thing in example.pictures[0].things}
        wrong += answer != example.answer
    assert 60 < wrong < 120  # 30 % of 300 is 90 ± 8


def test_windows_too_small_for_their_controls():
    with pytest.raises(ConfigError, match="a window of 56x56 pixels has no room"):
        ClickWorld(image_sizes=((112, 112), (56, 56)))
