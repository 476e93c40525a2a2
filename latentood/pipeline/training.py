"""The section ``training:`` of a pipeline file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from latentood.pipeline.sections import Chain, DataSet, Section, Target


class Schedule(Target):
    """A schedule of the learning rate."""

    per: Literal["step", "epoch"] = Field("step", description="When it moves on.")


class TrainingSplits(Section):
    """The data sets of a training, each by the name of a split or as a data set of its own."""

    train: str | DataSet | None = Field(
        None, description="Rows to train on; default: the split of role `fit`."
    )
    val: str | DataSet | None = Field(
        None, description="ID rows to choose the best epoch by; default: the split of role `val`."
    )
    outliers: str | DataSet | None = Field(
        None, description="OOD rows, for objectives that need them."
    )


class ObjectiveConfig(BaseModel):
    """What the network is trained for; its other keys are hyperparameters."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(description="Name of the objective.")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Give what is set beside the name."""
        return dict(self.model_extra or {})


class Training(Section):
    """How to train the network; where it is not given, the network is taken as it is."""

    objective: Annotated[
        ObjectiveConfig, BeforeValidator(lambda v: {"name": v} if isinstance(v, str) else v)
    ] = Field(description="`cross_entropy`, or `{name: evidential, evidence: exp}`.")
    optimiser: Target = Field(
        Target(target="torch.optim.Adam"), description="Any optimiser of torch.optim."
    )
    schedule: Schedule | None = Field(
        None,
        description="Any schedule of torch.optim.lr_scheduler; `total_steps` and `T_max` are "
        "filled in where they are not given.",
    )
    epochs: int = Field(ge=1, description="How often all rows are used.")
    batch_size: int = Field(128, ge=1, description="Rows of one step.")
    splits: TrainingSplits = TrainingSplits()
    transform: Chain | None = Field(
        None, description="For the rows to train on, instead of the pipeline's: augmentation."
    )
    classes: int | None = Field(
        None,
        ge=2,
        description="C; default: one more than the largest label, and then every class must have "
        "rows to train on.",
    )
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Widths of hidden layers of a head on cached features (`train --from`)."
    )
    clip: float | None = Field(None, gt=0, description="Largest norm of all gradients together.")
    warmup: int = Field(0, ge=0, description="Steps over which the learning rate rises.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of the moving average of the weights, if it is kept."
    )
    patience: int | None = Field(
        None, ge=1, description="Epochs without a better val split after which training stops."
    )
    precision: str = Field("32-true", description="A precision of Lightning Fabric.")
    devices: int = Field(1, ge=1, description="GPUs that share the work.")
    workers: int = Field(0, ge=0, description="Data loading processes.")
