"""Scores become numbers: metrics, intervals, and the comparison of many detectors."""
