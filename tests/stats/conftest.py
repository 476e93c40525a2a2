"""What the tests of several statistics share."""

import builtins

import pytest


@pytest.fixture
def no_faiss(monkeypatch):
    """Make FAISS look as if it were not installed."""
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
