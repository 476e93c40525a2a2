"""What is said where an array is missing."""

import pytest

from latentood.latents.key import missing

KNOWN = ("logits", "features/layer3", "mc.entropy/layer3")


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("features/layer2", "did you mean 'features/layer3'? or add 'layer2' to layers:"),
        ("mc.entropy/layer2", "did you mean 'mc.entropy/layer3'? or re-run extract with"),
        ("mc.features/layer3", "; re-run extract with monte_carlo: {passes: 16, keep: [features]}"),
        ("mc.logits", "; re-run extract with monte_carlo: {passes: 16, keep: [logits]}"),
        ("scores/odin", "; add scores: [odin] to the pipeline"),
        ("labels", "; use a split whose data set has labels"),
        ("head", "; re-run extract with head: <layer name>"),
    ],
)
def test_the_advice_fits_the_kind_of_array(key, advice):
    message = str(missing(key, KNOWN, where="train", who="one"))
    assert message.startswith(f"one: needs {key!r}, but train has 'logits', 'features/layer3'")
    assert advice in message
