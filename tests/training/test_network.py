"""A classifier with the head and the loss of an objective."""

import pytest
import torch
from torch import nn

from latentood.errors import ModelError
from latentood.models import digits_resnet, spectral_normalised
from latentood.models.heads import Prediction
from latentood.training.network import Network
from latentood.training.objectives import END, OBJECTIVES, Batch
from tests.training.nets import Mlp


def reads_features(**options):
    return OBJECTIVES.build("vos", **options)


class Twice(nn.Module):
    """A network with an auxiliary head, whose last linear layer is called twice."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.other = nn.Linear(4, 3)

    def forward(self, points):
        self.fc(points + 1)
        self.other(points)
        return self.fc(points)


@pytest.mark.parametrize(
    ("classifier", "shape", "width"),
    [
        (Mlp(), (5, 4), 16),
        (nn.Linear(4, 3), (5, 4), 4),
        (Twice(), (5, 4), 4),
        (digits_resnet(num_classes=3), (5, 1, 8, 8), None),
        (spectral_normalised(Mlp()), (5, 4), 16),
        (nn.Sequential(nn.Linear(4, 3), nn.Flatten()), (5, 4), 4),
    ],
)
def test_features_are_the_input_of_the_layer_that_gives_the_logits(classifier, shape, width):
    network = Network(classifier, reads_features(), classes=3).eval()
    for _ in range(2):  # the layer is looked for in the first forward
        prediction = network(torch.randn(shape))
        assert width in (None, prediction.features.shape[1])
        again = prediction.classify(prediction.features)
        torch.testing.assert_close(again, prediction.logits)
    again.sum().backward()


def test_gradients_reach_the_network_through_the_features():
    network = Network(Mlp(), reads_features(), classes=3)
    network(torch.randn(5, 4)).features.sum().backward()
    assert network.classifier.body[0].weight.grad is not None


def test_the_search_runs_the_network_once_and_leaves_no_hooks():
    network = Network(Mlp(), reads_features(), classes=3)
    network(torch.randn(5, 4))
    assert int(network.classifier.body[1].num_batches_tracked) == 1
    assert not any(m._forward_hooks for m in network.modules())


def test_features_are_not_captured_for_objectives_that_do_not_read_them():
    prediction = Network(Mlp(), OBJECTIVES.build("cross_entropy"), classes=3)(torch.randn(5, 4))
    assert prediction.features is None


def test_a_network_that_does_not_end_in_a_linear_layer_is_refused():
    network = Network(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), reads_features(), classes=3)
    with pytest.raises(
        ModelError, match=r"objective vos: needs the input of the last linear layer, but no linear "
        r"layer gives the network's output; end the network in nn\.Linear",
    ):  # fmt: skip
        network(torch.randn(5, 4))


@pytest.mark.parametrize("output", ["image", "mapping"])
def test_an_output_that_is_no_matrix_is_refused(output):
    class Net(nn.Module):
        def forward(self, points):
            return points[:, :, None] if output == "image" else {"out": points}

    network = Network(Net(), OBJECTIVES.build("cross_entropy"), classes=3)
    with pytest.raises(ModelError, match=r"cross_entropy: the network must give \(B, 3\), got"):
        network(torch.randn(5, 3))


def test_the_loss_of_a_batch_is_that_of_its_prediction():
    network = Network(nn.Linear(4, 3), OBJECTIVES.build("cross_entropy"), classes=3)
    points, labels = torch.randn(6, 4), torch.arange(6) % 3
    loss, prediction = network.batch_loss(Batch(points, labels))
    assert torch.equal(prediction.logits, network(points).logits)
    assert torch.equal(loss, network.loss(prediction, labels))


def test_outliers_share_the_batch_norm_of_the_inputs():
    torch.manual_seed(0)
    network = Network(Mlp(), OBJECTIVES.build("outlier_exposure"), classes=3)
    network.classifier.body[3].p = 0.0
    points, outliers, labels = torch.randn(6, 4), torch.randn(4, 4) + 5, torch.arange(6) % 3
    loss, prediction = network.batch_loss(Batch(points, labels, outliers))
    logits = network.classifier(torch.cat([points, outliers]))
    wanted = network.loss(Prediction(logits[:6]), labels, END, outliers=Prediction(logits[6:]))
    torch.testing.assert_close(loss, wanted)
    assert prediction.logits.shape == (6, 3)


def test_a_prediction_is_split_in_all_that_has_rows():
    def classify(features):
        return features

    whole = Prediction(torch.randn(5, 3), distance=torch.randn(5, 3), classify=classify)
    first, second = whole.split(2)
    assert torch.equal(torch.cat([first.logits, second.logits]), whole.logits)
    assert torch.equal(torch.cat([first.distance, second.distance]), whole.distance)
    assert first.features is None
    assert first.classify is second.classify is classify
