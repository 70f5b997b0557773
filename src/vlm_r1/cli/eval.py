"""Measure a model by a protocol: ask it a data file, and report every metric with a 95 % interval.

  vlm-r1 eval runs/rec --protocol refcoco --data refcoco_val.jsonl --image-root coco/train2014 --page
  vlm-r1 eval runs/rec/model val.jsonl --task rec --out runs/rec/eval       without a protocol: the model's own settings
  torchrun --nproc_per_node 4 -m vlm_r1.cli.main eval runs/rec val.jsonl    four processes share the work
  vlm-r1 eval MODEL val.jsonl --endpoint http://localhost:8000/v1           a server answers, e.g. vLLM with MODEL
  vlm-r1 eval --protocols                                                   the shipped protocols

A protocol says what is asked, how answers are read and what counts (docs/evaluation.md); the resolved one goes into the
result. What it leaves open is as the model was trained: an export, a checkpoint and a run's model/ say that themselves
(vlm_r1.json), and a line tells it. The results are NAME.json and NAME.samples.jsonl in the folder --out. An evaluation
that was interrupted goes on with the same command. Recompute numbers from the samples with `vlm-r1 score --protocol`,
compare results with `vlm-r1 compare`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_r1.cli.answering import add_answering_arguments
from vlm_r1.cli.endpoint import add_endpoint_arguments
from vlm_r1.cli.options import allowed_of, file_name, local_path, seed
from vlm_r1.registry import as_plain_name, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from vlm_r1.evaluation.answers import AnswerLog
    from vlm_r1.evaluation.evaluate import Ask, Share
    from vlm_r1.evaluation.protocol import Protocol
    from vlm_r1.rollouts.env import Env
    from vlm_r1.runtime.progress import Display
    from vlm_r1.sampling.endpoint import Endpoint
    from vlm_r1.types import Record

_DECIDED = ("task", "template", "system_prompt", "max_completion_length")
"""Options that a protocol may decide."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare model, data, protocol and the few options that change the result."""
    add_answering_arguments(parser, data="?")
    parser.add_argument("--data", dest="data_file", type=local_path, metavar="DATA", help="the same as DATA")
    parser.add_argument("--protocol", help="a shipped protocol, or the path of a YAML file (docs/evaluation.md)")
    parser.add_argument("--protocols", action=_ListProtocols, nargs=0, help="list the shipped protocols")
    parser.add_argument("--name", type=file_name, help="name of the result files (default: protocol's or data file's)")
    parser.add_argument(
        "--out", type=local_path, default=Path("eval"), help="folder for the result files (default: eval)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of the bootstrap (default: 0)")
    parser.add_argument(
        "--page", action="store_true", help="write NAME.html too: what was right and wrong, in pictures"
    )
    add_endpoint_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write the files; see `evaluate`."""
    evaluate(args)
    return 0


def evaluate(args: argparse.Namespace) -> Path | None:
    """Evaluate, print the table, write the files; returns the path of the result, in the first process.

    Raises:
        VlmR1Error: model, data or protocol cannot be used, or an output is in use or was begun with others.
    """
    from vlm_r1.cli.answering import check_order
    from vlm_r1.cli.console import quiet_libraries, reach_hub

    check_order(args)
    reach_hub(args.model)
    from vlm_r1.runtime.lock import Lock, lock_output
    from vlm_r1.training.processes import first_does, join_processes  # torch takes seconds to import

    quiet_libraries()
    protocol = _protocol(args)
    join_processes()
    locks: list[Lock] = []
    args.name = args.name or protocol.name
    first_does(lambda: locks.append(lock_output(args.out / args.name, "--name")))
    try:
        return _evaluate(args, protocol)
    finally:
        for lock in locks:
            lock.release()


def _protocol(args: argparse.Namespace) -> Protocol:
    """Return the protocol of the command line, named as the result; without --protocol, what the options say.

    `args` gets what the protocol decides.
    """
    from vlm_r1.cli.answering import held_out_of
    from vlm_r1.errors import ConfigError
    from vlm_r1.evaluation.protocol import DataSet, Protocol, Subset, load_protocol

    if args.data is not None and args.data_file is not None:
        raise ConfigError(f"the data are given twice, {args.data} and --data {args.data_file}: leave one out")
    args.data = args.data or args.data_file
    named = load_protocol(args.protocol) if args.protocol else None
    if args.data is None:
        made = f"; the file is made by: {named.data.convert}" if named and named.data.convert else ""
        held = "".join(f"\n  vlm-r1 eval {args.model} {path}" for path in held_out_of(args.model))
        own = f". The run holds out:{held}" if held else ""
        raise ConfigError(f"no data: give the file as DATA, or as --data FILE{made}{own}")
    if named is None:
        stem = as_plain_name(args.data.stem)
        named = Protocol(
            name=stem,
            title=args.data.name,
            data=DataSet(set=stem),
            task=args.task,
            template=args.template,
            system_prompt=args.system_prompt,
        )
    else:
        decided = {"task": named.task, "template": named.template, "system_prompt": named.system_prompt}
        decided |= {"max_completion_length": named.decoding.max_completion_length}
        for key in _DECIDED:
            given, value = getattr(args, key), decided[key]
            if key != "system_prompt" and given is None and isinstance(value, str) and ":" in value:
                raise ConfigError(
                    f"protocol {args.protocol}: {key} {quoted(value)} is code, and a protocol may come from a "
                    f"stranger. If you have it and trust it, say --{key} {value:.100} too"
                )
            if value is not None and given not in (None, value):
                option = f"--{key.replace('_', '-')}"
                raise ConfigError(f"{option} {given}: protocol {named.name} says {value}: leave the option out")
            setattr(args, key, given if value is None else value)
    if args.limit:
        sample = Subset(n=min(args.limit, named.sample.n if named.sample else args.limit))
        named = named.model_copy(
            update={"sample": sample.model_copy(update={"seed": named.sample and named.sample.seed})}
        )
    return named


def _reward_models(args: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Return a hash of each reward model that may judge, for the header of the answers; nothing if there is none."""
    from vlm_r1.rewards.model import reward_models
    from vlm_r1.runtime.model_hash import hash_model

    judges = reward_models([args.reward, *args.allow_reward])
    hashes = {name: hash_model(judge.path, judge.config()) for name, judge in judges.items()}
    return {"reward_models": hashes} if hashes else {}


