"""What the tests of the store share."""

import os

import pytest


@pytest.fixture(scope="package", autouse=True)
def _nothing_is_synced():
    """Do without the real sync, which is slow; its order is tested on a simulated disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
