"""Model and data in, arrays out: taps, stochastic passes, reductions, the runner."""
