"""Segmenters and detectors as people have them: smp, Hugging Face and torchvision, unmodified."""

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from torchvision.models import detection
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import roi_align

import latentood as lo
from latentood.errors import ModelError
from latentood.evaluation.inputs.request import select
from latentood.extraction.model.reductions import Map
from latentood.extraction.model.taps import Tap, capture
from latentood.extraction.passes.detecting import RepeatedDetecting, VmappedDetecting
from latentood.extraction.passes.engines import Repeated, Vmapped
from latentood.extraction.passes.noise import row_keys
from latentood.extraction.run.job import prepare
from latentood.extraction.run.runner import run
from latentood.latents.splits import MemberSplits
from latentood.pipeline.schema import parse_pipeline
from latentood.store.cache import open_cache
from tests.extraction.members.scenes import Masked

HERE = "tests.extraction.members.scenes"
SMP = "segmentation_models_pytorch"
NO_SMP = "the extra [smp] is not installed"
NO_HF = "the extra [hf] is not installed"
hugging_face = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def masked(target, layers, args, passes=None):
    def split(role, rows):
        return {"role": role, "target": f"{HERE}.Masked", "args": {"rows": rows, "size": 48}}

    return parse_pipeline(
        {
            "name": "segmenter",
            "model": {"target": target, "args": args},
            "layers": layers,
            "unit": "cell",
            "cells": {"stride": 8},
            "monte_carlo": passes,
            "splits": {"train": split("fit", 5), "id": split("id", 3), "far": split("far", 4)},
            "extract": {"device": "cpu"},
        }
    )


class Noise(Dataset):
    """Noise of 96 pixels in height, and one width after the other."""

    def __init__(self, widths=(128, 96, 128)):
        generator = torch.Generator().manual_seed(0)
        self.items = [torch.randn(3, 96, width, generator=generator) for width in widths]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


def boxed(target, layers, args, data, passes=None, threshold=0.0):
    return parse_pipeline(
        {
            "name": "detector",
            "model": {"target": f"{__name__}.{target}", "args": args},
            "layers": layers,
            "unit": "box",
            "boxes": {"score_threshold": threshold, "max": 30, "roi": 3},
            "monte_carlo": passes,
            "splits": {"id": {"role": "id", "target": f"{__name__}.Noise", "args": data}},
            "extract": {"device": "cpu"},
        }
    )


def extract(job, folder):
    run(job, folder)
    return open_cache(folder)


def assert_head_makes_logits(members):
    weight, bias = members.head
    logits = members.double("features/penultimate") @ weight.T + bias
    torch.testing.assert_close(logits.float(), members["logits"], rtol=1e-4, atol=1e-4)


def unet(**changes):
    return {
        "encoder_name": "resnet18", "encoder_depth": 3, "decoder_channels": [16, 8, 8],
        "encoder_weights": None, "classes": 3, **changes,
    }  # fmt: skip


