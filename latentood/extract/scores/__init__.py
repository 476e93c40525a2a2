"""Score taps: OOD scores that need the model itself, computed beside the logits."""
