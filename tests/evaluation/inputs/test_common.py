"""The splits that caches have in common."""

import pytest

from latentood.errors import ConfigError
from latentood.evaluation.inputs.common import CommonSplits, common_ood
from tests.evaluation.examples import splits


def without(name):
    given = splits()
    return type(given)(given.latents, {k: v for k, v in given.splits.items() if k != name})


def test_the_first_cache_orders_what_all_have():
    caches = {"a": splits(), "b": without("noise")}
    assert common_ood(caches, "image") == ("close", "texture")
    shown = CommonSplits(caches["a"], ("texture", "close"))
    assert list(shown.splits) == ["train", "val", "id_test", "texture", "close"]
    assert shown.header == caches["a"].header
    assert shown["close"] is caches["a"]["close"]
    assert shown.ids("close")[0] == "0"


def test_a_split_of_another_role_is_not_in_common():
    other = splits()
    facts = {**other.splits, "close": other.splits["noise"]}
    caches = {"a": splits(), "b": type(other)(other.latents, facts)}
    assert common_ood(caches, "image") == ("noise", "texture")


def test_nothing_in_common_names_what_there_is():
    bare = without("noise")
    none = {name: facts for name, facts in bare.splits.items() if facts.role in ("fit", "id")}
    caches = {"a": bare, "b": type(bare)(bare.latents, none)}
    with pytest.raises(ConfigError, match=r"got a close \(near\), texture \(far\); b none"):
        common_ood(caches, "image")
