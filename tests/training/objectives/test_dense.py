"""Objectives of segmenters and object detectors."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator

from latentood.errors import ConfigError, ModelError
from latentood.models.heads import Prediction, SoftmaxHead
from latentood.training.network import Network
from latentood.training.objectives import OBJECTIVES, Batch
from tests.references import softmax_training as reference


def masks():
    targets = torch.arange(2 * 3 * 4).reshape(2, 3, 4) % 3
    targets[0, 1, :] = 255
    return targets


class Segmenter(nn.Module):
    """A colour for each class, by a convolution; with an auxiliary one on demand."""

    def __init__(self, form="tensor"):
        super().__init__()
        self.conv, self.aux, self.form = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), form

    def forward(self, images):
        out = self.conv(images)
        if self.form == "tensor":
            return out
        return {"out": out} | ({"aux": self.aux(images)} if self.form == "aux" else {})


def segmenter(form="tensor", **options):
    torch.manual_seed(0)
    objective = OBJECTIVES.build("pixel_cross_entropy", **options)
    return Network(Segmenter(form), objective, classes=3)


@pytest.mark.parametrize("form", ["tensor", "out"])
@pytest.mark.parametrize("ignored", [255, 0])
def test_it_is_the_mean_over_the_pixels_that_count(form, ignored):
    images, targets = torch.randn(2, 3, 3, 4), masks().clamp(max=2 if ignored == 0 else 255)
    network = segmenter(form, ignore_index=ignored)
    loss, prediction = network.batch_loss(Batch(images, targets))
    logits = network.classifier.conv(images).detach().double().numpy()
    wanted = reference.pixel_cross_entropy(logits, targets.numpy(), ignored)
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    assert prediction is None


def test_an_auxiliary_classifier_counts_by_its_weight():
    images = torch.randn(2, 3, 3, 4)
    network = segmenter("aux", aux_weight=0.3)
    loss, _ = network.batch_loss(Batch(images, masks()))
    parts = [
        reference.pixel_cross_entropy(c(images).detach().double().numpy(), masks().numpy(), 255)
        for c in (network.classifier.conv, network.classifier.aux)
    ]
    assert loss.item() == pytest.approx(parts[0] + 0.3 * parts[1], rel=1e-5)


def test_a_batch_of_nothing_but_ignored_pixels_has_loss_and_gradients_of_zero():
    network = segmenter()
    loss, _ = network.batch_loss(Batch(torch.randn(2, 3, 3, 4), masks().fill_(255)))
    loss.backward()
    assert loss.item() == 0
    assert not network.classifier.conv.weight.grad.any()


def test_gradients_are_those_of_the_loss_and_finite_for_huge_logits():
    objective, targets = OBJECTIVES.build("pixel_cross_entropy"), masks()
    logits = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    network = Network(nn.Identity(), objective, classes=3)
    assert torch.autograd.gradcheck(lambda z: network.batch_loss(Batch(z, targets))[0], (logits,))
    huge = (1e4 * logits.detach().sign()).float().requires_grad_()
    loss, _ = network.batch_loss(Batch(huge, targets))
    loss.backward()
    assert loss.isfinite()
    assert huge.grad.isfinite().all()


def test_a_segmenter_trains():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (4, 6, 6), generator=generator)
    images = torch.eye(3)[targets].movedim(3, 1) + 0.1 * torch.randn(
        4, 3, 6, 6, generator=generator
    )
    network = segmenter("aux")
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(30):
        optimiser.zero_grad()
        network.batch_loss(Batch(images, targets))[0].backward()
        optimiser.step()
    assert float((network.classifier.conv(images).argmax(dim=1) == targets).float().mean()) > 0.98


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (torch.zeros(2, 3, 5, 5), r"\(2, 3, 5, 5\) for \(2, 3, 4\)"),
        (torch.zeros(2, 3), r"\(2, 3\) for \(2, 3, 4\)"),
        ({"logits": torch.zeros(2, 3, 3, 4)}, r"NoneType for \(2, 3, 4\)"),
    ],
)
def test_an_output_that_does_not_fit_the_masks_is_refused(output, got):
    class Net(nn.Module):
        def forward(self, images):
            return output

    network = Network(Net(), OBJECTIVES.build("pixel_cross_entropy"), classes=3)
    with pytest.raises(
        ModelError, match=r"objective pixel_cross_entropy: the network must give logits "
        rf"\(B, C, H, W\), or a mapping with them under 'out', for targets \(B, H, W\), got {got}",
    ):  # fmt: skip
        network.batch_loss(Batch(torch.zeros(1), masks()))


def detector():
    """A detector of torchvision with a backbone of one layer."""
    torch.manual_seed(0)
    backbone = nn.Conv2d(3, 8, 4, stride=4)
    backbone.out_channels = 8
    anchors = AnchorGenerator(((8,),), ((1.0,),))
    return FasterRCNN(
        backbone,
        3,
        rpn_anchor_generator=anchors,
        min_size=32,
        max_size=32,
        box_detections_per_img=5,
    )


def boxes():
    images = [torch.rand(3, 32, 32), torch.rand(3, 24, 32)]
    box = {"boxes": torch.tensor([[4.0, 4.0, 20.0, 20.0]]), "labels": torch.tensor([1])}
    return Batch(images, [box, box])


def test_the_loss_of_a_detector_is_the_sum_of_its_own():
    network = Network(detector(), OBJECTIVES.build("own_loss"), classes=3)
    torch.manual_seed(1)
    loss, prediction = network.batch_loss(boxes())
    torch.manual_seed(1)
    losses = network.classifier(boxes().inputs, boxes().targets)
    loss.backward()
    assert len(losses) == 4
    assert prediction is None


def test_a_detector_trains():
    network = Network(detector(), OBJECTIVES.build("own_loss"), classes=3)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    batch, values = boxes(), []
    for step in range(12):
        torch.manual_seed(step)
        optimiser.zero_grad()
        loss, _ = network.batch_loss(batch)
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.7 * values[0]


def test_all_losses_count_alike():
    class Net(nn.Module):
        def forward(self, images, targets):
            return {"a": torch.tensor(1.5), "b": torch.tensor(-0.25), "c": torch.tensor(4.0)}

    network = Network(Net(), OBJECTIVES.build("own_loss"), classes=3)
    assert network.batch_loss(Batch([], []))[0].item() == 5.25


def test_a_detector_in_eval_mode_is_refused():
    network = Network(detector(), OBJECTIVES.build("own_loss"), classes=3).eval()
    with pytest.raises(
        ModelError, match=r"objective own_loss: the network must give a mapping of losses for "
        r"\(images, targets\) in training mode, got list in eval mode; call network\.train\(\)",
    ):  # fmt: skip
        network.batch_loss(boxes())


@pytest.mark.parametrize("name", ["own_loss", "pixel_cross_entropy"])
def test_a_loss_of_predictions_is_refused(name):
    with pytest.raises(ConfigError, match=f"objective {name}: has a loss of batches alone"):
        OBJECTIVES.build(name).loss(
            Prediction(torch.zeros(2, 3)), torch.zeros(2), head=SoftmaxHead(3, 3)
        )
