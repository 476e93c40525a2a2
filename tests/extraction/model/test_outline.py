"""What can be a layer, and which layers are suggested, on small models of every kind."""

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as models
import yaml
from torch import nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from latentood.extraction.model.outline import describe, suggested_layers, suggestion
from latentood.extraction.model.readout import RowLogits, find_head
from latentood.extraction.passes.modules import stochastic_modules
from latentood.extraction.passes.plan import make_plan
from latentood.pipeline.schema import parse_pipeline
from latentood.workflows import layers as outline
from tests.extraction import nets

IMAGES = "tests.extraction.nets.Images"
SECOND_VERSION = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}


def pipeline(layers=("penultimate",), model="tests.extraction.nets.OwnDropout", **args):
    return parse_pipeline(
        {
            "name": "any",
            "model": {"target": model, "args": args},
            "layers": list(layers),
            "splits": {"train": {"role": "fit", "target": IMAGES}},
        }
    )


def facts_of(model, size=32):
    model.eval().requires_grad_(False)
    batch = torch.randn(1, 3, size, size).expand(2, -1, -1, -1)
    return describe(
        model, batch, find_head(model, batch, RowLogits(None)), stochastic_modules(model)
    )


def suggested(model, size=32):
    return suggested_layers(facts_of(model, size))


def vit(layers=6, **args):
    return models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=layers, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=5, **args,
    )  # fmt: skip


def swin(**args):
    return models.SwinTransformer(
        patch_size=[2, 2], embed_dim=16, depths=[1, 2, 1], num_heads=[2, 2, 2],
        window_size=[2, 2], num_classes=5, **args,
    )  # fmt: skip


def maxvit():
    return models.MaxVit(
        input_size=(64, 64), stem_channels=8, partition_size=2, block_channels=[8, 16, 32],
        block_layers=[1, 1, 1], head_dim=4, stochastic_depth_prob=0.0, num_classes=5,
    )  # fmt: skip


class MeanOfTokens(nn.Module):
    """A transformer with a class token that its head does not look at."""

    def __init__(self):
        super().__init__()
        self.body = vit(2)
        self.body.heads = nn.Identity()
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        tokens = self.body._process_input(x)
        tokens = torch.cat([self.body.class_token.expand(len(x), -1, -1), tokens], dim=1)
        return self.fc(self.body.encoder(tokens).mean(dim=1))


class Stage(nn.Module):
    """Convolutions whose outputs are put side by side, as in a DenseNet."""

    def __init__(self, channels, growth):
        super().__init__()
        self.first = nn.Conv2d(channels, growth, 3, padding=1)
        self.second = nn.Conv2d(channels + growth, growth, 3, padding=1)

    def forward(self, x):
        for layer in (self.first, self.second):
            x = torch.cat([x, layer(x)], dim=1)
        return x


class AsManyChannelsAsPositions(nn.Module):
    """8 new channels a layer, on maps of 8 × 8."""

    def __init__(self):
        super().__init__()
        self.early = Stage(3, 8)
        self.late = Stage(19, 8)
        self.fc = nn.Linear(35, 2)

    def forward(self, x):
        return self.fc(self.late(self.early(x)).mean(dim=(2, 3)))


class WithPositions(nets.Conv):
    """Adds a table of positions, the same for all inputs."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Embedding(8, 8)

    def forward(self, x):
        return super().forward(x + self.positions(torch.arange(8)[None]))


class FunctionalPermutation(nn.Module):
    """Moves the channels behind the positions and back, without a module for it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.mix = nn.Linear(6, 10)
        self.back = nn.Identity()
        self.fc = nn.Linear(10, 2)

    def forward(self, x):
        x = self.mix(self.conv(x).movedim(1, -1))
        return self.fc(self.back(x.movedim(-1, 1)).mean(dim=(2, 3)))


