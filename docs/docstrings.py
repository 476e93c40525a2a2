"""Extension for griffe, which reads the package for the Python page."""

import ast
import re
from typing import Any

import griffe

_ROLE = re.compile(r":\w+:`~?([\w.]+)`")
_TREE = re.compile(r"^\w+\n(?:[├│└].*\n)+", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Bring what our sources say into the Markdown that mkdocstrings expects."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Link reStructuredText's references where their target is on the page; keep trees."""
        if obj.docstring is not None:
            text = _ROLE.sub(lambda role: _link(obj, role[1]), obj.docstring.value)
            obj.docstring.value = _TREE.sub(r"```text\n\g<0>```\n", text)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Show the verb ``report`` in the place of the folder of this name, as the package does."""
        if pkg.name == "latentood":
            verb = "latentood.workflows.reporting.report"
            pkg.members["report"] = griffe.Alias("report", verb, parent=pkg)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Describe a class by ``__new__`` where it has no ``__init__``."""
        if "__new__" in cls.members:
            cls.members.setdefault("__init__", cls.members["__new__"])

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Show default and meaning of a hyperparameter instead of its ``hyper(…)``."""
        value = ast.parse(str(attr.value), mode="eval").body
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "hyper":
            default, meaning = value.args
            attr.value = ast.unparse(default)
            text = ast.literal_eval(meaning).replace("<", "&lt;")
            attr.docstring = griffe.Docstring(text, parent=attr)


def _link(obj: griffe.Object, name: str) -> str:
    try:
        path = obj.resolve(name)
    except griffe.NameResolutionError:  # the module of the docstring does not import it
        path = f"latentood.{name}"
    shown = re.sub(r"^[a-z_.]*\.(?=[A-Z])", "", name)
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'
