"""Plug-ins: classes with a name and hyperparameters, built in or of other packages.

Detectors, score taps and reductions are all made alike. A class derives from the base of its kind
and is decorated with :func:`plugin`, which makes it a frozen pydantic dataclass: its fields are
hyperparameters, checked against their types and ranges when an object is made.

    @plugin
    class KNN(FeatureDetector):
        name = "knn"
        k: int = hyper(50, "which neighbour", low=1)

A :class:`Registry` holds the classes of one kind by name. Other packages add theirs by an entry
point of the registry's group; the name of the entry point is the name of the class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, wraps
from importlib.metadata import entry_points
from typing import (
    Any,
    ClassVar,
    Generic,
    Literal,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from latentood.errors import ConfigError, LatentOODError, unknown

P = TypeVar("P", bound="Plugin")
T = TypeVar("T")

_CONFIG = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")
_EXPONENT = re.compile(r"[-+]?\d+\.?\d*[eE][-+]?\d+")
_BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


class Plugin:
    """A class with a name and hyperparameters; the base of the base of each kind."""

    kind: ClassVar[str]
    """What it is called in messages, e.g. ``score tap``; empty where its name suffices."""
    refusal: ClassVar[type[LatentOODError]] = ConfigError
    """The error that a wrong hyperparameter raises."""
    remedy: ClassVar[str] = ""
    """Where hyperparameters of this kind are set, to end messages with."""
    name: ClassVar[str]

    @property
    def who(self) -> str:
        """The beginning of messages about it."""
        return _who(type(self))

    def hyperparameters(self) -> dict[str, Any]:
        """Give the hyperparameters by name."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Hyperparameter:
    """What a class declares of one hyperparameter."""

    name: str
    default: Any
    allowed: str  # type and range: "int ≥ 1" or "a | b"
    doc: str
    is_sequence: bool
    tries: tuple[Any, ...] = ()  # values worth trying


def hyper(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    tries: Sequence[Any] = (),
) -> Any:
    """Declare a hyperparameter with its meaning and range; its type is that of the annotation.

    Args:
        default: The paper's default.
        doc: One line for the generated table.
        low: Smallest allowed value.
        high: Largest allowed value.
        above: Value that must be exceeded.
        below: Value that must not be reached.
        tries: Values that a search tries unless others are given.
    """
    extra: dict[str, Any] = {"tries": list(tries)}
    return Field(
        default, description=doc, ge=low, le=high, gt=above, lt=below, json_schema_extra=extra
    )


@dataclass_transform(frozen_default=True)
def plugin(cls: type[T]) -> type[T]:
    """Make a class a frozen set of hyperparameters that checks its values.

    Types are strict (a text is no number), but a list may stand for a tuple, and ``1e-6`` for the
    number that YAML 1.1 takes for a text. An error raised in ``__post_init__`` reaches the caller
    as it is.
    """
    made: Any = pydantic_dataclass(frozen=True, config=_CONFIG)(cls)
    checked: Callable[..., None] = made.__init__

    @wraps(checked)
    def make(self: Any, *args: Any, **values: Any) -> None:
        try:
            checked(self, *args, **{name: _read(value) for name, value in values.items()})
        except ValidationError as error:
            raise _explained(type(self), error) from None

    made.__init__ = make
    return made  # type: ignore[no-any-return]


@cache
def hyperparameters_of(cls: type[Plugin]) -> tuple[Hyperparameter, ...]:
    """Describe the hyperparameters of a class, in the order in which they are declared."""
    types = get_type_hints(cls, include_extras=False)
    return tuple(
        Hyperparameter(
            name,
            about.default,
            _allowed(types[name], about),
            about.description or "",
            get_origin(types[name]) is tuple,
            tuple((about.json_schema_extra or {}).get("tries", ())),
        )
        for name, about in cls.__pydantic_fields__.items()  # type: ignore[attr-defined]
    )


