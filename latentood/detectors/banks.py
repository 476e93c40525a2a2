"""Detectors that keep fit rows, to compare other rows with them."""

from __future__ import annotations

from typing import Any

from latentood.detectors.base import FeatureDetector, Seed, Share, State
from latentood.detectors.statistics.bank import Bank, BankRows
from latentood.latents import Statistic
from latentood.plugins import plugin


@plugin
class BankDetector(FeatureDetector):
    """A detector whose state holds a share of the fit rows, the bank."""

    reads_bank = True
    share: Share = 1.0
    seed: Seed = 0

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Declare the bank."""
        return (Bank(self.key, self.share, self.seed),)

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the size of the bank."""
        return {"bank": len(state["bank"])}


def bank_state(bank: BankRows) -> State:
    """Give a bank (M, D) as it is stored, with where its rows come from, as parts of a state."""
    hashes = {} if bank.hashes is None else {"hashes": bank.hashes}
    return {"bank": bank.rows, "positions": bank.positions, "origin": bank.origin, **hashes}
