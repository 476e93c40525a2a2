"""A reduction."""

from torch import Tensor

import latentood as lo


@lo.plugin
class Quantile(lo.Reduction):
    """Quantile over positions of maps (C, …)."""

    name = "quantile"
    level: float = lo.hyper(0.9, "which quantile", low=0, high=1)

    def apply(self, x: Tensor) -> Tensor:
        """Take the quantile of every channel."""
        return x.flatten(2).float().quantile(self.level, dim=2).to(x.dtype)

    def shape(self, row: tuple[int, ...]) -> tuple[int, ...]:
        """Give the number of channels."""
        if len(row) < 3:
            raise lo.errors.ModelError(f"reduction quantile: needs maps (C, …), got {row}")
        return row[:1]
