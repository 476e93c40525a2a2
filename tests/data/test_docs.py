"""The page about data is held to the code."""

import inspect
import re

import pytest
import yaml

import latentood.data
from tests.docs.pages import DOCS, blocks

PAGE = DOCS / "data.md"


def targets(node):
    """All mappings with a target, however deep."""
    if isinstance(node, dict):
        if "target" in node:
            yield node["target"], node.get("args", {})
        for value in node.values():
            yield from targets(value)
    if isinstance(node, list):
        for value in node:
            yield from targets(value)


SHOWN = [
    (name.removeprefix("latentood.data."), args)
    for block in blocks(PAGE, "yaml")
    for name, args in targets(yaml.safe_load(block.text))
    if name.startswith("latentood.data.")
]


def test_everything_public_has_a_line_of_its_own_and_nothing_else_has():
    listed = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(latentood.data.__all__)


@pytest.mark.parametrize(("name", "args"), SHOWN, ids=[name for name, _ in SHOWN])
def test_every_target_shown_exists_and_takes_its_arguments(name, args):
    inspect.signature(getattr(latentood.data, name)).bind(**args)


def test_the_examples_show_targets():
    assert len(SHOWN) > 10


@pytest.mark.parametrize("name", latentood.data.__all__)
def test_everything_public_says_what_it_is_and_what_it_takes(name):
    one = getattr(latentood.data, name)
    assert one.__doc__
    documented = "".join(cls.__doc__ or "" for cls in getattr(one, "__mro__", [one]))
    for parameter in inspect.signature(one).parameters:
        assert re.search(rf"^ +{parameter}: \S", documented, re.MULTILINE), parameter
