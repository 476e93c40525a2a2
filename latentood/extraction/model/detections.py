"""The boxes that an object detector gives, where they are in its maps, and what led to each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from latentood.errors import ModelError
from latentood.pipeline.members import Boxes

Parts = list[Tensor]
"""One tensor for each image."""


@dataclass(frozen=True)
class Detections:
    """The boxes of B images, those of an image by falling confidence."""

    xyxy: Parts  # (n, 4), corners in pixels of the input
    confidence: Parts  # (n,)
    labels: Parts  # (n,) int64, the classes that the detector predicts
    relative: Parts  # (n, 4), corners as shares of the sides of the maps
    logits: Parts | None = None  # (n, C), where there is one proposal or query to each box
    features: Parts | None = None  # (n, D), what the head makes them of, where there is one

    def kept(self, settings: Boxes) -> Detections:
        """Keep the boxes that are confident enough, and of these at most so many."""
        chosen = [
            torch.nonzero(scores >= settings.score_threshold)[:, 0][: settings.max]
            for scores in self.confidence
        ]

        def take(parts: Parts) -> Parts:
            return [part[index] for part, index in zip(parts, chosen, strict=True)]

        return Detections(
            xyxy=take(self.xyxy),
            confidence=take(self.confidence),
            labels=take(self.labels),
            relative=take(self.relative),
            logits=None if self.logits is None else take(self.logits),
            features=None if self.features is None else take(self.features),
        )

    @property
    def count(self) -> Tensor:
        """Count the boxes of each image: (B,)."""
        return torch.tensor([len(part) for part in self.xyxy])


@dataclass
class Seen:
    """What hooks saw of one forward; all but the features are of torchvision's detectors alone."""

    images: Any = None  # ImageList: the inputs as the backbone gets them, and their sizes in it
    proposals: Any = None  # (P, 4) boxes of each image
    found: Any = None  # of each image the boxes as the head gives them, before they are scaled back
    regression: Tensor | None = None  # (ΣP, 4·C)
    logits: Tensor | None = None  # (ΣP, C)
    features: Tensor | None = None  # (ΣP, D), or (B, Q, D) of queries: the input of the head


@contextmanager
def watched(model: nn.Module, head: str | None) -> Iterator[Seen]:
    """See what a head gets while a detector runs, and what the parts of torchvision's do.

    A head that runs several times, such as behind every layer of a decoder, makes the logits in its
    last run.
    """
    seen = Seen()

    def transformed(module: nn.Module, args: Any, output: Any) -> None:
        seen.images = output[0]

    def detected(module: nn.Module, args: Any, output: Any) -> None:
        seen.proposals = args[1]
        seen.found = [dict(one) for one in output[0]]  # the transform scales boxes back in place

    def predicted(module: nn.Module, args: Any, output: Any) -> None:
        seen.logits, seen.regression = output

    def classified(module: nn.Module, args: Any) -> None:
        seen.features = args[0]

    with ExitStack() as hooks:
        if head is not None:
            hooks.enter_context(model.get_submodule(head).register_forward_pre_hook(classified))
        if (transform := transform_of(model)) is not None:
            hooks.enter_context(transform.register_forward_hook(transformed))
        if (heads := roi_heads_of(model)) is not None:
            hooks.enter_context(heads.register_forward_hook(detected))
            predictor = cast("nn.Module", heads.box_predictor)
            hooks.enter_context(predictor.register_forward_hook(predicted))
        yield seen


def transform_of(model: nn.Module) -> nn.Module | None:
    """Find the part of a torchvision detector that scales images and puts them together."""
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    return next((m for m in model.modules() if isinstance(m, GeneralizedRCNNTransform)), None)


def roi_heads_of(model: nn.Module) -> Any:
    """Find the part of an R-CNN that classifies boxes."""
    from torchvision.models.detection.roi_heads import RoIHeads

    return next((m for m in model.modules() if isinstance(m, RoIHeads)), None)


