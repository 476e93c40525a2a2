import pytest
import torch

import latentood as lo
from latentood.errors import ConfigError, DataError, ModelError
from latentood.extraction.passes.engines import Repeated, Vmapped
from latentood.extraction.passes.noise import row_keys
from latentood.extraction.run.blocks import narrowed
from latentood.extraction.run.job import prepare
from latentood.extraction.run.runner import run
from latentood.pipeline.schema import parse_pipeline
from latentood.stats.entropy import kl_entropy
from latentood.store.cache import open_cache
from tests.extraction.members.scenes import Masked, extract

HERE = "tests.extraction.members.scenes"


def pipeline(model="Segmenter", *, stride=8, layers=("stage1", "penultimate"), **changes):
    raw = {
        "name": "cells",
        "model": {"target": f"{HERE}.{model}" if "." not in model else model},
        "layers": list(layers),
        "unit": "cell",
        "cells": {"stride": stride, "sample": {"fit": 4}},
        "monte_carlo": {"passes": 3, "activate": True},
        "splits": {
            "train": {"role": "fit", "target": f"{HERE}.Masked"},
            "id": {"role": "id", "target": f"{HERE}.Masked", "args": {"rows": 4}},
            "street": {
                "role": "mixed",
                "target": f"{HERE}.Masked",
                "args": {"rows": 5, "unknown": True},
                "ood": {"mask_values": [254]},
            },
            "far": {"role": "far", "target": f"{HERE}.Masked", "args": {"rows": 3, "masks": False}},
        },
        "extract": {"device": "cpu"},
    }
    return parse_pipeline({**raw, **changes})


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return extract(tmp_path_factory.mktemp("cells") / "c.zarr", pipeline())


def test_a_cache_holds_images_and_their_cells_from_one_run(cache):
    rows = cache["street"]
    assert rows.shape("features/stage1") == (5, 6)
    assert rows.shape("cells.features/stage1") == (5, 9, 6)
    assert rows.shape("mc.entropy/penultimate") == (5, 8)
    assert rows.shape("cells.mc.entropy/penultimate") == (5, 9, 8)
    assert rows.shape("cells.mc.logits") == (5, 9, 3, 3)
    assert rows.shape("masks") == (5, 24, 24)
    assert cache["train"].shape("cells.logits") == (6, 4, 3)
    assert "masks" not in cache["train"]
    members = rows.members("cell")
    assert (len(members), members.unit) == (45, "cell")
    assert members["logits"].equal(rows["cells.logits"].flatten(0, 1))
    assert len(cache["far"].members("cell")) == 27
    assert rows["ood"].tolist() == [0, 1, 0, 1, 0]


def test_cells_are_the_areas_of_the_maps_and_images_their_means(cache):
    job = prepare(pipeline())
    model, images = job.plan.engine.model, Masked(5, unknown=True).images
    with torch.no_grad():
        maps = model.stage1(images)
        deep = model.stage2(maps)
    areas = maps.reshape(5, 6, 3, 8, 3, 8).mean(dim=(3, 5)).flatten(2).transpose(1, 2)
    rows = cache["street"]
    torch.testing.assert_close(rows["cells.features/stage1"], areas)
    torch.testing.assert_close(rows["features/stage1"], maps.mean(dim=(2, 3)))
    torch.testing.assert_close(rows["features/penultimate"], deep.mean(dim=(2, 3)))


def test_the_head_makes_the_logits_of_cells_of_their_features(cache, tmp_path):
    assert prepare(pipeline()).plan.head == "head"  # although its logits are enlarged
    coarse = {"target": f"{HERE}.Segmenter", "args": {"enlarged": False}}
    wanted = parse_pipeline({**pipeline().model_dump(mode="json"), "model": coarse})
    members = extract(tmp_path / "c.zarr", wanted)["id"].members("cell")
    weight, bias = members.head
    logits = members.double("features/penultimate") @ weight.T + bias
    torch.testing.assert_close(logits.float(), members["logits"])
    assert weight.equal(cache["id"].head[0])


