"""`vlm_r1.ask`: what `vlm-r1 ask` does, from Python."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vlm_r1.api.evaluate import parse
from vlm_r1.cli import ask as command
from vlm_r1.errors import DataError
from vlm_r1.questions.answers import Answer
from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.terminal import Terminal

_NOT_OPTIONS = {"question", "json", "serve", "port"}


def ask(
    model: str | Path, images: str | Path | Iterable[str | Path], questions: str | Iterable[str], **options: Any
) -> list[Answer]:
    """Ask a model about pictures, and return its answers: for each picture in order, one to each question.

    Args:
        model: run folder, Hugging Face folder (a run's model/, checkpoint or export), LoRA adapters, or hub name.
        images: a picture, a folder of pictures, or several.
        questions: one or several.
        **options: the options of `vlm-r1 ask`, with _ for -, e.g. task="counting", out="boxed.jpg".

    Returns:
        The answers. A notebook displays one as its picture with the boxes; `answer.picture()` is that picture.

    Raises:
        ConfigError: an option is unknown or has a wrong value.
        VlmR1Error: model, pictures or questions cannot be used.
    """
    began = time.perf_counter()
    paths = [images] if isinstance(images, str | Path) else list(images)
    asked = [questions] if isinstance(questions, str) else questions
    if missing := [path for path in paths if not Path(path).exists()]:
        raise DataError(f"{missing[0]}: picture not found: there is no such file or folder")
    words = [str(model), *(str(path) for path in paths)]
    args = parse("ask", command.add_arguments, words, options, hidden=_NOT_OPTIONS)
    args.question = list(asked)
    return list(command.answers(args, Display(Terminal(stderr=True, force_terminal=False)), began))
