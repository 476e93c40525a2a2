"""The pages of the documentation, cut into code blocks and links."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"^(?:\$ )?(latentood\b.*?)(?:\s+#.*)?$", re.MULTILINE)


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
    """Find the blocks of some languages on a page."""
    source = page.read_text(encoding="utf-8")
    return [
        Block(page.name, source[: found.start()].count("\n") + 2, found[1], found[2])
        for found in _BLOCK.finditer(source)
        if found[1] in languages
    ]


def all_blocks(*languages: str) -> list[Block]:
    """Find the blocks of some languages on all pages."""
    return [block for page in PAGES for block in blocks(page, *languages)]


def commands() -> Iterator[tuple[str, str]]:
    """Find every command line of ours: where it is, and the line without its comment."""
    for block in all_blocks("console", "bash"):
        for found in _COMMAND.finditer(block.text):
            yield str(block), found[1]


def prose(text: str) -> str:
    """Take the blocks of code out of a page."""
    return _BLOCK.sub("", text)


def links(text: str) -> list[str]:
    """Find the targets of all links that do not leave the project."""
    return [target for target in _LINK.findall(prose(text)) if "://" not in target]


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
