"""Model and data in, arrays out: the model, stochastic passes, score taps, the run."""
