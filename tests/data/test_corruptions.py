"""Corruptions in five severities, against independent recipes."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from latentood.data import Blurred, Contrast, GaussianNoise, Jpeg, PhotoPatches
from latentood.errors import ConfigError, DataError, UnknownName
from tests.data.sources import COLOURS, LABELS, Pictures, as_tensor

KINDS = [Blurred, Jpeg, Contrast]
SCALES = ["cifar", "imagenet"]


@pytest.fixture(scope="module")
def photos():
    patches = torch.stack(list(PhotoPatches(4, (3, 32, 32))))
    return ((patches + 1) * 127.5).round().byte()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", SCALES)
def test_higher_severity_changes_photographs_more(kind, scale, photos):
    source = Pictures(images=photos, labels=[0] * 4)
    changes = []
    for severity in range(1, 6):
        changed = torch.stack([image for image, _ in kind(source, severity, scale)])
        assert changed.dtype == torch.uint8
        changes.append(float((changed.double() - photos.double()).square().mean()))
    assert changes[0] > 0.5
    assert changes == sorted(changes)
    assert changes[4] > 1.5 * changes[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_of_imagenet_is_the_stronger(kind, photos):
    source = Pictures(images=photos, labels=[0] * 4)
    for severity in (1, 5):
        weak, strong = (
            sum(float((x.double() - photo.double()).square().sum())
                for (x, _), photo in zip(kind(source, severity, scale), photos, strict=True))
            for scale in SCALES
        )  # fmt: skip
        assert strong > weak


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_and_pil_images_are_changed_alike_and_keep_their_labels(kind):
    tensors, pil = kind(Pictures(), 5), kind(Pictures("pil"), 5)
    for (ours, label), (theirs, _), given in zip(tensors, pil, LABELS, strict=True):
        assert isinstance(theirs, Image.Image)
        assert torch.equal(ours, as_tensor(theirs))
        assert label == given


@pytest.mark.parametrize("kind", KINDS)
def test_grey_images_stay_grey(kind):
    grey = Pictures(images=COLOURS[:, :1])
    assert kind(grey)[0][0].shape == (1, 8, 12)
    assert kind([Image.new("L", (8, 8), 100)])[0].mode == "L"


@pytest.mark.parametrize(
    ("scale", "severity", "sigma"),
    [("cifar", 1, 0.4), ("cifar", 2, 0.6), ("cifar", 3, 0.7), ("cifar", 4, 0.8), ("cifar", 5, 1.0),
     ("imagenet", 1, 1.0), ("imagenet", 2, 2.0), ("imagenet", 3, 3.0), ("imagenet", 4, 4.0)],
)  # fmt: skip
def test_blur_is_a_gaussian_of_the_published_width(photos, scale, severity, sigma):
    for (image, _), photo in zip(
        Blurred(Pictures(images=photos, labels=[0] * 4), severity, scale), photos, strict=True
    ):
        expected = gaussian_filter(photo.double(), (0, sigma, sigma), mode="mirror", truncate=4)
        np.testing.assert_allclose(image, expected, atol=0.51)


def test_blur_wider_than_an_image_still_works():
    image, _ = Blurred(Pictures(), 5, "imagenet")[0]
    assert image.shape == (3, 8, 12)
    assert image.double().flatten(1).std(dim=1).max() < COLOURS[0].double().std() / 4


@pytest.mark.parametrize(
    ("scale", "qualities"), [("cifar", (80, 65, 58, 50, 40)), ("imagenet", (25, 18, 15, 10, 7))]
)
def test_jpeg_has_the_published_qualities(photos, scale, qualities):
    photo = Image.fromarray(photos[0].permute(1, 2, 0).numpy())
    for severity, quality in enumerate(qualities, start=1):
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=quality)
        assert torch.equal(
            as_tensor(Jpeg([photo], severity, scale)[0]), as_tensor(Image.open(file))
        )


@pytest.mark.parametrize(
    ("scale", "shares"),
    [("cifar", (0.75, 0.5, 0.4, 0.3, 0.15)), ("imagenet", (0.4, 0.3, 0.2, 0.1, 0.05))],
)
def test_contrast_shrinks_towards_the_mean_of_each_channel(photos, scale, shares):
    values = photos[1].double().numpy()
    mean = values.mean(axis=(1, 2), keepdims=True)
    for severity, share in enumerate(shares, start=1):
        image, _ = Contrast(Pictures(images=photos, labels=[0] * 4), severity, scale)[1]
        np.testing.assert_allclose(image, (values - mean) * share + mean, atol=0.51)


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_a_known_range_are_refused(kind):
    with pytest.raises(
        DataError, match=r"a uint8 tensor \(C, H, W\), got torch.float32 \(3, 8, 8\)"
    ):
        kind(GaussianNoise(1, (3, 8, 8)))[0]


@pytest.mark.parametrize("severity", [0, 6, 2.5])
def test_severities_go_from_1_to_5(severity):
    with pytest.raises(ConfigError, match=f"Jpeg: severity must be from 1 to 5, got {severity}; 3"):
        Jpeg(Pictures(), severity)


def test_an_unknown_scale_names_the_nearest():
    with pytest.raises(UnknownName, match="no scale of Blurred named 'cifar10'; did you mean 'cif"):
        Blurred(Pictures(), 1, "cifar10")
