"""The answers of the shape worlds, computed anew from the painted pixels; and what their teachers get wrong."""

from collections import Counter
from random import Random

import numpy as np
import pytest

from vlm_r1.synthetic import SHIFTS, WORLDS, ChangeWorld, CountingWorld, OvdWorld, make_world, shifted
from vlm_r1.synthetic.change import CHANGES, NO_CHANGE
from vlm_r1.synthetic.placement import Thing
from vlm_r1.synthetic.shapes import COLOURS, HELD_OUT_KINDS, MIN_SIDE_PX, SHAPES, Kind, Shapes

# The oracle: look at a picture, and name every patch of one colour by its outline.


def seen(image):
    """[(name, box)] of all shapes of a picture, by box."""
    pixels = np.asarray(image)
    found = []
    for colour, rgb in COLOURS.items():
        mask = (pixels == rgb).all(axis=2)
        found += [(f"{colour} {outline(mask, box)}", box) for box in patches(mask)]
    return sorted(found, key=lambda item: item[1])


def patches(mask):
    """Boxes of the connected patches of a mask."""
    left = set(map(tuple, np.argwhere(mask.T).tolist()))
    while left:
        patch, border = set(), [left.pop()]
        while border:
            x, y = border.pop()
            patch.add((x, y))
            near = {(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)} & left
            left -= near
            border += near
        xs, ys = zip(*patch, strict=True)
        yield min(xs), min(ys), max(xs) + 1, max(ys) + 1


def outline(mask, box):
    """A square fills its box, a triangle at least its last row, a circle neither."""
    x1, y1, x2, y2 = box
    patch = mask[y1:y2, x1:x2]
    return "square" if patch.all() else "triangle" if patch[-1].all() else "circle"


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_recognised_at_every_size(shape):
    for width in range(MIN_SIDE_PX, 20):
        for height in range(max(MIN_SIDE_PX, round(width / 1.25)), round(width * 1.25) + 1):
            box = (3, 2, 3 + width, 2 + height)
            assert seen(Shapes((30, 30), 230, (Thing(Kind("red", shape), box),)).paint()) == [(f"red {shape}", box)]


def test_the_oracle_sees_what_is_wrong():
    """Shapes that touch are one patch, and half a circle is no circle."""
    touching = (Thing(Kind("red", "square"), (0, 0, 8, 8)), Thing(Kind("red", "square"), (8, 0, 16, 8)))
    assert seen(Shapes((20, 20), 230, touching).paint()) == [("red square", (0, 0, 16, 8))]
    hidden = (Thing(Kind("red", "circle"), (0, 0, 10, 10)), Thing(Kind("blue", "square"), (0, 5, 10, 15)))
    names = [name for name, _ in seen(Shapes((20, 20), 230, hidden).paint())]
    assert names == ["red triangle", "blue square"]


def ovd_answer(question, shapes):
    labels = question.split(", ")
    found = sorted((labels.index(name), box) for name, box in shapes if name in labels)
    return [{"bbox_2d": list(box), "label": labels[i]} for i, box in found] or "None"


def count_answer(question, shapes):
    asked = question.removeprefix("how many ").removesuffix("s?")
    return sum(name == asked for name, _ in shapes)


def change_answer(question, before, after):
    assert question == "what changed?"
    old, new = dict(before), dict(after)
    assert (len(old), len(new)) == (len(before), len(after))  # no kind twice
    if old == new:
        return NO_CHANGE
    gone, come = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    moved = [name for name in set(old) & set(new) if old[name] != new[name]]
    if gone and come:
        assert old[gone[0]] == new[come[0]]
        assert gone[0].split()[1] == come[0].split()[1]
    changes = {
        (1, 0, 0): lambda: f"{gone[0]} removed",
        (0, 1, 0): lambda: f"{come[0]} added",
        (1, 1, 0): lambda: f"{gone[0]} recoloured",
        (0, 0, 1): lambda: f"{moved[0]} moved",
    }
    return changes[len(gone), len(come), len(moved)]()


ANSWERS = {"ovd": ovd_answer, "counting": count_answer, "change": change_answer}


@pytest.mark.parametrize("shift", [None, *SHIFTS])
@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
@pytest.mark.parametrize("name", ANSWERS)
def test_gold_answers_are_what_the_pixels_say(name, difficulty, shift):
    world = make_world(name, difficulty)
    world = shifted(world, shift) if shift else world
    for i in range(6):
        example = world.draw(Random(f"{name}/{i}"))
        images = [picture.paint() for picture in example.pictures]
        shapes = [seen(image) for image in images]
        assert ANSWERS[name](example.question, *shapes) == example.answer
        for picture, image, found in zip(example.pictures, images, shapes, strict=True):
            assert found == sorted([(str(t.kind), t.box) for t in picture.things], key=lambda item: item[1])
            assert image.size == picture.wh


def draw(world, n):
    return [world.draw(Random(i)) for i in range(n)]


def names_in(picture):
    return {str(thing.kind) for thing in picture.things}


def look_alike(name, others):
    return any(name != other and set(name.split()) & set(other.split()) for other in others)


