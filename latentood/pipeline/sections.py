"""What all sections of a pipeline file have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """Fields of one place in the file; another key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Target(Section):
    """Something to import and call."""

    target: str = Field(description="Dotted name of a class or function.")
    args: dict[str, Any] = Field(default_factory=dict, description="Its keyword arguments.")


def _as_list(value: Any) -> Any:
    """Read one target as a chain of one."""
    return [value] if isinstance(value, Mapping) else value


Chain = Annotated[list[Target], BeforeValidator(_as_list)]
"""Transforms applied one after the other; one alone may stand without a list."""


class DataSet(Target):
    """A data set, and how its items become inputs and labels."""

    transform: Chain | None = Field(
        None, description="Replaces the pipeline's transform; null applies none."
    )
    input: str | None = Field(
        None, description="Field of an item that is the input, where items are mappings."
    )
    label: str | None = Field(
        None, description="Field of an item that is the label, where items are mappings."
    )