def detections_of(
    output: Any, images: Sequence[Tensor], seen: Seen, model: nn.Module, most: int
) -> Detections:
    """Read the output of a detector for B images.

    Args:
        output: A mapping with ``boxes``, ``scores`` and ``labels`` for each image, as torchvision's
            detectors give it, or what Hugging Face's give: ``logits`` and ``pred_boxes``.
        images: (C, H, W) each.
        seen: What :func:`watched` saw.
        model: The detector.
        most: How many boxes of queries to read of an image.

    Raises:
        ModelError: It is something else.
    """
    if hasattr(output, "pred_boxes") and hasattr(output, "logits"):
        return _of_queries(output, images, seen, model, most)
    if not isinstance(output, list) or not all(_is_detection(one) for one in output):
        raise ModelError(
            "unit box: the model must give a mapping with boxes, scores and labels for each image, "
            f"got {type(output).__name__}; follow torchvision's detectors, or set another unit"
        )
    order = [one["scores"].argsort(descending=True, stable=True) for one in output]
    boxes = [one["boxes"][index].float() for one, index in zip(output, order, strict=True)]
    logits = features = None
    if seen.logits is not None:
        rows = [found[index] for found, index in zip(_proposals(seen, model), order, strict=True)]
        logits = [seen.logits[index] for index in rows]
        features = None if seen.features is None else [seen.features[index] for index in rows]
    return Detections(
        xyxy=boxes,
        confidence=[one["scores"][index] for one, index in zip(output, order, strict=True)],
        labels=[one["labels"][index] for one, index in zip(output, order, strict=True)],
        relative=[
            box * share.to(box) for box, share in zip(boxes, _shares(images, seen), strict=True)
        ],
        logits=logits,
        features=features,
    )


def _is_detection(one: Any) -> bool:
    return isinstance(one, Mapping) and {"boxes", "scores", "labels"} <= set(one)


def _shares(images: Sequence[Tensor], seen: Seen) -> Parts:
    """Give for each image what one of its pixels is as a share of the maps, (x, y, x, y)."""
    sizes = [tuple(image.shape[-2:]) for image in images]
    scaled, whole = sizes, None
    if seen.images is not None:
        scaled, whole = seen.images.image_sizes, tuple(seen.images.tensors.shape[-2:])
    shares = []
    for (height, width), (inner_height, inner_width) in zip(sizes, scaled, strict=True):
        of_height, of_width = whole or (height, width)
        x, y = inner_width / (width * of_width), inner_height / (height * of_height)
        shares.append(torch.tensor([x, y, x, y], dtype=torch.float64))
    return shares


def _proposals(seen: Seen, model: nn.Module) -> Parts:
    """Find the proposal that each box was made of, which the detector does not say.

    What it does with all proposals (decode, clip, softmax) is repeated, so that the box and score
    of each class are the same to the last bit, and the first proposal with both is taken.
    """
    from torchvision.ops.boxes import clip_boxes_to_image

    heads = roi_heads_of(model)
    scores = cast("Tensor", seen.logits).softmax(dim=-1)
    decoded = heads.box_coder.decode(seen.regression, seen.proposals)
    decoded = decoded.reshape(*scores.shape, 4)  # which it is but for no proposals at all
    found, start = [], 0
    for one, proposals, size in zip(
        seen.found, seen.proposals, seen.images.image_sizes, strict=True
    ):
        stop = start + len(proposals)
        boxes = clip_boxes_to_image(decoded[start:stop], size)
        labels = one["labels"]
        same = (scores[start:stop, labels] == one["scores"]) & (
            boxes[:, labels] == one["boxes"]
        ).all(dim=2)  # (P, n)
        if not bool(same.any(dim=0).all()):
            raise ModelError(
                "unit box: every box must be one of a proposal, as torchvision's RoIHeads makes "
                f"them, got one that is not from {type(heads).__name__}; leave its postprocessing "
                "as it is"
            )
        found.append(start + same.int().argmax(dim=0) if len(labels) else labels)
        start = stop
    return found


