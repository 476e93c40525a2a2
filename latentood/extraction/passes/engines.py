"""The engines that run a model over a batch: without noise, or with T stochastic passes as well.

All noisy engines draw the same masks (see :mod:`latentood.extraction.passes.noise`), so they agree
to rounding; they differ in what they repeat:

===================  ==========================================  ===========================
engine               repeats per pass                            where it applies
===================  ==========================================  ===========================
:class:`Pooled`      masking and pooling, as one matrix product  noise → mean pooling → head
:class:`Vmapped`     the part behind the first noise             models that ``vmap`` can run
:class:`Repeated`    the whole forward                           everything else
===================  ==========================================  ===========================

In their place :class:`~latentood.extraction.passes.members.Members` runs those of an ensemble.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentood.extraction.model.readout import Logits, Readout
from latentood.extraction.model.taps import Tap, capture, capture_until
from latentood.extraction.passes.bodies import Body, batched, holders
from latentood.extraction.passes.noise import OFF, Mask
from latentood.extraction.passes.sites import ModuleSite, Pass, Site, noisy


@dataclass(frozen=True)
class Captured:
    """The outputs of a model for one batch."""

    logits: Tensor  # (B, C), of cells (B, K, C)
    features: dict[str, Tensor]  # layer → (B, D) or (B, K, D), noise off
    mc_logits: Tensor | None = None  # (B, T, …) of these; None without passes
    mc_features: dict[str, Tensor] = field(default_factory=dict)  # varying layer → (B, T, …)


@dataclass(frozen=True)
class Engine(ABC):
    """Runs a model over batches."""

    model: nn.Module  # in eval mode
    taps: Sequence[Tap]
    readout: Readout  # takes the logits out of the model's output

    @abstractmethod
    def run(self, batch: Tensor, keys: Tensor) -> Captured:
        """Run one batch (B, …) with the (B,) row keys for its noise."""


@dataclass(frozen=True)
class LogitsEngine(Engine):
    """Runs a model that gives logits."""

    readout: Logits

    def forward(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the model once, noise as the active hooks have it."""
        with capture(self.model, self.taps) as captured:
            logits = self.readout.logits(self.model(batch))
        return logits, captured.outputs


@dataclass(frozen=True)
class Plain(LogitsEngine):
    """One forward without noise."""

    def run(self, batch: Tensor, keys: Tensor) -> Captured:
        """Run one batch."""
        return Captured(*self.forward(batch))


@dataclass(frozen=True)
class Noisy(Engine):
    """T passes with noise, beside the forward without."""

    sites: Sequence[Site]
    passes: int  # T
    varying: frozenset[str]  # layers to follow over the passes
    with_logits: bool = field(default=True, kw_only=True)  # whether to follow the logits, too

    @property
    def followed(self) -> tuple[Tap, ...]:
        """The taps of layers to follow."""
        return tuple(tap for tap in self.taps if tap.layer in self.varying)

    @abstractmethod
    def quiet(self, taps: Sequence[Tap]) -> Engine:
        """Give the engine without passes, for some taps."""


