"""Transforms by the name of weights, held to what their authors' packages do."""

import pickle
import sys

import pytest
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights

from latentood.data import hugging_face_transform, timm_transform, weights_transform
from latentood.errors import ConfigError, UnknownName
from tests.data.sources import COLOURS

PHOTO = Image.fromarray(COLOURS[0].permute(1, 2, 0).numpy()).resize((300, 260))


@pytest.fixture
def processor_folder(tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="the extra [hf] is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import ViTImageProcessor

    ViTImageProcessor(size={"height": 16, "width": 20}).save_pretrained(tmp_path)
    return tmp_path


def grey_matches_colour(transform):
    grey = PHOTO.convert("L")
    return torch.equal(transform(grey), transform(grey.convert("RGB")))


def tensor_of(image):
    from torchvision.transforms.v2 import functional as F

    return F.pil_to_tensor(image)


@pytest.mark.parametrize("name", ["IMAGENET1K_V1", "IMAGENET1K_V2", "DEFAULT"])
def test_torchvisions_weights_bring_their_own_transform(name):
    transform = weights_transform(f"ResNet50_Weights.{name}")
    assert torch.equal(transform(PHOTO), ResNet50_Weights[name].transforms()(PHOTO))
    assert transform(tensor_of(PHOTO)).shape == (3, 224, 224)
    assert grey_matches_colour(transform)


def test_unknown_weights_name_the_nearest():
    with pytest.raises(
        UnknownName, match=r"torchvision named 'ResNet50_Weights.V2'; did you mean .*ResNet50_Weigh"
    ):
        weights_transform("ResNet50_Weights.V2")


def test_a_timm_model_brings_its_own_transform():
    timm = pytest.importorskip("timm", reason="the extra [timm] is not installed")
    transform = timm_transform("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    about = timm.get_pretrained_cfg("vit_tiny_patch16_224").to_dict()
    config = timm.data.resolve_data_config({}, pretrained_cfg=about)
    assert torch.equal(transform(PHOTO), timm.data.create_transform(**config)(PHOTO))
    assert torch.equal(transform(PHOTO), transform(tensor_of(PHOTO)))
    assert grey_matches_colour(transform)


def test_a_timm_model_itself_will_do():
    timm = pytest.importorskip("timm", reason="the extra [timm] is not installed")
    model = timm.create_model("test_vit", pretrained=False)
    size = model.pretrained_cfg["input_size"]
    assert timm_transform(model)(PHOTO).shape == size
    grey = timm.create_model("test_vit", pretrained=False, in_chans=1)
    grey.pretrained_cfg |= {"input_size": (1, *size[1:]), "mean": (0.5,), "std": (0.5,)}
    assert timm_transform(grey)(PHOTO).shape == (1, *size[1:])


def test_an_unknown_timm_model_names_the_nearest():
    pytest.importorskip("timm", reason="the extra [timm] is not installed")
    with pytest.raises(
        UnknownName, match=r"no model of timm named 'resnet18.a9_in1k'; did you mea"
    ):
        timm_transform("resnet18.a9_in1k")


def test_a_hugging_face_processor_becomes_a_transform_of_one_image(processor_folder):
    from transformers import AutoImageProcessor

    transform = hugging_face_transform(folder=str(processor_folder))
    processor = AutoImageProcessor.from_pretrained(processor_folder)
    expected = processor(PHOTO, return_tensors="pt")["pixel_values"][0]
    assert expected.shape == (3, 16, 20)
    assert torch.equal(transform(PHOTO), expected)
    assert grey_matches_colour(transform)
    torch.testing.assert_close(transform(tensor_of(PHOTO)), expected)


def test_transforms_travel_to_worker_processes(processor_folder):
    pytest.importorskip("timm", reason="the extra [timm] is not installed")
    for transform in (
        weights_transform("ResNet18_Weights.DEFAULT"),
        timm_transform("resnet18"),
        hugging_face_transform(folder=str(processor_folder)),
    ):
        assert torch.equal(pickle.loads(pickle.dumps(transform))(PHOTO), transform(PHOTO))


def test_name_and_folder_together_or_neither_are_refused():
    with pytest.raises(ConfigError, match="exactly one of name and folder must be given, got both"):
        hugging_face_transform(name="a", folder="b")
    with pytest.raises(
        ConfigError, match=r"hugging_face_transform: exactly one .*got none; set one"
    ):
        hugging_face_transform()


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("timm", "timm", lambda: timm_transform("resnet18")),
        ("transformers", "hf", lambda: hugging_face_transform("x")),
    ],
)
def test_a_missing_package_names_its_extra(monkeypatch, package, extra, call):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"needs the package '{package}' of the extra \[{extra}\], .*run pip install 'latent"
    with pytest.raises(ConfigError, match=message):
        call()
