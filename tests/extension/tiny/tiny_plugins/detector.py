"""A detector."""

from torch import Tensor

import latentood as lo


@lo.plugin
class Centroid(lo.FeatureDetector):
    """Distance to the mean of the fit rows, in units of spread: ‖(h−μ)/σ‖."""

    name = "centroid"
    family = "tiny"
    paper = "textbook"
    works = "Far OOD, and more dimensions than fit rows."
    fails = "Features that are correlated, or that form several clusters."
    cost = "O(N·D²) fit, shared with mahalanobis; O(D) per row"
    asks = (lo.Moments,)
    order: float = lo.hyper(2.0, "p of the norm", above=0)
    floor: float = lo.hyper(1e-12, "smallest σ, for constant columns", above=0)

    def fit(self, train: lo.Latents, val: lo.Latents | None = None) -> lo.State:
        """Keep mean (D,) and spread (D,)."""
        moments = train.compute(lo.Moments(self.key))
        spread = moments.covariance.matrix.diagonal().sqrt()
        return {"mean": moments.mean, "spread": spread.clamp(min=self.floor)}

    def score(self, state: lo.State, rows: lo.Latents) -> Tensor:
        """Measure the distance: (N,) ≥ 0."""
        scaled = (rows.double(self.key) - state["mean"]) / state["spread"]
        return scaled.norm(p=self.order, dim=1)