def test_a_unet_of_smp_runs_unmodified_and_only_detectors_without_head_score_it(tmp_path):
    pytest.importorskip(SMP, reason=NO_SMP)
    passes = {"passes": 3, "insert": {"after": "decoder.blocks.0", "block_size": 3, "p": 0.3}}
    job = prepare(masked(f"{SMP}.Unet", ["encoder.layer1", "decoder"], unet(), passes))
    assert isinstance(job.plan.engine, Vmapped)
    assert job.plan.head is None
    cache = extract(job, tmp_path / "c.zarr")
    rows = cache["id"]
    with torch.no_grad():
        logits = job.plan.engine.model(Masked(3, 48).images)
    areas = logits.reshape(3, 3, 6, 8, 6, 8).mean(dim=(3, 5)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(rows["cells.logits"], areas, rtol=1e-4, atol=1e-5)
    assert rows.shape("cells.mc.entropy/decoder") == (3, 36, 8)
    assert "mc.entropy/encoder.layer1" not in rows  # before the noise
    selection = select(layers=["decoder"], splits=MemberSplits(cache, "cell"))
    skipped = {one.request.detector for one in selection.skipped}
    assert {"vim", "react", "gradnorm"} <= skipped
    assert {"msp", "mahalanobis", "lared"} <= {one.name for one in selection.detectors}
    comparison = lo.score(cache, detectors="msp,mahalanobis,lared", layers="decoder", device="cpu")
    assert not comparison.failed
    assert {row.n_ood for row in comparison.rows} == {int((cache["far"]["masks"] == 1).sum())}


def test_a_head_of_3_by_3_has_no_penultimate_features():
    pytest.importorskip(SMP, reason=NO_SMP)
    with pytest.raises(ModelError, match=r"'penultimate': no linear layer \(of segmenters: no 1×1"):
        prepare(masked(f"{SMP}.Unet", ["penultimate"], unet()))
    wanted = masked(f"{SMP}.Unet", ["decoder"], unet()).model_copy(
        update={"head": "segmentation_head.0"}
    )
    with pytest.raises(ModelError, match=r"'segmentation_head\.0': must name a 1×1 convolution"):
        prepare(wanted)


def test_a_head_of_smp_of_1_by_1_is_known_although_its_logits_are_enlarged(tmp_path):
    pytest.importorskip(SMP, reason=NO_SMP)
    args = unet(encoder_depth=5, decoder_pyramid_channels=16, decoder_segmentation_channels=32)
    del args["decoder_channels"]
    wanted = masked(f"{SMP}.FPN", ["penultimate"], args)
    raw = wanted.model_dump(mode="json")
    raw["splits"]["train"]["args"]["size"] = 96
    raw["splits"] = {"train": raw["splits"]["train"]}
    job = prepare(parse_pipeline(raw), limit=2)
    assert job.plan.head == "segmentation_head.0"
    assert job.plan.shapes["cells.features/penultimate"] == (144, 32)


SEGFORMER = {
    "config": {
        "target": "transformers.SegformerConfig",
        "args": {
            "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [4, 2],
            "hidden_sizes": [8, 16], "patch_sizes": [7, 3], "strides": [4, 2],
            "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 12,
            "num_labels": 3, "classifier_dropout_prob": 0.2,
        },
    }
}  # fmt: skip


def segformer(layers, passes=None):
    target = "transformers.SegformerForSemanticSegmentation"
    return masked(target, layers, SEGFORMER, passes)


@hugging_face
def test_a_segformer_runs_unmodified_with_its_own_dropout(tmp_path):
    pytest.importorskip("transformers", reason=NO_HF)
    passes = {"passes": 3, "activate": True}
    job = prepare(segformer(["segformer.stages.1", "penultimate"], passes))
    engine = job.plan.engine
    assert job.plan.head == "decode_head.classifier"
    rows = extract(job, tmp_path / "c.zarr")["id"]
    with torch.no_grad():
        logits = engine.model(Masked(3, 48).images).logits
    assert logits.shape == (3, 3, 12, 12)
    areas = logits.reshape(3, 3, 6, 2, 6, 2).mean(dim=(3, 5)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(rows["cells.logits"], areas, rtol=1e-4, atol=1e-5)
    assert_head_makes_logits(rows.members("cell"))
    assert rows["cells.mc.entropy/penultimate"].std() > 0
    keys = row_keys(3, torch.arange(3))
    repeated = Repeated(engine.model, engine.taps, engine.readout, engine.sites, 3, engine.varying)
    with torch.no_grad():
        got = engine.run(Masked(3, 48).images, keys)
        expected = repeated.run(Masked(3, 48).images, keys)
    torch.testing.assert_close(got.mc_logits, expected.mc_logits, rtol=1e-4, atol=1e-5)


@hugging_face
def test_layers_of_a_segformer_that_give_tokens_are_refused_by_name():
    pytest.importorskip("transformers", reason=NO_HF)
    layer = "segformer.stages.1.blocks.0"
    message = rf"layer '{layer}': unit cell: layers must give maps \(B, C, H, W\), got \(36, 16\)"
    with pytest.raises(ModelError, match=message):
        prepare(segformer([layer]))


def queries(family, **changes):
    """A small detector of Hugging Face whose weights are drawn large enough to find boxes."""
    import transformers

    stages = ["stage4"] if family in ("Detr", "ConditionalDetr") else ["stage2", "stage3", "stage4"]
    small = {
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "num_queries": 7, "num_labels": 3,
    }  # fmt: skip
    resnet = transformers.ResNetConfig
    if family == "RTDetr":
        resnet = transformers.RTDetrResNetConfig
        small |= {
            "encoder_hidden_dim": 32, "encoder_in_channels": [8, 16, 16],
            "decoder_in_channels": [32] * 3, "num_denoising": 0, "anchor_image_size": None,
        }  # fmt: skip
    if family == "Yolos":
        small = {
            "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 3,
            "intermediate_size": 16, "image_size": [96, 96], "num_detection_tokens": 7,
        }  # fmt: skip
    else:
        small["backbone_config"] = resnet(
            embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type="basic",
            out_features=stages,
        )  # fmt: skip
    config = getattr(transformers, f"{family}Config")(**small, **changes)
    model = getattr(transformers, f"{family}ForObjectDetection")(config)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "backbone" not in name:  # else all queries give the same
            nn.init.normal_(parameter, std=0.3)
    return model


BACKBONE = "model.backbone.model.encoder.stages.1"
MAPS = [Tap("maps", BACKBONE, None, Map())]
REFINED = {"two_stage": True, "with_box_refine": True, "two_stage_num_proposals": 5}


@hugging_face
@pytest.mark.parametrize(
    ("family", "changes", "head", "classes", "threshold"),
    [
        ("Detr", {}, "class_labels_classifier", 4, 0.62),
        ("ConditionalDetr", {}, "class_labels_classifier", 3, 0.25),
        ("DeformableDetr", {}, "class_embed.1", 3, 0.5),
        ("DeformableDetr", REFINED, "class_embed.1", 3, 0.5),
        ("RTDetr", {}, "model.decoder.class_embed.1", 3, 0.4),
        ("Yolos", {}, "class_labels_classifier.layers.2", 4, 0.42),
    ],
)
def test_queries_are_the_boxes_of_their_processor_with_features_and_logits_of_their_own(
    family, changes, head, classes, threshold, tmp_path
):
    transformers = pytest.importorskip("transformers", reason=NO_HF)
    no_maps = family == "Yolos"
    data = {"widths": [128] * 3} if no_maps else {}
    layers = ["penultimate"] if no_maps else [BACKBONE, "penultimate"]
    job = prepare(
        boxed("queries", layers, {"family": family, **changes}, data, threshold=threshold)
    )
    assert (job.plan.head, job.plan.classes) == (head, classes)
    rows = extract(job, tmp_path / "c.zarr")["id"]
    processor = getattr(transformers, f"{family}ImageProcessor")()
    model = job.plan.engine.model
    for row, image in enumerate(Noise(**data).items):
        size = [tuple(image.shape[-2:])]
        with torch.no_grad(), capture(model, [] if no_maps else MAPS) as captured:
            output = model(image[None])
        (one,) = processor.post_process_object_detection(output, threshold, size)
        order = one["scores"].argsort(descending=True, stable=True)
        count = int(rows["boxes.count"][row])
        assert count == len(order)
        boxes = rows["boxes.xyxy"][row, :count]
        torch.testing.assert_close(boxes, one["boxes"][order], rtol=1e-4, atol=1e-3)
        scores = rows["boxes.confidence"][row, :count]
        torch.testing.assert_close(scores, one["scores"][order], rtol=1e-4, atol=1e-5)
        assert rows["boxes.predictions"][row, :count].tolist() == one["labels"][order].tolist()
        for maps in captured.outputs.values():
            sides, of_map = (torch.tensor(x.shape[-2:]).flip(0).repeat(2) for x in (image, maps))
            inside = boxes.clamp(min=0).minimum(sides) / sides * of_map
            pooled = roi_align(maps, [inside], 3, sampling_ratio=2, aligned=True)
            features = rows[f"boxes.features/{BACKBONE}"][row, :count]
            torch.testing.assert_close(features, pooled.mean(dim=(2, 3)), rtol=1e-3, atol=1e-4)
    members = rows.members("box")
    most = 3 * output.logits[..., 0].numel() * (1 if classes == 4 else 3)
    assert 2 < len(members) < most  # the threshold decides
    assert len(members["xyxy"].unique(dim=0)) > 2  # queries differ
    assert_head_makes_logits(members)
    logits, labels = members["logits"], members["predictions"].long()
    chance = logits.softmax(dim=1) if classes == 4 else logits.sigmoid()
    torch.testing.assert_close(chance.gather(1, labels[:, None])[:, 0], members["confidence"])


@hugging_face
@pytest.mark.parametrize("family", ["Detr", "RTDetr"])
def test_passes_of_queries_run_through_no_more_than_the_layers_need(family):
    pytest.importorskip("transformers", reason=NO_HF)
    passes = {"passes": 3, "insert": {"after": BACKBONE, "block_size": 3, "p": 0.3}}
    wanted = boxed("queries", [BACKBONE, "penultimate"], {"family": family}, {}, passes)
    engine = prepare(wanted).plan.engine
    assert {layer.name for layer in lo.layers(wanted) if layer.head} == {engine.readout.head}
    assert isinstance(engine, VmappedDetecting)
    assert engine.body.name == BACKBONE
    repeated = RepeatedDetecting(
        engine.model, engine.taps, engine.readout, engine.sites, 3, engine.varying
    )
    images, keys = Noise().items, row_keys(3, torch.arange(3))
    with torch.no_grad():
        got, expected = engine.run(images, keys), repeated.run(images, keys)
    assert f"boxes.features/{BACKBONE}" in got.mc_features
    for name, values in expected.mc_features.items():
        torch.testing.assert_close(got.mc_features[name], values, rtol=1e-4, atol=1e-5)
    for name, values in expected.features.items():
        torch.testing.assert_close(got.features[name], values, rtol=1e-4, atol=1e-4)


def rcnn(kind, **changes):
    """A small R-CNN with more to predict than boxes, or with levels, whose weights are drawn."""
    options = {
        "rpn_pre_nms_top_n_test": 50, "rpn_post_nms_top_n_test": 20, "min_size": 48,
        "max_size": 96, "box_score_thresh": 0.05, "box_detections_per_img": 10, **changes,
    }  # fmt: skip
    if kind == "levels":
        model = detection.fasterrcnn_mobilenet_v3_large_fpn(
            weights=None, weights_backbone=None, num_classes=3, **options
        )
    else:
        backbone = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=4), nn.ReLU())
        backbone.out_channels = 8
        options["rpn_anchor_generator"] = AnchorGenerator(((10, 20),), ((1.0,),))
        if kind == "masks":
            head = detection.mask_rcnn.MaskRCNNHeads(8, (256,), 1)
            model = detection.MaskRCNN(backbone, 3, **options, mask_head=head)
        else:
            head = detection.keypoint_rcnn.KeypointRCNNHeads(8, (8,))
            predictor = detection.keypoint_rcnn.KeypointRCNNPredictor(8, 3)
            model = detection.KeypointRCNN(
                backbone, 3, **options, keypoint_head=head, keypoint_predictor=predictor
            )
    for name, parameter in model.named_parameters():
        if "box_predictor" in name or "rpn.head" in name:
            nn.init.normal_(parameter, std=0.003 if kind == "levels" else 0.3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.backbone(torch.randn(2, 3, 96, 128))  # statistics of noise, else maps are constant
    return model


@pytest.mark.parametrize(
    ("kind", "layer"),
    [("masks", "backbone.0"), ("keypoints", "backbone.0"), ("levels", "backbone.body.6")],
)
def test_r_cnns_with_more_heads_or_levels_give_logits_and_features_of_exactly_that_box(
    kind, layer, tmp_path
):
    job = prepare(boxed("rcnn", [layer, "penultimate"], {"kind": kind}, {}))
    assert job.plan.head == "roi_heads.box_predictor.cls_score"
    rows = extract(job, tmp_path / "c.zarr")["id"]
    model = job.plan.engine.model
    for row, image in enumerate(Noise().items):
        with torch.no_grad():
            one = model([image])[0]
        assert {"masks": "masks", "keypoints": "keypoints", "levels": "boxes"}[kind] in one
        count = int(rows["boxes.count"][row])
        assert count == len(one["scores"]) > 0
        torch.testing.assert_close(rows["boxes.xyxy"][row, :count], one["boxes"])
    members = rows.members("box")
    assert len(members["confidence"].unique()) > len(members) / 2  # boxes differ
    assert_head_makes_logits(members)
    label = members["predictions"].long()[:, None]
    chance = members["logits"].softmax(dim=1).gather(1, label)[:, 0]
    torch.testing.assert_close(chance, members["confidence"])
    assert members.shape(f"features/{layer}") == (len(members), *job.plan.shapes[layer])


def test_an_r_cnn_without_any_proposal_has_images_without_boxes(tmp_path):
    args = {"kind": "masks", "rpn_score_thresh": 1.0}
    job = prepare(boxed("rcnn", ["backbone.0", "penultimate"], args, {}))
    assert extract(job, tmp_path / "c.zarr")["id"]["boxes.count"].tolist() == [0] * 3
