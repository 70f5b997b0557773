"""Ask a model about pictures: its thought, its answer, and the boxes in pixels of the picture.

  vlm-r1 ask runs/rec photo.jpg "the red circle" --out boxed.jpg
  vlm-r1 ask models/rec photos/ "the dog" "the ball" --out boxed/       a folder of pictures, two questions about each
  vlm-r1 ask models/rec photo.jpg "how many dogs?" --task counting --json
  vlm-r1 ask models/rec --serve                                         a page on this machine

A word that names a file or a folder is a picture or a folder of pictures; all else is a question. The model is asked as
it was trained: an export, a checkpoint and a run's model/ say so themselves (vlm_r1.json), and a line tells it. The
answer is the likeliest one, as in `vlm-r1 eval`. Boxes are in pixels of the upright picture. Lines about the work go to
standard error. The exit status is 1 if an answer could not be read.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_r1.cli.answering import add_model, add_settings
from vlm_r1.cli.endpoint import add_endpoint_arguments
from vlm_r1.cli.options import count, local_path, seed
from vlm_r1.errors import ConfigError

if TYPE_CHECKING:
    from vlm_r1.evaluation.asking import TaskAsking
    from vlm_r1.questions.answers import Answer
    from vlm_r1.runtime.progress import Display
    from vlm_r1.sampling import SamplingParams

UNREAD = 1
"""Exit status if an answer could not be read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare model, pictures, questions, how they are asked, and where answers go."""
    add_model(parser)
    parser.add_argument("words", metavar="IMAGE|QUESTION", nargs="*", help="pictures, folders of pictures, questions")
    parser.add_argument(
        "--question", action="append", default=[], metavar="TEXT", help="a question, whatever it looks like; repeatable"
    )
    parser.add_argument(
        "--out",
        type=local_path,
        metavar="PATH",
        help="draw the boxes: a new file for one picture, a folder for several",
    )
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each answer (docs/ask.md)")
    parser.add_argument("--serve", action="store_true", help="a page to ask on; needs pip install -e '.[app]'")
    parser.add_argument("--port", type=count, metavar="N", help="port of the page (default: a free one from 7860)")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0: the likeliest answer; 1: drawn as in training (default: 0)"
    )
    parser.add_argument("--seed", type=seed, help="seed of what is drawn with --temperature (default: 0)")
    add_settings(parser)
    add_endpoint_arguments(parser)
    # more words may stand behind options; and nothing remote is fetched
    parser.set_defaults(takes_overrides=True, image_root="", allowed_protocols=[], allowed_media_domains=[])


def run(args: argparse.Namespace) -> int:
    """Ask, print the answers, draw the boxes; returns 1 if an answer could not be read."""
    from vlm_r1.cli.console import quiet_libraries
    from vlm_r1.runtime.progress import Display
    from vlm_r1.runtime.terminal import Terminal
    from vlm_r1.runtime.text import json_text

    began = time.perf_counter()
    _check_words(args)
    quiet_libraries()
    # plain lines: a bar would draw answers, which go to standard output, on standard error
    display = Display(Terminal(stderr=True, force_terminal=False))
    _check_options(args)
    if args.serve:
        return _serve(args, display)
    read = True
    console = Terminal()
    for answer in answers(args, display, began):
        read &= answer.reason is None
        if args.json:
            print(json_text(answer.row), flush=True)
        else:
            console.print(told(answer), soft_wrap=True)
    return 0 if read else UNREAD


def answers(args: argparse.Namespace, display: Display, began: float) -> Iterator[Answer]:
    """Answer the questions of the command line; yields the answers as they come, and draws the boxes.

    Args:
        began: when the work began, by `time.perf_counter`.

    Raises:
        VlmR1Error: model, pictures, questions or options cannot be used, or a file cannot be written.
    """
    from vlm_r1.cli.answering import complete_arguments, find_model, load_answering, load_env
    from vlm_r1.cli.endpoint import endpoint_of
    from vlm_r1.questions.answers import BATCH, answer, answer_remote, check_tokens, make_records
    from vlm_r1.questions.words import new_files, sort_words
    from vlm_r1.rollouts.remote import RemoteModel
    from vlm_r1.runtime.progress import Display

    words = sort_words(args.words, args.question)
    files = new_files(args.out, [path.absolute() for path in words.pictures]) if args.out else {}
    endpoint = endpoint_of(args)
    args.model = find_model(args.model)
    display.say(complete_arguments(args, task_must_be_known=True))
    for note in words.notes:
        display.say(note, "yellow")
    records = make_records(words.pictures, words.questions, task=args.task, system=args.system_prompt or None)
    if endpoint is None:
        env, sampler = load_answering(args)
        check_tokens(records, env)
        found = answer(records, env, sampler, _params(args), seed=args.seed or 0)
    else:
        env = load_env(args)
        check_tokens(records, env)
        remote = RemoteModel(env, endpoint, _params(args), run_seed=args.seed or 0, say=display.say)
        found = answer_remote(records, remote)
    loaded_s = time.perf_counter() - began
    done: list[Answer] = []
    with Display(display.console, len(records) > BATCH).steps("answered", len(records)) as advance:
        for one in found:
            done.append(one)
            advance(1, ())
            yield one
    for line in _finish(done, files, loaded_s):
        display.say(line)


def told(answer: Answer) -> str:
    """Return an answer for people: the picture and the question, thought, answer and boxes."""
    from vlm_r1.report.drawing import as_text

    names = ", ".join(Path(path).name for path in answer.images)
    lines = [f"{names}: {answer.question}"]
    lines += [f"  thought  {answer.thought.strip()}"] if answer.thought and answer.thought.strip() else []
    sizes = " and ".join(f"{width} × {height}" for width, height in answer.image_sizes)
    where = f", in pixels of the picture, {sizes}"
    if answer.reason is not None:
        lines.append(f"  answer   could not be read ({answer.reason}); the model wrote: {answer.text.strip()}")
    elif not answer.marks or (len(answer.marks) == 1 and not answer.marks[0][1]):
        lines.append(f"  answer   {as_text(answer.answer)}{where if answer.marks else ''}")
    else:
        lines.append(f"  answer   {len(answer.marks)} box{'es' * (len(answer.marks) > 1)}{where}")
        lines += [f"    {as_text(list(placed.box))} {label}".rstrip() for placed, label in answer.marks]
    if answer.stop_reason == "length":
        lines.append(f"  cut off after {answer.tokens} tokens: a larger --max-completion-length lets it end")
    return "\n".join(lines)


def _check_words(args: argparse.Namespace) -> None:
    """Take words behind options, too; all else that argparse did not know is refused."""
    unknown = [word for word in args.overrides if word.startswith("-")]
    if unknown:
        raise ConfigError(f"`vlm-r1 ask` does not know {unknown[0]!r}; see `vlm-r1 ask --help`")
    args.words = [*args.words, *args.overrides]


def _check_options(args: argparse.Namespace) -> None:
    if args.temperature < 0:
        raise ConfigError(f"--temperature {args.temperature:g}: wanted at least 0")
    if args.seed is not None and args.temperature == 0:
        raise ConfigError("--seed has no effect without --temperature: the likeliest answer is not drawn")
    if args.max_completion_length is not None and args.max_completion_length < 1:
        raise ConfigError(f"--max-completion-length {args.max_completion_length}: wanted at least 1")
    others = {"--endpoint": args.endpoint, "--json": args.json, "--out": args.out, "--question": args.question}
    given = [name for name, value in {**others, "a picture or question": args.words}.items() if value]
    if args.serve and given:
        raise ConfigError(f"{given[0]} cannot be given with --serve: the page asks for pictures and questions itself")
    if args.port and not args.serve:
        raise ConfigError("--port has no effect without --serve")


def _params(args: argparse.Namespace) -> SamplingParams:
    from vlm_r1.sampling import SamplingParams

    return SamplingParams(args.max_completion_length, temperature=args.temperature)


def _finish(done: Sequence[Answer], files: Mapping[Path, Path], loaded_s: float) -> Iterator[str]:
    """Draw the boxes; yields lines about files and times."""
    from vlm_r1.questions.answers import write_picture

    for picture, file in files.items():
        write_picture(str(picture), [one for one in done if str(picture) in one.images], file)
    if files:
        n_boxes = sum(len(one.marks) for one in done)
        more = ", …" if len(files) > 3 else ""
        yield f"{n_boxes} box{'es' * (n_boxes != 1)} drawn on {', '.join(map(str, list(files.values())[:3]))}{more}"
    if unread := sum(one.reason is not None for one in done):
        yield f"{unread} of {len(done)} answers could not be read"
    model_s = sum(one.seconds for one in done)
    yield f"{len(done)} answer{'s' * (len(done) != 1)}: the model took {model_s:.1f} s, loading {loaded_s:.1f} s"


def _serve(args: argparse.Namespace, display: Display) -> int:
    """Serve the page until it is interrupted."""
    from vlm_r1.cli.answering import complete_arguments, find_model, load_answering
    from vlm_r1.questions.page import Desk, check_can_serve, open_page
    from vlm_r1.sampling.hf import HFSampler
    from vlm_r1.tasks import TASKS
    from vlm_r1.tasks.templates import make_templates

    check_can_serve(args.port)
    name, asked, own_words = args.model, args.task, args.template or args.system_prompt
    args.model = find_model(args.model)
    display.say(complete_arguments(args))
    env, sampler = load_answering(args)
    if not isinstance(sampler, HFSampler):
        raise TypeError(f"{type(sampler).__name__} draws no tokens one by one")
    sampler.model.eval()
    trained: dict[str, TaskAsking] = {} if own_words else args.tasks
    env.templates = make_templates(args.template, [one.template for one in trained.values()], args.templates)
    first = asked or next(iter(args.tasks), args.task)
    tasks: dict[str, tuple[str | None, str | None]] = {
        task: (trained[task].template, trained[task].system_prompt)
        if task in trained
        else (None, args.system_prompt or None)
        for task in dict.fromkeys([first, *args.tasks, *TASKS])
    }
    with open_page(Path(name).name, Desk(env, sampler, _params(args), tasks, args.seed or 0), args.port) as address:
        display.say(f"open {address} in a browser; Ctrl-C ends it")
        threading.Event().wait()
    return 0
