"""A mixture of Gaussians fitted without labels, by expectation maximisation."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Literal

import torch
from torch import Tensor

from latentood.detectors.base import RIDGE, Ridge, State
from latentood.detectors.checks import no_spread
from latentood.detectors.families.gaussian.class_densities import MixtureDetector
from latentood.detectors.statistics.bank import Bank, drawn
from latentood.errors import DetectorError
from latentood.latents import Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.distributions.mixture import spread_rank
from latentood.stats.linalg import EPSILON
from latentood.stats.moments import MomentSums, column_scale

ROWS_PER_DIMENSION = 4
"""Rows a covariance is estimated from, by its width D: its error, about √(D/rows), is at most ½."""

ROWS_PER_COMPONENT = 10
"""The same for the mean component, as the smallest has far fewer rows than the mean."""

ROWS_TO_START_FROM = 10_000
"""Rows that k-means and, from there, a first mixture are fitted to; the mixture goes on from it."""

log = logging.getLogger(__name__)


@plugin
class GMM(MixtureDetector):
    """Density of the features under a mixture of Gaussians that needs no labels.

    ``−log Σ_k w_k·N(h; μ_k, Σ_k)``, fitted by expectation maximisation from k-means (both
    scikit-learn's, seeded), which with many rows begins on 10,000 of them (full matrices: on
    10·K·D); scoring needs tensors alone. Features are standardised first, so the
    density is that of (h−μ)/σ: another constant, the same order of rows. Every Σ_k gets a ridge,
    a share of the mean variance, where scikit-learn adds an absolute 1e-6; ``tolerance`` is a gain
    per dimension, where scikit-learn's is one in all, 1e-3.

    ``covariance=auto`` takes what the M rows fitted to suffice for, and the log and the diagnostics
    say which: ``full`` matrices from 10·K·D rows on; ``principal``, diagonal ones along the
    principal axes of all rows, from 4·D rows on; else ``diag``. With fewer rows, held-out ID rows
    are less likely under it than under the next. ``tied`` is one matrix for all components.
    """

    name = "gmm"
    paper = "textbook (Dempster, Laird and Rubin 1977); arXiv:1706.02690 compares it for OOD"
    works = "ID features in several clouds, with no labels or with modes inside a class."
    fails = "Few rows, of which auto models variances alone; with full, the ridge decides. Wrong K."
    cost = (
        "O(I·K·M·D) fit for I iterations over M rows, O(K·D) per row; with principal axes "
        "O(M·D² + D³) and O(D²) more; full and tied: D times as much"
    )
    cannot_fit_on = ("one row",)
    components: int = hyper(
        10, "K, the number of Gaussians; about as many as classes", low=1, tries=(2, 5, 10, 20)
    )
    covariance: Literal["auto", "full", "tied", "principal", "diag", "spherical"] = hyper(
        "auto", "form of the covariances; auto: by the number of rows"
    )
    standardise: bool = hyper(True, "whether every dimension is first brought to variance 1")
    ridge: Ridge = RIDGE
    iterations: int = hyper(100, "most steps of expectation maximisation", low=1)
    tolerance: float = hyper(
        1e-4, "gain in mean log likelihood per dimension below which it stops, nats", above=0
    )
    restarts: int = hyper(1, "fits from different starts, of which the best is kept", low=1)
    share: float = hyper(1.0, "share of the fit rows that is fitted to", above=0, high=1)
    seed: int = hyper(0, "which rows a share keeps, and where k-means starts", low=0)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the rows to fit to."""
        return (Bank(self.key, self.share, self.seed),)

    def memory(self, train: Latents) -> int:
        """Add the rows in float64, a few times, and the matrices of the form that is fitted."""
        rows, width = train.shape(self.key)
        rows = max(1, int(self.share * rows))
        matrices = {"full": 3 * self.components, "tied": 5, "principal": 5}
        square = matrices.get(self.form(rows, width), 0) * width**2
        return super().memory(train) + 8 * (4 * rows * width + square)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep log w (K,), means (K, D), factors of the precisions, the scale (D,) and axes."""
        rows = train.compute(Bank(self.key, self.share, self.seed)).rows
        scale = self.scale(train, rows)
        vectors = self.vectors(scale, rows)
        self._check(vectors, train)
        form = self.form(*vectors.shape)
        if form == "principal":
            scale |= self.axes(vectors)
            vectors = self.vectors(scale, rows)
        if self.covariance == "auto":
            log.info(
                "%s: covariance=%s for %d components, by %d rows of %d dimensions",
                self.name, form, self.components, *vectors.shape,
            )  # fmt: skip
        return scale | self._fitted(vectors, form)

    def form(self, rows: int, width: int) -> str:
        """Choose the form of the covariances that so many rows suffice for."""
        if self.covariance != "auto":
            return self.covariance
        if rows >= ROWS_PER_COMPONENT * self.components * width:
            return "full"
        return "principal" if rows >= ROWS_PER_DIMENSION * width else "diag"

    def scale(self, train: Latents, rows: Tensor) -> State:
        """Give what :meth:`vectors` needs: shift and spread (D,) of the rows (M, D)."""
        if not self.standardise:
            return {}
        spread, shift = torch.var_mean(rows.double(), dim=0, correction=0)
        return {"shift": shift, "spread": column_scale(shift, spread)}

    def axes(self, vectors: Tensor) -> State:
        """Give the principal axes (D, D) of what is fitted to (M, D)."""
        sums = MomentSums()
        sums.add(vectors)
        return {"axes": sums.result().covariance.spectrum[1]}

    def vectors(self, state: State, rows: Tensor) -> Tensor:
        """Standardise rows (N, D), if asked for, and turn them to the axes, if there are any."""
        rows = rows.double()
        if self.standardise:
            rows = (rows - state["shift"]) / state["spread"]
        return rows @ state["axes"] if "axes" in state else rows

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the form, the smallest rank and weight of a component, and how the fit ended."""
        components, width = state["means"].shape
        diagonal = "principal" if "axes" in state else "diag"
        chosen = "full" if state["factors"].dim() == 3 else diagonal
        return {
            "components": components,
            "covariance": chosen if self.covariance == "auto" else self.covariance,
            "component_rank": int(state["rank"]),
            "width": width,
            "fewest_rows": float(state["fewest_rows"]),
            "iterations": int(state["iterations"]),
            "converged": bool(state["converged"]),
        }

    def _check(self, vectors: Tensor, train: Latents) -> None:
        count = len(vectors)
        if count < max(2, self.components):
            raise DetectorError(
                f"{self.name}: components must be ≤ the {count} rows it is fitted to, and these "
                f"≥ 2, got {self.components}; lower components, raise share or extract more of "
                f'"{train.name}"'
            )
        if not bool((vectors.amax(dim=0) > vectors.amin(dim=0)).any()):
            raise no_spread(f"{self.name}: {self.key}", count, train)

    def _fitted(self, vectors: Tensor, form: str) -> State:
        """Run expectation maximisation on rows (M, D) float64."""
        ridge = self.ridge * float(vectors.var(dim=0, correction=0).mean())
        model = self._maximised(vectors, "diag" if form == "principal" else form, ridge)
        kept = {
            "log_weights": torch.from_numpy(model.weights_).log(),
            "means": torch.from_numpy(model.means_),
            "factors": _factors(model),
        }
        fewest = float(model.weights_.min()) * len(vectors)
        width = vectors.shape[1]
        rank = _rank(model, width)
        if rank < width:
            log.warning(
                "%s: a component has a covariance of rank %d in %d dimensions of %s (the smallest "
                "covers %.1f of %d rows): the ridge decides in the others",
                self.name, rank, width, self.key, fewest, len(vectors),
            )  # fmt: skip
        return {name: tensor.to(vectors.device) for name, tensor in kept.items()} | {
            "rank": torch.tensor(rank),
            "fewest_rows": torch.tensor(fewest, dtype=torch.float64),
            "iterations": torch.tensor(model.n_iter_),
            "converged": torch.tensor(model.converged_),
        }

    def _maximised(self, vectors: Tensor, form: str, ridge: float) -> Any:
        """Fit scikit-learn's model, with its warnings as log lines and its errors as ours."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        model = GaussianMixture(
            self.components,
            covariance_type=form,
            reg_covar=ridge,
            max_iter=self.iterations,
            tol=self.tolerance * vectors.shape[1],
            n_init=self.restarts,
            random_state=self.seed,
            warm_start=True,
        )
        rows = vectors.cpu()
        few = ROWS_TO_START_FROM
        if form == "full":
            few = max(few, ROWS_PER_COMPONENT * self.components * rows.shape[1])
        first = rows[drawn(len(rows), min(1.0, few / len(rows)), self.seed)]
        # k-means adds up the sums of its threads in the order they finish: not the same bits twice
        with (
            warnings.catch_warnings(record=True) as caught,
            threadpool_limits(limits=1, user_api="openmp"),
        ):
            warnings.simplefilter("always", ConvergenceWarning)
            try:
                model.fit(first.numpy())
                if len(first) < len(rows):
                    model.fit(rows.numpy())
            except ValueError as error:
                raise DetectorError(
                    f"{self.name}: {self.key} must give components of full rank with ridge="
                    f"{self.ridge:g}, got singular ones; raise ridge, lower components or choose "
                    "covariance=diag"
                ) from error
        for warning in caught:
            log.warning("%s: %s", self.name, warning.message)
        return model


def _factors(model: Any) -> Tensor:
    """Bring scikit-learn's Cholesky factors of the precisions to the shapes a mixture takes."""
    factors = torch.from_numpy(model.precisions_cholesky_)
    match model.covariance_type:
        case "tied":
            return factors.unsqueeze(0)  # (1, D, D)
        case "spherical":  # one number for all dimensions of a component
            return factors.unsqueeze(1).expand(model.means_.shape)  # (K, D)
    return factors


def _rank(model: Any, width: int) -> int:
    """Smallest rank of a component's covariance before the ridge was added."""
    covariances, ridge = torch.from_numpy(model.covariances_), model.reg_covar
    if model.covariance_type in ("full", "tied"):
        return min(spread_rank(matrix, ridge) for matrix in covariances.view(-1, width, width))
    variances = covariances.view(len(covariances), -1)  # (K, D), or (K, 1)
    # They are differences of squares, so their rounding is that of the squares.
    squares = variances.amax() + float((model.means_**2).max())
    spread = variances - ridge > EPSILON * width * squares
    return int(spread.expand(-1, width).sum(dim=1).min())
