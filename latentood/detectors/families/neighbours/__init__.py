"""The fit rows nearest to a row, or those it would be near to."""

from latentood.detectors.families.neighbours.decoupled import DKNN
from latentood.detectors.families.neighbours.guidance import NNGuide, Relation
from latentood.detectors.families.neighbours.knn import KNN
from latentood.detectors.families.neighbours.reverse import CFOOD

DETECTORS = (KNN, NNGuide, Relation, CFOOD, DKNN)
