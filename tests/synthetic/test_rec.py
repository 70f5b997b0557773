"""The demo's world: expressions name exactly one shape, and its files stay the same bytes."""

import hashlib
import json
import re
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlm_r1.data.jsonl import read_jsonl
from vlm_r1.synthetic import RecWorld, make_world, shifted, write_rec_dataset
from vlm_r1.synthetic.placement import loosen
from vlm_r1.synthetic.rec import SIZE_FACTOR
from vlm_r1.synthetic.shapes import COLOURS, HELD_OUT_KINDS, SHAPES

COUNTS = {"train": 120, "warmup": 30, "in_domain": 40, "out_of_domain": 40}
SPLITS = ("train", "in_domain", "out_of_domain")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_rec_dataset(tmp_path_factory.mktemp("world"), seed=3, counts=COUNTS)


def rows(path):
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def gold(row):
    return row["conversations"][1]["value"]


# The slow, obvious twin of the generator: find the shape that an expression names, from the list of shapes alone.

NOUN = f"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
EXPRESSION = re.compile(f"the (?:(small|large) )?{NOUN}(?: (left of|right of|above|below) the {NOUN})?")


def edges_beyond(word, box, other):
    """The whole box lies beyond that edge of the other."""
    x1, y1, x2, y2 = box
    ox1, oy1, ox2, oy2 = other
    return {"left of": x2 <= ox1, "right of": x1 >= ox2, "above": y2 <= oy1, "below": y1 >= oy2}[word]


def centre_beyond(word, box, other):
    """The centre of the box lies beyond the centre of the other."""
    dx, dy = (box[k] + box[k + 2] - other[k] - other[k + 2] for k in (0, 1))
    return {"left of": dx < 0, "right of": dx > 0, "above": dy < 0, "below": dy > 0}[word]


def named_by(expression, objects):
    """Boxes of all objects that the expression fits, by its strictest and by its laxest reading."""
    size, colour, shape, word, *landmark = EXPRESSION.fullmatch(expression).groups()
    same = [o["box"] for o in objects if (o["colour"], o["shape"]) == (colour, shape)]
    if size:
        areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in same]
        wanted = min(areas) if size == "small" else max(areas)
        assert max(areas) >= SIZE_FACTOR**2 * min(areas)
        same = [box for box, area in zip(same, areas, strict=True) if area == wanted]
        return same, same
    if not word:
        return same, same
    (other,) = [o["box"] for o in objects if (o["colour"], o["shape"]) == tuple(landmark)]
    return [b for b in same if edges_beyond(word, b, other)], [b for b in same if centre_beyond(word, b, other)]


@pytest.mark.parametrize("split", SPLITS)
def test_each_expression_names_exactly_the_gold_box(files, split):
    for row in rows(files[split]):
        expression = row["conversations"][0]["value"].removeprefix("<image>")
        assert named_by(expression, row["scene"]["objects"]) == ([gold(row)], [gold(row)])


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(RecWorld(relation_share=1), id="trained"),
        pytest.param(shifted(RecWorld(relation_share=1)), id="shifted"),
        pytest.param(make_world("rec", "hard", relation_share=1), id="hard"),
    ],
)
@given(seed=st.integers(0, 10**6))
def test_relations_name_exactly_one_shape_in_any_scene(world, seed):
    example = world.draw(Random(seed))
    (picture,) = example.pictures
    objects = [{**t.kind._asdict(), "box": list(t.box)} for t in picture.things]
    assert named_by(example.question, objects) == ([example.answer], [example.answer])
    assert example.facts["asks_by"] in ("size", "place")


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.2, 1.0]))
def test_sides_are_within_their_range(seed, share):
    (picture,) = RecWorld(relation_share=share).draw(Random(seed)).pictures
    shorter = min(picture.wh)
    for x1, y1, x2, y2 in (thing.box for thing in picture.things):
        for side in (x2 - x1, y2 - y1):
            assert 0.26 * shorter - 0.5 <= side <= 0.5 * shorter + 0.5  # rounded to whole pixels
        assert x1 >= 0 <= y1
        assert x2 <= picture.wh[0]
        assert y2 <= picture.wh[1]


def test_shares_of_a_large_sample():
    asked = [RecWorld().draw(Random(i)).facts["asks_by"] for i in range(1000)]
    # 20 % of 1000 is 200 ± 13; half of each sort
    assert 150 < asked.count("size") + asked.count("place") < 250
    assert 70 < asked.count("size") < 130


