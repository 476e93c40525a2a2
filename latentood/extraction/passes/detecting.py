"""The engines of object detectors: boxes come from the pass without noise, features from all.

A detector cannot run under ``vmap`` as a whole, since it finds another number of boxes in every
image. Its *body*, a module that holds all noise, such as the backbone, mostly can: then all passes
run through it at once, and the rest goes on with what the pass without noise gave. Otherwise each
pass is a forward of its own, until the last of the layers that vary has run.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentood.errors import ModelError, one_line
from latentood.extraction.model.detections import (
    Detections,
    detections_of,
    padded,
    roi_features,
    watched,
)
from latentood.extraction.model.readout import BoxReadout
from latentood.extraction.model.taps import Tap, capture, capture_until, key_of
from latentood.extraction.passes.bodies import Body, holders
from latentood.extraction.passes.engine_choice import agree, varying_layers
from latentood.extraction.passes.engines import Captured, Engine, Noisy
from latentood.extraction.passes.noise import row_keys
from latentood.extraction.passes.sites import Pass, find_sites, noisy
from latentood.latents import PENULTIMATE, Key
from latentood.pipeline.schema import MonteCarlo

log = logging.getLogger(__name__)

Outputs = dict[str, Tensor]
"""Layer → what was captured."""

XYXY, CONFIDENCE, PREDICTIONS, COUNT = (
    Key(kind, unit="box") for kind in ("xyxy", "confidence", "predictions", "count")
)
BOX_FEATURES = Key("features", PENULTIMATE, "box")


class BoxEngine(Engine):
    """Runs a detector over batches of images, which may differ in size."""

    readout: BoxReadout

    def run(self, batch: Any, keys: Tensor) -> Captured:
        """Run B images (C, H, W); those of one size together, so that none depends on another."""
        images = list(batch)
        if len({image.shape for image in images}) == 1:
            return self.run_images(images, keys)
        parts = [self.run_images([one], keys[at : at + 1]) for at, one in enumerate(images)]
        return _joined(parts)

    @abstractmethod
    def run_images(self, images: Sequence[Tensor], keys: Tensor) -> Captured:
        """Run B images of one size."""

    def detect(self, images: Sequence[Tensor], taps: Sequence[Tap]) -> tuple[Detections, Outputs]:
        """Run the detector once, noise as the active hooks have it."""
        with capture(self.model, taps) as captured, watched(self.model, self.readout.head) as seen:
            output = self.readout.call(self.model, images)
        boxes = self.readout.boxes
        found = detections_of(output, images, seen, self.model, boxes.max)
        return found.kept(boxes), captured.outputs

    def captured(self, found: Detections, outputs: Outputs, passes: Outputs) -> Captured:
        """Bring boxes and the layers of all passes, layer → (B, T, …), to what a cache keeps."""
        most = self.readout.boxes.max
        here = int(found.count.max())
        relative = padded(found.relative, here)
        absent = (torch.arange(here) >= found.count[:, None])[:, None, :, None]

        def of_boxes(name: str, values: Tensor) -> Tensor:
            if key_of(name).unit != "box":
                return values
            rows = roi_features(values, relative, self.readout.boxes.roi)
            return F.pad(rows.masked_fill(absent.to(rows.device), 0), (0, 0, 0, most - here))

        features = {name: of_boxes(name, v[:, None])[:, 0] for name, v in outputs.items()}
        features |= {
            XYXY: padded(found.xyxy, most),
            CONFIDENCE: padded(found.confidence, most),
            PREDICTIONS: padded(found.labels, most),
            COUNT: found.count,
        }
        if found.features is not None:
            features[BOX_FEATURES] = padded(found.features, most)
        none = features[CONFIDENCE].new_zeros(len(found.xyxy), most, 0)
        return Captured(
            logits=none if found.logits is None else padded(found.logits, most),
            features=features,
            mc_features={name: of_boxes(name, values) for name, values in passes.items()},
        )


@dataclass(frozen=True)
class Detecting(BoxEngine):
    """One forward without noise."""

    readout: BoxReadout

    def run_images(self, images: Sequence[Tensor], keys: Tensor) -> Captured:
        """Run B images of one size."""
        return self.captured(*self.detect(images, self.taps), {})


@dataclass(frozen=True)
class NoisyDetecting(BoxEngine, Noisy):
    """T passes with noise, beside the forward without."""

    readout: BoxReadout

    def quiet(self, taps: Sequence[Tap]) -> Engine:
        """Give the engine without passes."""
        return Detecting(self.model, taps, self.readout)

    def until(self, images: Sequence[Tensor], taps: Sequence[Tap]) -> Outputs:
        """Run the model until all these layers have run, noise as the active hooks have it."""
        return capture_until(self.model, taps, lambda: self.readout.call(self.model, images))


@dataclass(frozen=True)
class RepeatedDetecting(NoisyDetecting):
    """T forwards one after the other, each until the last layer that varies has run."""

    def run_images(self, images: Sequence[Tensor], keys: Tensor) -> Captured:
        """Run B images of one size."""
        found, outputs = self.detect(images, self.taps)
        passes = []
        for index in range(self.passes):
            one = Pass(keys, torch.tensor(index, device=keys.device))
            with noisy(self.model, self.sites, one):  # before what it disturbs is captured
                passes.append(self.until(images, self.followed))
        return self.captured(found, outputs, _stacked(passes, self.varying))


@dataclass(frozen=True)
class VmappedDetecting(NoisyDetecting):
    """All passes at once through the body; the pass without noise is one more of them.

    Layers behind the body run once more for each pass, on what the body gave.
    """

    body: Body

    def run_images(self, images: Sequence[Tensor], keys: Tensor) -> Captured:
        """Run B images of one size."""
        body = replace(self.body, passes=self.passes)
        inside, outside = body.split(self.taps)
        given, (found, outputs) = body.run(inside, keys, lambda: self.detect(images, outside))
        passes = {name: values for name, values in given.passes.items() if name in self.varying}
        behind = [tap for tap in outside if tap.layer in self.varying]
        if behind:
            each = [
                body.replay(given, index, lambda: self.until(images, behind))
                for index in range(1, self.passes + 1)
            ]
            passes |= _stacked(each, [tap.layer for tap in behind])
        return self.captured(found, outputs | given.quiet, passes)


def _stacked(passes: Sequence[Outputs], layers: Collection[str]) -> Outputs:
    return {name: torch.stack([one[name] for one in passes], dim=1) for name in layers}


def choose_box_engine(
    model: nn.Module,
    taps: Sequence[Tap],
    readout: BoxReadout,
    config: MonteCarlo,
    images: Sequence[Tensor],
) -> NoisyDetecting:
    """Choose the fastest engine that reproduces repeated forwards on a few images.

    Raises:
        ModelError: Nothing is stochastic, the passes do not differ, or they cannot be repeated.
    """
    sites = find_sites(model, config, cast("Tensor", images))
    keys = row_keys(0, torch.arange(len(images), device=images[0].device))
    layers = frozenset(tap.layer for tap in taps)
    repeated = RepeatedDetecting(model, taps, readout, sites, config.passes, layers)
    truth = replace(repeated, passes=3).run(images, keys)
    if not agree(replace(repeated, passes=3).run(images, keys), truth):
        raise ModelError(
            "monte_carlo: the same images give other outputs when they are run again; switch on "
            "noise modules by activate: [NAME, …]"
        )
    repeated = replace(repeated, varying=varying_layers(truth, config.layers))
    for body in _bodies(repeated):
        vmapped = VmappedDetecting(
            model, taps, readout, sites, config.passes, repeated.varying, body
        )
        try:
            got = replace(vmapped, passes=3).run(images, keys)
        except Exception as error:  # functorch raises many kinds where it cannot batch an operation
            log.info("vmap of %s does not apply: %s", body.name, one_line(error)[:200])
        else:
            if agree(got, truth):
                log.info("passes: vmap over %s", body.name)
                return vmapped
    log.warning("passes: vmap cannot run this model; falling back to %d forwards", config.passes)
    return repeated


def _bodies(plain: RepeatedDetecting) -> list[Body]:
    """List the bodies to try, of which none holds the head, whose input is of one pass alone.

    First come those that hold all layers to follow, the smallest first, since nothing else runs in
    all passes there; then the others, the largest first.
    """
    head = plain.readout.head
    every = [Body(plain.model, name, plain.sites, plain.passes) for name in holders(plain.sites)]
    every = [body for body in every if head is None or not body.contains(head)]
    whole = [body for body in every if all(map(body.holds, plain.followed))]
    return [*reversed(whole), *(body for body in every if body not in whole)]


def _joined(parts: Sequence[Captured]) -> Captured:
    """Put images that ran alone together."""

    def joined(each: Sequence[Outputs]) -> Outputs:
        return {name: torch.cat([one[name] for one in each]) for name in each[0]}

    return Captured(
        logits=torch.cat([part.logits for part in parts]),
        features=joined([part.features for part in parts]),
        mc_features=joined([part.mc_features for part in parts]),
    )
