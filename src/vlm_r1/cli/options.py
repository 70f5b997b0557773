"""Command-line options that several commands share, and their types."""

from __future__ import annotations

import argparse
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from vlm_r1.registry import may_be_allowed, plain_name

if TYPE_CHECKING:
    from vlm_r1.config.data import Allowed

RECIPE_SEED = 42
"""Default of the option `seed` of a recipe."""


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number of at least 1, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """Parse a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"wanted a whole number of at least 0, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"wanted a number from 0 to 1, got {text!r}")
    return value


def file_name(text: str) -> str:
    """Parse a name that becomes a file name."""
    try:
        return plain_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def local_path(text: str) -> Path:
    """Parse a path. A leading ~ is the home folder; a shell does not replace it in `--out=~/…`."""
    return Path(path_text(text))


def path_text(text: str) -> str:
    """Parse a path as text, for an option that may also be a URL or the name of a model."""
    if text.startswith("--"):  # argparse treats an unknown option that contains a space as an argument
        raise argparse.ArgumentTypeError(f"wanted a path, got {text!r}; overrides go behind the recipe")
    return os.path.expanduser(text)


def sampling_strategy(text: str) -> str:
    """Parse a `sampling_strategy`."""
    from vlm_r1.config.strategy import checked_strategy

    try:
        return checked_strategy(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def sampling_seed(args: argparse.Namespace) -> int:
    """Return the seed of a random `--sampling-strategy`.

    Raises:
        ConfigError: it is given without effect.
    """
    from vlm_r1.errors import ConfigError

    if args.sampling_seed is not None and not args.sampling_strategy.startswith("random"):
        raise ConfigError("--sampling-seed has no effect without --sampling-strategy random:N: remove it")
    return RECIPE_SEED if args.sampling_seed is None else args.sampling_seed


def outside_name(text: str) -> str:
    """Parse the name of an object of the user's own, which rows may then name."""
    if not may_be_allowed(text):
        raise argparse.ArgumentTypeError(
            f"wanted package.module:Name, e.g. my_package.rewards:Judge, got {text!r:.100}"
        )
    return text


def columns(text: str) -> dict[str, str]:
    """Parse `image=image_path,answer=bbox`.

    >>> columns("image=image_path,answer=bbox")
    {'image': 'image_path', 'answer': 'bbox'}
    """
    from vlm_r1.config.words import ColumnRole

    pairs = [part.partition("=") for part in text.split(",")]
    found = {role.strip(): key.strip() for role, _, key in pairs}
    is_known = all(role in get_args(ColumnRole) and key for role, key in found.items())
    if not is_known or len({*found.values()}) < len(pairs):
        raise argparse.ArgumentTypeError(
            f"wanted image, problem and answer with a key each, e.g. image=image_path,answer=bbox, got {text!r}"
        )
    return found


def columns_of(args: argparse.Namespace) -> Any:
    """Return the columns that `add_reading` declares.

    Raises:
        ConfigError: they are given beside a format.
    """
    from vlm_r1.errors import ConfigError

    if args.columns and args.format != "auto":
        raise ConfigError(f"--columns names the keys of the rows, and so does --format {args.format}: remove one")
    return args.columns


