"""A published face detector, MTCNN, with its own weights on photographs that packages ship."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from matplotlib import cbook
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_image
from torch import nn
from torch.utils.data import Dataset
from torchvision.ops import roi_align

from latentood.cli import main
from latentood.extraction.model.reductions import Map
from latentood.extraction.model.taps import Tap, capture
from latentood.store.cache import open_cache

sys.path.append(str(Path(sys.prefix) / "peers"))  # where `make test` installs it, by itself
facenet = pytest.importorskip(
    "facenet_pytorch", reason="facenet-pytorch is not there; see make test"
)

WIDTH, HEIGHT = 128, 150
FACE = (188, 120, 364, 336)  # of the portrait, left, top, right, bottom
LAYER = "mtcnn.pnet.conv3#1"  # its first network runs on a pyramid of sizes, the largest first


class Photographs(Dataset):
    """Crops of a portrait, each with its face; every fourth is one of a landscape, without any.

    ``blur`` is how far a face is blurred, in pixels of the portrait, ``noise`` the deviation of
    what is added to each pixel, of 255.
    """

    def __init__(self, rows, seed, blur=0, noise=0):
        rng = np.random.default_rng(seed)
        portrait = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
        with Image.open(portrait) as image:
            faces = image.convert("RGB")
        blurred = faces.filter(ImageFilter.GaussianBlur(blur)).crop(FACE)
        faces.paste(blurred, FACE[:2])
        landscapes = [Image.fromarray(load_sample_image(f"{n}.jpg")) for n in ("china", "flower")]
        self.items = []
        for row in range(rows):
            image = landscapes[row // 4 % 2] if row % 4 == 3 else faces
            height = int(rng.integers(380, min(image.height, 540)))
            width = height * WIDTH // HEIGHT
            left = int(rng.integers(max(0, 370 - width), 180))
            top = int(rng.integers(0, min(110, image.height - height)))
            crop = image.crop((left, top, left + width, top + height)).resize((WIDTH, HEIGHT))
            pixels = np.asarray(crop, dtype=np.float32) + noise * rng.standard_normal(
                (HEIGHT, WIDTH, 3), dtype=np.float32
            )
            self.items.append(torch.from_numpy(pixels.clip(0, 255)).permute(2, 0, 1))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


class Faces(nn.Module):
    """MTCNN with the output of torchvision's detectors: faces have the label 1."""

    def __init__(self):
        super().__init__()
        self.mtcnn = facenet.MTCNN(keep_all=True, select_largest=False)

    def forward(self, images):
        batch = torch.stack(list(images)).permute(0, 2, 3, 1)
        return [self._of(*one) for one in zip(*self.mtcnn.detect(batch), strict=True)]

    @staticmethod
    def _of(boxes, scores):
        if boxes is None:
            boxes, scores = np.zeros((0, 4)), []
        boxes = torch.from_numpy(np.asarray(boxes, dtype=np.float32)).reshape(-1, 4)
        scores = torch.from_numpy(np.asarray(scores, dtype=np.float32))
        return {"boxes": boxes, "scores": scores, "labels": torch.ones(len(boxes)).long()}


def split(role, rows, seed, **args):
    target = f"{__name__}.Photographs"
    return {"role": role, "target": target, "args": {"rows": rows, "seed": seed, **args}}


PIPELINE = {
    "name": "faces",
    "model": {"target": f"{__name__}.Faces"},
    "layers": [LAYER],
    "unit": "box",
    "boxes": {"score_threshold": 0.7, "max": 4},
    "splits": {
        "train": split("fit", 60, 0),
        "id": split("id", 28, 1),
        "blurred": split("near", 28, 2, blur=12),
        "noisy": split("far", 28, 3, noise=25),
    },
    "extract": {"device": "cpu"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline file and the cache that the command line makes of it."""
    folder = tmp_path_factory.mktemp("faces")
    (folder / "faces.yaml").write_text(yaml.safe_dump(PIPELINE))
    with pytest.raises(SystemExit) as stop:
        main(["extract", str(folder / "faces.yaml"), "--store", str(folder / "faces.zarr")])
    assert not stop.value.code
    return folder


def test_boxes_of_mtcnn_are_kept_with_features_and_landscapes_have_none(folder):
    rows, model = open_cache(folder / "faces.zarr")["blurred"], Faces()
    for row, image in enumerate(Photographs(28, 2, blur=12).items):
        tap = Tap("maps", "mtcnn.pnet.conv3", 1, Map())
        with capture(model, [tap]) as captured:
            (one,) = model([image])
        count = int(rows["boxes.count"][row])
        assert count == len(one["boxes"])
        assert (count == 0) == (row % 4 == 3)
        boxes = rows["boxes.xyxy"][row, :count]
        torch.testing.assert_close(boxes, one["boxes"], rtol=1e-3, atol=0.1)
        maps = captured.outputs["maps"]
        height, width = maps.shape[-2:]
        scaled = boxes * torch.tensor([width / WIDTH, height / HEIGHT] * 2)
        pooled = roi_align(maps, [scaled], 7, sampling_ratio=2, aligned=True).mean(dim=(2, 3))
        got = rows[f"boxes.features/{LAYER}"][row, :count]
        torch.testing.assert_close(got, pooled, rtol=1e-3, atol=1e-3)


def test_faces_that_are_blurred_or_noisy_are_scored_from_the_command_line(folder, capsys):
    arguments = ["score", folder / "faces.zarr", "--unit", "box", "--json", "--device", "cpu"]
    arguments += ["--detectors", "residual,knn", "--layers", LAYER, "--set", "knn.k=5"]
    arguments += ["--out", folder, "--tracking", "none"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert not stop.value.code, err
    result = json.loads(out)
    rows = {(row["detector"], row["split"]): row for row in result["rows"]}
    assert set(rows) == {(d, s) for d in ("residual", "knn") for s in ("blurred", "noisy")}
    for row in rows.values():
        assert (row["n_id"], row["n_ood"]) == (21, 21)  # a face in three of four images
        assert row["auroc"] > 0.9  # of one portrait, so that its features are all alike
