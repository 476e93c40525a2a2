"""The pipeline file, from its schema."""

import json
from collections.abc import Iterator
from typing import Any

from fragments.markdown import code, codes, inline, table
from latentood.extraction.model.reductions import REDUCTIONS
from latentood.pipeline.overrides import PATH_KEYS
from latentood.pipeline.schema import Pipeline

Schema = dict[str, Any]


def pipeline_keys() -> str:
    """Give one table per section of the file: every key with type, default and meaning."""
    schema = Pipeline.model_json_schema()
    return "\n\n".join(_sections("", schema, schema["$defs"]))


def path_arguments() -> str:
    """List the arguments of targets that are paths."""
    return f"{codes(sorted(PATH_KEYS))}."


def reduction_table() -> str:
    """List the reductions."""
    known = REDUCTIONS.known().items()
    rows = [(code(name), inline((cls.__doc__ or "").partition("\n")[0])) for name, cls in known]
    return table(("reduction", "one row becomes"), rows)


def _sections(path: str, section: Schema, known: Schema) -> Iterator[str]:
    """Write a section of the schema, then those of the keys that have keys of their own."""
    keys = section["properties"]
    required = section.get("required", ())
    rows = [_row(path, name, node, name in required, known) for name, node in keys.items()]
    title = f"### {code(path.rstrip('.'))}" if path else "### Top level"
    about = f"{inline(section['description'])}\n\n" if path else ""
    yield f"{title}\n\n{about}{table(('key', 'type', 'default', 'meaning'), rows)}"
    for name, node in keys.items():
        for place, inner in _inner(node, known):
            yield from _sections(f"{path}{name}{place}.", inner, known)


def _row(path: str, name: str, node: Schema, required: bool, known: Schema) -> tuple[str, ...]:
    default = "*required*" if required else code(_yaml(node.get("default", "")))
    inner = [section["description"] for _, section in _inner(node, known)]
    meaning = node.get("description") or " ".join(inner)
    return code(path + name), _type(node, known), default, inline(meaning)


def _inner(node: Schema, known: Schema) -> Iterator[tuple[str, Schema]]:
    """Find the sections under a key, with how they are reached from it."""
    if "$ref" in node:
        yield "", known[node["$ref"].rpartition("/")[2]]
    for option in node.get("anyOf", ()):
        yield from _inner(option, known)
    if isinstance(items := node.get("items"), dict):
        yield from ((f"[]{place}", section) for place, section in _inner(items, known))
    if isinstance(values := node.get("additionalProperties"), dict):
        yield from ((f".NAME{place}", section) for place, section in _inner(values, known))


def _type(node: Schema, known: Schema) -> str:
    """Write the allowed values of a key."""
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_type(option, known) for option in node["anyOf"]))
    if "enum" in node or "const" in node:
        return codes(node.get("enum", [node.get("const")]))
    if node.get("type") == "array":
        return f"list of {_type(node['items'], known)}"
    if "$ref" in node or node.get("type") == "object":
        return "mapping"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {node[name]:g}" for name, sign in bounds.items() if name in node]
    return " ".join([_NAMES.get(node.get("type", ""), node.get("type", "")), *limits])


def _yaml(value: Any) -> str:
    """Write a default as in the file; that of a mapping is told by its own keys."""
    if isinstance(value, dict):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


_NAMES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
}
