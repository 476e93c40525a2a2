"""Slow formulas of detectors of Gram matrices."""

import numpy as np

from tests.references.registry import reference


@reference("gram")
def gram(d, fit, rows, same):
    predicted = fit["logits"].argmax(axis=1)

    def deviation(key: str, g: np.ndarray, c: int) -> float:
        """How far row sums leave their range over the fit rows predicted as c, relatively."""
        own = fit[key][predicted == c] if (predicted == c).any() else fit[key]
        total = 0.0
        for value, low, high in zip(g, own.min(axis=0), own.max(axis=0), strict=True):
            if value < low:
                total += (low - value) / (abs(low) + 1e-6)
            if value > high:
                total += (value - high) / (abs(high) + 1e-6)
        return total

    scores = np.zeros(len(rows["logits"]))
    for key in (f"features/{layer}" for layer in d.layers):
        val = zip(fit["val"][key], fit["val"]["logits"], strict=True)
        expected = np.mean([deviation(key, g, int(z.argmax())) for g, z in val])
        pairs = zip(rows[key], rows["logits"], strict=True)
        scores += np.array([deviation(key, g, int(z.argmax())) for g, z in pairs]) / expected
    return scores
