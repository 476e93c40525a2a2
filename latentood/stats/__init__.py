"""Mathematics on tensors: knows nothing of layers, detectors or files."""
