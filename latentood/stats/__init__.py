"""Mathematics on tensors, independent of layers, detectors and files."""

from latentood.stats.entropy import kl_entropy

__all__ = ["kl_entropy"]
