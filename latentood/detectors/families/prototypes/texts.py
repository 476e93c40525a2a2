"""Image embeddings against embeddings of texts: names of the ID classes, and other words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from latentood.detectors.base import FeatureDetector, Seed, State
from latentood.errors import DetectorError, MissingInput, one_line
from latentood.latents import Latents
from latentood.plugins import hyper, plugin

ID, NEGATIVE = "id", "negative"  # of the arrays in a safetensors file


@plugin
class NegLabel(FeatureDetector):
    """Share of a row's likeness to texts that goes to ID labels rather than other words, negated.

    ``−mean_g Σ_id exp(s/τ) / (Σ_id exp(s/τ) + Σ_{negatives of g} exp(s/τ))`` with cosines s between
    the embedding of an image and those of texts; Jiang et al. 2024 (NegLabel), with their grouping
    of negative labels, shuffled by a seed, where labels that are left over are dropped. Negative
    labels are chosen as by their NegMining: of the words in the file the share ``kept`` with the
    lowest ``quantile`` of cosines to the ID labels. Their code ranks nouns and adjectives apart;
    here all words are one list, so give the kinds that are wanted in their proportions.

    ``texts`` names a file: safetensors with the arrays ``id`` (K, D) and ``negative`` (M, D), or
    .npy with one array (K+M, D), whose first ``id_labels`` rows embed ID labels. Its embeddings
    must be those of the model that embedded the images; they need no length of 1. The fitted
    detector carries them, and does not need the file. Read were the abstract, reviews, and the
    authors' code, whose settings for ImageNet are the defaults.
    """

    name = "neglabel"
    family = "prototypes"
    paper = "arXiv:2403.20078, sec. 3"
    works = "Embeddings of CLIP and its kin, with thousands of words that name what is not ID."
    fails = "Other networks, whose features have no texts; OOD that no word in the file names."
    cost = "O(K·M·D) once, O((K+M)·D) per row, for K ID and M negative labels"
    texts: str = hyper(
        "", "path of the embeddings of ID labels and other words; there is no default"
    )
    id_labels: int = hyper(0, "rows of an .npy file that embed ID labels", low=0)
    kept: float = hyper(0.15, "share of the words that become negative labels", above=0, high=1)
    quantile: float = hyper(
        0.95, "which quantile of cosines to ID labels ranks words", low=0, high=1
    )
    temperature: float = hyper(0.01, "τ that divides the cosines", above=0)
    groups: int = hyper(100, "groups of negative labels; at most as many as labels", low=1)
    seed: Seed = 0

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep ID labels (K, D) and negative labels (groups, size, D), of length 1.

        Raises:
            MissingInput: No file was named.
            DetectorError: It cannot be read, or holds something else.
        """
        if not self.texts:
            raise MissingInput(
                f"{self.name}: needs embeddings of texts, but no file is named; set texts to a "
                f"safetensors file with arrays {ID!r} and {NEGATIVE!r}"
            )
        labels, words = (
            normalize(part.double(), dim=1) for part in self._read(train.shape(self.key)[1])
        )
        typical = torch.quantile(words @ labels.mT, self.quantile, dim=1)
        count = max(1, int(self.kept * len(words)))
        negative = words[typical.argsort(stable=True)[:count]]
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed))
        groups = min(self.groups, count)
        grouped = negative[order[: count // groups * groups]].unflatten(0, (groups, -1))
        return {ID: labels.to(train.device), NEGATIVE: grouped.to(train.device)}

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report how many labels there are of each kind, and in how many groups."""
        groups, size, _ = state[NEGATIVE].shape
        return {"id_labels": len(state[ID]), "negative_labels": groups * size, "groups": groups}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Average the shares over the groups: (N,) in [−1, 0]."""
        unit = normalize(rows.double(self.key), dim=1) / self.temperature
        known = (unit @ state[ID].mT).logsumexp(dim=1, keepdim=True)
        groups, size, _ = state[NEGATIVE].shape
        others = unit @ state[NEGATIVE].flatten(0, 1).mT
        negative: Tensor = others.unflatten(1, (groups, size)).logsumexp(dim=2)
        return -(known - negative).sigmoid().mean(dim=1)

    def _read(self, width: int) -> tuple[Tensor, Tensor]:
        """Read the embeddings of ID labels (K, D) and of words (M, D)."""
        path = Path(self.texts)
        try:
            if path.suffix == ".npy":
                whole = torch.from_numpy(np.load(path, allow_pickle=False))
                parts = [whole[: self.id_labels], whole[self.id_labels :]]
            else:
                arrays = load_file(path)
                parts = [arrays[ID], arrays[NEGATIVE]]
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise self._refused(f"{type(error).__name__}: {one_line(error)}") from error
        for part in parts:
            if part.dim() != 2 or not len(part) or part.shape[1] != width:
                raise self._refused(f"{tuple(part.shape)} for features of width {width}")
            if not part.is_floating_point() or not bool(part.isfinite().all()):
                raise self._refused(f"{part.dtype} that are not all finite real numbers")
        return parts[0], parts[1]

    def _refused(self, got: str) -> DetectorError:
        return DetectorError(
            f"{self.name}: texts must be a safetensors file with arrays {ID!r} (K, D) and "
            f"{NEGATIVE!r} (M, D), or an .npy file (K+M, D) with id_labels=K, got {got} in "
            f"{self.texts}; embed the texts with the model of the images"
        )
