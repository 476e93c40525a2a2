"""Data sets, data sets made of others, and transforms, to be named in a pipeline file.

All data sets are map-style. A row is ``image`` or ``(image, label)`` with an ``int`` label, or in
its place a mask or a mapping with boxes; ``ids``, where there is one, names the rows.
``model_space = True`` marks images that are ready for a model, so that a pipeline's transform is
not applied to them.
"""

from latentood.data.arrays import Arrays
from latentood.data.corrupted import Corrupted, PatchShuffle, PixelPermutation, Rotations
from latentood.data.corruptions import Blurred, Contrast, Jpeg
from latentood.data.derived import Fields, HeldOutClasses, OnlyClasses, Rows
from latentood.data.digits import Digits
from latentood.data.hub import hugging_face
from latentood.data.photos import PhotoPatches
from latentood.data.scenes.digits import DigitScenes
from latentood.data.scenes.files import ImageMasks, VocBoxes
from latentood.data.synthetic import Blob, ConstantColour, GaussianNoise, Rademacher, Uniform
from latentood.data.transforms import hugging_face_transform, timm_transform, weights_transform

__all__ = [
    "Arrays", "Blob", "Blurred", "ConstantColour", "Contrast", "Corrupted", "DigitScenes",
    "Digits", "Fields", "GaussianNoise", "HeldOutClasses", "ImageMasks", "Jpeg", "OnlyClasses",
    "PatchShuffle", "PhotoPatches", "PixelPermutation", "Rademacher", "Rotations", "Rows",
    "Uniform", "VocBoxes", "hugging_face", "hugging_face_transform", "timm_transform",
    "weights_transform",
]  # fmt: skip
