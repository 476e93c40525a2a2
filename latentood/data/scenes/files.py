"""Images with masks or boxes, read from the files of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from latentood.errors import ConfigError, DataError, one_line, suggest, unknown

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_VALUES = 1 << 16  # that a mask of 8 or 16 bits can hold
_MOST_COVERED = 0.5  # share of the box of an object that may be painted over
_CORNERS = ("xmin", "ymin", "xmax", "ymax")

Object = tuple[str, list[float]]
"""Class and box of an object."""


class ImageMasks:
    """The images of a folder, each with the mask of the same name in another folder.

    Names agree up to the suffix. A mask is a PNG of one channel, or with a palette, that holds the
    number of the class of every pixel. An item is a PIL image in RGB and a mask (H, W) int64.

    Args:
        root: Folder of both folders.
        images: Folder of the images in it.
        masks: Folder of the masks in it.
        relabel: Value in a file → value to give in its place, from 0 to 65535: ``{9: 254,
            11: 255}`` turns class 9 into unknown objects and ignores what is 11.
        classes: C: values must be from 0 to C − 1, or be among those that ``relabel`` gives.
            Default: all values are taken.

    Attributes:
        ids: Names of the image files.

    Raises:
        DataError: A folder has no images, or an image or a mask stands alone. When an item is
            read: its mask is no mask, or holds a value that is not declared.
        ConfigError: ``relabel`` has a value that is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        images: str = "images",
        masks: str = "masks",
        relabel: Mapping[int, int] | None = None,
        classes: int | None = None,
    ) -> None:
        files, of_masks = (_image_files(Path(root) / one, "ImageMasks") for one in (images, masks))
        _same_names(files, of_masks, "a mask")
        _same_names(of_masks, files, "an image")
        self.pairs = [(files[stem], of_masks[stem]) for stem in files]
        self.ids = [image.name for image, _ in self.pairs]
        self.relabel = {int(old): int(new) for old, new in (relabel or {}).items()}
        wrong = [one for pair in self.relabel.items() for one in pair if not 0 <= one < _VALUES]
        if wrong:
            raise ConfigError(
                f"ImageMasks: values of relabel must be from 0 to {_VALUES - 1}, got {wrong[0]}; "
                "255 is the usual value to ignore"
            )
        self.classes = classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Image.Image, Tensor]:
        image, path = self.pairs[index]
        with Image.open(path) as file:
            mask = np.asarray(file)
        if mask.ndim != 2 or mask.dtype.kind not in "bui":
            raise DataError(
                f"ImageMasks: {path} must have one channel of whole numbers, got shape "
                f"{mask.shape} and {mask.dtype}; save the number of the class of every pixel"
            )
        return _rgb(image), torch.from_numpy(self._relabelled(mask.astype(np.int64), path))

    def _relabelled(self, mask: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
        table = np.arange(_VALUES)
        table[list(self.relabel)] = list(self.relabel.values())
        mask = table[mask]
        if self.classes is not None:
            given = sorted(set(self.relabel.values()))
            undeclared = set(np.unique(mask).tolist()) - {*range(self.classes), *given}
            if undeclared:
                raise DataError(
                    f"ImageMasks: values of {path} must be from 0 to {self.classes - 1} or among "
                    f"those that relabel gives, {given}, got {min(undeclared)}; add it to relabel"
                )
        return mask


class VocBoxes:
    """Images with the boxes of annotations in the form of Pascal VOC.

    ``root`` has the folders ``JPEGImages`` and ``Annotations``, and the lists of names
    ``ImageSets/Main/<split>.txt``. An item is a PIL image in RGB and a mapping with ``boxes``
    (n, 4) float32 and ``labels`` (n,) int64. VOC counts pixels from 1, the last one included: a
    box is xmin − 1, ymin − 1, xmax, ymax. Objects marked difficult count like all others.

    Args:
        root: The folder.
        labels: Name of a class → its label, ``{RBC: 1, WBC: 2, Platelets: 254}``; null leaves
            objects of a class out. All classes that occur must be named.
        split: Name of a list of images; default: all annotations.
        without: Classes whose images are left out: a detector that is to meet unknown objects
            must not have learnt that they are background.
        erased: Classes whose objects are painted over, for the same reason where most images show
            them: their boxes get the median colour of the image. Objects that lose more than half
            of their box are left out.

    Attributes:
        ids: Names of the image files.

    Raises:
        DataError: A file is missing or damaged, a class has no label, a box no area, or no image
            is left.
        UnknownName: ``without`` or ``erased`` names a class that has no label.
    """

    def __init__(
        self,
        root: str | Path,
        labels: Mapping[str, int | None],
        split: str | None = None,
        without: Sequence[str] = (),
        erased: Sequence[str] = (),
    ) -> None:
        for name in (*without, *erased):
            if name not in labels:
                raise unknown("class of VocBoxes", name, labels)
        root, self.labels, self.erased = Path(root), dict(labels), frozenset(erased)
        images = _image_files(root / "JPEGImages", "VocBoxes")
        self.items: list[tuple[Path, dict[str, Tensor], Tensor]] = []
        for stem in _stems(root, split):
            path = root / "Annotations" / f"{stem}.xml"
            objects = _objects(path)
            if stem not in images:
                raise DataError(
                    f"VocBoxes: {path} must have an image of the same name in "
                    f"{root / 'JPEGImages'}, got none; {suggest(stem, images)}"
                )
            self._check(objects, path)
            if not any(name in without for name, _ in objects):
                self.items.append((images[stem], *self._target(objects)))
        if not self.items:
            raise DataError(
                f"VocBoxes: some image of {root} must be left, got none; check split and without"
            )
        self.ids = [image.name for image, *_ in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Image.Image, dict[str, Tensor]]:
        path, target, painted = self.items[index]
        image = _rgb(path)
        if len(painted):
            median = np.median(np.asarray(image).reshape(-1, 3), axis=0).astype(int)
            for box in painted.int().tolist():
                image.paste(tuple(median.tolist()), box)
        return image, {name: value.clone() for name, value in target.items()}

    def _check(self, objects: Sequence[Object], path: Path) -> None:
        for number, (name, (left, top, right, bottom)) in enumerate(objects, start=1):
            if name not in self.labels:
                raise DataError(
                    f"VocBoxes: classes must be named in labels, got {name!r} in {path}; give it "
                    f"a label, or null to leave it out ({suggest(name, self.labels)})"
                )
            if not (left < right and top < bottom):
                raise DataError(
                    f"VocBoxes: boxes must have xmin ≤ xmax and ymin ≤ ymax, got "
                    f"{[left + 1, top + 1, right, bottom]} for object {number} of {path}, a "
                    f"{name}; correct or remove it"
                )

    def _target(self, objects: Sequence[Object]) -> tuple[dict[str, Tensor], Tensor]:
        """Give the target of an image, and the boxes in it to paint over."""
        painted = _boxes([box for name, box in objects if name in self.erased])
        labelled = [
            (label, box)
            for name, box in objects
            if name not in self.erased and (label := self.labels[name]) is not None
        ]
        boxes = _boxes([box for _, box in labelled])
        labels = torch.tensor([label for label, _ in labelled], dtype=torch.int64)
        kept = (_covered(boxes, painted) <= _MOST_COVERED).all(dim=1)
        return {"boxes": boxes[kept], "labels": labels[kept]}, painted


def _boxes(corners: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(corners).float().reshape(-1, 4)


def _covered(boxes: Tensor, others: Tensor) -> Tensor:
    """Give the share of each of n boxes that lies in each of m others: (n, m)."""
    first = torch.maximum(boxes[:, None, :2], others[:, :2])
    last = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return (last - first).clamp(min=0).prod(dim=2) / area[:, None]


def _image_files(folder: Path, who: str) -> dict[str, Path]:
    """Find the images of a folder: their names without suffix → their paths, in order."""
    if not folder.is_dir():
        raise DataError(
            f"{who}: there must be a folder {folder}, got none; unpack the data or correct the path"
        )
    files = {
        path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES
    }
    if not files:
        raise DataError(
            f"{who}: {folder} must hold images ({', '.join(_SUFFIXES)}), got none; correct the path"
        )
    return files


def _same_names(files: Mapping[str, Path], others: Mapping[str, Path], what: str) -> None:
    for stem in files:
        if stem not in others:
            raise DataError(
                f"ImageMasks: {files[stem]} must have {what} of the same name in "
                f"{next(iter(others.values())).parent}, got none; {suggest(stem, others)}"
            )


def _rgb(path: Path) -> Image.Image:
    with Image.open(path) as file:
        return file.convert("RGB")


def _stems(root: Path, split: str | None) -> list[str]:
    """List the names of a split, or those of all annotations."""
    if split is None:
        return sorted(path.stem for path in (root / "Annotations").glob("*.xml"))
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        raise DataError(
            f"VocBoxes: the split {split!r} must have a list {path}, got none; "
            f"{suggest(split, (file.stem for file in path.parent.glob('*.txt')))}"
        )
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line]


def _objects(path: Path) -> list[Object]:
    """Read the class and the box of every object of an annotation."""
    try:
        parsed: Any = ElementTree.parse(path).getroot()
        objects = []
        for one in parsed.iter("object"):
            ends = [float(_text(one, f"bndbox/{corner}")) for corner in _CORNERS]
            objects.append((_text(one, "name"), [ends[0] - 1, ends[1] - 1, *ends[2:]]))
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f"VocBoxes: {path} must be an annotation of Pascal VOC, but cannot be read "
            f"({one_line(error)}); correct it, or remove the image from the split"
        ) from error
    return objects


def _text(node: Any, name: str) -> str:
    text = node.findtext(name)
    if text is None:
        raise ValueError(f"an object has no {name}")
    return str(text).strip()
