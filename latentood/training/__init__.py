"""Training of the networks that latentood itself needs."""

from latentood.training.classifier import accuracy, train_classifier
from latentood.training.weights import save_weights

__all__ = ["accuracy", "save_weights", "train_classifier"]
