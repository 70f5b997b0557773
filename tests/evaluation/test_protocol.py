"""Protocols are read strictly, and two that differ say where."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm_r1.errors import ConfigError
from vlm_r1.evaluation.protocol import Decoding, as_protocol, differences, load_protocol, protocol_names

SMALL = {"name": "mine", "title": "Mine", "data": {"set": "my set"}}


@pytest.mark.parametrize("name", protocol_names())
def test_shipped_protocols_have_the_name_of_their_file(name: str) -> None:
    assert load_protocol(name).name == name


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntitle: Mine\ndata: {set: my set}\nsample: {n: 20, seed: 42}\nlevel: object\n")
    protocol = load_protocol(str(path))
    assert (protocol.level, protocol.sample and protocol.sample.seed) == ("object", 42)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": "object"}, "levels: Extra inputs"),
        ({"level": "image"}, "level: Input should be 'expression' or 'object'"),
        ({"thresholds": [0.5, 1.5]}, r"thresholds\.1: Input should be less than or equal to 1"),
        ({"decoding": {"samples": 8}}, "samples has no effect at temperature 0"),
        ({"decoding": {"top_p": 0.9}}, "top_p has no effect at temperature 0"),
        ({"name": "../up"}, "name: "),
        ({"data": {}}, r"data\.set: Field required"),
    ],
)
def test_bad_protocols_are_named(change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        as_protocol({**SMALL, **change}, "mine.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2]", "Input should be a valid dictionary"),
        (b"name: a\nname: b\n", 'the key "name" stands twice'),
        (b"a: {", "is no valid YAML"),
        (b"\xff\xfe\x00", "is no text"),
    ],
)
def test_files_that_are_no_protocols(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_protocol(str(path))


def test_unknown_names_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='Did you mean "refcoco"'):
        load_protocol("refcoc")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_protocol(str(tmp_path / "none.yaml"))


def test_samples_need_a_temperature() -> None:
    assert Decoding(temperature=1.0, samples=8, seed=3).samples == 8


def test_differences_name_keys_at_any_depth_and_keys_of_one_side() -> None:
    one = as_protocol(SMALL, "").model_dump(mode="json")
    other = as_protocol({**SMALL, "level": "object", "decoding": {"temperature": 1.0}}, "").model_dump(mode="json")
    assert list(differences(one, one)) == []
    assert list(differences(one, other)) == [
        "level: 'expression' and 'object'",
        "decoding.temperature: 0.0 and 1.0",
    ]
    assert list(differences({"a": 1}, {"b": 1})) == ["a: 1 and None", "b: None and 1"]
