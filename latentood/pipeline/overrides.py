"""Raw pipeline values: relative paths made absolute, ``--set a.b=value`` applied."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import yaml

from latentood.errors import ConfigError, one_line

PATH_KEYS = frozenset(
    {"root", "path", "paths", "labels_path", "folder", "data_dir", "file", "filename"}
)
"""Arguments of targets that are paths: relative ones are resolved against the pipeline file."""


def absolute(node: Any, folder: Path, key: str = "") -> Any:
    """Resolve the relative paths of a raw pipeline against a folder."""
    if isinstance(node, dict):
        return {name: absolute(value, folder, str(name)) for name, value in node.items()}
    if isinstance(node, list):
        return [absolute(value, folder, key) for value in node]
    if isinstance(node, str) and "${" in node:
        return node  # known only when it is used
    if isinstance(node, str) and (key in PATH_KEYS or key == "weights") and "://" not in node:
        named_weights = key == "weights" and not re.search(r"[./\\]", node)  # e.g. DEFAULT
        return node if named_weights else str((folder / Path(node).expanduser()).resolve())
    return node


def apply(raw: dict[str, Any], override: str) -> None:
    """Set ``a.b=value`` in a raw pipeline."""
    dotted, equals, text = override.partition("=")
    parts = dotted.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: must be KEY=VALUE, e.g. --set extract.batch_size=50")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {override}: the value is not valid YAML: {one_line(error)}"
        ) from None
    node: Any = raw
    for part in parts[:-1]:
        node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override}: {part!r} has no keys of its own to set")
    node[parts[-1]] = copy.deepcopy(absolute(value, Path.cwd(), parts[-1]))
