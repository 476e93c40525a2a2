"""The engines of object detectors: boxes come from the pass without noise, features from all.

A detector cannot run under ``vmap`` as a whole, since it finds another number of boxes in every
image. Its *body*, a module that holds all noise, such as the backbone, mostly can: then all passes
run through it at once, and the rest goes on with what the pass without noise gave. Otherwise each
pass is a forward of its own, until the last of the layers that vary has run.
"""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from latentood.errors import ModelError, one_line
from latentood.extraction.model.detections import (
    Detections,
    detections_of,
    padded,
    roi_features,
    watched,
)
from latentood.extraction.model.readout import BoxReadout
from latentood.extraction.model.taps import Tap, capture, key_of
from latentood.extraction.passes.engine_choice import agree, varying_layers
from latentood.extraction.passes.engines import Captured, Engine, FrozenNorms, Noisy
from latentood.extraction.passes.noise import OFF, row_keys
from latentood.extraction.passes.sites import OfModule, Pass, Site, find_sites, noisy
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
        with capture(self.model, taps) as captured, watched(self.model) as seen:
            output = self.readout.call(self.model, images)
        found = detections_of(output, images, seen, self.model)
        return found.kept(self.readout.boxes), captured.outputs

    def captured(self, found: Detections, outputs: Outputs, passes: Outputs) -> Captured:
        """Bring boxes and the layers of all passes, layer → (B, T, …), to what a cache keeps."""
        most = self.readout.boxes.max
        features = {
            name: self._of_boxes(values, found) if _is_of_boxes(name) else values
            for name, values in outputs.items()
        }
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
            mc_features={name: self._of_passes(name, v, found) for name, v in passes.items()},
        )

    def _of_boxes(self, maps: Tensor, found: Detections) -> Tensor:
        boxes = self.readout.boxes
        return padded(roi_features(maps, found.relative, boxes.roi), boxes.max)

    def _of_passes(self, name: str, values: Tensor, found: Detections) -> Tensor:
        if not _is_of_boxes(name):
            return values
        return torch.stack([self._of_boxes(maps, found) for maps in values.unbind(1)], dim=1)


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

    @property
    def followed(self) -> tuple[Tap, ...]:
        """The taps of layers that vary."""
        return tuple(tap for tap in self.taps if tap.layer in self.varying)

    def quiet(self, taps: Sequence[Tap]) -> Engine:
        """Give the engine without passes."""
        return Detecting(self.model, taps, self.readout)

    def until(self, images: Sequence[Tensor], taps: Sequence[Tap]) -> Outputs:
        """Run the model until all these layers have run, noise as the active hooks have it."""

        def stop(module: nn.Module, args: Any, output: Any) -> None:
            if len(captured.outputs) == len(taps):
                raise _EnoughError

        with ExitStack() as hooks:
            captured = hooks.enter_context(capture(self.model, taps))
            for name in {tap.module for tap in taps}:
                module = self.model.get_submodule(name)
                hooks.enter_context(module.register_forward_hook(stop))
            hooks.enter_context(suppress(_EnoughError))
            self.readout.call(self.model, images)
        return captured.outputs


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

    body: str  # name of the module

    def run_images(self, images: Sequence[Tensor], keys: Tensor) -> Captured:
        """Run B images of one size."""
        inside = [tap for tap in self.taps if _within(tap.module, self.body)]
        outside = [tap for tap in self.taps if tap not in inside]
        body = self.model.get_submodule(self.body)
        given: list[tuple[Any, Outputs]] = []  # of the body: in all passes, and its layers

        def forward(*args: Any, **kwargs: Any) -> Any:
            given.append(self._every_pass(body, inside, keys, args, kwargs))
            return _of_pass(given[-1][0], 0)

        with _replaced(body, forward):
            found, outputs = self.detect(images, outside)
        if len(given) != 1:
            raise ModelError(f"vmap: {self.body!r} must run once in a forward, got {len(given)}")
        output, layers = given[0]
        outputs |= {name: values[0] for name, values in layers.items()}
        passes = {n: v[1:].transpose(0, 1) for n, v in layers.items() if n in self.varying}
        behind = [tap for tap in outside if tap.layer in self.varying]
        if behind:
            each = []
            for index in range(1, self.passes + 1):
                with _replaced(body, lambda *_, index=index, **__: _of_pass(output, index)):
                    each.append(self.until(images, behind))
            passes |= _stacked(each, [tap.layer for tap in behind])
        return self.captured(found, outputs, passes)

    def _every_pass(
        self, body: nn.Module, taps: Sequence[Tap], keys: Tensor, args: Any, kwargs: Any
    ) -> tuple[Any, Outputs]:
        """Run the body in all passes: its output and its layers, (1 + T, B, …) each."""
        replaced = body.forward
        body.forward = type(body).forward.__get__(body)
        indices = torch.arange(OFF, self.passes, device=keys.device)

        def one(index: Tensor) -> tuple[Any, Outputs]:
            with (
                noisy(self.model, self.sites, Pass(keys, index)),
                capture(self.model, taps) as captured,
            ):
                output = body(*args, **kwargs)
            return output, captured.outputs

        try:
            with warnings.catch_warnings(), FrozenNorms():
                warnings.filterwarnings("ignore", message="There is a performance drop")
                return torch.func.vmap(one)(indices)
        finally:
            body.forward = replaced


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module do something else when it is called."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def _of_pass(output: Any, index: int) -> Any:
    return tree_map(lambda values: values[index], output)


def _stacked(passes: Sequence[Outputs], layers: Collection[str]) -> Outputs:
    return {name: torch.stack([one[name] for one in passes], dim=1) for name in layers}


class _EnoughError(Exception):
    """All that is wanted of a forward is there."""


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
    for body in _bodies(sites):
        vmapped = VmappedDetecting(
            model, taps, readout, sites, config.passes, repeated.varying, body
        )
        try:
            got = replace(vmapped, passes=3).run(images, keys)
        except Exception as error:  # functorch raises many kinds where it cannot batch an operation
            log.info("vmap of %s does not apply: %s", body, one_line(error)[:200])
        else:
            if agree(got, truth):
                log.info("passes: vmap over %s", body)
                return vmapped
    log.warning("passes: vmap cannot run this model; falling back to %d forwards", config.passes)
    return repeated


def _bodies(sites: Sequence[Site]) -> Iterator[str]:
    """Name the modules that hold all sites, the largest first; the model itself is none."""
    if not all(isinstance(site, OfModule) for site in sites):
        return
    names = [cast("OfModule", site).module.split(".") for site in sites]
    shared = []
    for parts in zip(*names, strict=False):
        if len(set(parts)) > 1:
            return
        shared.append(parts[0])
        yield ".".join(shared)


def _within(module: str, body: str) -> bool:
    return f"{module}.".startswith(f"{body}.")


def _is_of_boxes(name: str) -> bool:
    return key_of(name).unit == "box"


def _joined(parts: Sequence[Captured]) -> Captured:
    """Put images that ran alone together."""

    def joined(each: Sequence[Outputs]) -> Outputs:
        return {name: torch.cat([one[name] for one in each]) for name in each[0]}

    return Captured(
        logits=torch.cat([part.logits for part in parts]),
        features=joined([part.features for part in parts]),
        mc_features=joined([part.mc_features for part in parts]),
    )
