"""Detectors that weigh a row by its similarity to fit rows and by their logits."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.banks import BankDetector, bank_state
from latentood.detectors.base import State
from latentood.detectors.checks import require_neighbours, too_many_neighbours
from latentood.detectors.statistics.bank import Bank, ClassBank, own_copies
from latentood.latents import LABELS, LOGITS, Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import unit_rows
from latentood.stats.neighbours.similarity import Guides, products, top_mean

log = logging.getLogger(__name__)


@plugin
class NNGuide(BankDetector):
    """The energy of a row, times the energies of the fit rows it resembles most.

    ``−logsumexp(z) · mean_{top k} ⟨ĥ, ĥ_i·logsumexp(z_i)⟩`` over a bank of fit rows; Park et al.
    2023. The bank is a share of every class, drawn at random (the paper keeps 1% of ImageNet).
    A row of the bank is not its own neighbour. Both factors are meant to be above 0: with
    energies below 0 in the bank the product turns round, and a warning says so.
    """

    name = "nnguide"
    family = "neighbours"
    paper = "arXiv:2309.14888, sec. 3"
    works = "Where energy is overconfident far from the data: similarity to the bank reins it in."
    fails = "Logits whose log-sum-exp is not above 0, and banks too small for some classes."
    cost = "O(N·D) fit, O(M·D) per row, for a bank of M rows"
    cannot_fit_on = ("one row", "few rows", "one class")
    reads = (LOGITS,)
    fit_reads = (LOGITS, LABELS)
    k: int = hyper(
        100,
        "how many fit rows guide: 10 for ImageNet in the paper",
        low=1,
        tries=(10, 50, 100, 200),
    )
    share: float = hyper(1.0, "share of every class kept as the bank", above=0, high=1)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the bank, features and logits."""
        return tuple(ClassBank(key, self.share, self.seed) for key in (self.key, LOGITS))

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the bank (M, D) as it is stored, its energies (M,), and where its rows are from."""
        bank, logits = (train.compute(statistic) for statistic in self.statistics())
        if self.k > len(bank.rows):
            remedy = f'extract more of "{train.name}"'
            raise too_many_neighbours(self.name, self.k, len(bank.rows), remedy)
        energies = torch.logsumexp(logits.rows.double(), dim=1)
        below = int((energies <= 0).sum())
        if below:
            log.warning(
                "%s: the log-sum-exp of the logits should be above 0, but is not in %d of the %d "
                "rows of the bank: what resembles them scores the wrong way round",
                self.name, below, len(energies),
            )  # fmt: skip
        return bank_state(bank) | {"energies": energies}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Multiply energy and guidance: (N,)."""
        own = own_copies(state, rows)
        require_neighbours(self.name, self.k, len(state["bank"]), own)
        bank = Guides(
            len(state["bank"]),
            lambda part: unit_rows(state["bank"][part]) * state["energies"][part].unsqueeze(1),
        )
        guidance = top_mean(unit_rows(rows[self.key]), bank, self.k, own)
        return -torch.logsumexp(rows.double(LOGITS), dim=1) * guidance


@plugin
class Relation(BankDetector):
    """How little a row relates to the fit rows, in features and predictions together.

    ``−Σ_i (max(0, ⟨ĥ,ĥ_i⟩)·⟨p,p_i⟩)^power`` over a bank; Kim et al. 2023, whose temperature is
    the power of the whole product. Their code, and others, drop terms below 0.03, which the
    paper does not. A row of the bank does not relate to itself. The bank is read in steps: no
    matrix of all pairs is made.
    """

    name = "relation"
    family = "neighbours"
    paper = "arXiv:2301.12321, sec. 3"
    works = "Large clean banks: counts all of the data a row agrees with, not k rows of it."
    fails = "Classes of very different size, since small ones have few rows to relate to."
    cost = "O(M·(C+D)) per row, for a bank of M rows; no fit beyond the bank"
    reads = (LOGITS,)
    fit_reads = (LOGITS,)
    power: float = hyper(
        1.0,
        "power of each term; 1 is best for OOD in the paper",
        above=0,
        tries=(0.5, 1.0, 2.0, 4.0),
    )

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the bank, features and logits."""
        return tuple(Bank(key, self.share, self.seed) for key in (self.key, LOGITS))

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the bank: features (M, D) and logits (M, C), and where its rows are from."""
        bank, logits = (train.compute(statistic) for statistic in self.statistics())
        return bank_state(bank) | {"logits": logits.rows}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Sum the relations: (N,) ≤ 0."""
        own = own_copies(state, rows)
        unit, p = unit_rows(rows[self.key]), rows.double(LOGITS).softmax(dim=1)
        total = p.new_zeros(len(p))
        bank = Guides(len(state["bank"]), lambda part: unit_rows(state["bank"][part]))
        for part, alike in products(unit, bank, own):
            agreed = p @ state["logits"][part].double().softmax(dim=1).mT
            # A row's product with itself is −∞ and becomes 0 here.
            terms = alike.clamp_(min=0.0).mul_(agreed)
            total += (terms if self.power == 1 else terms.pow_(self.power)).sum(dim=1)
        return -total
