"""Options whose names say key, token, secret or password are masked wherever they are written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.config.secrets import MASK, given_secrets, is_secret, masked, masked_arguments, masked_tree, refuse_masked
from vlm_r1.errors import ConfigError

SECRET = [
    "api_key",
    "apiKey",
    "APIKEY",
    "OPENAI_API_KEY",
    "key",
    "api_keys",
    "hf_token",
    "hfToken",
    "token",
    "authtoken",
]
ERRORS = ["KeyError", "TokenError", "AuthException"]
SECRET += ["secret", "client_secret", "password", "passwd", "db-password", "credentials", "access_key", "Authorization"]
PUBLIC = ["max_tokens_per_micro_batch", "own_tokens", "monkey", "keypoints", "tokenizer", "model", "author", "passes"]

TEXTS = {
    "spec": 'my:Judge(api_key="S3CRET", model="x")',
    "spec with single quotes": "my:Judge(model='x', api_key='S3CRET')",
    "brackets and commas inside": 'my:Judge(api_key="(),S3CRET),", model="x")',
    "quotes inside": r'my:Judge(api_key="a\"S3CRET", model="x")',
    "bytes": 'my:Judge(api_key=b"S3CRET", model="x")',
    "joined strings": 'my:Judge(api_key="a" "S3CRET", model="x")',
    "a list": 'my:Judge(api_keys=["a]", "S3CRET"], model="x")',
    "headers": 'my:Judge(headers={"Authorization": "Bearer S3CRET"}, model="x")',
    "a number": "my:Judge(password=53238745, model='x')".replace("53238745", "1S3CRET".replace("S3CRET", "53238745")),
    "a spec in a message": 'ConfigError: reward "my:Judge(api_key="S3CRET", model="x")" cannot be made',
    "a spec in repr": 'got {\'my:Judge(api_key="S3CRET", model="x")\': 1.0}',
    "bytes in a message": 'reward my:Judge(api_key=b"S3CRET") model="x" cannot be made',
    "JSON": '{"api_key": "S3CRET", "model": "x"}',
    "YAML": "line 3:\n    api_key: S3CRET\n    model: x",
    "override": "--model.lora.peft.hf_token=S3CRET model=x",
    "userinfo": "https://me:S3CRET@host/model=x",
    "token as user": "https://S3CRET@host/model=x",
    "another protocol": "s3://me:S3CRET@host/model=x",
    "query": "https://host/a?model=x&token=S3CRET&b=1",
    "signed": "https://host/a?model=x&X-Amz-Signature=S3CRET",
    "SAS": "https://host/a?model=x&sig=S3CRET&b=1",
}


@pytest.mark.parametrize("name", SECRET)
def test_these_names_say_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", [*PUBLIC, *ERRORS])
def test_these_names_do_not(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_secret_is_gone_and_the_rest_is_there(text: str) -> None:
    shown = masked(text)
    assert "S3CRET" not in shown
    assert "53238745" not in shown
    assert MASK in shown
    assert "model" in shown
    assert "x" in shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "iou_threshold(at=0.75)",
        'my:Judge(api_key="$OPENAI_API_KEY", token="${HF_TOKEN}", model="x")',
        "my:Judge(api_key=None, use_token=True)",
        "unknown key: rewards.foo",
        'train.jsonl:3: the key "bbox" is missing; wanted x1, y1, x2, y2',
        "hub:owner/name:train",
        "my.rewards:Judge",
        "max_tokens_per_micro_batch=4096",
    ],
)
def test_what_holds_no_secret_is_unchanged(text: str) -> None:
    assert masked(text) == text


@given(st.text(max_size=200))
def test_any_text_can_be_masked_twice(text: str) -> None:
    assert masked(masked(text)) == masked(text)


def test_long_texts_take_linear_time() -> None:
    start = time.process_time()
    for text in ("a" * 500_000, "key=" * 100_000, '"' * 300_000, 'key="' + "\\" * 300_000, "key" * 200_000 + "="):
        masked(text)
    assert time.process_time() - start < 10


def test_trees_and_arguments() -> None:
    tree = {
        "rewards": {'my:Judge(api_key="S3CRET")': 1.0, "token": 1.0},
        "lora": {"peft": {"hf_token": "S3CRET", "api_key": "$KEY", "use_dora": True}},
        "data": {"train": [{"path": "https://S3CRET@host/x"}], "eval": {"password": {"path": "x"}}},
        "templates": {"t": {"instruction": 'Answer {"key": "value"}'}},
    }
    shown = masked_tree(tree)
    assert "S3CRET" not in str(shown)
    assert shown["rewards"]["token"] == 1.0
    assert shown["lora"]["peft"] == {"hf_token": MASK, "api_key": "$KEY", "use_dora": True}
    assert shown["data"]["eval"] == {"password": {"path": "x"}}
    assert shown["templates"] == tree["templates"]
    assert masked_arguments(["x", "--a.hf_token", "S3CRET", "--reward", 'a:B(key="S3CRET")', "--n", "1"]) == [
        *("x", "--a.hf_token", MASK, "--reward", f'a:B(key="{MASK}")', "--n", "1")
    ]


def test_values_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "S3CRET")
    options = {"api_key": "$MY_KEY", "headers": {"Authorization": "${MY_KEY}"}, "unit": "$MY_KEY", "token": "a$MY_KEY"}
    assert given_secrets("reward x", options) == {
        **options,
        "api_key": "S3CRET",
        "headers": {"Authorization": "S3CRET"},
    }
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(ConfigError, match=r"reward x: api_key is \$MY_KEY, but the environment has no MY_KEY"):
        given_secrets("reward x", options)
    with pytest.raises(ConfigError, match=r"reward x: api_key was masked.*given again"):
        given_secrets("reward x", {"api_key": MASK})


@pytest.mark.parametrize(
    "tree",
    [
        {"rewards": {f'my:J(api_key="{MASK}")': 1.0}},
        {"data": {"train": [{"path": f"https://{MASK}@host/x"}]}},
        {"model": {"lora": {"peft": {"token": MASK}}}},
    ],
)
def test_a_masked_recipe_is_refused(tree: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="was masked"):
        refuse_masked(tree, "")
    refuse_masked({"rewards": {"accuracy": 1.0}, "templates": {"t": {"instruction": MASK}}}, "")
