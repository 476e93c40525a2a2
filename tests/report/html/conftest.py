"""Results folders and pages, and a tab that has no network."""

import json
import re

import pytest

from latentood.report.html import Extras, read_document, write_report
from tests.report.html.results import write


@pytest.fixture
def page(tmp_path):
    """Write results and their report, and give the page as text."""

    def make(extras=None, **options):
        folder = write(tmp_path / "results", **options)
        path = write_report(read_document(folder), tmp_path / "report.html", extras or Extras())
        return path.read_text(encoding="utf-8")

    return make


@pytest.fixture
def data():
    """Read the JSON that a page holds for its script."""

    def read(page):
        return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])

    return read


@pytest.fixture
def opened(browser):
    """Open a file in a tab without network; it must neither ask for more nor complain."""
    contexts = []

    def open_file(path, **options):
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        tab = context.new_page()
        troubles = []
        tab.on("console", lambda message: troubles.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: (troubles.append("dialog"), dialog.dismiss()))
        tab.on("request", lambda one: troubles.append(one.url) if one.url != url else None)
        url = path.resolve().as_uri()
        tab.goto(url)
        return tab, troubles

    yield open_file
    for context in contexts:
        context.close()