_METAVARS = {
    **dict.fromkeys((int, count, seed), "N"),
    **dict.fromkeys((float, share), "X"),
    **dict.fromkeys((Path, local_path, path_text), "PATH"),
    **dict.fromkeys((None, str, file_name, outside_name), "NAME"),
}
"""What stands for a value in --help, by its type: TEXT for other types, and an option may say its own word."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows each value by a word of one kind: N, X, PATH, NAME, …; examples and tables of a text stay as written."""

    def add_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None) -> None:
        needed = [action for action in actions if action.required or not action.option_strings]
        short = f"%(prog)s {self._format_actions_usage(needed, [])} [options]"
        super().add_usage(usage or short, actions, groups, prefix)

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if action.nargs == argparse.PARSER:  # the names of commands are indented once more, which Python overlooks
            self._action_max_length += self._indent_increment

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = text.strip().split("\n\n")
        return "\n\n".join(
            block if "  " in block or block.startswith("vlm-r1 ") else textwrap.fill(" ".join(block.split()), width)
            for block in blocks
        )

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return _METAVARS.get(cast("Any", action.type), "TEXT")

    def _get_default_metavar_for_positional(self, action: argparse.Action) -> str:
        return action.dest.upper()


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Declare how a data file without a recipe is read: the layout of its lines, and where its boxes lie."""
    parser.add_argument("--format", default="auto", help="how a line is laid out (default: recognised by its keys)")
    parser.add_argument(
        "--columns",
        type=columns,
        default={},
        metavar="image=KEY,problem=KEY,answer=KEY",
        help="keys of your own rows, e.g. image=image_path,problem=expression,answer=bbox",
    )
    parser.add_argument(
        "--box", default="xyxy", choices=["xyxy", "xywh", "cxcywh"], help="what the four numbers of a gold box are"
    )
    parser.add_argument(
        "--coordinates", default="pixels", choices=["pixels", "norm_1000", "norm_1"], help="unit of the gold boxes"
    )
    parser.add_argument(
        "--orientation", default="upright", choices=["upright", "stored"], help="of the images the gold boxes lie on"
    )
    parser.add_argument(
        "--sampling-strategy",
        type=sampling_strategy,
        default="all",
        metavar="TEXT",
        help="read some records of the file: first:N, last:N, random:N or a percentage, N%% (default: all)",
    )
    parser.add_argument(
        "--sampling-seed",
        type=seed,
        metavar="N",
        help=f"seed of random:N; a recipe's is its option seed (default: {RECIPE_SEED}, as in recipes)",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare `--trust-remote-code`, for commands that name a model by hand."""
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python files that the checkpoint brings, with your rights; read them first (docs/security.md)",
    )


def add_allow(parser: argparse.ArgumentParser, *kinds: str) -> None:
    """Declare `--allow-reward NAME` and its like: code that the data, or the folder of a run, may name."""
    for kind in kinds:
        parser.add_argument(
            f"--allow-{kind}",
            type=outside_name,
            action="append",
            default=[],
            metavar="NAME",
            help=f"{kind} of your own, package.module:Name, that the data may name (repeatable; docs/security.md)",
        )


def add_allowed(parser: argparse.ArgumentParser) -> None:
    """Declare what rows of data may name, for commands that read a file without a recipe; see `allowed_of`."""
    parser.add_argument(
        "--image-root",
        type=path_text,
        default="",
        help="folder or URL that image paths are relative to, and below which they lie (default: the file's folder)",
    )
    add_allow(parser, "reward")
    parser.add_argument(
        "--allowed-local-media-path",
        type=path_text,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder outside of --image-root that rows may name files in; / allows all files; repeatable",
    )
    add_allowed_remote(parser)


def add_allowed_remote(parser: argparse.ArgumentParser) -> None:
    """Declare which remote images may be fetched."""
    parser.add_argument(
        "--allowed-protocols",
        type=_names,
        action="extend",
        default=[],
        metavar="NAMES",
        help="protocols of remote images that rows may name, e.g. https,s3; repeatable",
    )
    parser.add_argument(
        "--allowed-media-domains",
        type=_names,
        action="extend",
        default=[],
        metavar="NAMES",
        help="hosts that remote images may come from (default: all hosts with public addresses); repeatable",
    )


def allowed_of(args: argparse.Namespace) -> Allowed:
    """Return what the options of `add_allowed`, or of `add_allowed_remote`, allow.

    Raises:
        ConfigError: a value makes no sense, or has no effect.
    """
    from pydantic import ValidationError

    from vlm_r1.config.data import Allowed, check_domains
    from vlm_r1.errors import ConfigError

    try:
        allowed = Allowed(
            allowed_rewards=getattr(args, "allow_reward", []),
            allowed_protocols=args.allowed_protocols,
            allowed_media_domains=args.allowed_media_domains,
            allowed_local_media_path=getattr(args, "allowed_local_media_path", []),
        )
        check_domains(allowed, [getattr(args, "image_root", "")])
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise ConfigError(f"--{option}: {first['msg'].removeprefix('Value error, ')}") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return allowed


def _names(text: str) -> list[str]:
    """Parse names with commas between them."""
    return [name.strip() for name in text.split(",")]
