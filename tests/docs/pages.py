"""The pages of the documentation, as written and as built: code blocks, links, sections."""

import html
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OF_ROOT = tuple(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
PAGES = (*OF_ROOT, *sorted(DOCS.glob("*.md")))

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"^(?:\$ )?(latentood\b.*?)(?:\s+#.*)?$", re.MULTILINE)
_DIRECTIVE = re.compile(r"^::: (latentood\S*)$", re.MULTILINE)
_SNIPPET = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)
_HEADING = re.compile(r'<h([1-6])[^>]*?\bid="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """Find the blocks of some languages on a page; files that they include are filled in."""
    source = page.read_text(encoding="utf-8")
    return [
        Block(page.name, source[: match.start()].count("\n") + 2, match[1], included(match[2]))
        for match in _BLOCK.finditer(source)
        if match[1] in languages
    ]


def included(text: str) -> str:
    """Fill in the files that a text includes."""
    return _SNIPPET.sub(lambda match: (ROOT / match[1]).read_text(encoding="utf-8"), text)


def all_blocks(*languages: str) -> list[Block]:
    """Find the blocks of some languages on all pages."""
    return [block for page in PAGES for block in blocks(page, *languages)]


def commands() -> Iterator[tuple[str, str]]:
    """Find every command line of ours: where it is, and the line without its comment."""
    for block in all_blocks("console", "bash"):
        for line in _COMMAND.finditer(block.text):
            yield str(block), line[1]


def prose(text: str) -> str:
    """Take the blocks of code out of a page."""
    return _BLOCK.sub("", text)


def links(text: str) -> list[str]:
    """Find the targets of all links that do not leave the project."""
    return [target for target in _LINK.findall(prose(text)) if "://" not in target]


def directives(text: str) -> list[str]:
    """Find what a page asks mkdocstrings to describe: dotted names, which become anchors."""
    return _DIRECTIVE.findall(text)


def hook() -> ModuleType:
    """Import the MkDocs hook as MkDocs does: with its folder on the path."""
    sys.path.insert(0, str(DOCS))
    try:
        import hook
    finally:
        sys.path.remove(str(DOCS))
    return hook


def rendered(page: str) -> str:
    """Give a page with its generated fragments filled in."""
    fill: Callable[[str], str] = hook().on_page_markdown
    return fill((DOCS / page).read_text(encoding="utf-8"))


@cache
def sections(page: Path) -> dict[str, str]:
    """Cut a built page: anchor of a heading → the text below it, that of deeper headings too."""
    source = page.read_text(encoding="utf-8")
    headings = list(_HEADING.finditer(source))
    texts = {}
    for number, heading in enumerate(headings):
        after = (h.start() for h in headings[number + 1 :] if h[1] <= heading[1])
        end = next(after, source.find("</article>"))
        texts[heading[2]] = visible(source[heading.start() : end])
    return texts


def visible(source: str) -> str:
    """Give the text that a reader of some HTML sees."""
    return html.unescape(re.sub(r"<[^>]*>", "", source))
