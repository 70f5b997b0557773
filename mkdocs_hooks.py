"""The site of the documentation (mkdocs.yml): its start page, its order, and the files that its pages link to.

The start page is the README of the project. The order of the pages is that of docs/README.md. Files outside docs/ that
a page links to, such as an example, become pages with their text, so that no link leaves the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent
HOME, INDEX = "README.md", "docs/README.md"
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)(?=[)#])")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the order of the pages from docs/README.md: its sections, and the pages that each lists."""
    sections: list[dict[str, list[str]]] = []
    for line in (ROOT / INDEX).read_text("utf-8").splitlines():
        if line.startswith("## "):
            sections.append({line[3:]: []})
        elif page := re.match(r"- \[.*?\]\((.*?)\)", line):
            *_, pages = sections[-1].values()
            pages.append(site_path(posixpath.normpath(f"docs/{page[1]}")))
    config.nav = [{"VLM-R1": "index.md"}, {"All pages": "pages.md"}, *_without_home(sections)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Write the links of all pages anew, and add what they link to outside docs/."""
    shown = {f"docs/{file.src_uri}": file for file in files if file.is_documentation_page()}
    waiting, done = [HOME, *shown], set[str]()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        text = page_text(path)
        if path in shown:
            files.remove(shown[path])
        files.append(File.generated(config, site_path(path), content=LINK.sub(_to_site(path), text)))
        linked = (posixpath.normpath(posixpath.join(posixpath.dirname(path), link)) for link in LINK.findall(text))
        waiting += [one for one in linked if (ROOT / one).exists() and not one.startswith("docs/images/")]
    return files


def site_path(path: str) -> str:
    """Return where a file of the repository stands in the site.

    >>> [site_path(path) for path in ("README.md", "docs/README.md", "docs/data.md", "examples/a.py")]
    ['index.md', 'pages.md', 'data.md', 'source/examples/a.py.md']
    """
    if path in (HOME, INDEX):
        return {HOME: "index.md", INDEX: "pages.md"}[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path.lower() if path.endswith(".md") and "/" not in path else f"source/{path}.md"


def page_text(path: str) -> str:
    """Return the Markdown of a page: its own, a program in a block, or the names of a folder's files."""
    file = ROOT / path
    if file.is_dir():
        return f"# {path}\n\n" + "".join(f"- `{one.name}`\n" for one in sorted(file.iterdir()))
    text = file.read_text("utf-8")
    language = {".py": "python", ".json": "json", ".yaml": "yaml"}.get(file.suffix, "text")
    return text if file.suffix == ".md" else f"# {path}\n\n~~~~~~ {language}\n{text}\n~~~~~~\n"


def _to_site(page: str) -> Any:
    here = posixpath.dirname(site_path(page))

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), found[1]))
        return posixpath.relpath(site_path(target), here) if (ROOT / target).exists() else found[1]

    return link


def _without_home(sections: list[dict[str, list[str]]]) -> list[dict[str, list[str]]]:
    return [{name: [page for page in pages if page != "index.md"]} for part in sections for name, pages in part.items()]
