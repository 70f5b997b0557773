"""Whether the Hugging Face Hub answers: asked once, for five seconds, before transformers and datasets try for minutes.

They ask for each file, several times, and wait ten seconds each time.
"""

from __future__ import annotations

import os
import re
import ssl
from functools import cache
from http.client import HTTPException
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.request import Request, getproxies, urlopen

from huggingface_hub import constants

PATIENCE_S = 5.0
"""Seconds that the Hub may take to answer at all."""


def is_hub_name(name: str) -> bool:
    """Return whether a name that leads to no file or folder here reads like one of the Hub: "owner/name" or "name".

    >>> [is_hub_name(name) for name in ("Qwen/Qwen2.5-VL-3B-Instruct", "/models/a", "runs/a/model", "../a")]
    [True, False, False, False]
    """
    return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name, re.ASCII) is not None and not os.path.exists(name)


@cache
def hub_trouble() -> str | None:
    """Return why the Hub does not answer, as a sentence without full stop; None if it does, or is not to be asked.

    It is asked once in a process. Who loads something else by its name then takes it from the cache of this machine, or
    fails at once.
    """
    if constants.is_offline_mode() or "all" in getproxies():  # urllib knows no proxy for all protocols
        return None
    found = ["it did not answer"]
    asking = Thread(target=lambda: found.append(_ask(constants.ENDPOINT)), daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    if not found[-1]:
        return None
    return f"the Hub, {constants.ENDPOINT}, cannot be reached within {PATIENCE_S:g} s ({found[-1]})"


def _ask(endpoint: str) -> str:
    """Return why a server does not answer, or "" for any answer, such as a refusal or an unknown certificate."""
    try:
        urlopen(Request(endpoint, method="HEAD"), timeout=PATIENCE_S).close()
    except HTTPError:
        return ""
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        return "" if isinstance(reason, ssl.SSLError) else str(reason) or type(reason).__name__
    return ""
