"""One comparison, written once for all tests of this folder, and tracked once for each module."""

import dataclasses
import os
import shutil

import pytest

from latentood.evaluation.comparison import Comparison, Request, Unscored
from latentood.evaluation.scoring import score_all
from latentood.report.results import write_results
from latentood.report.tracking import track
from latentood.report.tracking_store import sqlite_uri
from tests.evaluation.examples import Broken, Distance, Peak, splits


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    """Two settings of one detector, another detector, one that fails, one that was skipped."""
    skipped = Unscored(Request("entropic", "", {}), "entropic: needs entropies; re-run extract")
    asked = [Peak(), Distance(), Distance(power=2.0, weights=(0.5, 1.5)), Broken()]
    return score_all(splits(), asked, skipped=[skipped])


@pytest.fixture(scope="session")
def files(comparison, tmp_path_factory):
    """The results files."""
    return write_results(comparison, tmp_path_factory.mktemp("results") / "new" / "folder")


@pytest.fixture(scope="module")
def tracked(comparison, files, tmp_path_factory):
    """Address of a tracking store and id of the parent run."""
    uri = sqlite_uri(tmp_path_factory.mktemp("tracking"))
    return uri, track(comparison, uri=uri, results=files)


@pytest.fixture
def renamed(comparison):
    """Give the comparison with other data in its provenance."""

    def change(**provenance):
        return dataclasses.replace(comparison, provenance={**comparison.provenance, **provenance})

    return change


@pytest.fixture(scope="session")
def browser():
    """A real browser: one for the process, which can hold no second one."""
    reason = "needs the package playwright (in the extra test) and Chromium on the path"
    api = pytest.importorskip("playwright.sync_api", reason=reason)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip(reason)
    with api.sync_playwright() as browsers:
        made = browsers.chromium.launch(
            executable_path=chromium,
            chromium_sandbox=os.geteuid() != 0,  # Chromium refuses to sandbox what root starts
        )
        yield made
        made.close()
