"""Training of the networks that latentood itself needs."""

from latentood.training.classifier import accuracy, save_weights, train_classifier

__all__ = ["accuracy", "save_weights", "train_classifier"]
