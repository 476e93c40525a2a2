"""The weights of a trained network, with what its head is, in one file."""

from __future__ import annotations

from pathlib import Path

from latentood import sealed
from latentood.errors import StoreError
from latentood.models.heads import PREFIX, describe
from latentood.training.network import Network

FILE = "weights.safetensors"
LAST = "last.safetensors"


def save(network: Network, path: Path) -> None:
    """Write the tensors of the classifier under its own names, and those of the head beside them.

    Raises:
        StoreError: The folder cannot be written.
    """
    state, left_out = network.head.state_dict(), network.head.only_for_training
    head = {f"{PREFIX}{name}": value for name, value in state.items() if name not in left_out}
    document = {
        "head": describe(network.head),
        "objective": {"name": network.objective.name, **network.objective.hyperparameters()},
    }
    sealed.write(path, document, dict(network.classifier.state_dict()) | head)


def check(path: Path) -> None:
    """Check that a file has the bytes that :func:`save` wrote.

    Raises:
        StoreError: It has not, or it is not there.
    """

    def refuse(what: str) -> StoreError:
        return StoreError(
            f"{path}: must be the weights that latentood train wrote, got {what}; --overwrite to "
            "train anew"
        )

    try:
        intact = sealed.read(path, refuse).intact
    except FileNotFoundError:
        raise refuse("no file") from None
    if not intact:
        raise refuse("other bytes")
