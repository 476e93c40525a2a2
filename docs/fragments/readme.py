"""The home page is the README."""

from fragments.markdown import ROOT


def readme() -> str:
    """Give the README with its links as seen from the docs folder."""
    return (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