def _evaluate(args: argparse.Namespace, protocol: Protocol) -> Path | None:
    from vlm_r1.cli.answering import complete_arguments, find_model, open_data
    from vlm_r1.cli.endpoint import endpoint_of
    from vlm_r1.config.secrets import masked
    from vlm_r1.evaluation.answers import AnswerLog
    from vlm_r1.evaluation.evaluate import (
        choose_records,
        form_doubt,
        make_provenance,
        make_result,
        resolve_protocol,
    )
    from vlm_r1.evaluation.runner import write_result
    from vlm_r1.runtime.model_hash import hash_model
    from vlm_r1.runtime.progress import Display

    share = _share()
    display = Display(enabled=share.rank == 0)
    endpoint = endpoint_of(args)
    args.model = find_model(args.model)
    display.say(complete_arguments(args))
    data = open_data(args)
    records = choose_records(data, protocol.sample)
    for line in _doubts_of_data(protocol, len(data)):
        display.say(line, "yellow")
    env, ask = _load_ask(args, protocol, endpoint, display)
    cap, rows_hash, system = args.max_completion_length, data.files[0].hash_rows(), args.system_prompt
    resolved = resolve_protocol(protocol, env.templates.default, cap, records, rows_hash, system_prompt=system)
    asked = _asked_with(args, env, endpoint)
    model_hash = hash_model(args.model, env.adapter.config) if endpoint is None else ""
    model = args.model if endpoint is None else endpoint.model
    server = {} if endpoint is None else {"endpoint": endpoint.base_url, "as": args.model}
    header = {"protocol": resolved, "model": model_hash or model, "asked": asked, "reward": args.reward}
    header |= _reward_models(args)
    log = AnswerLog(args.out, args.name, header)
    rows = _answer(display, log, share, records, ask)
    if rows is None:
        return None
    if doubt := form_doubt(rows, args.template, args.trained_with):
        display.say(doubt, "yellow")
    result = make_result(
        rows,
        protocol,
        resolved,
        make_provenance(model, model_hash, asked | server),
        name=args.name,
        data=masked(str(args.data)),
        seed=args.seed,
    )
    path = write_result(args.out, result, rows)
    log.remove()
    display.say(result_table(result))
    display.say(written(path, protocol))
    if args.page:
        display.say(f"page: {_write_page(args, path)}")
    return path


def _asked_with(args: argparse.Namespace, env: Env, endpoint: Endpoint | None) -> dict[str, Any]:
    """Return how the model was asked, as far as no protocol says it."""
    asked: dict[str, Any] = {"box_format": env.adapter.box_format.value, "adapter": type(env.adapter).__name__}
    asked |= {"min_pixels": args.min_pixels, "max_pixels": args.max_pixels}
    asked |= {"chat_template_kwargs": args.chat_template_kwargs} if args.chat_template_kwargs else {}
    return asked | ({"dtype": args.dtype} if endpoint is None else {})


