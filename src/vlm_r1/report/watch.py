"""`vlm-r1 report RUN --watch`: the page of a run on this machine, made anew when the run has written something.

It listens on the loopback address only and serves the page and the files of its data, nothing else. A request whose
Host is another name is refused, so that no page of the web can read the run through a name that it points here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from vlm_r1.errors import ConfigError, VlmR1Error, brief
from vlm_r1.files import read_bytes
from vlm_r1.report.build import FILES
from vlm_r1.report.sidecars import is_ours
from vlm_r1.runtime.lock import FILE as LOCK

HOST = "127.0.0.1"
_SECONDS = 2.0
"""Between two looks at the run's files, and between two questions of the page."""

_INPUTS = ("config.yaml", "environment.json", "metrics.jsonl", "summary.json", "eval/*.json*", "rollouts/*.parquet")
_LONGEST_SHARE = 0.2  # of the time that making the page may take: a large run is looked at less often
_POLICY = re.compile(r'(<meta http-equiv="Content-Security-Policy" content="[^"]*?)script-src ')
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}

_SCRIPT = """
(() => {
  let version = null, busy = false;
  history.scrollRestoration = "manual";
  const bar = document.createElement("p");
  bar.id = "watch";
  bar.setAttribute("role", "status");
  bar.style.cssText = "position:fixed;right:1rem;bottom:1rem;margin:0;padding:.4rem .8rem;border-radius:.5rem;"
    + "background:#333;color:#fff;font:14px system-ui,sans-serif;z-index:99;max-width:calc(100vw - 3.6rem)";
  document.body.append(bar);
  const look = async () => {
    if (busy) return;
    busy = true;
    try {
      const now = await (await fetch("/state", {cache: "no-store"})).json();
      bar.textContent = now.text;
      if (version !== null && now.version !== version) {
        const open = [...document.querySelectorAll("details")].map((one) => one.open);
        sessionStorage.setItem("watch-place", JSON.stringify({y: scrollY, open}));
        location.reload();
      }
      version = now.version;
    } catch { bar.textContent = "vlm-r1 report --watch has ended: this page is as it was last"; }
    busy = false;
  };
  const place = sessionStorage.getItem("watch-place");
  if (place !== null) {
    sessionStorage.removeItem("watch-place");
    const {y, open} = JSON.parse(place), all = [...document.querySelectorAll("details")];
    if (all.length === open.length) all.forEach((one, n) => { one.open = open[n]; });
    const back = () => scrollTo({top: y, behavior: "instant"});
    if (document.readyState === "complete") back();
    else addEventListener("load", () => requestAnimationFrame(back));
  }
  look();
  setInterval(look, SECONDS);
})();
""".replace("SECONDS", f"{1000 * _SECONDS:.0f}")

_EMPTY = """<!doctype html><html lang="en"><meta charset="utf-8"><title>No run yet</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<body style="font-family:system-ui,sans-serif;margin:2rem"><h1>No run yet</h1>
<p>This folder holds no run so far. The page shows it as soon as it starts.</p></body></html>"""


@dataclass
class Watch:
    """The page of a run as it is now.

    Attributes:
        build: writes the page of the run folder, and returns its path.
        run_dir: the run folder; it may not be there yet.
        version: of the page, another one each time that it is made.
        problem: why the page could not be made anew; "" if it was.
    """

    build: Callable[[], Path]
    run_dir: Path
    version: int = 0
    problem: str = ""
    _seen: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def follow(self) -> bool:
        """Make the page anew if the run's files changed since it was made; returns whether it did."""
        with self._lock:
            found = fingerprint(self.run_dir)
            if found == self._seen or not has_run(self.run_dir):
                return False
            self._seen = found
            try:
                self.build()
                self.problem = ""
            except VlmR1Error as error:
                self.problem = brief(str(error))
            self.version += 1
            return True

    def state(self) -> dict[str, int | str]:
        """What the open page asks for: the version, and a sentence about the run."""
        return {"version": self.version, "text": self.problem or sentence(self.run_dir)}

    def page(self) -> str:
        """The page with the script that follows the run; the file on the disk has none."""
        path = self.run_dir / "report.html"
        text = read_bytes(path).decode() if path.is_file() and has_run(self.run_dir) else _EMPTY
        return with_script(text, _SCRIPT)


