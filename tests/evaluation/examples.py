"""Splits in memory and small detectors to compare on them."""

from dataclasses import dataclass
from typing import Literal

import torch

from latentood.detectors.base import Detector, FeatureDetector, Needs
from latentood.errors import DetectorError
from latentood.latents import LABELS, LOGITS, Latents, Reading
from latentood.latents.facts import Origin, SplitFacts
from latentood.latents.splits import SplitsInMemory
from latentood.plugins import hyper, plugin

HEADER = Origin(
    pipeline={"name": "blobs", "seed": 7, "monte_carlo": {"passes": 16}},
    fingerprint={"weights": "a1" * 32, "seed": 7},
    versions={"torch": "2.0"},
)


@plugin
class Distance(FeatureDetector):
    """Distance to the mean of the fit rows."""

    name = "distance"
    family = paper = works = fails = cost = "test"
    power: float = hyper(1.0, "exponent", above=0)
    weights: tuple[float, ...] = hyper((), "factors")

    def needs(self):
        return Needs(score=(self.key,), fit=(self.key,))

    def fit(self, train, val=None):
        return {"mean": train.double(self.key).mean(dim=0)}

    def score(self, state, rows):
        return (rows.double(self.key) - state["mean"]).norm(dim=1) ** self.power


@plugin
class Peak(Detector):
    """The largest logit, negated."""

    name = "peak"
    family = paper = works = fails = cost = "test"

    def needs(self):
        return Needs(score=(LOGITS,))

    def score(self, state, rows):
        return -rows.double(LOGITS).amax(dim=1)


@plugin
class Entropic(FeatureDetector):
    """The mean entropy over the passes."""

    name = "entropic"
    family = paper = works = fails = cost = "test"
    source: Literal["mc.entropy"] = hyper("mc.entropy", "entropies, always")

    def needs(self):
        return Needs(score=(self.key,), fit=(self.key,))

    def score(self, state, rows):
        return rows.double(self.key).mean(dim=1)


@plugin
class Calibrated(Detector):
    """Reads the ID validation split."""

    name = "calibrated"
    family = paper = works = fails = cost = "test"

    def needs(self):
        return Needs(score=(LOGITS,), val=(LOGITS, LABELS))

    def fit(self, train, val=None):
        return {"scale": val.double(LOGITS).std()}

    def score(self, state, rows):
        return -rows.double(LOGITS).amax(dim=1) / state["scale"]


@plugin
class Broken(Detector):
    """Fails when it scores the second block."""

    name = "broken"
    family = paper = works = fails = cost = "test"

    def needs(self):
        return Needs(score=(LOGITS,))

    def score(self, state, rows):
        raise DetectorError("broken: must not be used, got used; leave it out")


@plugin
class Buggy(FeatureDetector):
    """Raises whatever a plug-in may raise, where it is told to."""

    name = "buggy"
    family = paper = works = fails = cost = "test"
    where: Literal["start", "chunk", "fit", "prepare", "score"] = hyper("fit", "where it fails")

    def statistics(self):
        return (Breaking(self.key, self.where),) if self.where in ("start", "chunk") else ()

    def fit(self, train, val=None):
        for statistic in self.statistics():
            train.compute(statistic)
        return {"one": torch.ones(1, device=self.stop("fit"))}

    def prepare(self, state):
        self.stop("prepare")
        return state

    def score(self, state, rows):
        return rows.double(self.key).sum(dim=1, dtype=self.stop("score"))

    def stop(self, here):
        if self.where == here:
            raise torch.linalg.LinAlgError(f"no {here}\nat all")


@dataclass(frozen=True)
class Breaking:
    """A statistic that fails where it is told to."""

    key: str
    where: str

    def keys(self):
        return (self.key,)

    def start(self, source):
        if self.where == "start":
            raise MemoryError("no start\nat all")
        return Reading(self.take, lambda: None)

    def take(self, chunk):
        raise torch.linalg.LinAlgError("no chunk\nat all")


STAND_INS = {cls.name: cls for cls in (Distance, Peak, Entropic, Calibrated, Broken)}


def latents(rows, shift, seed, *, name, entropy=True):
    """Draw rows of three classes around their means, moved away by ``shift``."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    means = torch.eye(3, 8)[labels] * 4
    penultimate = means + torch.randn(rows, 8, generator=generator) + shift
    return Latents(
        logits=penultimate[:, :3] - abs(shift) * 2,
        labels=labels,
        features={"layer1": torch.randn(rows, 4, generator=generator), "penultimate": penultimate},
        mc_entropy={"layer1": penultimate.abs()} if entropy else None,
        name=name,
    )


def splits(*, sizes=(120, 60, 90, 70, 50), val=True, **options):
    """Give splits in memory: train, val, id_test, close (near), noise and texture (far)."""
    fit_rows, val_rows, id_rows, near_rows, far_rows = sizes
    made = {
        "train": ("fit", latents(fit_rows, 0.0, 0, name="train", **options)),
        "val": ("val", latents(val_rows, 0.0, 1, name="val", **options)),
        "id_test": ("id", latents(id_rows, 0.0, 2, name="id_test", **options)),
        "close": ("near", latents(near_rows, 0.6, 3, name="close", **options)),
        "noise": ("far", latents(far_rows, 3.0, 4, name="noise", **options)),
        "texture": ("far", latents(far_rows, 1.5, 5, name="texture", **options)),
    }
    if not val:
        del made["val"]
    return SplitsInMemory(
        {name: rows for name, (_, rows) in made.items()},
        {name: SplitFacts(role, {"fingerprint": name[0] * 64}) for name, (role, _) in made.items()},
        HEADER,
    )
