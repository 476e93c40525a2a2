"""Detectors, one family per folder or file; each family lists its own in ``DETECTORS``."""
