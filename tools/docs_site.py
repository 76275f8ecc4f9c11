"""Hooks of MkDocs: pages that live elsewhere in the repository, and links that leave the folder of documents.

On a repository's web page the links of README.md and docs/ work as they are. A site has one folder: here the files of
`PAGES` become pages of it, links between them follow, and links to other files of the repository become their paths. A
link to a file that does not exist is a warning, which `mkdocs build --strict` turns into a failure.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# File of the repository: page of the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "srgan_fast/bench/README.md": "bench.md",
    "srgan_fast/weights/srresnet-x4.md": "srresnet-x4.md",
    "csrc/kernels/cpu/README.md": "kernels.md",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_CODE = re.compile(r"^(`{3,}).*?^\1", re.M | re.S)
_log = logging.getLogger("mkdocs.hooks.docs_site")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages from outside of docs/."""
    from mkdocs.structure.files import File  # noqa: PLC0415 (only MkDocs calls this)

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrites the links of a page."""
    origin = {name: source for source, name in PAGES.items()}
    return relinked(markdown, origin.get(page.file.src_uri, f"docs/{page.file.src_uri}"), page.file.src_uri)


def relinked(markdown: str, source: str, page: str) -> str:
    """A page's text with links that hold on the site.

    Args:
        markdown: text.
        source: its file, relative to the repository.
        page: its place on the site.
    """
    kept = [match.span() for match in _CODE.finditer(markdown)]

    def replace(match: re.Match[str]) -> str:
        image, text, target, anchor = match.group(1), match.group(2), match.group(3), match.group(4) or ""
        if not target or "://" in target or any(begin <= match.start() < end for begin, end in kept):
            return match.group(0)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            _log.warning("%s: link to %s, which is not in the repository", source, target)
            return match.group(0)
        if path in PAGES:
            place = PAGES[path]
        elif path.startswith("docs/") and (ROOT / path).is_file():
            place = path.removeprefix("docs/")
        else:
            return f"`{path}`" if text.strip("`") in (path, target) else f"{text} (`{path}`)"
        return f"{image}[{text}]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{anchor})"

    return _LINK.sub(replace, markdown)
