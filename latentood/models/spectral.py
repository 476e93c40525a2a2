"""Spectral normalisation of any network: no layer stretches its input by more than a bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from latentood.errors import ModelError, suggest

_FIRST_ITERATIONS = 15
_EVAL_ITERATIONS = 50
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


class SpectralBound(nn.Module):
    """A weight whose largest singular value σ is held at a bound: W·min(1, c/σ).

    The kernel of a convolution is read as a matrix, one row per output channel. σ is estimated by
    power iteration on a left singular vector u, which goes on from step to step in training mode.
    In eval mode it stays, so a network gives the same outputs once its state dict is loaded; many
    more iterations are done at once in the first forward, which catch up with the last steps.

    Args:
        weight: (O, I, …), or (I, O, …) for transposed convolutions.
        coefficient: c > 0.
        iterations: Of the power method in every training step, ≥ 1.
        outputs: Axis of the output channels.
    """

    _u: Tensor  # (O,)
    _settled: Tensor  # (O,) what u becomes in eval mode

    def __init__(
        self, weight: Tensor, coefficient: float, iterations: int, *, outputs: int = 0
    ) -> None:
        super().__init__()
        self.coefficient = coefficient
        self.iterations = iterations
        self.outputs = outputs
        matrix = self._matrix(weight.detach())
        u, _ = _singular_vectors(matrix, torch.randn_like(matrix[:, 0]), _FIRST_ITERATIONS)
        self.register_buffer("_u", u)
        self.register_buffer("_settled", u.clone(), persistent=False)
        self._is_settled = False

    def forward(self, weight: Tensor) -> Tensor:
        """Scale a weight down to the bound; below it, it stays as it is."""
        with torch.autocast(weight.device.type, enabled=False):  # σ needs more than three digits
            matrix = self._matrix(weight)
            u, v = self._vectors(matrix.detach())
            sigma = torch.vdot(u, matrix @ v)
        return weight * (self.coefficient / sigma.clamp(min=self.coefficient))

    def _vectors(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            u, v = _singular_vectors(matrix, self._u, self.iterations)
            self._u.copy_(u)
            return u, v
        if not self._is_settled:
            self._settled.copy_(_singular_vectors(matrix, self._u, _EVAL_ITERATIONS)[0])
            self._is_settled = True
        return _singular_vectors(matrix, self._settled, 1)

    def train(self, mode: bool = True) -> SpectralBound:
        """Choose the mode; what is known of σ in eval mode is forgotten."""
        self._is_settled = False
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._is_settled = False
        super()._load_from_state_dict(*args)

    def right_inverse(self, value: Tensor) -> Tensor:
        """Take a weight that is assigned as the one to scale."""
        return value

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.outputs, 0).flatten(1)


@torch.no_grad()
def _singular_vectors(matrix: Tensor, u: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Go on from u (O,) to the singular vectors u and v of the largest singular value."""
    v = matrix[0]
    for _ in range(iterations):
        v = F.normalize(matrix.mT @ u, dim=0)
        u = F.normalize(matrix @ v, dim=0)
    return u, v


def spectral_normalised(
    model: nn.Module,
    *,
    coefficient: float = 3.0,
    iterations: int = 1,
    skip: Sequence[str] = (),
) -> nn.Module:
    """Bound the largest singular value σ of the weight of every linear and convolutional layer.

    Each weight W acts as ``W·min(1, c/σ)``: the soft bound of SNGP (Liu et al. 2020,
    arXiv:2006.10108, alg. 1), of which DDU (Mukhoti et al. 2021, arXiv:2102.11582) takes c = 3 for
    ResNets. ``torch.nn.utils.parametrizations.spectral_norm`` divides by σ in any case, which
    is c = 1 without the min.

    The bound is one on the matrix (O, I·kh·kw) of a kernel, as in Miyato et al. 2018. As a map
    between images a convolution can stretch by up to √(kh·kw) times that; DDU iterates on the
    map itself for kernels larger than 1. Batch norms are not bounded. σ comes from power
    iteration, which approaches it from below: a weight exceeds c by the error of that estimate,
    which is large while training takes large steps, and mostly below 1% in eval mode.

    For a pipeline: ``target: latentood.models.spectral_normalised`` with ``args: {model:
    {target: …}, coefficient: 3.0}``. The names in the state dict change, so weights of the plain
    network do not fit.

    Args:
        model: Changed in place.
        coefficient: c, > 0.
        iterations: Of the power method in every training step, ≥ 1.
        skip: Dotted names of layers that stay as they are, such as the last one, as in DDU.

    Returns:
        The same model.

    Raises:
        ModelError: A number is outside its range, a name in ``skip`` is not that of a layer, or
            the model has no such layer or is normalised already.
    """
    if not coefficient > 0 or iterations < 1:
        raise ModelError(
            "spectral_normalised: coefficient must be > 0 and iterations ≥ 1, got "
            f"{coefficient} and {iterations}; change args: of the model"
        )
    layers = {n: m for n, m in model.named_modules() if isinstance(m, _LAYERS)}
    for name in skip:
        if name not in layers:
            raise ModelError(
                f"spectral_normalised: skip must name linear or convolutional layers, got "
                f"{name!r}; {suggest(name, layers)}"
            )
    chosen = [layer for name, layer in layers.items() if name not in skip]
    if not chosen or any(is_parametrized(layer, "weight") for layer in chosen):
        state = "none without" if chosen else "none"
        raise ModelError(
            "spectral_normalised: the model must have linear or convolutional layers without a "
            f"parametrisation, got {state}; normalise a plain model, once"
        )
    for layer in chosen:
        outputs = int(isinstance(layer, _TRANSPOSED))
        bound = SpectralBound(layer.weight, coefficient, iterations, outputs=outputs)
        register_parametrization(layer, "weight", bound)
    return model
