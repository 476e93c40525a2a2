"""Names of arrays: their parts, what follows from them, and what is said where one is missing."""

import copy
import json
import pickle

import pytest

from latentood.errors import ConfigError, MissingInput
from latentood.latents.key import (
    HASHES,
    HEAD,
    IDS,
    KINDS,
    LABELS,
    LOGITS,
    MC_LOGITS,
    PENULTIMATE_FEATURES,
    Key,
    missing,
)

KNOWN = ("logits", "features/layer3", "mc.entropy/layer3")

# Arguments, text, axes, folder within a split, name in results
EXAMPLES = [
    (("logits",), "logits", "NC", "logits", "logits"),
    (("labels",), "labels", "N", "labels", "labels"),
    (("ids",), "ids", "NL", "ids", "ids"),
    (("hashes",), "hashes", "N", "hashes", "hashes"),
    (("features", "a.b#2"), "features/a.b#2", "ND", "features/a.b#2", "a.b#2"),
    (("mc.logits",), "mc.logits", "NTC", "mc/logits", "mc.logits"),
    (("mc.features", "a.b"), "mc.features/a.b", "NTD", "mc/features/a.b", "mc.features/a.b"),
    (("mc.entropy", "a.b"), "mc.entropy/a.b", "ND", "mc/entropy/a.b", "mc.entropy/a.b"),
    (("scores", "odin"), "scores/odin", "N", "scores/odin", "scores/odin"),
    (("dirichlet", "a"), "dirichlet/a", "NC", "dirichlet/a", "dirichlet/a"),
    (("density", "a"), "density/a", "NC", "density/a", "density/a"),
    (("distance", "a"), "distance/a", "NC", "distance/a", "distance/a"),
    (
        ("weighted_logits", "a"), "weighted_logits/a", "NC", "weighted_logits/a",
        "weighted_logits/a",
    ),
    (("head",), "head", "", "head", "head"),
    (("features", "a", "cell"), "cells.features/a", "NKD", "cells/features/a", "cells.features/a"),
    (("logits", "", "box"), "boxes.logits", "NKC", "boxes/logits", "boxes.logits"),
    (("labels", "", "box"), "boxes.labels", "NK", "boxes/labels", "boxes.labels"),
    (("ids", "", "cell"), "cells.ids", "NKL", "cells/ids", "cells.ids"),
    (("hashes", "", "cell"), "cells.hashes", "NK", "cells/hashes", "cells.hashes"),
    (("mc.logits", "", "box"), "boxes.mc.logits", "NKTC", "boxes/mc/logits", "boxes.mc.logits"),
    (
        ("mc.features", "a", "cell"), "cells.mc.features/a", "NKTD", "cells/mc/features/a",
        "cells.mc.features/a",
    ),
    (
        ("mc.entropy", "a", "box"), "boxes.mc.entropy/a", "NKD", "boxes/mc/entropy/a",
        "boxes.mc.entropy/a",
    ),
    (("scores", "a", "cell"), "cells.scores/a", "NK", "cells/scores/a", "cells.scores/a"),
    (
        ("dirichlet", "a", "cell"), "cells.dirichlet/a", "NKC", "cells/dirichlet/a",
        "cells.dirichlet/a",
    ),
    (("density", "a", "box"), "boxes.density/a", "NKC", "boxes/density/a", "boxes.density/a"),
    (
        ("weighted_logits", "a", "box"), "boxes.weighted_logits/a", "NKC",
        "boxes/weighted_logits/a", "boxes.weighted_logits/a",
    ),
    (("distance", "a", "box"), "boxes.distance/a", "NKC", "boxes/distance/a", "boxes.distance/a"),
    (("ood",), "ood", "N", "ood", "ood"),
    (("ood", "", "cell"), "cells.ood", "NK", "cells/ood", "cells.ood"),
    (("masks",), "masks", "NHW", "masks", "masks"),
    (("count", "", "cell"), "cells.count", "N", "cells/count", "cells.count"),
    (("count", "", "object"), "objects.count", "N", "objects/count", "objects.count"),
    (("place", "", "cell"), "cells.place", "NK2", "cells/place", "cells.place"),
    (("xyxy", "", "box"), "boxes.xyxy", "NK4", "boxes/xyxy", "boxes.xyxy"),
    (("confidence", "", "box"), "boxes.confidence", "NK", "boxes/confidence", "boxes.confidence"),
    (
        ("predictions", "", "box"), "boxes.predictions", "NK", "boxes/predictions",
        "boxes.predictions",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "text", "axes", "path", "source"), EXAMPLES)
