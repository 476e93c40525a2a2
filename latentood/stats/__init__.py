"""Mathematics on tensors, independent of layers, detectors and files."""
