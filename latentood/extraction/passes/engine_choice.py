"""Choose the engine for the stochastic passes of a model.

The layers that vary over the passes are those that varied in a trial, and a faster engine is
chosen only if it reproduced the plain repetition of the forward there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from latentood.errors import ModelError, one_line, suggest
from latentood.extraction.model.readout import Logits
from latentood.extraction.model.reductions import Mean
from latentood.extraction.model.taps import Tap, key_of
from latentood.extraction.passes.engines import Captured, NoisyLogits, Pooled, Repeated, Vmapped
from latentood.extraction.passes.noise import Mask, row_keys
from latentood.extraction.passes.sites import ModuleSite, find_sites
from latentood.latents import PENULTIMATE
from latentood.pipeline.schema import MonteCarlo

log = logging.getLogger(__name__)

_TOLERANCE = 1e-4  # relative; convolution algorithms differ in the last bits of float32
_MIXED_TOLERANCE = 5e-2  # the same for bfloat16, which keeps 8 bits
_TRIAL_PASSES = 3


def choose_engine(
    model: nn.Module,
    taps: Sequence[Tap],
    readout: Logits,
    config: MonteCarlo,
    head: str | None,
    batch: Tensor,
) -> NoisyLogits:
    """Choose the fastest engine that reproduces repeated forwards on a few rows.

    Raises:
        ModelError: Nothing is stochastic, the passes do not differ, or they cannot be repeated.
    """
    sites = find_sites(model, config, batch)
    keys = row_keys(0, torch.arange(len(batch), device=batch.device))
    every = frozenset(tap.layer for tap in taps)
    repeated = Repeated(model, taps, readout, sites, config.passes, every)
    trial = replace(repeated, passes=_TRIAL_PASSES)
    truth = trial.run(batch, keys)
    if not agree(trial.run(batch, keys), truth):
        raise ModelError(
            "monte_carlo: the same rows give other outputs when they are run again, so a module "
            "keeps a state, draws from another generator than torch's, or is random in eval mode "
            "too; switch on others by activate: [NAME, …], and use F.dropout(x, p, self.training)"
        )
    repeated = replace(repeated, varying=varying_layers(truth, config.layers))
    pooled = _pooled(repeated, head, batch)
    if pooled is not None and _agree(pooled, truth, batch, keys):
        log.info("passes: masked pooling as a matrix product")
        return pooled
    vmapped = Vmapped(model, taps, readout, sites, config.passes, repeated.varying)
    if _agree(vmapped, truth, batch, keys):
        log.info("passes: vmap over everything behind %s", sites[0].where)
        return vmapped
    log.warning("passes: vmap cannot run this model; falling back to %d forwards", config.passes)
    return repeated


def varying_layers(truth: Captured, wanted: Iterable[str] | None) -> frozenset[str]:
    """List the layers that differ between passes, and check that something does."""
    # What a head gives beside the logits, named by its key, is kept of the forward without noise.
    layers = ((n, v) for n, v in truth.mc_features.items() if key_of(n).kind == "features")
    different = {n for n, values in layers if not _constant(values)}
    if not different and (truth.mc_logits is None or _constant(truth.mc_logits)):
        raise ModelError(
            "monte_carlo: the passes do not differ, so nothing stochastic reaches the "
            "layers or the logits; insert noise earlier"
        )
    if wanted is None:
        return frozenset(different)
    for layer in wanted:
        if layer not in truth.features:
            raise ModelError(
                f"monte_carlo.layers {layer!r}: is not among layers:; "
                f"{suggest(layer, truth.features)}"
            )
        if layer not in different:
            raise ModelError(
                f"monte_carlo.layers {layer!r}: does not vary over the passes; layers "
                f"that do: {', '.join(sorted(different)) or 'none'}"
            )
    return frozenset(n for n in different if key_of(n).layer in set(wanted))


def _constant(passes: Tensor) -> bool:
    """Test whether (B, T, …) is the same in every pass."""
    return bool((passes == passes[:, :1]).all())


def _pooled(plain: Repeated, head: str | None, batch: Tensor) -> Pooled | None:
    """Build the pooling engine where all that follows the noise is mean pooling and the head."""
    linear = None if head is None else plain.model.get_submodule(head)
    site = plain.sites[0]
    if len(plain.sites) != 1 or not isinstance(linear, nn.Linear):
        return None
    if not isinstance(site, ModuleSite) or not isinstance(site.noise, Mask):
        return None
    for tap in plain.taps:
        of_site = tap.module == site.module and tap.reduction.name == "mean"
        if tap.layer in plain.varying and tap.layer != PENULTIMATE and not of_site:
            return None
    engine = Pooled(
        plain.model, plain.taps, plain.readout, plain.sites, plain.passes, plain.varying,
        site, site.noise, linear,
    )  # fmt: skip
    return engine if _pools_into_head(engine, batch) else None


def _pools_into_head(engine: Pooled, batch: Tensor) -> bool:
    """Test whether the mean over positions of the site's output is the input of the head.

    It is replaced by random numbers of both signs. The logits are those computed here only if no
    activation, normalisation or second branch changes them.
    """
    sent: list[Tensor] = []

    def exchange(module: nn.Module, args: object, out: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(len(sent))
        sent.append(torch.randn(out.shape, generator=generator).to(out))
        return sent[-1]

    module = engine.model.get_submodule(engine.site.module)
    with module.register_forward_hook(exchange):
        logits, _ = engine.forward(batch)
    if len(sent) != 1 or sent[0].dim() not in (2, 4) or sent[0].shape[1] != engine.head.in_features:
        return False
    return _close(engine.head(Mean().apply(sent[0])), logits)


def _agree(engine: NoisyLogits, truth: Captured, batch: Tensor, keys: Tensor) -> bool:
    """Test whether an engine reproduces repeated forwards."""
    try:
        got = replace(engine, passes=_TRIAL_PASSES).run(batch, keys)
    except ModelError:
        raise
    except Exception as error:  # functorch raises many kinds where it cannot batch an operation
        log.info("%s does not apply: %s", type(engine).__name__, one_line(error)[:200])
        return False
    return agree(got, truth)


def agree(got: Captured, truth: Captured) -> bool:
    """Test whether two ways to run a model gave the same, but for rounding.

    Layers that only ``truth`` followed over the passes do not count.
    """
    pairs = [(got.logits, truth.logits), (got.mc_logits, truth.mc_logits)]
    pairs += [(got.features[layer], truth.features[layer]) for layer in truth.features]
    pairs += [(values, truth.mc_features[layer]) for layer, values in got.mc_features.items()]
    return all(_close(a, b) for a, b in pairs)


def _close(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    mixed = torch.is_autocast_enabled(b.device.type)
    tolerance = _MIXED_TOLERANCE if mixed else _TOLERANCE
    if a.shape != b.shape or not a.numel():
        return a.shape == b.shape
    scale = float(b.abs().max()) + 1e-12
    return float((a - b).abs().max()) <= tolerance * scale
