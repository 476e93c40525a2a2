"""The objectives of training, from their registry."""

import inspect

from fragments.detectors import hyperparameter_table
from fragments.markdown import inline, linked
from latentood.plugins import hyperparameters_of
from latentood.training.objectives import OBJECTIVES, Objective


def objective_cards() -> str:
    """Give one card per objective."""
    return "\n\n".join(_card(name, cls) for name, cls in OBJECTIVES.known().items())


def _card(name: str, cls: type[Objective]) -> str:
    facts = [f"- **paper**: {linked(cls.paper)}"]
    if cls.reads_outliers:
        facts.append("- **needs** OOD images: name a split with `training.splits.outliers`")
    specs = [
        {"name": one.name, "default": one.default, "range": one.allowed, "doc": one.doc}
        for one in hyperparameters_of(cls)
    ]
    about = inline(inspect.getdoc(cls) or "")
    return "\n\n".join(
        [f"### {name} {{ #{name} }}", about, "\n".join(facts), hyperparameter_table(specs)]
    )