def test_no_number_depends_on_batches_or_blocks(cache, tmp_path):
    options = {"device": "cpu", "block_rows": 2, "batch_size": 3}
    other = extract(tmp_path / "c.zarr", pipeline(extract=options))
    for split in cache.splits:
        for key in map(str, cache[split].keys()):
            if key != "head":
                torch.testing.assert_close(other[split][key], cache[split][key], msg=key)
    for key in ("cells.place", "cells.count", "cells.labels", "masks"):
        assert key not in cache["street"] or other["street"][key].equal(cache["street"][key])
    assert other["train"]["cells.place"].equal(cache["train"]["cells.place"])


def test_vmap_gives_the_passes_of_repeated_forwards_for_cells():
    engine = prepare(pipeline()).plan.engine
    assert isinstance(engine, Vmapped)
    repeated = Repeated(
        engine.model, engine.taps, engine.readout, engine.sites, engine.passes, engine.varying
    )
    images, keys = Masked(4).images, row_keys(3, torch.arange(4))
    with torch.no_grad():
        got, expected = engine.run(images, keys), repeated.run(images, keys)
    torch.testing.assert_close(got.mc_logits, expected.mc_logits)
    for layer, values in expected.mc_features.items():
        torch.testing.assert_close(got.mc_features[layer], values)
    assert "cells.features/penultimate" in got.mc_features


def test_entropies_of_cells_are_those_of_their_passes(tmp_path):
    passes = {"passes": 4, "activate": True, "keep": ["entropy", "features"]}
    cache = extract(tmp_path / "c.zarr", pipeline(monte_carlo=passes))
    for split in ("street", "train"):
        members = cache[split].members("cell")
        expected = kl_entropy(members["mc.features/penultimate"]).float()
        torch.testing.assert_close(members["mc.entropy/penultimate"], expected)


@pytest.mark.parametrize("model", ["Segmenter", "FullSize"])
def test_every_pixel_is_a_cell_at_stride_1(model, tmp_path):
    wanted = pipeline(model, stride=1, layers=["penultimate"], monte_carlo=None)
    cache = extract(tmp_path / "c.zarr", wanted)
    network, images = prepare(wanted).plan.engine.model, Masked(4).images
    with torch.no_grad():
        logits = network(images)
    members = cache["id"].members("cell")
    got = members["logits"].reshape(4, 24, 24, 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(got, logits)
    pixels = cache["id"]["masks"].flatten()
    assert members["ood"].equal(pixels)


def test_logits_in_a_mapping_are_taken_at_the_usual_field():
    mapping = {"target": f"{HERE}.Segmenter", "args": {"mapping": True}}
    wanted = parse_pipeline({**pipeline().model_dump(mode="json"), "model": mapping})
    assert prepare(wanted, limit=2).plan.head == "head"


@pytest.mark.parametrize(
    ("target", "args"),
    [
        ("torchvision.models.segmentation.deeplabv3_resnet50", {"num_classes": 3}),
        ("torchvision.models.segmentation.fcn_resnet50", {"num_classes": 3}),
        ("torchvision.models.segmentation.lraspp_mobilenet_v3_large", {"num_classes": 3}),
    ],
)
def test_segmenters_of_torchvision_run_unmodified(target, args, tmp_path):
    linear = "lraspp" not in target
    raw = pipeline().model_dump(mode="json")
    raw["model"] = {"target": target, "args": {**args, "weights": None, "weights_backbone": None}}
    raw["layers"] = ["penultimate"] if linear else ["classifier.cbr"]
    raw["splits"] = {"id": {"role": "id", "target": f"{HERE}.Masked", "args": {"size": 48}}}
    raw["monte_carlo"] = None
    job = prepare(parse_pipeline(raw), limit=2)
    assert (job.plan.head is not None) == linear
    run(job, tmp_path / "c.zarr")
    members = open_cache(tmp_path / "c.zarr")["id"].members("cell")
    assert members.shape("logits") == (72, 3)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"stride": 7}, ConfigError, r"cells.stride: must divide",
        ),
        (
            {"layers": ["penultimate"], "model": "torchvision.models.resnet18"}, ModelError,
            r"unit cell: the model must give maps of logits \(B, C, H, W\), got \(2, 1000\)",
        ),
    ],
)  # fmt: skip
def test_what_has_no_cells_is_a_named_error(changes, error, message):
    with pytest.raises(error, match=message):
        prepare(pipeline(**changes))


