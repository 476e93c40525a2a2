"""What is to be scored, and whether it may be: detectors, splits of each role, and fitted files."""