def _of_queries(
    output: Any, images: Sequence[Tensor], seen: Seen, model: nn.Module, most: int
) -> Detections:
    """Read the queries of a detector such as DETR, as Hugging Face's processors do.

    Where the last class means no object, each query is a box, whose confidence is the largest of
    the other classes' softmax (Carion et al. 2020, arXiv:2005.12872, sec. 3.2). Else each class of
    each query is a box, whose confidence is a sigmoid; of these the processors give at most 100, or
    as many as there are queries, here it is ``most``. Boxes may reach beyond the image; features
    are of what is within.
    """
    logits: Tensor = output.logits
    queries, classes = logits.shape[1:]
    if _has_no_object(model, classes):
        confidence, labels = logits.softmax(dim=-1)[..., :-1].max(dim=-1)
        of = torch.arange(queries, device=logits.device).expand_as(labels)
    else:
        confidence = logits.sigmoid().flatten(1)
        pairs = torch.arange(queries * classes, device=logits.device).expand_as(confidence)
        of, labels = pairs // classes, pairs % classes
    order = confidence.argsort(dim=1, descending=True, stable=True)[:, :most]
    rows = [of[i, index] for i, index in enumerate(order)]
    centre, size = output.pred_boxes.split(2, dim=-1)
    corners = torch.cat([centre - size / 2, centre + size / 2], dim=-1)
    sides = [torch.tensor(image.shape[-2:]).flip(0).repeat(2).to(corners) for image in images]

    def taken(values: Tensor) -> Parts:
        return [value[index] for value, index in zip(values, rows, strict=True)]

    return Detections(
        xyxy=[box * side for box, side in zip(taken(corners), sides, strict=True)],
        confidence=list(confidence.gather(1, order)),
        labels=list(labels.gather(1, order)),
        relative=taken(corners.clamp(0, 1)),
        logits=taken(logits),
        features=None if seen.features is None else taken(seen.features),
    )


def _has_no_object(model: nn.Module, classes: int) -> bool:
    """Test whether the last class of a query means no object, as the model's configuration says.

    DETR, Table Transformer and YOLOS have one class more than ``config.num_labels``; Conditional,
    Deformable, DAB and RT-DETR have as many. Without a configuration it is taken to be as in DETR.
    """
    known = getattr(getattr(model, "config", None), "num_labels", None)
    return known is None or classes > known


def roi_features(maps: Tensor, relative: Tensor, side: int) -> Tensor:
    """Average maps over each box: RoIAlign on ``side`` × ``side`` places, and their mean.

    He et al. 2017, arXiv:1703.06870, sec. 3; four points for each place, as
    ``torchvision.ops.roi_align(…, sampling_ratio=2, aligned=True)`` has them. Boxes are scaled to
    the map by x and y apart. The points are all pairs of some rows and some columns, so the mean of
    their bilinear weights is the product of a weight of the row and one of the column: the boxes of
    an image are one product of matrices, whatever the number of passes and channels.

    Args:
        maps: (B, T, D, h, w), of T passes.
        relative: (B, K, 4), corners as shares of the sides.
        side: Places along a side of a box.

    Returns:
        (B, T, K, D).
    """
    height, width = maps.shape[-2:]
    x1, y1, x2, y2 = relative.to(maps).unbind(2)
    of_rows = _weights(y1, y2, height, 2 * side)  # (B, K, h)
    of_columns = _weights(x1, x2, width, 2 * side)  # (B, K, w)
    weights = of_rows[..., None] * of_columns[:, :, None]
    positions = maps.flatten(3).flatten(1, 2).transpose(1, 2)  # (B, h · w, T · D)
    means = weights.flatten(2) @ positions
    boxed: Tensor = means.unflatten(2, maps.shape[1:3]).transpose(1, 2)
    return boxed


def _weights(first: Tensor, last: Tensor, size: int, points: int) -> Tensor:
    """Give the mean weight of each position of an axis for points between two ends.

    Args:
        first: (B, K) where boxes begin, as a share of the axis.
        last: (B, K) where they end.
        size: Positions of the axis; the centre of the first is at a half.
        points: How many points, evenly spaced.

    Returns:
        (B, K, size); points beyond the axis by more than one position weigh nothing.
    """
    steps = (torch.arange(points, device=first.device) + 0.5) / points
    places = (first[..., None] + (last - first)[..., None] * steps) * size - 0.5
    inside = ((places >= -1) & (places <= size)).to(first.dtype) / points
    places = places.clamp(0, size - 1)
    low = places.floor().long()
    share = places - low
    weights = first.new_zeros((*first.shape, size))
    weights.scatter_add_(2, low, (1 - share) * inside)
    return weights.scatter_add_(2, (low + 1).clamp(max=size - 1), share * inside)


def padded(parts: Sequence[Tensor], most: int) -> Tensor:
    """Put the rows of B images into one tensor: (B, most, …), zeros where there are fewer."""
    whole = parts[0].new_zeros((len(parts), most, *parts[0].shape[1:]))
    for image, part in enumerate(parts):
        whole[image, : len(part)] = part
    return whole
