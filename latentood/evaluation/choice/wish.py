"""What a search is asked for, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from latentood.errors import ConfigError, unknown
from latentood.latents.key import Unit

Criterion = Literal["auroc", "fpr95_ood", "fpr95_id"]
"""What is averaged over the tuning sets: the higher an AUROC the better, the lower an FPR95."""

Synthetic = Literal["gaussian", "uniform", "mixup"]
"""How a tuning set is made of features; see :mod:`~latentood.evaluation.choice.synthetic`."""

SearchName = Literal["grid", "random", "optuna"]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """All that decides a choice beside the cache.

    Attributes:
        detectors: ``all``, or names.
        layers: Layers or globs, for detectors that can read any layer.
        settings: ``detector.hyperparameter=value,value`` each; for random and Optuna also
            ``low..high``.
        passes: Numbers of passes to try, for detectors that read passes.
        synthetic: Tuning sets to make of ID val rows.
        hold_out_classes: How many classes, or which, the tuning set of held-out classes has.
        search: How the space is searched.
        trials: For random and Optuna: settings of each detector that are tried.
        criterion: What is averaged over the tuning sets.
        nested: Whether the optimism of the choice is estimated.
        seed: Decides what is drawn.
        unit: What a row is.
    """

    detectors: tuple[str, ...] = ("all",)
    layers: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    passes: tuple[int, ...] = ()
    synthetic: tuple[Synthetic, ...] = ()
    hold_out_classes: int | tuple[int, ...] = 0
    search: SearchName = "grid"
    trials: int = 20
    criterion: Criterion = "auroc"
    nested: bool = False
    seed: int = 0
    unit: Unit = "image"

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("search", self.search, get_args(SearchName)),
            ("criterion", self.criterion, get_args(Criterion)),
            *(("synthetic set", one, get_args(Synthetic)) for one in self.synthetic),
        ):
            if value not in allowed:
                raise unknown(what, value, allowed)
        if self.trials < 2:
            raise ConfigError(
                f"tune: trials must be ≥ 2, the default and another setting, got {self.trials}"
                "; 20 is the default"
            )
        if self.unit != "image" and (self.synthetic or self.hold_out_classes or self.passes):
            raise ConfigError(
                "tune: synthetic sets, held-out classes and numbers of passes must be of images, "
                f"got unit {self.unit}; give splits of role tune instead"
            )

    @property
    def sign(self) -> int:
        """1 where a high value of the criterion is good, else −1."""
        return 1 if self.criterion == "auroc" else -1

    def as_json(self) -> dict[str, Any]:
        """Give all fields as JSON values."""
        plain = {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(self).items()}
        # A search of the whole grid does not look at it.
        return plain | ({"trials": None} if self.search == "grid" else {})
