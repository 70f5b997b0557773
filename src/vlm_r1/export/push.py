"""Uploads an export to the Hugging Face Hub, in one commit."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of the client that it uses, httpx or a successor
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id

from vlm_r1.errors import ConfigError, VlmR1Error

_LOGIN = "run `hf auth login` with a token that may write, or set HF_TOKEN"
_UNAUTHORISED = (401, 403)


class PushError(VlmR1Error):
    """The Hub was not reached, or refused; the export itself is complete."""


def check_push(name: str) -> None:
    """Find out before an export is made whether it can be pushed. Nothing is sent.

    Raises:
        ConfigError: the name is none of the Hub, or there is no token.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"--push-to-hub {name:.100}: {str(error).splitlines()[0]}") from None
    if name.count("/") != 1:
        raise ConfigError(f"--push-to-hub {name:.100}: wanted OWNER/NAME, e.g. my-name/rec-3b")
    if get_token() is None:
        raise ConfigError(f"--push-to-hub: there is no token of the Hub: {_LOGIN}")


def push(folder: Path, name: str, *, private: bool = False, message: str) -> str:
    """Upload all files of an export to a model of the Hub, which is made if there is none; returns its address.

    The token is the one of `HF_TOKEN` or `hf auth login`; it is sent to the Hub only, and neither shown nor written.

    Args:
        folder: what `export_run` has written; nothing else may lie there.
        name: OWNER/NAME.
        private: whether a new one is seen by its owner only; one that is there stays as it is.
        message: of the commit.

    Raises:
        PushError: the Hub was not reached, or refuses.
    """
    api = HfApi()
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = _LOGIN if status in _UNAUTHORISED else error.server_message or _told(error)
        reason = f"the Hub refuses (HTTP {status}): {reason:.200}"
        raise PushError(_line(folder, name, reason)) from None
    except (HTTPError, OfflineModeIsEnabled, OSError, RuntimeError, ValueError) as error:
        raise PushError(_line(folder, name, _told(error))) from None
    return str(address)


def _line(folder: Path, name: str, reason: str) -> str:
    return f"{name}: not pushed: {reason}. The export in {folder} is complete: `hf upload {name} {folder}` pushes it"


def _told(error: BaseException) -> str:
    """Return the first line that says something, with that of the error behind it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{lines[0]:.200}".rstrip(".:") if lines else type(error).__name__
    return f"{text}: {_told(error.__cause__)}" if isinstance(error, RuntimeError) and error.__cause__ else text
