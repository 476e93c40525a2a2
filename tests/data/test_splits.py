"""The example of the docs as a pipeline reads it, on a small folder of images."""

from dataclasses import replace

import pytest
import torch
import yaml

from latentood.extraction.run.inputs import open_inputs
from latentood.pipeline.schema import parse_pipeline
from tests.data.sources import image_folder
from tests.data.test_docs import PAGE
from tests.docs.pages import blocks

CLASSES = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
]  # fmt: skip


def on_folder(node, folder):
    """The same pipeline with a folder of images in place of CIFAR-10."""
    if isinstance(node, list):
        return [on_folder(value, folder) for value in node]
    if not isinstance(node, dict):
        return node
    if node.get("target") == "torchvision.datasets.CIFAR10":
        return {"target": "torchvision.datasets.ImageFolder", "args": {"root": folder}}
    return {name: on_folder(value, folder) for name, value in node.items()}


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = image_folder(tmp_path_factory.mktemp("data") / "cifar", CLASSES, each=2, size=8)
    raw = yaml.safe_load(blocks(PAGE, "yaml")[0].text)
    pipeline = parse_pipeline(on_folder(raw, str(folder)))

    def opened(name):
        inputs = open_inputs(pipeline, name, limit=None)
        known = pipeline.splits[name].role in ("fit", "val", "id")
        return replace(inputs, classes=5) if known else inputs

    return opened


def test_the_id_side_has_five_classes_and_the_ood_side_the_others(split):
    test, held_out = split("test"), split("held_out")
    assert [test[row][1] for row in range(len(test))] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert not held_out.has_labels()
    assert sorted([*test.ids(), *held_out.ids()]) == sorted(
        f"{name}/{i}.png" for name in CLASSES for i in range(2)
    )


@pytest.mark.parametrize("name", ["test", "held_out", "blurred", "on_their_side", "inverted"])
def test_images_are_transformed_after_they_were_changed(split, name):
    image, _ = split(name)[3]
    assert image.shape == (3, 224, 224)
    assert image.dtype == torch.float32
    assert -2.2 < image.min() <= image.max() < 2.7


def test_every_split_is_the_same_when_read_again(split):
    for name in ("blurred", "on_their_side", "shuffled", "inverted", "colours"):
        assert split(name).fingerprint() == split(name).fingerprint()


def test_an_inverted_image_is_the_negative(split):
    plain, inverted = split("on_their_side"), split("inverted")  # one colour each: turning is moot
    unit = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    middle = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    total = (plain[4][0] * unit + middle) + (inverted[4][0] * unit + middle)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-3, rtol=0)