@dataclass(frozen=True)
class NoisyLogits(LogitsEngine, Noisy):
    """T passes of a model that gives logits."""

    readout: Logits

    def quiet(self, taps: Sequence[Tap]) -> Engine:
        """Give the engine without passes."""
        return Plain(self.model, taps, self.readout)

    def run_pass(
        self, batch: Tensor, keys: Tensor, index: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the model in one stochastic pass."""
        with noisy(self.model, self.sites, Pass(keys, index)):
            return self.forward(batch)

    def run_part(self, batch: Tensor, keys: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Run the model in one stochastic pass until the layers to follow have run."""
        with noisy(self.model, self.sites, Pass(keys, index)):
            return capture_until(self.model, self.followed, lambda: self.model(batch))


@dataclass(frozen=True)
class Vmapped(NoisyLogits):
    """All passes at once under ``vmap``; the part before the first noise is computed once.

    The forward without noise is one more pass, ``OFF``, so that nothing deterministic is computed
    twice. Where only layers are followed, the passes run through no more than the module that holds
    these and all noise.
    """

    def run(self, batch: Tensor, keys: Tensor) -> Captured:
        """Run one batch."""
        if not self.with_logits and (body := self._body()) is not None:
            return self._run_parts(batch, keys, body)
        indices = torch.arange(OFF, self.passes, device=keys.device)
        with batched():
            every_pass = torch.func.vmap(lambda index: self.run_pass(batch, keys, index))
            logits, outputs = every_pass(indices)
        return Captured(
            logits=logits[0],
            features={layer: values[0] for layer, values in outputs.items()},
            mc_logits=logits[1:].transpose(0, 1),
            mc_features={n: v[1:].transpose(0, 1) for n, v in outputs.items() if n in self.varying},
        )

    def _run_parts(self, batch: Tensor, keys: Tensor, body: Body) -> Captured:
        """Run the model once, and the passes through the part of it that holds them."""
        inside, outside = body.split(self.taps)
        with capture(self.model, outside) as captured:
            given, output = body.run(inside, keys, lambda: self.model(batch))
        passes = {n: values for n, values in given.passes.items() if n in self.varying}
        logits = self.readout.logits(output)
        return Captured(logits, captured.outputs | given.quiet, mc_features=passes)

    def _body(self) -> Body | None:
        """Give the smallest part that holds all noise and all layers to follow, if there is one."""
        parts = [Body(self.model, name, self.sites, self.passes) for name in holders(self.sites)]
        fitting = [part for part in parts if all(map(part.holds, self.followed))]
        return fitting[-1] if fitting else None


@dataclass(frozen=True)
class Repeated(NoisyLogits):
    """T forwards one after the other, for models that ``vmap`` cannot run."""

    def run(self, batch: Tensor, keys: Tensor) -> Captured:
        """Run one batch."""
        logits, features = self.forward(batch)
        indices = torch.arange(self.passes, device=keys.device)
        if not self.with_logits:
            parts = [self.run_part(batch, keys, index) for index in indices]
            followed = {n: torch.stack([one[n] for one in parts], dim=1) for n in self.varying}
            return Captured(logits, features, mc_features=followed)
        passes = [self.run_pass(batch, keys, index) for index in indices]
        return Captured(
            logits=logits,
            features=features,
            mc_logits=torch.stack([of_pass for of_pass, _ in passes], dim=1),
            mc_features={n: torch.stack([o[n] for _, o in passes], dim=1) for n in self.varying},
        )


@dataclass(frozen=True)
class Pooled(NoisyLogits):
    """For noise → mean pooling → head: masking and pooling as one matrix product per row."""

    site: ModuleSite  # the only site
    noise: Mask  # that of the site
    head: nn.Linear  # after the pooling

    def run(self, batch: Tensor, keys: Tensor) -> Captured:
        """Run one batch."""
        maps: list[Tensor] = []
        module = self.model.get_submodule(self.site.module)
        with module.register_forward_hook(lambda m, args, out: maps.append(out)):
            logits, features = self.forward(batch)
        pooled = self._pool(maps[0], keys)
        return Captured(
            logits=logits,
            features=features,
            mc_logits=F.linear(pooled, self.head.weight, self.head.bias),
            mc_features=dict.fromkeys(self.varying, pooled),
        )

    def _pool(self, maps: Tensor, keys: Tensor) -> Tensor:
        """Mask and average: (B, C, …) → (B, T, C)."""
        noise, stream, shape = self.noise, self.site.stream, tuple(maps.shape[1:])
        indices = torch.arange(self.passes, device=keys.device)
        masks = torch.func.vmap(lambda index: noise.mask(keys, index, stream, shape))(indices)
        masks = masks.movedim(0, 1).to(maps.dtype)
        if maps.dim() == 2:
            return maps[:, None] * masks
        maps, masks = maps.flatten(2), masks.flatten(3)  # (B, C, P) and (B, T, C or 1, P or 1)
        if masks.shape[3] == 1:
            return maps.mean(dim=2)[:, None] * masks[..., 0]
        if masks.shape[2] == 1:
            return masks[:, :, 0] @ maps.transpose(1, 2) / maps.shape[2]
        return torch.einsum("btcp,bcp->btc", masks, maps) / maps.shape[2]