def test_everything_follows_from_the_parts(parts, text, axes, path, source):
    key = Key(*parts)
    assert key == text
    assert str(key) == f"{key}" == text
    assert repr(key) == repr(text)
    assert "".join(key.axes) == axes
    assert key.path == path
    assert key.source == source
    assert key.about is KINDS[key.kind]
    assert key.of_passes == ("mc." in text)


@pytest.mark.parametrize(("parts", "text"), [example[:2] for example in EXAMPLES])
def test_a_key_comes_back_from_its_text(parts, text):
    key = Key.parse(text)
    kind, layer, unit = (*parts, *("", "image")[len(parts) - 1 :])
    assert (key.kind, key.layer, key.unit) == (kind, layer, unit)
    assert key == Key(*parts) == text
    assert Key.parse(key) is key


def test_every_kind_has_an_example_for_images_or_is_of_members_alone():
    of_members = {"count", "place", "xyxy", "confidence", "predictions"}
    assert {parts[0] for parts, *_ in EXAMPLES if len(parts) < 3} == set(KINDS) - of_members
    assert {parts[0] for parts, *_ in EXAMPLES if len(parts) == 3} == set(KINDS) - {"head", "masks"}


@pytest.mark.parametrize(("parts", "text"), [example[:2] for example in EXAMPLES])
def test_a_key_stands_wherever_its_text_can(parts, text):
    key = Key(*parts)
    assert hash(key) == hash(text)
    assert {key: 1}[text] == {text: 1}[key] == 1
    assert text in {key}
    assert json.dumps({key: key}) == json.dumps({text: text})
    assert sorted([key, "a"]) == sorted([text, "a"])
    assert key != text + "x"


@pytest.mark.parametrize(("parts", "text"), [example[:2] for example in EXAMPLES])
def test_copies_are_keys_with_the_same_parts(parts, text):
    key = Key(*parts)
    pickled = [pickle.loads(pickle.dumps(key, protocol)) for protocol in range(6)]
    for twin in (copy.copy(key), copy.deepcopy(key), *pickled):
        assert type(twin) is Key
        assert twin == text
        assert (twin.kind, twin.layer, twin.unit) == (key.kind, key.layer, key.unit)