def test_domains_are_apart(files):
    seen = {"train": set(), "in_domain": set(), "out_of_domain": set()}
    sizes = {split: set() for split in SPLITS}
    numbers = {split: set() for split in SPLITS}
    for split in SPLITS:
        for row in rows(files[split]):
            objects = row["scene"]["objects"]
            seen[split] |= {(o["colour"], o["shape"]) for o in objects}
            sizes[split].add(tuple(row["scene"]["size"]))
            numbers[split].add(len(objects))
            asked_kind = (objects[0]["colour"], objects[0]["shape"])
            assert (asked_kind in HELD_OUT_KINDS) == (split == "out_of_domain")
    assert not (seen["train"] | seen["in_domain"]) & set(HELD_OUT_KINDS)
    assert sizes["train"] == sizes["in_domain"] == {(56, 56), (64, 60), (60, 64), (52, 52)}
    assert sizes["out_of_domain"] == {(84, 56), (56, 84)}
    assert numbers == {"train": {1, 2, 3}, "in_domain": {1, 2, 3}, "out_of_domain": {4}}


def test_no_picture_recurs(files):
    hashes = [hashlib.sha256(p.read_bytes()).digest() for p in files["train"].parent.glob("images/*/*.png")]
    assert len(hashes) == len(set(hashes)) == 120 + 40 + 40


DIGESTS = {
    "train": "e3d4dc9ef59c1694e0ad0d481916b711cdc5886757c39fadbe52ee44cd7c9c0a",
    "warmup": "f300728aa121ae6dc04fce8fff9d9c933dafed829901869fb7fbe1fcf3371eab",
    "in_domain": "186ea9d57ec9cd239eba2c949033f754bdb0a3078120c4e3d70e4d6b546a01d1",
    "out_of_domain": "7f0235bf53b8ec50a8c289e588acb16100bd83bcef3db0baad197cb90ea97362",
}
PIXELS = "26a78d870f6bfb03b14974b0f657396265e14e8545e68f985638a3d4b6af2b80"


def test_the_demo_sees_the_same_data_for_ever(tmp_path):
    """Results of the demo are compared over versions. Pixels, not PNG files: how those are packed is zlib's affair."""
    files = write_rec_dataset(tmp_path, 0, {"train": 24, "warmup": 16, "in_domain": 8, "out_of_domain": 8})
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == DIGESTS
    pixels = hashlib.sha256()
    for path in sorted(tmp_path.glob("images/*/*.png")):
        pixels.update(Image.open(path).tobytes())
    assert pixels.hexdigest() == PIXELS


def test_warm_up_repeats_training_with_a_thought_and_loose_boxes(files):
    train = read_jsonl(files["train"], task="rec")[:30]
    overlaps = []
    for exact, loose in zip(train, read_jsonl(files["warmup"], task="rec"), strict=True):
        assert (loose.images, loose.problem) == (exact.images, exact.problem)
        assert loose.thought == exact.problem.removeprefix("<image>")
        x1, y1, x2, y2 = exact.answer
        lx1, ly1, lx2, ly2 = json.loads(loose.answer)
        assert 0 <= lx1 <= x1
        assert 0 <= ly1 <= y1
        assert lx2 >= x2
        assert ly2 >= y2
        overlaps.append((x2 - x1) * (y2 - y1) / ((lx2 - lx1) * (ly2 - ly1)))  # the exact box lies within: IoU
    # Each side grows by a factor of 1.5 on average, less at the border of the image: IoU about 1 / 1.5² = 0.44 or more.
    assert 0.4 < np.mean(overlaps) < 0.65


class Half(Random):
    def random(self):
        return 0.5


def test_loosen_by_hand():
    # Half of the looseness 0.5 is a quarter of the side: 20 · 0.25 = 5 px in x, 40 · 0.25 = 10 px in y.
    assert loosen((20, 30, 40, 70), (100, 100), Half()) == (15, 20, 45, 80)
    assert loosen((2, 30, 22, 70), (24, 75), Half()) == (0, 20, 24, 75)  # clipped to the image
    assert loosen((20, 30, 40, 70), (100, 100), Half(), looseness=0) == (20, 30, 40, 70)
