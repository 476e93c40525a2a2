"""Model and data in, arrays out: the model and its layers, stochastic passes, score taps, the run."""
