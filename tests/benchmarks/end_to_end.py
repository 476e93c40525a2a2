"""From images to scores of twelve detectors, against running the model again for each."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from latentood import workflows
from latentood.detectors.registry import detector
from latentood.evaluation.scoring import score_all
from latentood.latents.splits import SplitsInMemory
from latentood.models import cifar_resnet20
from latentood.store.cache import open_cache
from tests.benchmarks.timing import Ratio, ratio

CLASSES, BATCH = 10, 50
DETECTORS = (
    "msp", "max_logit", "energy", "entropy", "mahalanobis", "rmd", "vim", "knn", "she",
    "kl_matching", "gen", "dice",
)  # fmt: skip


class Images:
    """Random images in memory; each class has a pattern under its noise, OOD has none."""

    def __init__(self, rows: int, seed: int, known: bool = True) -> None:
        draw = torch.Generator().manual_seed(seed)
        patterns = torch.randn(CLASSES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(rows) % CLASSES
        self.images = torch.randn(rows, 3, 32, 32, generator=draw)
        if known:
            self.images += patterns[self.labels]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.images[row], int(self.labels[row])


@cache
def trained() -> nn.Module:
    """Build a ResNet-20 whose head separates the classes; how good it is does not matter here."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = cifar_resnet20(CLASSES).eval().requires_grad_(False)
    images = Images(1000, seed=1)
    features = encoder(network)(images.images)
    means = torch.stack([features[images.labels == c].mean(dim=0) for c in range(CLASSES)])
    within = torch.cov((features - means[images.labels]).T) + 1e-6 * torch.eye(len(means.T))
    weight = torch.linalg.solve(within, means.T).T  # linear discriminant analysis
    network.linear.weight.copy_(weight)
    network.linear.bias.copy_(-0.5 * (weight * means).sum(dim=1))
    return network


def network() -> nn.Module:
    """Give a network of one's own, as a pipeline builds it."""
    return copy.deepcopy(trained())


def encoder(whole: nn.Module) -> nn.Module:
    """Take the head off."""
    headless = copy.deepcopy(whole)
    headless.linear = nn.Identity()
    return headless


def theirs(fit: int, known: int, unknown: int) -> list[Tensor]:
    """Fit and predict with pytorch-ood as its examples do: every detector runs the model."""
    from pytorch_ood import detector as peer

    whole = trained()
    body, head = encoder(whole), whole.linear
    detectors = (
        peer.MaxSoftmax(whole), peer.MaxLogit(whole), peer.EnergyBased(whole),
        peer.Entropy(whole), peer.Mahalanobis(body), peer.RMD(body),
        peer.ViM(body, d=32, w=head.weight, b=head.bias), peer.KNN(body),
        peer.SHE(body, head), peer.KLMatching(whole), peer.GEN(whole),
        peer.DICE(body, w=head.weight, b=head.bias, p=0.9),
    )  # fmt: skip
    train, asked = _splits(fit, known, unknown)
    loader = DataLoader(train, batch_size=BATCH)
    scores = []
    with torch.no_grad():
        for one in detectors:
            one.to("cpu")
            if one.requires_fit:
                one.fit(loader)
            for split in asked:
                parts = [one(images) for images, _ in DataLoader(split, batch_size=BATCH)]
                scores.append(torch.cat(parts))
    return scores


@cache
def _splits(fit: int, known: int, unknown: int) -> tuple[Images, tuple[Images, Images]]:
    return Images(fit, seed=2), (Images(known, seed=3), Images(unknown, seed=4, known=False))


def extract(store: Path, fit: int, known: int, unknown: int) -> None:
    """Run the model once over every split."""

    def split(role: str, *arguments: Any) -> dict[str, Any]:
        names = ("rows", "seed", "known")
        given = dict(zip(names, arguments, strict=False))
        return {"role": role, "target": f"{__name__}.Images", "args": given}

    raw = {
        "name": "benchmark",
        "model": {"target": f"{__name__}.network"},
        "layers": ["penultimate"],
        "splits": {
            "train": split("fit", fit, 2),
            "id": split("id", known, 3),
            "far": split("far", unknown, 4, False),
        },
        "extract": {"batch_size": BATCH, "device": "cpu"},
    }
    workflows.extract(raw, store)


def score(store: Path) -> None:
    """Fit, score and compare the twelve from a cache; kl_matching learns from the fit rows too."""
    rows = open_cache(store)
    splits = SplitsInMemory.of(
        train=("fit", rows["train"]),
        val=("val", rows["train"]),
        id=("id", rows["id"]),
        far=("far", rows["far"]),
    )
    comparison = score_all(splits, [detector(name) for name in DETECTORS], device="cpu")
    if comparison.failed:
        raise RuntimeError(comparison.failed[0].reason)


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Measure with extraction, and from a cache that is there."""
    sizes = (300, 120, 60) if quick else (5_000, 2_000, 1_000)
    few = tuple(size // 5 for size in sizes)
    detail = "cifar_resnet20, {:,} fit + {:,} ID + {:,} OOD images".format(*sizes)
    against = "pytorch-ood, the model run for each detector"
    with tempfile.TemporaryDirectory(prefix="latentood-benchmark-") as folder:
        stores = (Path(folder) / f"{number}.zarr" for number in range(100))

        def ours() -> None:
            store = next(stores)
            extract(store, *sizes)
            score(store)

        yield ratio("12 detectors: extract + score", ours, lambda: theirs(*sizes),
                    against=against, goal=1 / 7, detail=detail, pairs=1)  # fmt: skip
        store = Path(folder) / "there.zarr"
        extract(store, *sizes)
        yield ratio("12 detectors: score from a cache", lambda: score(store),
                    lambda: theirs(*few), against=against, goal=1 / 100,
                    detail=f"{detail} (rival timed on a fifth and scaled)", pairs=3,
                    rival_share=few[0] / sizes[0])  # fmt: skip
