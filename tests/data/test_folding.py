"""Messages that repeat: what is of one kind, how it is counted, and what is never folded."""

from random import Random

import pytest

from vlm_r1.data.folding import MAX_LISTED, Place, fold


def lines_of(*messages: str, file: str = "a.jsonl") -> list[str]:
    return fold([Place(f"{file}:{n}", message) for n, message in enumerate(messages, 1)])


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(
            [f"box ({n}, 20.5, 9e{n}, -4) outside its image {n}x480; wanted x1" for n in range(9)], id="boxes"
        ),
        pytest.param([f"/data/my pictures/a {n} b.jpg: image not found. Check it" for n in range(9)], id="pictures"),
        pytest.param([f"s3://b/{'x' * n}.jpg: not an image of a known format." for n in range(9)], id="at addresses"),
        pytest.param([f'unknown reward "{"x" * n}". Known: iou' for n in range(9)], id="names in quotes"),
        pytest.param(
            [f"the gold answer {'x ' * n}is no box (no_box); wanted" for n in range(1, 10)], id="gold answers"
        ),
        pytest.param([f"the gold answer {[[1, 'a']] * n!r} is no box; wanted" for n in range(9)], id="lists"),
        pytest.param([f"the keys ({', '.join('abcdefghi'[:n])}) fit" for n in range(9)], id="lists of several lengths"),
    ],
)
def test_messages_of_one_kind_are_one(messages):
    assert lines_of(*messages) == [f"a.jsonl:1: {messages[0]}", "    and 8 more like it: lines 2, 3, 4, 5, 6, …"]


def test_three_different_messages_of_a_kind_are_all_shown():
    three = ["box 1 has no area", "box 2 has no area", "box 3 has no area"]
    assert lines_of(*three) == [f"a.jsonl:{n}: {text}" for n, text in enumerate(three, 1)]
    assert lines_of(*three, "box 4 has no area") == [
        "a.jsonl:1: box 1 has no area",
        "    and 3 more like it: lines 2, 3, 4",
    ]
    assert lines_of(*three, "box 3 has no area")[-2:] == [
        "a.jsonl:3: box 3 has no area",
        "    and 1 more with the same message: line 4",
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("box 1 has no area", "box 1 outside its image", id="other words"),
        pytest.param("the answer is empty", "the question is empty", id="another subject"),
        pytest.param("a.jpg: image not found", "a.jpg: image cannot be decoded", id="the same picture"),
    ],
)
def test_messages_of_two_kinds_are_two(first, second):
    found = lines_of(*[first, second] * 9)
    assert [line.partition(": ")[2] for line in found[::2]] == [first, second]
    assert found[1::2] == [
        "    and 8 more with the same message: lines 3, 5, 7, 9, 11, …",
        "    and 8 more with the same message: lines 4, 6, 8, 10, 12, …",
    ]


def test_of_several_files_the_whole_place_is_named():
    found = fold([Place(source, "no") for source in ("a.jsonl:1", "a.jsonl:2", "b.jsonl:1", "c.json")])
    assert found == ["a.jsonl:1: no", "    and 3 more with the same message: a.jsonl:2, b.jsonl:1, c.json"]


def test_the_first_kinds_are_listed_and_the_others_counted():
    kinds = [
        "".join(letters) for letters in zip("abcdefghijklmnopqrstuvwxyz", "bcdefghijklmnopqrstuvwxyza", strict=True)
    ]
    found = lines_of(*kinds)
    assert len(found) == MAX_LISTED + 1
    assert found[-1] == "… and 6 more, 26 in all"


def test_every_message_is_counted_once():
    """Whatever stands in them, the numbers add up to all."""
    random = Random(0)
    for _ in range(50):
        messages = [
            "".join(random.choices("a1\"'/(]{ :", k=random.randint(0, 6))) for _ in range(random.randint(1, 60))
        ]
        found = lines_of(*messages)
        last = found[-1].split(" ")
        left = int(last[2]) if found[-1].startswith("… and ") else 0
        more = sum(int(line.split()[1]) for line in found if line.startswith("    and "))
        first = sum(line.startswith("a.jsonl:") for line in found)
        assert first + more + left == len(messages)


def test_a_long_message_takes_no_long_time():
    text = "(" * 500 + '"' * 500
    assert len(lines_of(*[text] * 1000)) == 2
