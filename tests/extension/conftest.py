"""The tests of the tiny package run where it is installed; see ``test_package.py``."""

collect_ignore = ["tiny"]