def test_the_keys_with_names_of_their_own_are_what_they_say():
    named = {
        "logits": LOGITS, "labels": LABELS, "ids": IDS, "hashes": HASHES,
        "head": HEAD, "mc.logits": MC_LOGITS, "features/penultimate": PENULTIMATE_FEATURES,
    }  # fmt: skip
    for text, key in named.items():
        assert type(key) is Key
        assert key == text


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_the_values_of_an_array_depend_on(kind):
    expected = {"scores": "settings"} | dict.fromkeys(
        ("dirichlet", "density", "distance", "weighted_logits"), "head"
    )
    expected |= dict.fromkeys(("labels", "ids", "hashes", "ood", "masks"), "data")
    expected |= dict.fromkeys(("features", "mc.features", "mc.entropy"), "reduction")
    assert KINDS[kind].made_by == expected.get(kind, "model")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("logit",), "'logit'; did you mean 'logits'"),
        (("feature", "a"), "'feature/a'; did you mean 'features/<name>'"),
        (("cells.logits",), "'cells.logits'; did you mean "),
        (("mc",), "'mc'; known: 'confidence', 'count', "),
        (("", "a"), "'/a'; known: "),
        (("logits", "", "pixel"), "'pixel.logits'; did you mean 'mc.logits' or 'logits'"),
        (("head", "", "cell"), "'cells.head'; "),
        (("logits", "a"), "'logits/a'; did you mean 'logits'"),
        (("features",), "'features'; did you mean "),
        (("features", "", "box"), "'boxes.features'; "),
        (("features", "a/b"), "'features/a/b'; did you mean 'features/<name>'"),
        (("features", "/"), "'features//'; did you mean 'features/<name>'"),
        (("scores", "a/b", "cell"), "'cells.scores/a/b'; known: "),
    ],
)
def test_parts_that_make_no_key_are_refused(parts, message):
    with pytest.raises(ConfigError) as caught:
        Key(*parts)
    assert str(caught.value).startswith(f"no array can be called {message}")


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "logit", "logits/", "logits/a", "cells.logits/", "features", "features/",
        "features/a/b", "cells.", "cells.features", "cells.head", "boxes.cells.logits",
        "image.logits", "pixels.logits", "Logits", " logits", "mc/logits", "../logits",
    ],
)  # fmt: skip
def test_a_text_that_is_no_key_is_refused(text):
    with pytest.raises(ConfigError, match=r"^no array can be called '.*'; (did you mean|known:) "):
        Key.parse(text)


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("features/layer2", "did you mean 'features/layer3'? or add 'layer2' to layers:"),
        ("mc.entropy/layer2", "did you mean 'mc.entropy/layer3'? or re-run extract with"),
        ("mc.features/layer3", "; re-run extract with monte_carlo: {passes: 16, keep: [features]}"),
        ("mc.logits", "; re-run extract with monte_carlo: {passes: 16, keep: [logits]}"),
        ("scores/odin", "; add scores: [odin] to the pipeline"),
        ("density/network", "; train the network with the objective posterior"),
        ("labels", "; use a split whose data set has labels"),
        ("head", "; re-run extract with head: <layer name>"),
    ],
)
def test_the_advice_fits_the_kind_of_array(key, advice):
    message = str(missing(key, KNOWN, where="train", who="one"))
    assert message.startswith(f"one: needs {key!r}, but train has 'logits', 'features/layer3'")
    assert advice in message


@pytest.mark.parametrize(
    ("key", "known", "advice"),
    [
        ("logits", ("labels",), "known: 'labels'"),
        ("logits", (), "there are none"),
        ("ids", ("logits", "labels"), "known: 'labels', 'logits'"),
        ("labels", KNOWN, "use a split whose data set has labels, or give labels="),
        ("head", KNOWN, "re-run extract with head: <layer name>, or give head=(W, b)"),
        ("features/a", ("logits",), "there are none or add 'a' to layers: and re-run extract"),
        ("features/{a}", ("features/b",),
         "did you mean 'features/b'? or add '{a}' to layers: and re-run extract"),
        ("mc.logits", ("logits",), "re-run extract with monte_carlo: {passes: 16, keep: [logits]}"),
        ("mc.features/a", ("mc.features/b",),
         "did you mean 'mc.features/b'? or re-run extract with monte_carlo: "
         "{passes: 16, keep: [features]}"),
        ("mc.entropy/a", (), "re-run extract with monte_carlo: {passes: 16, keep: [entropy]}"),
        ("scores/a", ("scores/b",), "add scores: [a] to the pipeline and re-run extract"),
        ("cells.features/a", ("cells.features/b", "features/a"),
         "did you mean 'cells.features/b'? or add 'a' to layers: and re-run extract"),
    ],
)  # fmt: skip
def test_the_advice_is_one_half_sentence(key, known, advice):
    assert Key.parse(key).advice(known) == advice


def test_a_missing_array_is_named_with_those_that_are_there():
    error = missing("logits", ("labels", "features/a"), where="train")
    assert type(error) is MissingInput
    assert str(error) == (
        "no 'logits': train has 'labels', 'features/a'; known: 'features/a', 'labels'"
    )


def test_a_text_that_is_no_key_is_missing_like_any_other_and_the_nearest_is_named():
    error = missing("logit", KNOWN, where="train", who="one")
    assert type(error) is MissingInput
    assert str(error).endswith("; did you mean 'logits'?")
