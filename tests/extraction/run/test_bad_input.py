"""Inputs, labels and models that are not as they must be: one sentence with the next step."""

import pytest
import torch
from PIL import Image
from torch import nn

from latentood.errors import DataError, ModelError
from latentood.extraction.model.readout import RowLogits, find_head
from latentood.extraction.run.inputs import Inputs, loaded
from latentood.extraction.run.job import model_errors


def inputs(*items):
    return Inputs("train", list(items), None, len(items))


IMAGE = torch.zeros(3, 4, 4)


def test_images_of_different_sizes_name_both_and_the_remedy():
    rows = inputs((IMAGE, 0), (IMAGE, 1), (torch.zeros(3, 4, 5), 1))
    with pytest.raises(DataError, match=r"row 0, \(3, 4, 4\), got \(3, 4, 5\) in row 2"):
        rows[2]
    with pytest.raises(DataError, match=r"Resize"):
        rows.first(3)


@pytest.mark.parametrize("label", ["cat", 0.5, [0, 1, 0], torch.tensor([0, 1]), {"x": 1}])
def test_labels_that_are_no_class_numbers_are_refused(label):
    with pytest.raises(DataError, match=r"'train': a label must be the number .* row 1 \(1\)"):
        inputs((IMAGE, 0), (IMAGE, label))[1]


@pytest.mark.parametrize("label", [1, 1.0, torch.tensor(1), True])
def test_whole_numbers_of_any_type_are_labels(label):
    assert inputs((IMAGE, label))[0][1] == 1


@pytest.mark.parametrize(
    ("item", "remedy"),
    [
        (Image.new("RGB", (4, 4)), "got Image; add torchvision.transforms.ToTensor"),
        (None, "got NoneType; look at what the data set gives"),
        ("cat.png", "got str; look at what the data set gives"),
    ],
)
def test_an_input_that_is_no_tensor_names_its_type_and_the_remedy(item, remedy):
    with pytest.raises(DataError, match=rf"^split 'train': row 0 \(0\) cannot be read: .*{remedy}"):
        inputs((item, 0))[0]


def broken(error):
    yield 1
    raise error


def test_an_error_of_a_loader_process_is_one_line():
    text = (
        "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent):\n"
        "  File x\nlatentood.errors.DataError: split 'train': row 3 cannot be read: gone"
    )
    with pytest.raises(DataError, match=r"^split 'train': row 3 cannot be read: gone$"):
        list(loaded("train", broken(DataError(text)), workers="extract.workers"))


def test_a_loader_process_that_dies_is_named():
    died = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    with pytest.raises(DataError, match=r"split 'train': a loader process .* extract\.workers: 0"):
        list(loaded("train", broken(died), workers="extract.workers"))
    with pytest.raises(RuntimeError, match="mine"):
        list(loaded("train", broken(RuntimeError("mine")), workers="extract.workers"))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_a_model_that_refuses_its_inputs_names_their_type(dtype):
    model, probe = nn.Conv2d(3, 2, 3), torch.zeros(2, 3, 8, 8, dtype=dtype)
    expected = rf"\(3, 8, 8\) and {dtype}, got RuntimeError"
    with pytest.raises(ModelError, match=expected), model_errors(probe):
        model(probe)


@pytest.mark.parametrize("name", ["0.bias", "0.weight"])
def test_weights_that_are_not_finite_are_named(name):
    model = nn.Sequential(nn.Linear(4, 3))
    model.get_parameter(name).data[0] = float("nan")
    with pytest.raises(ModelError, match=rf"logits must be finite, .* \({name} of its weights"):
        find_head(model, torch.zeros(2, 4), RowLogits(None))