class Registry(Generic[P]):
    """All plug-ins of one kind by name, built-in first.

    Args:
        base: Their base class.
        group: Group of the entry points by which other packages add theirs.
        noun: What one of them is called in messages.
    """

    def __init__(self, base: type[Any], *, group: str, noun: str) -> None:
        self.base = base
        self.group = group
        self.noun = noun
        self._built_in: dict[str, type[P]] = {}
        self._known: dict[str, type[P]] | None = None
        self._followed: tuple[Registry[Any], Callable[[Any], type[P]]] | None = None

    def add(self, *classes: type[P]) -> None:
        """Add classes that come with latentood."""
        self._built_in |= {cls.name: cls for cls in classes}
        self._known = None

    def follow(self, other: Registry[Any], make: Callable[[Any], type[P]]) -> None:
        """Give every class of another registry a counterpart here, unless its name is in use."""
        self._followed = (other, make)

    @property
    def built_in(self) -> Mapping[str, type[P]]:
        """Name → class, without those of other packages."""
        return self._built_in

    def known(self) -> Mapping[str, type[P]]:
        """Give name → class.

        Raises:
            LatentOODError: A plug-in cannot be imported, is of another kind, or takes a name that
                is in use.
        """
        if self._known is None:
            known = dict(self._built_in)
            for point in entry_points(group=self.group):
                known[point.name] = self._loaded(point, known)
            if self._followed is not None:
                other, make = self._followed
                known |= {n: make(cls) for n, cls in other.known().items() if n not in known}
            self._known = known
        return self._known

    def __getitem__(self, name: str) -> type[P]:
        """Give the class of a name; an :class:`UnknownName` where there is none."""
        known = self.known()
        if name not in known:
            raise unknown(self.noun, name, known)
        return known[name]

    def build(self, name: str, **hyperparameters: Any) -> P:
        """Make an object by name, with the errors of its name and of its hyperparameters."""
        return self[name](**hyperparameters)

    def _loaded(self, point: Any, known: Mapping[str, type[P]]) -> type[P]:
        lead, remedy = f"plug-in {point.name!r}:", "mend or uninstall that package"
        if point.name in known:
            raise self.base.refusal(
                f"{lead} must have a name that is not in use, but {known[point.name].__module__} "
                f"has a {self.noun} of that name; give the plug-in another name"
            )
        try:
            loaded = point.load()
        except Exception as error:  # whatever the import of another package raises
            raise self.base.refusal(
                f"{lead} {point.value} must be importable, got {type(error).__name__}: {error}; "
                f"{remedy}"
            ) from error
        fits = isinstance(loaded, type) and issubclass(loaded, self.base)
        if not fits or "__pydantic_fields__" not in vars(loaded):
            raise self.base.refusal(
                f"{lead} {point.value} must be a subclass of {self.base.__name__} decorated with "
                f"latentood.plugin, got {loaded!r}; {remedy}"
            )
        if loaded.name != point.name:
            raise self.base.refusal(
                f"{lead} must be the name of its class, got a class named {loaded.name!r}; {remedy}"
            )
        return loaded  # type: ignore[no-any-return]


def _who(cls: type[Plugin]) -> str:
    return f"{cls.kind} {cls.name}".strip()


def _read(value: Any) -> Any:
    """Take a value as YAML and JSON have it for the tuple or the number that it stands for."""
    if isinstance(value, list | tuple):
        return tuple(map(_read, value))
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _explained(cls: type[Plugin], error: ValidationError) -> LatentOODError:
    """Describe in one sentence what is wrong with the first bad hyperparameter."""
    problem = error.errors()[0]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, LatentOODError):
        return cause
    types = get_type_hints(cls)
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "unexpected_keyword_argument":
        known = [one.name for one in fields(cls)]  # type: ignore[arg-type]
        return unknown(f"hyperparameter of {_who(cls)}", name, known)
    remedy = f"; {cls.remedy}" if cls.remedy else ""
    lead = f"{_who(cls)}: {name}".removesuffix(": ")
    if cause is not None:  # of a validator
        return cls.refusal(f"{lead}: {cause}, got {problem['input']!r}{remedy}")
    kind = types.get(name)
    if len(problem["loc"]) > 1:  # one item of a sequence
        lead, kind = f"{_who(cls)}: each of {name}", get_args(kind)[0]
    must = _must_be(problem["type"], problem.get("ctx", {}), kind)
    return cls.refusal(f"{lead} must be {must}, got {problem['input']!r}{remedy}")


def _must_be(problem: str, bounds: Mapping[str, Any], kind: Any) -> str:
    """Describe what a value must be, from the kind of problem that pydantic reports."""
    if problem == "literal_error":
        return f"one of {list(get_args(kind))}"
    if problem == "finite_number":
        return "finite"
    limit = next((f"{sign} {bounds[name]:g}" for name, sign in _BOUNDS if name in bounds), None)
    return limit or f"of type {_type_name(kind)}"


def _allowed(kind: Any, about: Any) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    limits = {
        sign: getattr(bound, name)
        for bound in about.metadata
        for name, sign in _BOUNDS
        if getattr(bound, name, None) is not None
    }
    bounds = " and ".join(f"{sign} {limits[sign]:g}" for _, sign in _BOUNDS if sign in limits)
    return f"{_type_name(kind)} {bounds}".strip()


def _type_name(kind: Any) -> str:
    return getattr(get_origin(kind) or kind, "__name__", str(kind))
