"""Detectors that draw a border around the fit rows: fitted by scikit-learn, scored on tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentood.detectors.base import FeatureDetector, State
from latentood.detectors.checks import no_spread
from latentood.detectors.statistics.bank import Bank, Sample
from latentood.errors import DetectorError
from latentood.latents import Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.distributions.kernel import KernelDensity
from latentood.stats.trees import Forest


@plugin
class OneClassDetector(FeatureDetector):
    """A border drawn around rows that are all taken for ID."""

    family = "one_class"
    cannot_fit_on = ("one row",)

    def check_spread(self, rows: Tensor, train: Latents) -> None:
        """Refuse rows (M, D) that are all equal, as a single one is: they have no border."""
        if not bool((rows.amax(dim=0) > rows.amin(dim=0)).any()):
            raise no_spread(f"{self.name}: {self.key}", len(rows), train)


@plugin
class IsolationForest(OneClassDetector):
    """How few random splits it takes to part a row from the fit rows: 2^(−E[path]/c(ψ)).

    Liu, Ting and Zhou 2008, eq. 2, with their 100 trees of ψ = 256 rows each; a leaf of n rows
    adds c(n) to a path, the mean depth of a tree of n rows (eq. 1, with the exact c(2) = 1). The
    trees are scikit-learn's, grown on features rounded to float32, and split rows so rounded.
    """

    name = "isolation_forest"
    paper = "10.1109/ICDM.2008.17, eq. 1 and 2"
    works = "Layers with a few telling dimensions; no distances, so no scaling of features."
    fails = "Wide layers: a split looks at one dimension, and OOD shows in combinations of many."
    cost = "O(T·ψ·log ψ) fit, O(T·log ψ) per row, for T trees"
    trees: int = hyper(100, "number of trees", low=1)
    subsample: int = hyper(
        256,
        "ψ, rows each tree is grown on; all of them if they are fewer",
        low=2,
        tries=(64, 256, 1024),
    )
    share: float = hyper(1.0, "share of the fit rows that trees draw from", above=0, high=1)
    seed: int = hyper(0, "which rows a share keeps and a tree draws, and where it splits", low=0)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the rows to draw from."""
        return (Bank(self.key, self.share, self.seed),)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the trees, five arrays of (T, nodes), and their depth."""
        from sklearn.ensemble import IsolationForest as Grower

        rows = train.compute(Bank(self.key, self.share, self.seed)).rows.float()
        self.check_spread(rows, train)
        size = min(self.subsample, len(rows))
        grower = Grower(n_estimators=self.trees, max_samples=size, random_state=self.seed)
        grown = [tree.tree_ for tree in grower.fit(rows.cpu().numpy()).estimators_]
        state = {name: tensor.to(rows.device) for name, tensor in _exported(grown).items()}
        depth = max(tree.max_depth for tree in grown)
        return state | {"depth": torch.tensor(depth), "subsample": torch.tensor(size)}

    def prepare(self, state: State) -> tuple[Forest, float]:
        """Assemble the forest and c(ψ)."""
        arrays = {name: tensor for name, tensor in state.items() if tensor.dim() == 2}
        usual = float(_mean_depth(state["subsample"].cpu().numpy()))
        return Forest(**arrays, depth=int(state["depth"])), usual

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the rows of a tree and the depth of the deepest."""
        return {"subsample": int(state["subsample"]), "depth": int(state["depth"])}

    def score(self, state: tuple[Forest, float], rows: Latents) -> Tensor:
        """Compare the mean path with the usual one: (N,) in (0, 1), above ½ if shorter."""
        forest, usual = state
        return torch.exp2(-forest.mean_value(rows[self.key].float()) / usual)


