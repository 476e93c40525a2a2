"""Data sets that need no download: synthetic OOD, digits, photographs, and array files.

All are map-style. A row is ``image`` or ``(image, label)`` with an ``int`` label; ``ids``, where
there is one, names the rows. ``model_space = True`` says that images already are what a model
sees, so that a pipeline's transform is not applied to them.
"""

from latentood.data.arrays import Arrays
from latentood.data.digits import Digits
from latentood.data.photos import PhotoPatches
from latentood.data.synthetic import Blob, GaussianNoise, Rademacher

__all__ = ["Arrays", "Blob", "Digits", "GaussianNoise", "PhotoPatches", "Rademacher"]
