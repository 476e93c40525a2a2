"""Which split plays which part, and what is said when one is missing."""

import pytest

from latentood.errors import ConfigError, MissingInput
from latentood.evaluation.inputs.roles import Roles, require_inputs
from latentood.latents.facts import SplitFacts
from latentood.latents.splits import SplitsInMemory
from tests.evaluation.examples import Calibrated, Entropic, latents, splits


def with_roles(**roles):
    rows = {name: latents(6, 0.0, 0, name=name) for name in roles}
    return SplitsInMemory(rows, {name: SplitFacts(role) for name, role in roles.items()})


def test_every_role_is_assigned_and_near_comes_before_far():
    roles = Roles.of(splits())
    assert roles == Roles("train", "id_test", "val", ("close",), ("noise", "texture"))
    assert roles.scored == ("id_test", "close", "noise", "texture")


def test_a_val_split_is_optional():
    assert Roles.of(splits(val=False)).val is None


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (
            {"test": "id", "noise": "far"},
            r"^score: needs exactly one split of role fit, got 'test' \(id\), 'noise' \(far\); "
            r"change the pipeline's splits, e\.g\. train: \{role: fit, target: \.\.\.\}",
        ),
        (
            {"a": "fit", "b": "fit", "test": "id", "noise": "far"},
            r"exactly one split of role fit, got 'a' \(fit\), 'b' \(fit\)",
        ),
        ({"a": "fit", "noise": "far"}, "exactly one split of role id"),
        ({"a": "fit", "test": "id"}, "at least one split of role near, far or mixed"),
        (
            {"a": "fit", "v": "val", "w": "val", "test": "id", "noise": "near"},
            "exactly one split of role val",
        ),
    ],
)
def test_wrong_roles_are_an_error_that_says_what_to_add(roles, message):
    with pytest.raises(ConfigError, match=message):
        Roles.of(with_roles(**roles))


def test_no_split_at_all_is_said():
    with pytest.raises(ConfigError, match="got no split; "):
        Roles.of(SplitsInMemory({}, {}))


def test_splits_can_be_built_from_roles_and_latents():
    made = SplitsInMemory.of(train=("fit", latents(6, 0.0, 0, name="train")))
    assert made.splits["train"].role == "fit"
    assert made.ids("train") == ["0", "1", "2", "3", "4", "5"]


def test_an_array_that_is_missing_is_an_error_that_says_what_to_add():
    lacking = splits(entropy=False)
    roles = Roles.of(lacking)
    with pytest.raises(MissingInput, match=r"^entropic: needs 'mc.entropy/penultimate', but train"):
        require_inputs(Entropic(), roles.open(lacking), roles)


def test_a_val_split_that_is_missing_is_an_error_that_says_what_to_add():
    lacking = splits(val=False)
    roles = Roles.of(lacking)
    with pytest.raises(
        MissingInput,
        match=r"^calibrated: needs a split of role val, but there are 'train', 'id_test', .*; "
        r"add one to the pipeline, e\.g\. val: \{role: val",
    ):
        require_inputs(Calibrated(), roles.open(lacking), roles)
