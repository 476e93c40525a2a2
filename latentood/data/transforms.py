"""The transform that published weights were trained for, by the name of the weights.

Each takes PIL images and tensors, grey ones too, and gives the input tensor of the model. Name one
under ``transform:`` in a pipeline file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from latentood.data.extras import one_of, require
from latentood.errors import unknown

Transform = Callable[[Any], Tensor]


def weights_transform(name: str) -> Transform:
    """Give the transform of torchvision's weights.

    Args:
        name: As torchvision calls them, e.g. ``ResNet50_Weights.IMAGENET1K_V2``.

    Raises:
        UnknownName: No such weights (names the nearest).
    """
    from torchvision.models import get_model_weights, list_models
    from torchvision.transforms import v2

    known = {
        f"{kind.__name__}.{member}": weights
        for kind in map(get_model_weights, list_models())
        for member, weights in kind.__members__.items()
    }
    if name not in known:
        raise unknown("weights of torchvision", name, known)
    return v2.Compose([v2.RGB(), known[name].transforms()])  # type: ignore[no-any-return]


def timm_transform(model: str | nn.Module) -> Transform:
    """Give the evaluation transform of a timm model; needs the extra [timm].

    Args:
        model: Its name, with the tag of the weights or without, e.g. ``resnet18.a1_in1k``; or the
            model itself.

    Raises:
        ConfigError: timm is not installed.
        UnknownName: No such model (names the nearest).
    """
    timm = require("timm", extra="timm", who="timm_transform")
    from torchvision.transforms import v2

    if isinstance(model, str):
        known = {*timm.list_models(), *timm.list_pretrained()}
        if model not in known:
            raise unknown("model of timm", model, known)
        about = timm.get_pretrained_cfg(model).to_dict()
        config = timm.data.resolve_data_config({}, pretrained_cfg=about)
    else:
        config = timm.data.resolve_model_data_config(model)
    chain = timm.data.create_transform(**config, is_training=False)
    # Its first step is made for PIL images: uint8 tensors would not be scaled.
    colours = v2.RGB() if config["input_size"][0] == 3 else v2.Grayscale()
    return v2.Compose([v2.ToPILImage(), colours, chain])  # type: ignore[no-any-return]


def hugging_face_transform(name: str | None = None, folder: str | None = None) -> Transform:
    """Give the image processor of a transformers model; needs the extra [hf].

    Args:
        name: Its name on the Hub, e.g. ``google/vit-base-patch16-224``.
        folder: Or a folder that holds its ``preprocessor_config.json``.

    Raises:
        ConfigError: transformers is not installed, or not exactly one of both is given.
        OSError: There is no such processor.
    """
    where = one_of("hugging_face_transform", name=name, folder=folder)
    transformers = require("transformers", extra="hf", who="hugging_face_transform")
    return Processed(transformers.AutoImageProcessor.from_pretrained(where))


@dataclass(frozen=True)
class Processed:
    """An image processor as a transform of one image."""

    processor: Any  # gives pixel_values (1, C, H, W)

    def __call__(self, image: Any) -> Tensor:
        """Turn one image into (C, H, W)."""
        from torchvision.transforms import v2

        ready = self.processor(v2.RGB()(image), return_tensors="pt")
        pixels: Tensor = ready["pixel_values"][0]
        return pixels