def splits(**args):
    return {"id": {"role": "id", "target": f"{HERE}.Masked", "args": args}}


def test_a_label_that_nobody_declared_is_an_error_that_names_row_and_remedy(tmp_path):
    with pytest.raises(DataError, match=r"got 77 in row 2 \(2\); name it in ood.mask_values or"):
        extract(tmp_path / "c.zarr", pipeline(splits=splits(bad=77)))


def test_splits_of_other_sizes_are_refused():
    wide = {"target": f"{HERE}.Masked", "args": {"width": 24}, "role": "far"}
    with pytest.raises(DataError, match="split 'wide': all splits must have images of one size"):
        prepare(pipeline(splits={**splits(), "wide": wide}))


def test_score_taps_are_refused_beside_cells(tmp_path):
    with pytest.raises(ModelError, match="scores: need a model that gives logits"):
        extract(tmp_path / "c.zarr", pipeline(scores=["odin"], splits=splits()))


def test_a_detector_of_cells_does_not_score_images(cache):
    fitted = lo.fit(lo.detector("knn", k=3), cache["train"].members("cell"))
    scores = fitted.score(cache["id"].members("cell"))
    assert scores.shape == (36,)
    with pytest.raises(lo.errors.DetectorError, match="unit it was fitted on, cell, got image"):
        fitted.score(cache["id"])
    with pytest.raises(ConfigError, match="knn: must score what it was fitted on, cells, got unit"):
        lo.score(cache, fitted=[fitted], unit="image")


def test_every_detector_whose_inputs_are_there_scores_cells(cache):
    chosen = "msp,knn,lared,mahalanobis,energy"
    comparison = lo.score(cache, detectors=chosen, settings=["knn.k=3"], device="cpu")
    assert comparison.unit == "cell"
    assert not comparison.failed
    assert {row.role for row in comparison.rows} == {"far", "mixed"}
    mixed = next(row for row in comparison.rows if row.role == "mixed")
    masks = cache["street"]["masks"]
    assert (mixed.n_id, mixed.n_ood) == (int((masks == 0).sum()), int((masks == 1).sum()))


@pytest.mark.parametrize("model", ["latentood.models.unet"])
def test_passes_that_only_layers_are_followed_in_run_through_no_more_than_these(model):
    config = {"passes": 3, "activate": True}
    args = {"num_classes": 3, "widths": [4, 6, 8], "p": 0.3, "block_size": 2}
    raw = pipeline(layers=["encoder2", "dropblock"], monte_carlo=config).model_dump(mode="json")
    engine = prepare(parse_pipeline({**raw, "model": {"target": model, "args": args}})).plan.engine
    images, keys = Masked(4).images, row_keys(3, torch.arange(4))
    runs = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: runs.append(name))
        for name, module in engine.model.named_modules()
        if name in ("encoder3", "dropblock", "head")
    ]
    wanted = {"mc.entropy/dropblock", "cells.mc.entropy/dropblock", "cells.logits"}
    with torch.no_grad():
        whole, part = engine.run(images, keys), narrowed(engine, wanted).run(images, keys)
    assert runs[-4:] == ["encoder3", "dropblock", "dropblock", "head"]  # the second is all passes
    assert part.mc_logits is None
    torch.testing.assert_close(part.logits, whole.logits)
    assert set(part.mc_features) == {"dropblock", "cells.features/dropblock"}
    for name, values in part.mc_features.items():
        torch.testing.assert_close(values, whole.mc_features[name])
    for hook in hooks:
        hook.remove()
