"""Speed against named rivals, as ratios within one run: ``python -m tests.benchmarks``."""