def test_every_module_is_listed_with_its_output_and_what_a_row_of_it_costs():
    facts = {layer.name: layer for layer in outline(pipeline())}
    assert list(facts) == [name for name, _ in nets.OwnDropout().named_modules() if name]
    conv, fc = facts["conv1"], facts["fc"]
    assert (conv.kind, conv.shape, conv.calls, conv.reduction) == ("Conv2d", (6, 8, 8), 1, "mean")
    assert (conv.width, conv.row_bytes) == (6, 24)
    assert (fc.shape, fc.width, fc.head) == ((4,), 4, True)
    assert [name for name, layer in facts.items() if layer.stochastic] == [
        "drop1",
        "drop2",
        "alpha",
    ]


def test_modules_called_twice_or_never_are_counted():
    facts = {layer.name: layer for layer in facts_of(nets.CalledTwice(), 8)}
    assert facts["act"].calls == 2
    assert (facts["spare"].calls, facts["spare"].shape, facts["spare"].width) == (0, None, None)


def test_outputs_without_a_row_for_each_input_have_no_shape():
    facts = {layer.name: layer for layer in outline(pipeline(model=f"{__name__}.WithPositions"))}
    table = facts["positions"]  # one for all inputs
    assert (table.calls, table.shape, table.width, table.row_bytes) == (1, None, None, None)
    assert facts["conv2"].shape == (6, 8, 8)


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        (lambda: models.resnet18(num_classes=5), 32, ["layer1", "layer2", "layer3", "layer4"]),
        (lambda: nn.Sequential(nn.Identity(), models.resnet18(num_classes=5)), 32,
         ["1.layer1", "1.layer2", "1.layer3", "1.layer4"]),
        (lambda: models.convnext_tiny(num_classes=5), 32,
         ["features.1", "features.3", "features.5", "features.7"]),
        (lambda: models.shufflenet_v2_x0_5(num_classes=5), 32, ["stage2", "stage3", "stage4"]),
        (lambda: models.regnet_y_400mf(num_classes=5), 32,
         [f"trunk_output.block{i}" for i in range(1, 5)]),
        (lambda: models.densenet121(num_classes=5), 32,
         [f"features.denseblock{i}" for i in range(1, 5)]),
        (lambda: models.mobilenet_v3_small(num_classes=5), 32,
         [f"features.{i}" for i in (1, 3, 6, 8, 11)]),
        (lambda: models.alexnet(num_classes=5), 64, ["features.1", "features.4", "features.11"]),
        (maxvit, 64, ["stem", "blocks.0", "blocks.1", "blocks.2"]),
    ],
    ids=["resnet", "wrapped resnet", "convnext", "shufflenet", "regnet", "densenet", "mobilenet",
         "alexnet", "maxvit"],
)  # fmt: skip
def test_the_stages_of_a_convolutional_network_are_suggested(model, size, expected):
    assert suggested(model(), size) == [*expected, "penultimate"]


def test_four_encoder_layers_of_a_transformer_are_suggested_by_their_class_token():
    names = [f"encoder.layers.encoder_layer_{i}" for i in (0, 2, 3, 5)]
    assert suggested(vit()) == [*({name: "cls"} for name in names), "penultimate"]
    two = [f"encoder.layers.encoder_layer_{i}" for i in (0, 1)]
    assert suggested(vit(2)) == [*({name: "cls"} for name in two), "penultimate"]


def test_tokens_are_averaged_where_the_head_does_not_read_the_class_token_alone():
    names = [f"body.encoder.layers.encoder_layer_{i}" for i in (0, 1)]
    assert suggested(MeanOfTokens()) == [*({name: "tokens-mean"} for name in names), "penultimate"]


