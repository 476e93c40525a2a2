import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import roi_align

from latentood.errors import DataError, ModelError
from latentood.extraction.passes.detecting import RepeatedDetecting, VmappedDetecting
from latentood.extraction.passes.noise import row_keys
from latentood.extraction.run.job import prepare
from latentood.latents import Key
from latentood.pipeline.schema import parse_pipeline
from latentood.stats.entropy import kl_entropy
from tests.extraction.members.scenes import Boxed, extract

HERE = "tests.extraction.members.scenes"
MODELS = "torchvision.models.detection"


def rcnn(classes=3, threshold=0.05):
    """A small R-CNN with dropout, whose weights are drawn large enough to find boxes."""
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.ReLU(), nn.Dropout2d(0.3),
        nn.Conv2d(8, 12, 3, padding=1, stride=2), nn.ReLU(),
    )  # fmt: skip
    backbone.out_channels = 12
    model = FasterRCNN(
        backbone, classes, min_size=48, max_size=96, box_score_thresh=threshold,
        rpn_anchor_generator=AnchorGenerator(((10, 20),), ((1.0,),)), box_detections_per_img=10,
        rpn_pre_nms_top_n_test=50, rpn_post_nms_top_n_test=20,
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        if "box_predictor" in name:
            nn.init.normal_(parameter, std=0.3)
    return model


class Counting(nn.Module):
    """Takes images, and gives no boxes but a number for each."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, given):
        return self.conv(torch.stack(given)).mean(dim=(1, 2, 3))


def none():
    """A detector that finds nothing."""
    return rcnn(threshold=1.0)


def pipeline(model=f"{__name__}.rcnn", layers=("backbone.3", "penultimate"), args=None, **changes):
    raw = {
        "name": "boxes",
        "model": {"target": model, "args": args or {}},
        "layers": list(layers),
        "unit": "box",
        "boxes": {"score_threshold": 0.0, "max": 6, "roi": 3},
        "monte_carlo": {"passes": 3, "activate": True},
        "splits": {
            "train": {"role": "fit", "target": f"{HERE}.Boxed", "args": {"targets": False}},
            "id": {"role": "id", "target": f"{HERE}.Boxed", "args": {"rows": 4}},
            "street": {
                "role": "mixed",
                "target": f"{HERE}.Boxed",
                "args": {"rows": 5, "unknown": 9},
                "ood": {"labels": [9], "iou": 0.01},
            },
        },
        "extract": {"device": "cpu"},
    }
    return parse_pipeline({**raw, **changes})


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return extract(tmp_path_factory.mktemp("boxes") / "c.zarr", pipeline())


def model_of(wanted=None):
    return prepare(wanted or pipeline()).plan.engine.model


def images(**args):
    return [item[0] for item in Boxed(**args).items]


def test_a_cache_holds_images_and_their_boxes_from_one_run(cache):
    rows = cache["street"]
    assert rows.shape("features/backbone.3") == (5, 12)
    assert rows.shape("boxes.features/backbone.3") == (5, 6, 12)
    assert rows.shape("mc.entropy/backbone.3") == (5, 12)
    assert rows.shape("boxes.mc.entropy/backbone.3") == (5, 6, 12)
    assert rows.shape("boxes.features/penultimate") == (5, 6, 1024)
    assert rows.shape("boxes.logits") == (5, 6, 3)
    assert rows.shape("objects.xyxy") == (5, 6, 4)
    count = rows["boxes.count"]
    assert count.sum() > 5
    assert len(rows.members("box")) == count.sum()
    beyond = torch.arange(6) >= count[:, None]
    for key in ("boxes.features/backbone.3", "boxes.mc.entropy/backbone.3", "boxes.xyxy"):
        assert not rows[key][beyond].any()


def test_boxes_are_those_of_the_detector_by_falling_confidence(cache):
    model, rows = model_of(), cache["id"]
    with torch.no_grad():
        given = model(images(rows=4))
    for image, one in enumerate(given):
        count = int(rows["boxes.count"][image])
        assert count == min(6, len(one["scores"]))
        torch.testing.assert_close(rows["boxes.xyxy"][image, :count], one["boxes"][:count])
        torch.testing.assert_close(rows["boxes.confidence"][image, :count], one["scores"][:count])
        assert rows["boxes.predictions"][image, :count].tolist() == one["labels"][:count].tolist()


def test_features_of_boxes_are_those_of_roi_align_image_by_image(cache):
    model, rows = model_of(), cache["id"]
    for image, tensor in enumerate(images(rows=4)):
        with torch.no_grad():
            inputs, _ = model.transform([tensor])
            maps = model.backbone[:4](inputs.tensors)
        count = int(rows["boxes.count"][image])
        height, width = (48, 48)  # what the transform makes of 32 × 32
        box = rows["boxes.xyxy"][image, :count] * torch.tensor([width / 32, height / 32] * 2)
        scale = torch.tensor(maps.shape[-2:]).flip(0).repeat(2) / torch.tensor(
            inputs.tensors.shape[-2:]
        ).flip(0).repeat(2)
        pooled = roi_align(maps, [box * scale], 3, sampling_ratio=2, aligned=True)
        got = rows["boxes.features/backbone.3"][image, :count]
        torch.testing.assert_close(got, pooled.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_logits_and_features_are_of_exactly_that_box(cache):
    """The softmax of its logits is the confidence, and the head makes them of its features."""
    for split in ("id", "train", "street"):
        members = cache[split].members("box")
        chance = members.double("logits").softmax(dim=1)
        label = members["predictions"].long()
        got = chance.gather(1, label[:, None])[:, 0]
        torch.testing.assert_close(got.float(), members["confidence"])
        weight, bias = members.head
        logits = members.double("features/penultimate") @ weight.T + bias
        torch.testing.assert_close(logits.float(), members["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [("backbone.3",), ("backbone.3", "rpn.head.conv")])
def test_vmap_over_the_body_gives_the_passes_of_repeated_forwards(layers):
    engine = prepare(pipeline(layers=layers)).plan.engine
    assert isinstance(engine, VmappedDetecting)
    assert engine.body.name == "backbone"
    repeated = RepeatedDetecting(
        engine.model, engine.taps, engine.readout, engine.sites, engine.passes, engine.varying
    )
    given, keys = images(rows=4), row_keys(3, torch.arange(4))
    with torch.no_grad():
        got, expected = engine.run(given, keys), repeated.run(given, keys)
    assert {f"boxes.features/{layer}" for layer in layers} <= set(got.mc_features)
    for name, values in expected.mc_features.items():
        torch.testing.assert_close(got.mc_features[name], values, rtol=1e-4, atol=1e-5)
    for name, values in expected.features.items():
        torch.testing.assert_close(got.features[name], values, rtol=1e-4, atol=1e-4)
    assert not any("forward" in vars(module) for module in engine.model.modules())


def test_entropies_are_of_the_features_of_one_box_over_the_passes(tmp_path):
    passes = {"passes": 4, "activate": True, "keep": ["entropy", "features"]}
    rows = extract(tmp_path / "c.zarr", pipeline(monte_carlo=passes))["street"].members("box")
    expected = kl_entropy(rows["mc.features/backbone.3"]).float()
    torch.testing.assert_close(rows["mc.entropy/backbone.3"], expected)
    assert expected.std() > 0


def test_no_number_depends_on_batches_or_blocks(cache, tmp_path):
    options = {"device": "cpu", "block_rows": 2, "batch_size": 1}
    other = extract(tmp_path / "c.zarr", pipeline(extract=options))
    for split in cache.splits:
        for key in cache[split].keys():  # noqa: SIM118
            if key != "head":
                torch.testing.assert_close(
                    other[split][key], cache[split][key], rtol=1e-3, atol=1e-3, msg=str(key)
                )


def test_images_of_different_sizes_run_alone(tmp_path):
    given = {"rows": 4, "wider": True, "targets": False}
    split = {"id": {"role": "id", "target": f"{HERE}.Boxed", "args": given}}
    whole = extract(tmp_path / "a.zarr", pipeline(splits=split))["id"]
    options = {"device": "cpu", "batch_size": 1}
    alone = extract(tmp_path / "b.zarr", pipeline(splits=split, extract=options))["id"]
    for key in (Key("xyxy", unit="box"), Key("features", "backbone.3", "box")):
        torch.testing.assert_close(whole[key], alone[key], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("passes", [None, {"passes": 3, "activate": True}])
def test_images_without_boxes_stop_nothing_but_a_fit(passes, tmp_path):
    cache = extract(tmp_path / "c.zarr", pipeline(f"{__name__}.none", monte_carlo=passes))
    assert cache["id"]["boxes.count"].tolist() == [0] * 4
    assert not cache["id"]["boxes.features/backbone.3"].any()
    assert cache["id"]["ood"].tolist() == [0] * 4
    with pytest.raises(DataError, match="train: at least one image must have a box, got none in 6"):
        cache["train"].members("box")


@pytest.mark.parametrize(
    ("target", "layer"),
    [
        ("retinanet_resnet50_fpn", "backbone.body.layer2"),
        ("fcos_resnet50_fpn", "backbone.body.layer2"),
        ("ssdlite320_mobilenet_v3_large", "backbone.features.0"),
    ],
)
def test_one_stage_detectors_of_torchvision_run_unmodified(target, layer, tmp_path):
    args = {"weights": None, "weights_backbone": None, "num_classes": 3, "score_thresh": 0.0}
    split = {"id": {"role": "id", "target": f"{HERE}.Boxed", "args": {"rows": 2}}}
    if "ssd" not in target:
        args |= {"min_size": 64, "max_size": 64}
    wanted = pipeline(f"{MODELS}.{target}", [layer], args, splits=split, monte_carlo=None)
    rows = extract(tmp_path / "c.zarr", wanted)["id"]
    assert rows["boxes.count"].tolist() == [6, 6]
    assert rows.members("box").shape(f"features/{layer}")[0] == 12
    assert "boxes.logits" not in rows


def test_only_r_cnns_have_penultimate_features():
    args = {"weights": None, "weights_backbone": None, "num_classes": 3, "min_size": 64}
    wanted = pipeline(f"{MODELS}.fcos_resnet50_fpn", ["penultimate"], args, monte_carlo=None)
    with pytest.raises(ModelError, match="layer 'penultimate': of detectors only R-CNNs"):
        prepare(wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "tests.extraction.nets.Conv", "layers": ["conv1"]},
            r"the model must take a list of images of shape \(3, 32, 32\) .* or set unit: image or",
        ),
        (
            {"model": f"{__name__}.Counting", "layers": ["conv"]},
            "unit box: the model must give a mapping with boxes, scores and labels for each image",
        ),
        ({"layers": ["roi_heads.box_head"]}, r"unit box: layers must give maps \(B, C, H, W\)"),
    ],
)
def test_what_has_no_boxes_is_a_named_error(changes, message):
    with pytest.raises(ModelError, match=message):
        prepare(pipeline(**changes))
