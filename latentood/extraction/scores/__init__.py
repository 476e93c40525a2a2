"""Score taps: which run on which split, and the model as they use it."""