@pytest.mark.parametrize("args", [{}, SECOND_VERSION], ids=["v1", "v2"])
def test_channels_last_are_seen_in_a_swin_transformer(args):
    model = swin(**args)
    names = ("features.1", "features.3", "features.5")
    assert suggested(model, 16) == [*({name: "tokens-mean"} for name in names), "penultimate"]
    facts = {layer.name: layer for layer in facts_of(model, 16)}
    assert [facts[name].width for name in names] == [16, 32, 64]
    assert (facts["features.0.0"].shape, facts["features.0.0"].reduction) == ((16, 8, 8), "mean")
    assert (facts["features.0.1"].shape, facts["features.0.1"].width) == ((8, 8, 16), 16)
    assert (facts["permute"].shape, facts["permute"].reduction) == ((64, 2, 2), "mean")


def test_channels_that_happen_to_be_as_many_as_positions_stay_first():
    facts = {layer.name: layer for layer in facts_of(AsManyChannelsAsPositions(), 8)}
    assert all(facts[name].reduction == "mean" for name in ("early", "late", "late.second"))
    assert (facts["early"].width, facts["late"].width) == (19, 35)


def test_channels_moved_by_a_function_are_followed():
    facts = {layer.name: layer for layer in facts_of(FunctionalPermutation(), 8)}
    assert (facts["mix"].shape, facts["mix"].reduction) == ((8, 8, 10), "tokens-mean")
    assert (facts["back"].shape, facts["back"].reduction) == ((10, 8, 8), "mean")
    assert facts["mix"].width == facts["back"].width == 10


def test_of_single_layers_the_last_of_each_resolution_is_suggested():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3, stride=2)
            self.norm2, self.pool = nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(5, 2)

        def forward(self, x):
            x = self.norm2(self.conv2(F.relu(self.conv1(x))))
            return self.fc(self.pool(x).flatten(1))

    assert suggested(Plain(), 8) == ["conv1", "norm2", "penultimate"]


def test_without_a_head_there_is_no_penultimate():
    assert suggested(nets.NoHead(), 8) == ["conv"]


def test_a_stage_that_runs_twice_is_not_suggested():
    class Twice(AsManyChannelsAsPositions):
        def __init__(self):
            super().__init__()
            self.latest = Stage(35, 8)
            self.fc = nn.Linear(51, 2)

        def forward(self, x):
            x = self.early(self.early(x)[:, :3])
            return self.fc(self.latest(self.late(x)).mean(dim=(2, 3)))

    assert suggested(Twice(), 8) == ["late", "latest", "penultimate"]


def test_the_suggestion_is_a_line_of_yaml_whatever_the_names():
    line = suggestion(facts_of(swin(), 16))
    assert line == (
        "layers: [{features.1: tokens-mean}, {features.3: tokens-mean}, "
        "{features.5: tokens-mean}, penultimate]"
    )
    numbered = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, stride=2)))
    numbered.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)])
    line = suggestion(facts_of(numbered, 8))
    assert line == "layers: ['0.0', '0.1', penultimate]"
    assert yaml.safe_load(line) == {"layers": ["0.0", "0.1", "penultimate"]}


@pytest.mark.parametrize(("model", "size"), [(vit, 32), (swin, 16), (maxvit, 64)])
def test_suggested_layers_are_extracted_with_the_widths_that_were_listed(model, size):
    network = model()
    facts = facts_of(network, size)
    config = pipeline(yaml.safe_load(suggestion(facts))["layers"])
    plan = make_plan(network, config, torch.randn(2, 3, size, size))
    widths = {layer.name: (layer.width,) for layer in facts if layer.suggested}
    assert widths.items() <= plan.shapes.items()
    assert set(plan.shapes) == {*widths, "penultimate"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_hugging_face_models_whose_parts_return_no_tensors_are_looked_through():
    transformers = pytest.importorskip("transformers", reason="the extra [hf] is not installed")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=8, num_labels=5,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    batch = torch.randn(2, 3, 32, 32)
    facts = describe(
        model, batch, find_head(model, batch, RowLogits("logits")), stochastic_modules(model)
    )
    assert suggested_layers(facts) == [
        {"vit.layers.0": "cls"},
        {"vit.layers.1": "cls"},
        "penultimate",
    ]
