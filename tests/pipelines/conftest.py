"""Every objective, trained on small digits once for all tests of this folder."""

from functools import cache

import pytest

from tests.benchmarks.objectives import outcome

SHORT = (
    "training.epochs=2",
    "splits.held_out.args.part=test",
    "splits.photos.args.length=40",
    "splits.gaussian.args.length=40",
    "extract.device=cpu",
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Give the folder of an objective by its name, and what came out of it."""

    @cache
    def of(name):
        folder = tmp_path_factory.mktemp(name)
        return folder, outcome(name, folder, overrides=SHORT, detectors="msp,energy")

    return of
