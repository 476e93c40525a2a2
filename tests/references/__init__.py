"""Slow formulas by family; importing this registers them all in ``tests.reference``."""

from tests.references import discriminant, evidential, gram, guidance, head

__all__ = ["discriminant", "evidential", "gram", "guidance", "head"]
