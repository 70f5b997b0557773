"""A list nested thousands deep: which depths Python's own reader of JSON takes differs from version to version."""

from __future__ import annotations

import json

NESTED = "[" * 9000 + "]" * 9000


def _is_read() -> bool:
    try:
        json.loads(NESTED)
    except RecursionError:
        return False
    return True


NESTED_IS_READ = _is_read()
