"""What is measured on the val split after every epoch."""

from latentood.training.measures.base import Measure
from latentood.training.measures.boxes import DetectionMeasure
from latentood.training.measures.classes import ClassMeasure
from latentood.training.measures.masks import PixelMeasure

__all__ = ["ClassMeasure", "DetectionMeasure", "Measure", "PixelMeasure"]
