"""Files of maps and boxes hold the scores of the comparison; pictures are of the right images."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import roc_auc_score

from latentood.errors import ConfigError, MissingInput
from latentood.evaluation.scoring import score_all
from latentood.report import maps
from latentood.report.maps import write_maps
from tests.evaluation.members.examples import COLUMNS, ROWS, SIDE, First, box_splits, cell_splits

HEIGHT, WIDTH = ROWS * SIDE, COLUMNS * SIDE


@pytest.fixture(scope="module", autouse=True)
def _few_pictures():
    """Drawing takes a tenth of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "PICTURES", 2)
        yield


@pytest.fixture(scope="module")
def cells():
    return score_all(cell_splits(), [First(), First(width=1e-3)], unit="cell")


@pytest.fixture(scope="module")
def boxes():
    return score_all(box_splits(), [First(), First(width=3.0)], unit="box")


@pytest.fixture(scope="module")
def of_cells(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    write_maps(cells, folder, cells.results)
    return folder


@pytest.fixture(scope="module")
def of_boxes(boxes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes") / "new" / "folder"
    asked = []

    def image_of(split, row):
        asked.append((split, row))
        return np.full((3, 64, 80), row, dtype=np.float32)

    write_maps(boxes, folder, boxes.results[:1], image_of)
    return folder, asked


def opened(folder, name):
    """A map and what stands beside it."""
    array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return array, json.loads((folder / f"{name}.json").read_text())


def split_of(comparison, name):
    return next(split for split in comparison.splits if split.name == name)


@pytest.mark.parametrize("split", ["id_test", "street", "textures"])
@pytest.mark.parametrize("number", [0, 1])
def test_maps_hold_the_scores_of_cells_enlarged_to_pixels(cells, of_cells, split, number):
    result = cells.results[number]
    width = result.request.hyperparameters["width"]
    array, facts = opened(of_cells / f"first_width={width}_logits", split)
    assert (array.dtype, array.shape) == (np.float16, (11, HEIGHT, WIDTH))
    assert isinstance(array, np.memmap)
    exact = torch.from_numpy(result.scores[split]).view(11, 1, ROWS, COLUMNS)
    enlarged = F.interpolate(exact, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)[:, 0]
    scores = facts["offset"] + facts["width"] * array.astype(np.float64)
    close = 2**-11 * facts["width"] * np.abs(array).max()  # half a step of float16
    np.testing.assert_allclose(scores, enlarged.numpy(), rtol=0, atol=1.01 * close)
    assert facts["hyperparameters"] == result.request.hyperparameters
    assert (facts["split"], facts["maps"]) == (split, f"{split}.npy")
    assert facts["images"] == [str(row) for row in range(11)]


def test_metrics_of_pixels_follow_from_the_files(cells, of_cells):
    rows = {row.split: row for row in cells.results[0].rows}
    street, facts = opened(of_cells / "first_width=1.0_logits", "street")
    mask = split_of(cells, "street").truth.pixels.masks.read(0, 11).numpy()
    known = mask != 255
    auroc = roc_auc_score(mask[known], street[known].astype(np.float64))
    assert rows["street"].auroc == pytest.approx(auroc, abs=1e-12)
    # A split that is OOD as a whole has the scale of the ID split, so that their maps compare.
    textures, of_textures = opened(of_cells / "first_width=1.0_logits", "textures")
    ids, of_ids = opened(of_cells / "first_width=1.0_logits", "id_test")
    assert (of_textures["offset"], of_textures["width"]) == (of_ids["offset"], of_ids["width"])
    assert facts["offset"] != of_ids["offset"]
    sides = [one[:, :, 1:].ravel().astype(np.float64) for one in (ids, textures)]
    auroc = roc_auc_score(np.repeat([0, 1], sides[0].size), np.concatenate(sides))
    assert rows["textures"].auroc == pytest.approx(auroc, abs=1e-12)


def test_pictures_are_of_images_with_ood_pixels_first(of_cells):
    folder = of_cells / "first_width=1.0_logits"
    assert {path.stem for path in folder.glob("*.png")} == {
        "id_test_0", "id_test_1", "street_1", "street_3", "textures_0", "textures_1",
    }  # fmt: skip
    with Image.open(folder / "street_1.png") as picture:
        assert min(picture.size) > 300


def test_at_most_8_are_drawn_and_those_without_ood_fill_up(monkeypatch):
    monkeypatch.setattr(maps, "PICTURES", 8)
    ood = np.arange(11) % 2 == 1
    assert maps._chosen(ood) == [1, 3, 5, 7, 9, 0, 2, 4]
    assert maps._chosen(ood[:3]) == [1, 0, 2]


def test_the_table_has_every_box_with_its_scores(boxes, of_boxes):
    table = pq.read_table(of_boxes[0] / "boxes.parquet")
    scores = ["first width=1.0 logits", "first width=3.0 logits"]
    assert table.column_names == [
        "split", "image", "number", "x1", "y1", "x2", "y2", "confidence", "prediction", "label",
        "ood", *scores,
    ]  # fmt: skip
    frame = table.to_pandas()
    for split in boxes.splits:
        part, truth = frame[frame["split"] == split.name], split.truth
        for result, column in zip(boxes.results, scores, strict=True):
            np.testing.assert_array_equal(part[column], result.scores[split.name])
        np.testing.assert_array_equal(part[["x1", "y1", "x2", "y2"]], truth.boxes.xyxy)
        np.testing.assert_array_equal(part["image"].astype(int), truth.image)
        np.testing.assert_array_equal(part["prediction"], truth.boxes.predictions)
        np.testing.assert_array_equal(part["confidence"], truth.boxes.confidence)
        np.testing.assert_array_equal(part["ood"], truth.ood)
        names = part["image"].astype(str) + "#" + part["number"].astype(str)
        assert names.tolist() == list(split.ids)
        none = part["label"].isna().to_numpy()
        np.testing.assert_array_equal(none, split.labels == -1)
        assert 0 < none.sum() < len(none)
        np.testing.assert_array_equal(part["label"][~none], split.labels[~none])


def test_boxes_are_drawn_on_the_images_that_they_are_of(boxes, of_boxes):
    folder, asked = of_boxes
    truth = split_of(boxes, "street").truth
    unknown = [row for row, one in enumerate(truth.boxes.objects) if (one.ood == 1).any()]
    expected = (unknown + [row for row in range(20) if row not in unknown])[:2]
    assert [row for split, row in asked if split == "street"] == expected
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["first_width=1.0_logits"]
    drawn = {path.stem for path in folder.glob("first_width=1.0_logits/street_*.png")}
    assert drawn == {f"street_{row}" for row in expected}


def test_scores_of_images_are_refused(comparison, tmp_path):
    with pytest.raises(ConfigError, match="must be of cells or boxes, got unit image; add --unit"):
        write_maps(comparison, tmp_path / "none", comparison.results)
    assert not (tmp_path / "none").exists()


def test_without_masks_there_are_no_maps(cells, tmp_path):
    bare = [
        dataclasses.replace(one, truth=dataclasses.replace(one.truth, pixels=None))
        for one in cells.splits
    ]
    with pytest.raises(MissingInput, match="id_test must have masks, got none; re-run extract"):
        write_maps(dataclasses.replace(cells, splits=tuple(bare)), tmp_path, cells.results)


def test_an_image_of_another_size_than_its_mask_is_refused(cells, tmp_path):
    with pytest.raises(
        ConfigError, match=r"the size of its mask, \(12, 16\), got \(12, 12\) for 0"
    ):
        write_maps(cells, tmp_path, cells.results, lambda *_: np.zeros((3, 12, 12)))


def test_a_folder_that_cannot_be_written_to_is_named(cells, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file must be a folder .*; choose another --maps"):
        write_maps(cells, tmp_path / "file", cells.results)


def test_a_map_that_breaks_off_leaves_the_old_file(cells, tmp_path, monkeypatch):
    write_maps(cells, tmp_path, cells.results[:1])
    path = tmp_path / "first_width=1.0_logits" / "id_test.npy"
    before = path.read_bytes()

    def torn(*_):
        yield torch.zeros(1, HEIGHT, WIDTH, dtype=torch.float16)
        raise KeyboardInterrupt

    monkeypatch.setattr(maps, "score_maps", torn)
    with pytest.raises(KeyboardInterrupt):
        write_maps(cells, tmp_path, cells.results[:1])
    assert path.read_bytes() == before
    assert not list(tmp_path.rglob("*partial*"))


def test_pictures_are_named_after_their_images(cells, tmp_path):
    names = ["road/0001.png", "road/0001.jpg", "x" * 300, *map(str, range(8))]
    ids = dataclasses.replace(cells.splits[0], images=names)
    named = dataclasses.replace(cells, splits=(ids, *cells.splits[1:]))
    write_maps(named, tmp_path, cells.results[:1])
    folder = tmp_path / "first_width=1.0_logits"
    assert {path.name for path in folder.glob("id_test_*.png")} == {
        "id_test_road_0001.png", "id_test_road_0001_2.png",
    }  # fmt: skip
    assert len(maps._names(names)[2]) == 150


def test_names_of_files_are_safe_and_each_is_there_once():
    texts = ["../a/b c.png", "a b c.png", "A_b_c.png", "…", "knn k=5 mc.entropy/x"]
    assert maps._names(texts) == [
        "a_b_c.png", "a_b_c.png_2", "A_b_c.png_3", "_", "knn_k=5_mc.entropy_x",
    ]  # fmt: skip
