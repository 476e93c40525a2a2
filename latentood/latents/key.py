"""Keys: the names of the arrays in latents and caches, and all that follows from a name.

==========================  ===========  ==================================================
key                         axes         what
==========================  ===========  ==================================================
``logits``                  (N, C)       output of the forward without noise
``labels``                  (N,)         true classes, int64
``ids``                     (N, L)       names of the rows, as UTF-8 bytes
``hashes``                  (N,)         64-bit digests of the inputs, int64
``features/<layer>``        (N, D)       reduced activations, dropout off
``mc.logits``               (N, T, C)    logits of T stochastic passes
``mc.features/<layer>``     (N, T, D)    reduced activations of T stochastic passes
``mc.entropy/<layer>``      (N, D)       entropy of each dimension over the T passes, nats
``scores/<name>``           (N,)         a score that needs the model, computed during extraction
``dirichlet/<head>``        (N, C)       log concentrations of the Dirichlet that a head predicts
``density/<head>``          (N, C)       log density of the latent vector for each class
``distance/<head>``         (N, C)       squared distance to the nearest prototype of each class
``weighted_logits/<head>``  (N, C)       logits plus learnt log weights of the classes
``head``                                 the last linear layer: weight (C, D) and bias (C,)
``ood``                     (N,)         whether a row is OOD: 0 ID, 1 OOD, 255 neither counts
``masks``                   (N, H, W)    the same for every pixel
==========================  ===========  ==================================================

Arrays about members of an image have the axis K after N and a prefix: ``cells.features/<layer>``
(N, K, D), ``boxes.logits`` (N, K, C). An image has ``count`` members, which come first; the rest
are zeros. Beside those above, members have:

==========================  ===========  ==================================================
``cells.count``             (N,)         members of the image, ``boxes.count`` likewise
``cells.place``             (N, K, 2)    row and column of the cell in its grid
``boxes.xyxy``              (N, K, 4)    corners in pixels of the input
``boxes.confidence``        (N, K)       the detector's own score of the box
``boxes.predictions``       (N, K)       the class that the detector predicts
``objects.xyxy``            (N, G, 4)    the true objects, with ``labels``, ``ood``, ``count``
==========================  ===========  ==================================================
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Self, get_args

from latentood.errors import ConfigError, MissingInput, suggest

Unit = Literal["image", "cell", "box", "object"]
"""What one row is about; scores are about all but the true objects of an image."""

Maker = Literal["data", "model", "reduction", "settings", "head"]
"""What the values of an array depend on beside the weights: the reduction of its layer, the
settings of its score tap, its head, or nothing (``model``); ``data`` comes with the data set."""

PENULTIMATE = "penultimate"
"""The layer that is the input of the head."""

NETWORK = "network"
"""The name of the head with an uncertainty of its own that a network was trained with."""


@dataclass(frozen=True)
class Kind:
    """One kind of array."""

    axes: tuple[str, ...]  # for the unit image, rows first
    made_by: Maker
    named: bool  # whether a key of this kind names a layer or a score
    advice: str  # what to do where it is missing; {layer} stands for the layer


_PASSES = "re-run extract with monte_carlo: {{passes: 16, keep: [%s]}}"

KINDS: dict[str, Kind] = {
    "logits": Kind(("N", "C"), "model", False, ""),
    "labels": Kind(("N",), "data", False, "use a split whose data set has labels, or give labels="),
    "ids": Kind(("N", "L"), "data", False, ""),
    "hashes": Kind(("N",), "data", False, "re-run extract, or give hashes="),
    "features": Kind(("N", "D"), "reduction", True, "add {layer!r} to layers: and re-run extract"),
    "mc.logits": Kind(("N", "T", "C"), "model", False, _PASSES % "logits"),
    "mc.features": Kind(("N", "T", "D"), "reduction", True, _PASSES % "features"),
    "mc.entropy": Kind(("N", "D"), "reduction", True, _PASSES % "entropy"),
    "scores": Kind(
        ("N",), "settings", True, "add scores: [{layer}] to the pipeline and re-run extract"
    ),
    "dirichlet": Kind(
        ("N", "C"), "head", True, "train the network with an objective such as evidential"
    ),
    "density": Kind(("N", "C"), "head", True, "train the network with the objective posterior"),
    "distance": Kind(("N", "C"), "head", True, "train the network with the objective prototypes"),
    "weighted_logits": Kind(("N", "C"), "head", True, "train the network with the objective vos"),
    "head": Kind((), "model", False, "re-run extract with head: <layer name>, or give head=(W, b)"),
    "ood": Kind(("N",), "data", False, "re-run extract with masks or boxes as targets"),
    "masks": Kind(("N", "H", "W"), "data", False, "re-run extract with unit: cell"),
    "count": Kind(("N",), "model", False, "re-run extract with unit: cell or unit: box"),
    "place": Kind(("N", "2"), "model", False, "re-run extract with unit: cell"),
    "xyxy": Kind(("N", "4"), "model", False, "re-run extract with unit: box"),
    "confidence": Kind(("N",), "model", False, "re-run extract with unit: box"),
    "predictions": Kind(("N",), "model", False, "re-run extract with unit: box"),
}

PREFIXES: dict[Unit, str] = {
    "image": "",
    "cell": "cells.",
    "box": "boxes.",
    "object": "objects.",
}
"""How the names of arrays about members begin."""

_PER_IMAGE = ("count",)
"""Kinds with one number for each image, whatever their unit is."""


class Key(str):
    """The name of one array: its kind, its layer and its unit.

    A key is its own text, so that it can stand wherever a text is wanted: in JSON, in messages,
    in ``rows["features/layer3"]``.

    Args:
        kind: One of :data:`KINDS`.
        layer: The layer, or the score; empty for kinds that name none.
        unit: What one row of it is about.

    Raises:
        ConfigError: No such kind or unit, or a layer where there can be none, or none where there
            must be one.
    """

    kind: str
    layer: str
    unit: Unit

    def __new__(cls, kind: str, layer: str = "", unit: Unit = "image") -> Self:
        """Check the parts and write the text."""
        text = f"{PREFIXES.get(unit, f'{unit}.')}{kind}{'/' if layer else ''}{layer}"
        if (
            kind not in KINDS
            or unit not in get_args(Unit)
            or bool(layer) != KINDS[kind].named
            or "/" in layer
            or (unit != "image" and not KINDS[kind].axes)  # it has no rows
        ):
            raise _no_such_key(text)
        key = super().__new__(cls, text)
        key.kind, key.layer, key.unit = kind, layer, unit
        return key

    def __getnewargs__(self) -> tuple[str, str, Unit]:  # type: ignore[override]
        """Let copies be made from the parts."""
        return self.kind, self.layer, self.unit

    @classmethod
    def parse(cls, text: str) -> Key:
        """Read the text of a key.

        Raises:
            ConfigError: No array can be called so.
        """
        if isinstance(text, Key):
            return text
        kind, slash, layer = text.partition("/")
        if slash and not layer:
            raise _no_such_key(text)
        for unit, prefix in PREFIXES.items():
            if prefix and kind.startswith(prefix):
                return cls(kind.removeprefix(prefix), layer, unit)
        return cls(kind, layer)

    @property
    def about(self) -> Kind:
        """What holds for all keys of its kind."""
        return KINDS[self.kind]

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of the array: ``("N", "T", "C")``, with K after N for members."""
        axes = self.about.axes
        if self.unit == "image" or self.kind in _PER_IMAGE:
            return axes
        return (*axes[:1], "K", *axes[1:])

    @property
    def path(self) -> str:
        """Where the array lies within its split: ``mc.features/a.b`` is in ``mc/features/a.b``."""
        kind, slash, layer = self.partition("/")
        return kind.replace(".", "/") + slash + layer

    @property
    def of_passes(self) -> bool:
        """Whether its values come from stochastic passes."""
        return self.kind.startswith("mc.")

    @property
    def source(self) -> str:
        """The name of the array in results: features are named by their layer alone."""
        return self.layer if self.kind == "features" and self.unit == "image" else str(self)

    def advice(self, known: Collection[str]) -> str:
        """Say how to get the array, or suggest a known key that is nearly the same."""
        remedy = self.about.advice.format(layer=self.layer)
        if not remedy:
            return suggest(self, known)
        alike = [key for key in known if str(key).startswith(f"{self.partition('/')[0]}/")]
        wants_hint = self.kind == "features" or (self.of_passes and alike)
        return f"{suggest(self, alike)} or {remedy}" if wants_hint else remedy


LOGITS = Key("logits")
LABELS = Key("labels")
IDS = Key("ids")
HASHES = Key("hashes")
HEAD = Key("head")
MC_LOGITS = Key("mc.logits")
PENULTIMATE_FEATURES = Key("features", PENULTIMATE)


def missing(key: str, known: Collection[str], *, where: str, who: str = "") -> MissingInput:
    """Build the error for a key that is not among those of the rows named ``where``.

    ``who`` is the detector that needs it, if there is one.
    """
    lead = f"{who}: needs {key!r}, but" if who else f"no {key!r}:"
    listed = ", ".join(repr(name) for name in known)
    try:
        advice = Key.parse(key).advice(known)
    except ConfigError:  # no key at all, perhaps misspelt
        advice = suggest(key, known)
    return MissingInput(f"{lead} {where} has {listed}; {advice}")


def _no_such_key(text: str) -> ConfigError:
    known = [name + ("/<name>" if kind.named else "") for name, kind in KINDS.items()]
    return ConfigError(f"no array can be called {text!r}; {suggest(text, known)}")