@plugin
class OneClassSVM(OneClassDetector):
    """Support vector machine with one class, negated: −Σ_i α_i·exp(−γ‖h−h_i‖²).

    Schölkopf et al. 2001, eq. 3.10 without the offset ρ, which moves no order; fitted by
    scikit-learn (libsvm) on at most ``rows`` rows drawn at random, because the work grows with
    their square. γ is by default 1/(D·variance of all entries), as in scikit-learn.
    """

    name = "one_class_svm"
    paper = "10.1162/089976601750264965, eq. 3.10"
    works = "ID features that fill one region of a narrow layer, curved though it be."
    fails = "Wide layers, a poor γ, and large sets, of which it sees a sample alone."
    cost = "O(M²·D) fit, O(S·D) per row, for S support vectors (at least ν·M)"
    reads_bank = True
    nu: float = hyper(
        0.5,
        "ν, share of fit rows allowed outside the border",
        above=0,
        high=1,
        tries=(0.01, 0.1, 0.5),
    )
    gamma: float = hyper(0.0, "γ of the kernel; 0 = 1/(D·variance)", low=0)
    rows: int = hyper(5000, "most fit rows it is fitted on", low=2)
    tolerance: float = hyper(1e-3, "of the optimiser", above=0)
    seed: int = hyper(0, "which rows it is fitted on", low=0)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the rows to fit on."""
        return (Sample(self.key, self.rows, self.seed),)

    def memory(self, train: Latents) -> int:
        """Add the rows in float64."""
        return 3 * super().memory(train)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the support vectors (S, D) as they are stored, α (S,) and γ."""
        from sklearn.svm import OneClassSVM as Optimiser

        rows = train.compute(Sample(self.key, self.rows, self.seed)).rows
        self.check_spread(rows, train)
        vectors = rows.double().cpu().numpy()
        gamma = self.gamma or 1.0 / (vectors.shape[1] * vectors.var())
        try:
            model = Optimiser(gamma=gamma, nu=self.nu, tol=self.tolerance).fit(vectors)
        except ValueError as error:  # no α strictly between its bounds, so ρ is infinite
            raise DetectorError(
                f"{self.name}: nu must leave room between the bounds of α, got nu={self.nu:g} for "
                f"{len(rows)} rows; lower nu, or use kde, which nu=1 amounts to"
            ) from error
        chosen = torch.from_numpy(model.support_).long().to(rows.device)
        return {
            "support": rows[chosen],
            "alpha": torch.from_numpy(model.dual_coef_[0].copy()).to(rows.device),
            "gamma": torch.tensor(gamma, dtype=torch.float64),
            "rows": torch.tensor(len(rows)),
        }

    def prepare(self, state: State) -> KernelDensity:
        """Place a kernel on every support vector."""
        width = math.sqrt(0.5 / float(state["gamma"]))
        return KernelDensity(state["support"], width, log_weights=state["alpha"].log())

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the rows fitted on, the support vectors among them, and γ."""
        return {
            "rows": int(state["rows"]),
            "support_vectors": len(state["alpha"]),
            "gamma": float(state["gamma"]),
        }

    def score(self, state: KernelDensity, rows: Latents) -> Tensor:
        """Negate the kernel sum: (N,) ≤ 0, 0 where a row is out of reach of all vectors."""
        return -state.log_sum(rows[self.key]).exp()


def _exported(grown: list[Any]) -> State:
    """Copy scikit-learn's trees into arrays (T, M), padded to the largest tree."""
    shape = (len(grown), max(tree.node_count for tree in grown))
    arrays = {name: np.zeros(shape, dtype=np.int64) for name in ("feature", "left", "right")}
    arrays |= {name: np.zeros(shape) for name in ("threshold", "value")}
    for number, tree in enumerate(grown):
        nodes = slice(0, tree.node_count)
        itself = np.arange(tree.node_count)
        leaf = tree.children_left < 0
        arrays["feature"][number, nodes] = np.where(leaf, 0, tree.feature)
        arrays["threshold"][number, nodes] = tree.threshold
        arrays["left"][number, nodes] = np.where(leaf, itself, tree.children_left)
        arrays["right"][number, nodes] = np.where(leaf, itself, tree.children_right)
        depth = tree.compute_node_depths() - 1.0  # there, a root is 1 deep
        arrays["value"][number, nodes] = depth + _mean_depth(tree.n_node_samples)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _mean_depth(rows: np.ndarray) -> np.ndarray:
    """c(n): mean depth at which an unsuccessful search in a binary tree of n rows ends (eq. 1)."""
    others = np.maximum(rows - 1.0, 1.0)
    harmonic = np.log(others) + np.euler_gamma
    return np.select([rows <= 1, rows == 2], [0.0, 1.0], 2.0 * harmonic - 2.0 * others / rows)
