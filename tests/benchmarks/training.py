"""What the loop costs beside a bare loop of the same steps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from latentood.models import digits_resnet, lenet
from latentood.pipeline.schema import parse_pipeline
from latentood.training.batches import Order
from latentood.training.train import prepare, train
from tests.benchmarks.timing import Ratio, ratio

BATCH = 128
EPOCHS = 2
NETWORKS: dict[str, Any] = {
    "lenet": (lenet, 28, 25_600),
    "digits_resnet": (digits_resnet, 32, 6_400),
}
"""Name → how it is built, side of an image, rows; MNIST has 60,000."""


class Images(TensorDataset):
    """Random images with labels of ten classes."""

    def __init__(self, rows: int, size: int) -> None:
        self.targets = [row % 10 for row in range(rows)]
        super().__init__(torch.rand(rows, 1, size, size), torch.tensor(self.targets))


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Train for two epochs, with checkpoints, history and weights."""
    for name, (build, size, many) in NETWORKS.items():
        rows = 640 if quick else many
        pipeline = parse_pipeline(
            {
                "name": name,
                "model": {"target": f"latentood.models.{name}", "args": {"num_classes": 10}},
                "splits": {
                    "train": {
                        "role": "fit",
                        "target": f"{__name__}.Images",
                        "args": {"rows": rows, "size": size},
                    }
                },
                "training": {"objective": "cross_entropy", "epochs": EPOCHS, "batch_size": BATCH},
                "extract": {"device": "cpu"},
            }
        )

        def ours(pipeline: Any = pipeline) -> None:
            with tempfile.TemporaryDirectory() as folder:
                train(prepare(pipeline), Path(folder))

        def bare(pipeline: Any = pipeline, build: Any = build, rows: int = rows) -> None:
            data, model = prepare(pipeline).train, build(10)
            optimiser = torch.optim.Adam(model.parameters())
            for epoch in range(EPOCHS):
                order = Order(rows, BATCH, 0).batches(epoch)
                for images, labels in DataLoader(data, batch_sampler=order):
                    optimiser.zero_grad()
                    loss = F.cross_entropy(model(images), labels)
                    loss.backward()
                    optimiser.step()
                    loss.item()

        yield ratio(
            f"training, {name}",
            ours,
            bare,
            against="a bare loop of the same steps",
            goal=1.05,
            detail=f"{rows:,} × 1 × {size} × {size}, batches of {BATCH}, {EPOCHS} epochs",
        )
