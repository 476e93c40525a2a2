"""The slow formulas by name of the detector; see :mod:`latentood.testing.formulas`."""

from collections.abc import Callable

from latentood.testing.formulas import Formula

REFERENCES: dict[str, Formula] = {}


def reference(name: str) -> Callable[[Formula], Formula]:
    """Register the slow formula of a detector."""

    def register(formula: Formula) -> Formula:
        REFERENCES[name] = formula
        return formula

    return register