def written(path: Path, protocol: Protocol) -> str:
    """Write the answers of a detection result in COCO's format too; returns a line that names all files."""
    from vlm_r1.evaluation.coco_results import write_coco
    from vlm_r1.evaluation.samples import read_samples

    samples = list(read_samples(path.with_suffix(".samples.jsonl")))
    folder = write_coco(path, samples, protocol.confidence)
    return f"written to {path} and .samples.jsonl" + (f"; for COCO's tools to {folder}" if folder else "")


def _write_page(args: argparse.Namespace, path: Path) -> Path:
    """Write the page of a result; it shows pictures that the options allow."""
    from vlm_r1.config.data import DataSource
    from vlm_r1.data.image_paths import image_paths
    from vlm_r1.report.evaluation_page import build_evaluation_page

    source = DataSource(path=str(args.data), image_root=args.image_root)
    return build_evaluation_page(path, image_paths(source, allowed_of(args)))


def _load_ask(
    args: argparse.Namespace, protocol: Protocol, endpoint: Endpoint | None, display: Display
) -> tuple[Env, Ask]:
    """Load what asks, judges and answers."""
    from vlm_r1.cli.answering import load_answering, load_env
    from vlm_r1.evaluation.evaluate import ask_endpoint, ask_model
    from vlm_r1.evaluation.runner import params_of
    from vlm_r1.rewards.base import TRAINED, TrainerState
    from vlm_r1.rollouts.remote import RemoteModel
    from vlm_r1.runtime.run_folder import trained_steps

    steps, decoding = trained_steps(Path(args.model)), protocol.decoding
    state = TrainerState(*steps) if steps else TRAINED
    params = params_of(decoding, args.max_completion_length)
    if endpoint is None:
        env, sampler = load_answering(args)
        return env, ask_model(env, sampler, protocol, params, batch_size=args.batch_size, state=state)
    env = load_env(args)
    key = f"with the key of ${endpoint.api_key_env}" if endpoint.api_key_env else "without a key"
    display.say(f"{endpoint.model} of {endpoint.base_url} answers, {endpoint.concurrency} questions at a time, {key}")
    remote = RemoteModel(
        env,
        endpoint,
        params,
        n=decoding.samples,
        run_seed=decoding.seed,
        trainer_state=state,
        say=lambda line: display.say(line, "yellow"),
    )
    return env, ask_endpoint(remote)


def _answer(
    display: Display, log: AnswerLog, share: Share, records: Sequence[Record], ask: Ask
) -> list[dict[str, Any]] | None:
    from vlm_r1.evaluation.evaluate import answer_all
    from vlm_r1.training.stopping import Stopped, name_of

    with display.steps(log.name, len(range(share.rank, len(records), share.world))) as advance:
        try:
            return answer_all(records, ask, log, share, advance)
        except Stopped as stop:
            raise Stopped(
                stop.number, f"stopped by {name_of(stop.number)}; what was answered is kept: the same command goes on"
            ) from None


def _share() -> Share:
    from accelerate import PartialState

    from vlm_r1.evaluation.evaluate import Share

    state: Any = PartialState()
    return Share(state.process_index, state.num_processes, state.wait_for_everyone)


def _doubts_of_data(protocol: Protocol, n: int) -> list[str]:
    """Return what is odd about the data."""
    expected = protocol.data.records
    if expected is None or expected == n:
        return []
    split = f" {protocol.data.split}" if protocol.data.split else ""
    return [
        f"{protocol.data.set}{split} has {expected:,} records, but this file has {n:,}: is it another split or part?"
    ]


def result_table(result: dict[str, Any]) -> Table:
    """Make the table of a result: each metric with its interval, and how many answers could not be read."""
    from rich.table import Table

    table = Table(title=f"{result['name']}: {result['n']} records")
    for column in ("metric", "mean", "95 % interval"):
        table.add_column(column)
    for metric, value in result["metrics"].items():
        low, high = value["ci95"]
        table.add_row(metric, f"{100 * value['mean']:.1f} %", f"{100 * low:.1f} – {100 * high:.1f}")
    if result["format_rate"] is not None:
        table.add_row("format", f"{100 * result['format_rate']:.1f} %", "")
    for reason, number in sorted(result["parse_failures"].items()):
        table.add_row(f"not parsed: {reason}", str(number), "")
    return table


class _ListProtocols(argparse.Action):
    """Prints the shipped protocols and ends, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object) -> None:
        """Print a line for each."""
        from vlm_r1.evaluation.protocol import load_protocol, protocol_names

        for name in protocol_names():
            print(f"{name:<24} {load_protocol(name).title}")
        parser.exit()
