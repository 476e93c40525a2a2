"""Pages that lie at the root of the repository."""

from functools import partial

from fragments.markdown import ROOT


def page(name: str) -> str:
    """Give a page with its links as seen from the docs folder."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    return text.replace("](CONTRIBUTING.md", "](contributing.md")


readme = partial(page, "README.md")
contributing = partial(page, "CONTRIBUTING.md")
changelog = partial(page, "CHANGELOG.md")
