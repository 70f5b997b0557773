"""What all pages share: their templates, and the policy that names their one script."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from vlm_r1.runtime.text import visible


@cache
def page_template(name: str) -> jinja2.Template:
    """Load a template of this folder; inserted text is escaped, and control characters in it are written out."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    return environment.get_template(name)


def script_hash(name: str) -> str:
    """Return the SHA-256 of a script of this folder as a page includes it, as the page's policy writes it."""
    return base64.b64encode(hashlib.sha256(page_template(name).render().encode()).digest()).decode()


def _shown(value: Any) -> Any:
    """`visible` for texts; what a macro made is no plain text, and is shown already."""
    return visible(value) if type(value) is str else value
