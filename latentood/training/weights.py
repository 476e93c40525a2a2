"""The weights of a trained network, with what its head is, in one file."""

from __future__ import annotations

from pathlib import Path

from latentood import sealed
from latentood.errors import StoreError
from latentood.models.heads import FeatureClassifier, describe, tensors_of
from latentood.training.network import Network

FILE = "weights.safetensors"
LAST = "last.safetensors"


def save(network: Network, path: Path) -> None:
    """Write the tensors of the classifier under its own names, and those of the head beside them.

    Raises:
        StoreError: The folder cannot be written.
    """
    classifier, objective = network.classifier, network.objective
    document = {
        "head": describe(network.head),
        "objective": {"name": objective.name, **objective.hyperparameters()},
    }
    if isinstance(classifier, FeatureClassifier):
        document["features"] = classifier.describe()
    sealed.write(path, document, tensors_of(classifier, network.head))


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

    sealed.read_intact(path, refuse)