def test_ovd_questions():
    examples = draw(OvdWorld(), 500)
    n_none = sum(example.answer == "None" for example in examples)
    assert 30 < n_none < 75  # 10 % of 500 is 50 ± 7
    numbers, repeated = Counter(), 0
    for example in examples:
        there, listed = names_in(example.pictures[0]), example.question.split(", ")
        assert len(set(listed)) == len(listed)
        absent = [label for label in listed if label not in there]
        assert all(look_alike(label, there) for label in absent)
        assert not {str(kind) for kind in HELD_OUT_KINDS} & (there | set(listed))
        numbers[len(listed), bool(absent)] += 1
        labels = [item["label"] for item in example.answer] if example.answer != "None" else []
        repeated += len(labels) > len(set(labels))
    assert {n for n, _ in numbers} == {2, 3, 4}
    assert sum(n for (_, some_absent), n in numbers.items() if some_absent) > 250
    assert repeated > 50


def test_ovd_negatives():
    for example in draw(OvdWorld(negatives="none"), 100):
        assert set(example.question.split(", ")) <= names_in(example.pictures[0])
    hard = [
        look_alike(label, names_in(example.pictures[0]))
        for example in draw(OvdWorld(negatives="random"), 100)
        for label in example.question.split(", ")
    ]
    assert 0.5 < np.mean(hard) < 0.95  # some share nothing with what is there


def test_counts_are_equally_likely():
    counts = Counter(example.answer for example in draw(CountingWorld(), 600))
    assert set(counts) == {0, 1, 2, 3, 4, 5}
    assert all(65 < n < 140 for n in counts.values())  # 100 ± 9
    for example in draw(CountingWorld(), 50):
        others = names_in(example.pictures[0]) - {example.facts["asked"]}
        assert all(look_alike(other, [example.facts["asked"]]) for other in others)


def test_changes_are_equally_likely():
    changes = Counter(example.facts["change"] for example in draw(ChangeWorld(), 500))
    assert set(changes) == {*CHANGES, NO_CHANGE}
    assert all(65 < n < 140 for n in changes.values())  # 100 ± 9


def answers(world, examples):
    return [world.misjudge(Random(i), example) for i, example in enumerate(examples)]


@pytest.mark.parametrize("name", WORLDS)
def test_a_teacher_without_faults_gives_the_gold_answer(name):
    faults = {"wrong_share": 0.0, "looseness": 0.0}
    world = make_world(name, **{key: value for key, value in faults.items() if hasattr(make_world(name), key)})
    examples = draw(world, 60)
    assert answers(world, examples) == [example.answer for example in examples]


@pytest.mark.parametrize("name", ["counting", "change"])
@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 1.0, 1.0), (0.3, 0.2, 0.4)])
def test_share_of_wrong_answers(name, share, least, most):
    world = make_world(name, wrong_share=share)
    examples = draw(world, 300)
    wrong = [a != example.answer for a, example in zip(answers(world, examples), examples, strict=True)]
    assert least <= np.mean(wrong) <= most  # 0.3 ± 0.026


def test_wrong_counts_and_verdicts_are_near():
    world = CountingWorld(wrong_share=1.0)
    examples = draw(world, 100)
    for example, answer in zip(examples, answers(world, examples), strict=True):
        assert abs(answer - example.answer) == 1
        assert answer >= 0
    world = ChangeWorld(wrong_share=1.0)
    examples = draw(world, 100)
    for example, answer in zip(examples, answers(world, examples), strict=True):
        name, _, change = answer.rpartition(" ")
        there = names_in(example.pictures[0]) | names_in(example.pictures[1])
        assert answer == NO_CHANGE or (name in there and change in CHANGES)


def test_ovd_teacher_boxes_absent_labels():
    world = OvdWorld()
    boxed = []
    for i, example in enumerate(draw(world, 400)):
        answer = world.misjudge(Random(i), example)
        answer = [] if answer == "None" else answer
        there, listed = names_in(example.pictures[0]), example.question.split(", ")
        labels = [item["label"] for item in answer]
        assert [label for label in labels if label in there] == [item["label"] for item in gold_items(example)]
        boxed += [label in labels for label in listed if label not in there]
        for x1, y1, x2, y2 in (item["bbox_2d"] for item in answer):
            assert 0 <= x1 < x2 <= example.pictures[0].wh[0]
            assert 0 <= y1 < y2 <= example.pictures[0].wh[1]
        thought = world.think(Random(i), example, answer or "None")
        assert thought == f"present: {', '.join(dict.fromkeys(labels)) or 'None'}"
    assert 0.25 < np.mean(boxed) < 0.35  # 0.3 ± 0.02


def gold_items(example):
    return [] if example.answer == "None" else example.answer


def test_thoughts():
    (example,) = draw(OvdWorld(), 1)
    said = {
        style: OvdWorld(thought=style).think(Random(0), example, "None") for style in ("presence", "question", "none")
    }
    assert said == {"presence": "present: None", "question": example.question, "none": ""}
    mixed = Counter(OvdWorld(thought="mixed").think(Random(i), example, "None") for i in range(100))
    assert set(mixed) == {said["presence"], said["question"]}
    assert all(n > 30 for n in mixed.values())
    assert CountingWorld(thought="none").think(Random(0), draw(CountingWorld(), 1)[0], 3) == ""
