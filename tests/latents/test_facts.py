"""Facts about splits and origins are plain values, and their digests depend on nothing else."""

import dataclasses
import hashlib

import pytest

from latentood.errors import ConfigError
from latentood.latents.facts import ROLES, Origin, SplitFacts, canonical, digest, plain


def test_a_digest_does_not_depend_on_the_order_of_keys_nor_on_tuples():
    assert digest({"a": 1, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_digest_is_the_sha256_that_other_languages_compute():
    written = rb'{"a":"\u00e9","b":[1,null]}'
    assert digest({"b": [1, None], "a": "é"}) == hashlib.sha256(written).hexdigest()


def test_the_canonical_form_is_the_text_that_is_hashed():
    assert canonical({"b": (1, None, 0.5), "a": "é"}) == r'{"a":"\u00e9","b":[1,null,0.5]}'


@pytest.mark.parametrize("function", [plain, canonical, digest])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": object()}, {1, 2}])
def test_what_is_not_json_is_refused_with_a_next_step(function, value):
    with pytest.raises(ConfigError, match=r"must be JSON, got .*; give strings, finite numbers"):
        function(value)


def test_plain_gives_what_json_would_give_back():
    assert plain({1: (2, 3)}) == {"1": [2, 3]}


def test_the_digest_of_an_origin_is_that_of_its_fingerprint_alone():
    one = Origin({"name": "a"}, {"seed": 0}, {"torch": "1"})
    two = Origin({"name": "b"}, {"seed": 0}, {"torch": "2"})
    assert one.digest == two.digest == digest({"seed": 0})
    assert one.digest != Origin({}, {"seed": 1}, {}).digest


def test_an_unknown_origin_has_no_digest():
    assert Origin() == Origin({}, {}, {})
    assert Origin().digest == ""
    assert Origin({"name": "a"}).digest == ""


def test_a_digest_that_was_asked_for_makes_no_other_origin():
    origin = Origin({}, {"seed": 0})
    assert len(origin.digest) == 64
    assert origin == Origin({}, {"seed": 0})
    assert dataclasses.replace(origin, fingerprint={"seed": 1}).digest == digest({"seed": 1})


def test_roles_are_listed_in_the_order_in_which_they_are_used():
    assert ROLES == ("fit", "val", "tune", "id", "near", "far", "mixed")


def test_only_the_role_of_a_split_has_to_be_known():
    assert SplitFacts("far") == SplitFacts("far", {}, {})
    assert SplitFacts("far", {"fingerprint": "x"}, {"features/a": "mean"}) != SplitFacts("far")
