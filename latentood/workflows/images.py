"""The images of a comparison, which a cache does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from latentood.errors import ConfigError, unknown
from latentood.extraction.run.inputs import Inputs, open_inputs
from latentood.workflows.given import PipelineSource, pipeline_of


class Images:
    """The inputs of the splits of a comparison, from the data sets of a pipeline.

    Caches hold no images, and what is in a cache is never executed.
    """

    def __init__(self, inputs: Mapping[str, Inputs]) -> None:
        self._inputs = inputs

    @classmethod
    def of(
        cls, pipeline: PipelineSource, wanted: Mapping[str, tuple[Sequence[str], Mapping[str, Any]]]
    ) -> Images:
        """Open the data sets of splits, and check that they have these ids and this content.

        Args:
            pipeline: The pipeline that was extracted, or its file.
            wanted: Split → its ids, and what is known of its data.

        Raises:
            UnknownName: The pipeline lacks a split.
            ConfigError: It has other images.
        """
        given = pipeline_of(pipeline, ())
        inputs = {}
        for name, (ids, data) in wanted.items():
            if name not in given.splits:
                raise unknown("split in the pipeline of the images", name, given.splits)
            inputs[name] = open_inputs(given, name, limit=len(ids))
            _require_same(inputs[name], ids, data.get("fingerprint"))
        return cls(inputs)

    def __call__(self, split: str, row: int) -> NDArray[Any]:
        """Give an image as the network gets it: (C, H, W)."""
        value: Tensor = self._inputs[split][row][0]
        return value.to(torch.float64).numpy()


def _require_same(inputs: Inputs, ids: Sequence[str], fingerprint: str | None) -> None:
    """Check ids, and the contents by a few images."""
    advice = "name the pipeline file that was extracted, with its data as they were"
    own = inputs.ids()
    if own != list(ids):
        pairs = enumerate(zip(own, ids, strict=False))
        row, other = next(
            ((row, pair[0]) for row, pair in pairs if pair[0] != pair[1]), (len(own), "none")
        )
        raise ConfigError(
            f"images of split {inputs.name!r} must be those of the cache, "
            f"{ids[row]} in row {row}, got {other}; {advice}"
        )
    if fingerprint not in (None, inputs.fingerprint()):
        raise ConfigError(
            f"images of split {inputs.name!r} must be those of the cache, got others under "
            f"the same names; {advice}"
        )