def has_run(run_dir: Path) -> bool:
    """Return whether a run has begun to write here."""
    return (run_dir / "config.yaml").is_file() or (run_dir / "metrics.jsonl").is_file()


def sentence(run_dir: Path) -> str:
    """Say in a sentence where a run stands: it has not started, it trains, it was stopped, or it has ended."""
    if not has_run(run_dir):
        return "The run has not started"
    if _is_written(run_dir):
        return "The run goes on; this page follows it"
    return "The run has ended" if (run_dir / "summary.json").is_file() else "The run was stopped before its end"


def _is_written(run_dir: Path) -> bool:
    """Return whether the process that signed the run's lock lives; one of another machine is taken to live."""
    try:
        holder = json.loads(read_bytes(run_dir / LOCK))
        if holder["host"] != socket.gethostname():
            return True
        os.kill(int(holder["pid"]), 0)
    except PermissionError:  # it lives, and is somebody else's
        return True
    except (OSError, ValueError, LookupError, TypeError, OverflowError):  # no lock, an unsigned one, or a dead process
        return False
    return True


def fingerprint(run_dir: Path) -> str:
    """Return a text that changes when a file changes that the page shows: names, sizes and times."""
    found: list[str] = []
    for pattern in _INPUTS:
        for path in sorted(run_dir.glob(pattern)):
            try:
                status = path.stat()
            except OSError:  # deleted in between
                continue
            found.append(f"{path.relative_to(run_dir)} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(found).encode("utf-8", "replace")).hexdigest()


def with_script(page: str, script: str) -> str:
    """Put a script at the end of a page, and let the page's policy run it and ask this server.

    >>> with_script("<body>a</body>", ";")
    '<body>a<script>;</script></body>'
    """
    allowed = f"connect-src 'self'; script-src {script_source(script)} "
    policy = _POLICY.sub(lambda found: found[1] + allowed, page, count=1)
    body, end, after = policy.rpartition("</body>")
    return f"{body}<script>{script}</script>{end}{after}"


def script_source(script: str) -> str:
    """Return the source expression of a script for a page's policy: its hash."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def answer(watch: Watch, path: str) -> tuple[str, bytes] | None:
    """Return kind and content of what a request asks for; None: it is nothing that this server serves."""
    name = unquote(urlsplit(path).path)
    if name in ("/", "/report.html"):
        return "text/html; charset=utf-8", watch.page().encode()
    if name == "/favicon.ico":  # browsers ask for it
        return "image/x-icon", b""
    if name == "/state":
        return "application/json", json.dumps(watch.state()).encode()
    folder, _, file = name.removeprefix("/").partition("/")
    beside = watch.run_dir / FILES
    if folder == FILES and is_ours(file) and not beside.is_symlink() and not (beside / file).is_symlink():
        try:
            return "text/javascript; charset=utf-8", read_bytes(beside / file)
        except OSError:  # of an older page
            return None
    return None


@contextmanager
def open_watch(watch: Watch, port: int | None = None) -> Generator[str]:
    """Serve the page and follow the run while the context lasts; yields the address.

    Raises:
        ConfigError: the port is taken.
    """
    try:
        server = ThreadingHTTPServer((HOST, port or 0), _handler(watch))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port {port}: the page cannot listen there: {error}. Choose another") from None
    ended = threading.Event()
    following = threading.Thread(target=_follow, args=(watch, ended), daemon=True)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    try:
        following.start()
        serving.start()
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        following.join()


def _follow(watch: Watch, ended: threading.Event) -> None:
    pause = 0.0
    while not ended.wait(pause):
        began = time.monotonic()
        watch.follow()
        pause = max(_SECONDS, (time.monotonic() - began) / _LONGEST_SHARE)


def _handler(watch: Watch) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version = "vlm-r1"
        sys_version = ""

        def do_GET(self) -> None:
            port = cast(ThreadingHTTPServer, self.server).server_port
            if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
                self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This server answers to 127.0.0.1 and localhost only")
                return
            found = answer(watch, self.path)
            if found is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            kind, content = found
            self.send_response(HTTPStatus.OK)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **_HEADERS}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not printed."""

    return Handler
