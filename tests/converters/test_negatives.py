"""Absent names added to detection questions: never one that is there, a synonym, or less than what is there."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.converters.negatives import key_of, similarity, words_of
from vlm_r1.errors import DataError

POOL = ["cat", "dog", "red car", "red bus", "traffic light", "sofa"]


def record(id_, labels, asked=None, image="a.jpg", **extra):
    """One line; asks for its labels unless told otherwise."""
    answer = [{"bbox_2d": [1, 2, 30, 40], "label": label} for label in labels] or "None"
    asked = ", ".join(labels) if asked is None else asked
    turns = [{"from": "human", "value": f"<image>{asked}"}, {"from": "gpt", "value": answer}]
    return {"id": id_, "image": image, "conversations": turns, **extra}


@pytest.fixture
def ovd_file(tmp_path, picture_file):
    """`ovd_file(record, …)`: a detection file, with the picture of its records."""

    def write(*records):
        for image in {row["image"] for row in records}:
            picture_file(tmp_path / image)
        path = tmp_path / "in.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in records), encoding="utf-8")
        return path

    return write


@pytest.fixture
def labels_file(tmp_path):
    def write(*lines, name="labels.txt"):
        (tmp_path / name).write_text("\n".join(lines))
        return str(tmp_path / name)

    return write


def added(done, before):
    """The names that a conversion added to each record."""
    old = {str(row["id"]): row["conversations"][0]["value"] for row in before}
    return {row["id"]: [name for name in row["targets"] if name not in old[row["id"]]] for row in done.rows}


def test_the_lines(convert, ovd_file):
    records = [record(1, ["cat"], difficulty=0.4), record(2, ["dog"], image="b.jpg")]
    done = convert("negatives", ovd_file(*records), per_record=(1, 1))
    assert (done.task, [row["id"] for row in done.rows]) == ("ovd", ["1", "2"])
    assert sorted(done.rows[0].pop("targets")) == ["cat", "dog"]
    assert done.questions()["1"] in ("cat, dog", "dog, cat")
    assert done.rows[0]["conversations"][1] == records[0]["conversations"][1]
    assert (done.rows[0]["image"], done.rows[0]["difficulty"]) == ("a.jpg", 0.4)
    assert done.tally.kept == {"record": 2, "added name": 2}


def test_same_seed_same_names(convert, ovd_file, labels_file):
    path = ovd_file(*[record(i, ["cat"]) for i in range(30)])
    labels = labels_file(*POOL)
    texts = [convert("negatives", path, labels=labels, seed=seed).text for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("labels", "never"),
    [
        pytest.param(["cat"], ["cat", "Cats", "CAT "], id="case, white space and plural"),
        pytest.param(["red car"], ["car", "red"], id="less than what is there"),
        pytest.param(["couch"], ["settee", "Sofa"], id="synonyms"),
    ],
)
def test_names_that_are_there_are_never_added(convert, ovd_file, labels_file, labels, never):
    records = [record(i, labels) for i in range(20)]
    synonyms = labels_file("couch = sofa = settee", name="synonyms.txt")
    done = convert(
        "negatives", ovd_file(*records), labels=labels_file("zebra", *never), synonyms=synonyms, per_record=(2, 2)
    )
    assert set(map(tuple, added(done, records).values())) == {("zebra",)}


def test_what_is_there_by_another_record_of_the_image(convert, ovd_file):
    """Record 1 asks for cats alone; record 2 says that the same picture has a dog."""
    records = [record(1, ["cat"]), record(2, ["dog"]), record(3, ["sofa"], image="b.jpg")]
    done = convert("negatives", ovd_file(*records), per_record=(3, 3))
    assert {id_: sorted(names) for id_, names in added(done, records).items()} == {
        "1": ["sofa"],
        "2": ["sofa"],
        "3": ["cat", "dog"],
    }


SENTENCE = (
    "Please carefully check the image and detect the following objects: {}. Output each detected target's bbox "
    "coordinates in JSON format."
)


def test_questions_of_each_form(convert, ovd_file):
    records = [
        record(1, ["cat"], SENTENCE.format("cat, sofa")),
        record(2, ["cat"], "Where are the cats? Give a bbox."),
        record(3, ["a cat, asleep"], "a cat, asleep", image="b.jpg", targets=["a cat, asleep"]),
        record(4, ["cat"], "Find all cats", image="c.jpg"),
    ]
    done = convert("negatives", ovd_file(*records), per_record=(1, 1))
    questions = done.questions()
    assert sorted(done.rows[0]["targets"]) == ["a cat, asleep", "cat", "sofa"]
    listed = ", ".join({"a cat, asleep": '"a cat, asleep"'}.get(name, name) for name in done.rows[0]["targets"])
    assert questions["1"] == SENTENCE.format(listed)
    assert questions["2"] == "Where are the cats? Give a bbox."
    assert sorted(done.rows[2]["targets"]) == ["a cat, asleep", "sofa"]  # "cat" is less than what is there
    assert questions["4"] == "Find all cats"
    assert done.tally.notes["question in words of its own, left as it is"] == 2


def test_answers_as_texts(convert, ovd_file):
    row = record(1, [], "cat, dog")
    row["conversations"][1]["value"] = (
        '<think>a cat</think><answer>[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]</answer>'
    )
    done = convert("negatives", ovd_file(row, record(2, [], "sofa")), per_record=(1, 1))
    # record 2 shows the same picture: cat is there, dog is not
    assert added(done, [row, record(2, [], "sofa")]) == {"1": ["sofa"], "2": ["dog"]}
    assert done.answers()["1"] == row["conversations"][1]["value"]


def test_frequent_names_are_drawn_more_often(convert, ovd_file):
    """Weights are counts plus one: of 1000 draws between dog (weight 91) and sofa (weight 10), dog is 91/101 = 90 %."""
    there = [record(f"d{i}", ["dog"], image="b.jpg") for i in range(90)]
    there += [record(f"s{i}", ["sofa"], image="b.jpg") for i in range(9)]
    records = [*there, *(record(i, ["cat"]) for i in range(1000))]
    for strategy, low, high in (("frequency", 850, 950), ("uniform", 430, 570)):
        done = convert("negatives", ovd_file(*records), per_record=(1, 1), strategy=strategy)
        counts = Counter(names[0] for id_, names in added(done, records).items() if id_.isdecimal())
        assert low < counts["dog"] < high, strategy
        assert counts["dog"] + counts["sofa"] == 1000


def test_similar_names_share_words(convert, ovd_file, labels_file):
    labels = labels_file("red bus", "blue car", "green car", "red bike", "zebra", "sofa", "lamp", "oven")
    records = [record(i, ["red car"]) for i in range(50)]
    similar = convert("negatives", ovd_file(*records), labels=labels, strategy="similar", per_record=(1, 1))
    assert {names[0] for names in added(similar, records).values()} == {"red bus", "blue car", "green car", "red bike"}
    uniform = convert("negatives", ovd_file(*records), labels=labels, per_record=(1, 1))
    assert {names[0] for names in added(uniform, records).values()} & {"zebra", "sofa", "lamp", "oven"}


def test_no_name_left(convert, ovd_file):
    done = convert("negatives", ovd_file(record(1, ["cat"])))
    assert done.questions() == {"1": "cat"}
    assert done.tally.notes == {"no absent name left to add": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("{", "in.jsonl:2: not valid JSON", id="no JSON"),
        pytest.param('{"id": 1}', "in.jsonl:2: conversations: missing, got the keys id", id="no turns"),
        pytest.param(
            json.dumps(record(1, [], "x", image="a.jpg") | {"image": 3}), '"image" is 3, wanted one path', id="no image"
        ),
        pytest.param(
            json.dumps(record(1, ["a"])).replace('"bbox_2d"', '"bbx"'), r"\(item_without_box\); wanted", id="no boxes"
        ),
    ],
)
def test_bad_lines_are_named(convert, ovd_file, line, message):
    path = ovd_file(record(1, ["cat"]))
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(DataError, match=message):
        convert("negatives", path)


def test_option_files_that_are_missing(convert, ovd_file, tmp_path):
    for option in ("labels", "synonyms"):
        with pytest.raises(DataError, match=r"gone\.txt: cannot read the file"):
            convert("negatives", ovd_file(record(1, ["cat"])), **{option: str(tmp_path / "gone.txt")})


names = st.text(st.sampled_from("abs "), min_size=1, max_size=8).filter(str.strip)


@given(names, names)
@settings(max_examples=100)
def test_similarity_is_symmetric_and_bounded(a, b):
    assert 0 <= similarity(a, b) == similarity(b, a) <= 1
    assert similarity(a, a) == pytest.approx(1)
    assert (similarity(a, b) > 0) or not words_of(a) & words_of(b)
    assert key_of(a.upper()) == key_of(f" {a} ")
