"""Options of an evaluation in which a server answers instead of a model in this process."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vlm_r1.cli.options import count

if TYPE_CHECKING:
    from vlm_r1.sampling.endpoint import Endpoint

_OPTIONS = ("served_model", "concurrency", "retries", "timeout_s", "api_key_env")


def add_endpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the server and how it is asked."""
    group = parser.add_argument_group(
        "a server that answers",
        "MODEL then says how questions are asked and boxes are read, so it is the folder or hub name of what is "
        "served: template, box format and sizes of pictures are its own. No weights are loaded (docs/endpoints.md)",
    )
    group.add_argument(
        "--endpoint", metavar="URL", help="an OpenAI-compatible server (vLLM, SGLang, …), e.g. http://localhost:8000/v1"
    )
    group.add_argument(
        "--model",
        "--served-model",
        dest="served_model",
        metavar="NAME",
        help="the model as the server calls it (default: the only one that it serves)",
    )
    group.add_argument("--concurrency", type=count, metavar="N", help="questions at a time (default: 8)")
    group.add_argument("--retries", type=int, metavar="N", help="attempts after a failure that may pass (default: 6)")
    group.add_argument("--timeout-s", type=float, metavar="X", help="seconds that one answer may take (default: 300)")
    group.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="environment variable that holds the key (default: OPENAI_API_KEY, if there is one)",
    )


def endpoint_of(args: argparse.Namespace) -> Endpoint | None:
    """Return the server of the command line; None if there is none.

    Raises:
        ConfigError: an option is wrong, or has no effect without --endpoint.
        EndpointError: no --model is given, and the server cannot say which one it has.
    """
    from vlm_r1.errors import ConfigError
    from vlm_r1.sampling.endpoint import make_endpoint

    given = {name: value for name in _OPTIONS if (value := getattr(args, name)) is not None}
    if args.endpoint is not None:
        return make_endpoint(args.endpoint, given.pop("served_model", None), **given)
    if given:
        name = "model" if "served_model" in given else next(iter(given)).replace("_", "-")
        raise ConfigError(f"--{name} has no effect without --endpoint URL")
    return None
