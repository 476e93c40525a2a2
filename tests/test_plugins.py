"""Plug-ins of a kind that exists for these tests alone."""

import math
from importlib.metadata import EntryPoint
from typing import Literal

import pytest

from latentood.errors import ConfigError, UnknownName
from latentood.plugins import Plugin, Registry, hyper, hyperparameters_of, plugin


@plugin
class Tool(Plugin):
    """A kind of plug-in."""

    kind = "tool"
    refusal = ConfigError
    remedy = "change it in the box"


@plugin
class Saw(Tool):
    """A plug-in."""

    name = "saw"
    teeth: int = hyper(10, "how many", low=1, high=99)
    width: float = hyper(0.5, "of the blade", above=0, below=2)
    edges: tuple[int, ...] = hyper((1, 2), "which are sharp")
    wood: Literal["oak", "ash"] = hyper("oak", "what it cuts")


@plugin
class Drill(Tool):
    """Another plug-in."""

    name = "drill"


@pytest.fixture
def tools(monkeypatch):
    """A registry of tools with what packages add: name=target each."""

    def make(**points):
        listed = [EntryPoint(name, target, "tests.tools") for name, target in points.items()]
        monkeypatch.setattr("latentood.plugins.entry_points", lambda group: listed)
        registry = Registry(Tool, group="tests.tools", noun="tool")
        registry.add(Saw)
        return registry

    return make


def test_what_is_built_in_comes_first_and_packages_add_theirs(tools):
    registry = tools(drill="tests.test_plugins:Drill")
    assert registry.known() == {"saw": Saw, "drill": Drill}
    assert registry.built_in == {"saw": Saw}
    assert registry["drill"] is Drill
    assert registry.build("saw", teeth=3) == Saw(teeth=3)


def test_an_unknown_name_is_an_error_that_names_the_nearest(tools):
    with pytest.raises(UnknownName, match=r"^no tool named 'sow'; did you mean 'saw'"):
        tools()["sow"]


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("saw", "tests.test_plugins:Drill", "must have a name that is not in use, but tests"),
        ("mine", "tests.test_plugins:Drill", "must be the name of its class, got"),
        ("mine", "json:dumps", "json:dumps must be a subclass of Tool"),
        ("mine", "json:nothing", "json:nothing must be importable, got AttributeError"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_an_error_that_names_it(tools, name, target, message):
    with pytest.raises(ConfigError, match=f"^plug-in '{name}': {message}"):
        tools(**{name: target}).known()


def test_a_registry_may_follow_another(tools):
    counterparts = Registry(Tool, group="tests.counterparts", noun="counterpart")
    counterparts.follow(tools(), lambda cls: Drill)
    counterparts.add(Drill)
    assert counterparts.built_in == {"drill": Drill}
    assert counterparts["saw"] is Drill


def test_hyperparameters_are_described_in_the_order_of_the_class():
    described = [(one.name, one.default, one.allowed, one.doc) for one in hyperparameters_of(Saw)]
    assert described == [
        ("teeth", 10, "int ≥ 1 and ≤ 99", "how many"),
        ("width", 0.5, "float > 0 and < 2", "of the blade"),
        ("edges", (1, 2), "tuple", "which are sharp"),
        ("wood", "oak", "oak | ash", "what it cuts"),
    ]
    assert [one.is_sequence for one in hyperparameters_of(Saw)] == [False, False, True, False]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"teeth": 0}, "teeth must be ≥ 1, got 0"),
        ({"teeth": 100}, "teeth must be ≤ 99, got 100"),
        ({"teeth": "3"}, "teeth must be .*, got '3'"),
        ({"teeth": 1.5}, "teeth must be .*, got 1.5"),
        ({"width": 0}, "width must be > 0, got 0"),
        ({"width": 2}, "width must be < 2, got 2"),
        ({"width": math.inf}, "width must be .*, got inf"),
        ({"width": math.nan}, "width must be .*, got nan"),
        ({"wood": "elm"}, "wood must be .*oak.*ash.*, got 'elm'"),
        ({"edges": [1, "b"]}, "each of edges must be of type int, got 'b'"),
    ],
)
def test_a_value_out_of_range_or_of_another_type_is_refused(values, message):
    with pytest.raises(ConfigError, match=f"^tool saw: {message}; change it in the box$"):
        Saw(**values)


def test_an_unknown_hyperparameter_is_an_error_that_names_the_nearest():
    with pytest.raises(UnknownName, match=r"^no hyperparameter of tool saw named 'tooth'; "):
        Saw(tooth=1)


def test_what_yaml_gives_for_lists_and_exponents_is_accepted():
    assert Saw(edges=[3, 4]).edges == (3, 4)
    assert Saw(width="1e-6").width == 1e-6


def test_a_plugin_is_a_frozen_value():
    assert Saw(teeth=3) == Saw(teeth=3) != Saw(teeth=4)
    assert hash(Saw(teeth=3)) == hash(Saw(teeth=3))
    with pytest.raises(AttributeError):
        Saw().teeth = 5
