"""Binary trees as tensors: every row walks down every tree at once, one level per step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Forest:
    """T trees of at most M nodes; node 0 is the root.

    A node sends a row to its left child if ``row[feature] ≤ threshold``, else to its right one.
    A leaf is its own child on both sides, so that a row stays where it has arrived.
    """

    feature: Tensor  # (T, M) int64
    threshold: Tensor  # (T, M) float64
    left: Tensor  # (T, M) int64
    right: Tensor  # (T, M) int64
    value: Tensor  # (T, M) float64, the value of a leaf
    depth: int  # levels below the root of the deepest tree

    def mean_value(self, rows: Tensor) -> Tensor:
        """Mean over the trees of the leaf each row arrives at: (N, D) → (N,) float64.

        Rows must have the precision the trees were grown on.
        """
        trees, nodes = self.feature.shape
        first = nodes * torch.arange(trees, device=rows.device)
        # Numbered through all trees, a node is found by one index instead of two.
        feature, threshold = self.feature.flatten(), self.threshold.flatten()
        left = (self.left + first.unsqueeze(1)).flatten()
        right = (self.right + first.unsqueeze(1)).flatten()
        node = first.expand(len(rows), -1)  # (N, T)
        for _ in range(self.depth):
            below = rows.gather(1, feature[node]) <= threshold[node]
            node = torch.where(below, left[node], right[node])
        return self.value.flatten()[node].mean(dim=1)
