"""What a loader of transformers raises becomes one line that names the folder, what was loaded and what is wanted."""

from __future__ import annotations

from pickle import UnpicklingError

import pytest
import torch

from vlm_r1.errors import ModelError
from vlm_r1.pretrained.loading import load_with


def fail(error: Exception):
    def loader(path: str, **options: object):
        raise error

    return loader


def test_path_and_options_are_passed_on(tmp_path) -> None:
    found = load_with("config", "x", lambda path, **options: (path, options), tmp_path, revision="main")
    assert found == (str(tmp_path), {"revision": "main"})


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(OSError("not there\nmore"), "here: cannot load the tokenizer: not there (wanted files)", id="os"),
        pytest.param(KeyError(), "here: cannot load the tokenizer: KeyError (wanted files)", id="without_a_text"),
        pytest.param(RuntimeError("torn"), "here: cannot load the tokenizer: torn (wanted files)", id="torch"),
    ],
)
def test_an_error_is_one_line(error, message) -> None:
    with pytest.raises(ModelError) as caught:
        load_with("tokenizer", "files", fail(error), "here")
    assert str(caught.value) == message


def test_pickles_code_and_memory_are_told_apart() -> None:
    with pytest.raises(ModelError, match="the file of the model is a pickle that holds more than weights"):
        load_with("model", "files", fail(UnpicklingError("os.system")), "here")
    with pytest.raises(ModelError, match="names code of this checkpoint, which is not run"):
        load_with("model", "files", fail(ValueError("set trust_remote_code=True")), "here")
    with pytest.raises(torch.OutOfMemoryError):
        load_with("model", "files", fail(torch.OutOfMemoryError("full")), "here")


def test_control_a_bug_is_no_error_of_the_checkpoint() -> None:
    with pytest.raises(NameError):
        load_with("model", "files", fail(NameError("ours")), "here")
