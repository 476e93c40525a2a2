"""Images in array files."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from latentood.data import Arrays
from latentood.errors import ConfigError, DataError, UnknownName

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
LABELS = np.arange(5)


def saved(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def saved_one(folder, array, name="data.npy"):
    np.save(folder / name, array)
    return folder / name


def test_an_npz_gives_images_with_channels_first_and_int_labels(tmp_path):
    data = Arrays(saved(tmp_path, images=COLOUR, labels=LABELS))
    image, label = data[3]
    assert len(data) == 5
    assert torch.equal(image, torch.from_numpy(COLOUR[3]).permute(2, 0, 1))
    assert image.dtype == torch.uint8
    assert label == 3
    assert type(label) is int


def test_without_labels_an_item_is_the_image_alone(tmp_path):
    assert isinstance(Arrays(saved(tmp_path, images=COLOUR))[0], torch.Tensor)
    assert isinstance(Arrays(saved_one(tmp_path, COLOUR))[0], torch.Tensor)


def test_arrays_may_have_other_names(tmp_path):
    path = saved(tmp_path, x=COLOUR, y=LABELS)
    assert Arrays(path, images_key="x", labels_key="y")[4][1] == 4


def test_labels_may_lie_in_a_file_of_their_own(tmp_path):
    images = saved_one(tmp_path, COLOUR)
    labels = saved_one(tmp_path, LABELS[::-1], "labels.npy")
    assert [label for _, label in Arrays(images, labels)] == [4, 3, 2, 1, 0]


def test_an_npy_is_mapped_and_not_read(tmp_path):
    assert isinstance(Arrays(saved_one(tmp_path, COLOUR)).images.base, np.memmap)


def test_grey_images_get_a_channel(tmp_path):
    grey = COLOUR[..., 0]
    image = Arrays(saved_one(tmp_path, grey))[2]
    assert torch.equal(image, torch.from_numpy(grey[2])[None])


@pytest.mark.parametrize("layout", ["auto", "chw"])
def test_channels_may_come_first(tmp_path, layout):
    first = COLOUR.transpose(0, 3, 1, 2)
    image = Arrays(saved_one(tmp_path, first), layout=layout)[1]
    assert torch.equal(image, torch.from_numpy(first[1]))


def test_floats_come_as_float32_and_keep_their_values(tmp_path):
    floats = RANDOM.normal(size=(2, 4, 4))
    image = Arrays(saved_one(tmp_path, floats))[1]
    assert image.dtype == torch.float32
    torch.testing.assert_close(image[0].double(), torch.from_numpy(floats[1]), atol=1e-6, rtol=0)


def test_changing_an_image_does_not_change_the_data(tmp_path):
    data = Arrays(saved(tmp_path, images=COLOUR))
    data[0].zero_()
    assert data[0].any()


def test_torchvisions_transforms_take_the_images(tmp_path):
    transform = v2.Compose([v2.ToImage(), v2.RGB(), v2.Resize([32, 32]), v2.ConvertImageDtype()])
    image = transform(Arrays(saved_one(tmp_path, COLOUR[..., 0]))[0])
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"Arrays: path must name .*there is no file .*none\.npz"):
        Arrays(tmp_path / "none.npz")


def test_a_damaged_file_is_named(tmp_path):
    path = saved(tmp_path, images=COLOUR)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"data\.npz must be a .npz or .npy .* cannot be read"):
        Arrays(path)
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(DataError, match=r"text\.npy must be a .npz or .npy"):
        Arrays(tmp_path / "text.npy")
    (tmp_path / "empty.npy").touch()
    with pytest.raises(DataError, match=r"empty\.npy must be a .npz or .npy"):
        Arrays(tmp_path / "empty.npy")


def test_damage_anywhere_in_compressed_images_is_an_error_and_never_a_number(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, images=np.zeros((50, 8, 8), np.uint8))
    whole = path.read_bytes()
    start, stop = 54, whole.index(b"PK\x01\x02")  # from the compressed bytes to the directory
    for place in range(start, stop - 8):
        path.write_bytes(whole[:place] + b"\xff" * 8 + whole[place + 8 :])
        with pytest.raises(DataError, match=r"data\.npz must be a .npz or .npy .* cannot be read"):
            Arrays(path)


def test_pickled_objects_are_refused(tmp_path):
    path = saved(tmp_path, images=np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(DataError, match=r"data\.npz must be .* of plain numbers"):
        Arrays(path)


def test_a_missing_array_suggests_the_nearest(tmp_path):
    path = saved(tmp_path, image=COLOUR, labels=LABELS)
    with pytest.raises(
        DataError, match=r"hold an array 'images', .*did you mean 'image'\? \(set images_key\)"
    ):
        Arrays(path)
    with pytest.raises(DataError, match=r"hold an array 'y', .*known: .*\(set labels_key\)"):
        Arrays(path, path, images_key="image", labels_key="y")


def test_images_of_an_impossible_shape_or_kind_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"must have 3 or 4 dimensions, got shape \(5, 6\)"):
        Arrays(saved_one(tmp_path, COLOUR[:, :, 0, 0]))
    with pytest.raises(DataError, match=r"must have 1 or 3 channels, got shape \(5, 6, 7, 2\)"):
        Arrays(saved_one(tmp_path, COLOUR[..., :2]))
    with pytest.raises(DataError, match="must be uint8 or floats, got int64; convert them"):
        Arrays(saved_one(tmp_path, COLOUR.astype(np.int64)))


def test_a_layout_that_could_be_either_must_be_named(tmp_path):
    path = saved_one(tmp_path, np.zeros((5, 3, 8, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"\(5, 3, 8, 3\) may be chw or hwc; say which"):
        Arrays(path)
    assert Arrays(path, layout="hwc")[0].shape == (3, 3, 8)
    assert Arrays(path, layout="chw")[0].shape == (3, 8, 3)
    with pytest.raises(UnknownName, match="no layout of Arrays named 'hw'; did you mean 'hwc'"):
        Arrays(path, layout="hw")


@pytest.mark.parametrize("labels", [np.arange(4), np.zeros(5), np.zeros((5, 1), int)])
def test_labels_must_be_one_integer_for_each_image(tmp_path, labels):
    path = saved(tmp_path, images=COLOUR, labels=labels)
    with pytest.raises(DataError, match=r"data\.npz must be 5 integers, one for each image, got "):
        Arrays(path)


@pytest.mark.heavy
def test_real_mnist_is_read(real_data):
    data = Arrays(real_data / "mnist10k.npz")
    image, label = data[0]
    assert (len(data), image.shape, image.dtype) == (10_000, (1, 28, 28), torch.uint8)
    assert 0 <= label <= 9
