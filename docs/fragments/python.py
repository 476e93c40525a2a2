"""The public names, from their signatures and docstrings."""

import ast
import inspect
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any, get_origin

from pydantic import BaseModel

import latentood
from fragments.markdown import docstring

_WIDTH = 88


class _AsWritten(str):
    """An annotation that is shown as the source has it."""

    __repr__ = str.__str__


def python_names() -> str:
    """Describe every public name."""
    names = [name for name in latentood.__all__ if not name.startswith("_")]
    return "\n\n".join(_described(name) for name in sorted(names, key=str.lower))


def _described(name: str) -> str:
    home = import_module(f"latentood.{latentood._HOMES.get(name, '')}".rstrip("."))
    found = getattr(home, name)
    title = f"## {name} {{ #{name} }}"
    if isinstance(found, ModuleType):
        return "\n\n".join([title, *_module(name, found)])
    if get_origin(found) is not None:
        return "\n\n".join([title, *_alias(name, home)])
    if inspect.isclass(found) and issubclass(found, BaseModel):
        return f"{title}\n\n{docstring(found)} Its fields are the keys of the [file](pipeline.md)."
    parts = [title, _signature(name, found), docstring(found)]
    if inspect.isclass(found):
        parts += [_member(name, *member) for member in _members(found)]
    return "\n\n".join(parts)


def _module(name: str, module: ModuleType) -> Iterator[str]:
    """Show what a module says of itself, and the metrics in it."""
    text = inspect.getdoc(module) or ""
    yield f"```text\n{text}\n```" if "├" in text else docstring(module)
    for function, found in inspect.getmembers(module, inspect.isfunction):
        own = found.__module__ == module.__name__ and not function.startswith("_")
        if own and found.__annotations__["return"] == "float":
            yield _member(name, function, found)


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Find the public methods and properties that a class defines itself."""
    for name, found in vars(cls).items():
        method = inspect.isfunction(found) or isinstance(found, classmethod)
        if not name.startswith("_") and (method or isinstance(found, property | cached_property)):
            yield name, getattr(cls, name) if method else found


def _member(owner: str, name: str, found: Any) -> str:
    parts = [f"### {owner}.{name} {{ #{owner}.{name} }}"]
    if not isinstance(found, property | cached_property):
        parts.append(_signature(f"{owner}.{name}", found))
    return "\n\n".join([*parts, docstring(found)])


def _signature(name: str, found: Any) -> str:
    """Write a signature on one line, or on one line per parameter."""
    signature = inspect.signature(found)
    signature = signature.replace(
        parameters=[
            parameter.replace(annotation=_as_written(parameter.annotation))
            for parameter in signature.parameters.values()
            if parameter.name != "self"
        ],
        return_annotation=_as_written(signature.return_annotation),
    )
    text = f"{name}{signature}".removesuffix(" -> None")
    return f"```text\n{text if len(text) <= _WIDTH else name + _broken(signature)}\n```"


def _broken(signature: inspect.Signature) -> str:
    lines = [f"    {parameter}," for parameter in signature.parameters.values()]
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds:
        lines.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "    *,")
    result = str(signature.replace(parameters=[])).removeprefix("()").removesuffix(" -> None")
    return "\n".join(["(", *lines, f"){result}"])


def _as_written(annotation: Any) -> Any:
    return _AsWritten(annotation) if isinstance(annotation, str) else annotation


def _alias(name: str, home: ModuleType) -> Iterator[str]:
    """Show a type alias and the text below it, which only the source has."""
    for line, text in pairwise(ast.parse(inspect.getsource(home)).body):
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == name:
            yield f"```text\n{ast.unparse(line)}\n```"
            yield ast.literal_eval(text.value)
