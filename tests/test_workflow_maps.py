"""The verbs for maps: of a detector and rows, and of a comparison with images of a pipeline."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import latentood as lo
from latentood import workflows
from latentood.errors import ConfigError, DataError, DetectorError, MissingInput, UnknownName
from latentood.evaluation.members import maps as enlarging
from latentood.report import maps, pictures
from latentood.workflows import maps as verbs
from tests.extraction.members.scenes import Masked
from tests.extraction.members.test_extract_cells import extract, pipeline


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    wanted = pipeline(monte_carlo=None, layers=("penultimate",))
    return extract(tmp_path_factory.mktemp("cells") / "c.zarr", wanted)


@pytest.fixture(scope="module")
def comparison(cache):
    return lo.score(cache, detectors=["energy", "msp"], device="cpu")


@pytest.fixture(scope="module")
def fitted(cache):
    return lo.fit("mahalanobis", cache, device="cpu")


@pytest.fixture
def drawn(monkeypatch):
    """The images that are drawn below maps, instead of drawing them."""
    images, draw = [], pictures.map_picture

    def keep(scores, mask, limits, title, image=None):
        images.append((title, image))
        return draw(scores[:2, :2], mask[:2, :2], limits, title)

    monkeypatch.setattr(pictures, "map_picture", keep)
    monkeypatch.setattr(maps, "PICTURES", 2)
    return images


def test_score_maps_are_the_scores_of_cells_enlarged(cache, fitted):
    rows = cache["street"]
    scores = fitted.score(rows.members("cell")).view(5, 1, 3, 3)
    expected = F.interpolate(scores, (24, 24), mode="bilinear", align_corners=False)[:, 0]
    got = torch.cat(list(lo.score_maps(fitted, rows)))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected.float(), rtol=1e-6, atol=0)


def test_images_come_some_at_a_time_with_the_same_values(cache, fitted, monkeypatch):
    whole = torch.cat(list(lo.score_maps(fitted, cache["street"])))
    monkeypatch.setattr(enlarging, "_PIXELS", 2 * 24 * 24)
    parts = list(lo.score_maps(fitted, cache["street"]))
    assert [len(part) for part in parts] == [2, 2, 1]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_another_size_can_be_asked_for(cache, fitted):
    (part,) = lo.score_maps(fitted, cache["far"], size=(3, 3))
    assert part.flatten().double().allclose(fitted.score(cache["far"].members("cell")))


def test_maps_on_disk_are_those_of_the_detector(cache, comparison, tmp_path, drawn):
    lo.write_maps(comparison, tmp_path)
    energy = lo.fit("energy", cache, device="cpu")
    for split in ("id", "street", "far"):
        array = np.load(tmp_path / "energy_logits" / f"{split}.npy").astype(np.float64)
        result = comparison.results[0]
        scores = comparison.scale(result, split).undo(array)
        expected = torch.cat(list(lo.score_maps(energy, cache[split]))).numpy()
        np.testing.assert_allclose(scores, expected, atol=1e-2 * expected.std())
        assert np.corrcoef(scores.ravel(), expected.ravel())[0, 1] > 0.99999


@pytest.mark.parametrize(
    ("split", "size", "error", "message"),
    [
        ("train", None, DataError, "must have a size where there are no masks"),
        ("train", (24, 24), DataError, "must have all 3 × 3 cells of every image, got some"),
    ],
)
def test_rows_that_make_no_maps_are_named(cache, fitted, split, size, error, message):
    with pytest.raises(error, match=message):
        list(lo.score_maps(fitted, cache[split], size=size))


def test_detectors_of_images_and_rows_without_cells_are_refused(cache, fitted):
    knn = lo.fit(lo.detector("knn", k=1, layer="penultimate"), cache["train"], device="cpu")
    with pytest.raises(DetectorError, match="rows of the unit it was fitted on, image, got cell"):
        list(lo.score_maps(knn, cache["street"]))
    bare = lo.Latents(logits=torch.zeros(4, 3), name="bare")
    with pytest.raises(MissingInput, match=r"unit cell: needs 'cells\.count'"):
        list(lo.score_maps(fitted, bare))


def test_pictures_have_the_images_of_the_pipeline(comparison, tmp_path, drawn):
    lo.write_maps(comparison, tmp_path, images=pipeline(), best=1)
    assert [path.name for path in tmp_path.iterdir()] == [
        f"{comparison.ranked[0].request.detector}_logits"
    ]
    street = Masked(5, unknown=True)
    shown = [image for (_, line), image in drawn if line.startswith("street")]
    assert len(shown) == 2
    for row, image in zip((1, 3), shown, strict=True):  # with unknown pixels
        np.testing.assert_allclose(image, pictures.grey(street[row][0].double().numpy()))


def test_without_a_pipeline_no_data_set_is_opened(comparison, tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(verbs.Images, "of", None)
    lo.write_maps(comparison, tmp_path, best=1)
    assert drawn
    assert all(image is None for _, image in drawn)


def others(**args):
    """The pipeline with other images in one split."""
    raw = pipeline().model_dump(mode="json", exclude_unset=True)
    raw["splits"]["street"]["args"] |= args
    return raw


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"rows": 4}, "images of split 'street' must be those of the cache, 4 in row 4, got none"),
        ({"ignored": False}, "of split 'street' .* got others under the same names; name the"),
    ],
)
def test_other_images_are_refused_before_anything_is_written(
    cache, comparison, tmp_path, args, message
):
    for call in (
        lambda: lo.write_maps(comparison, tmp_path / "m", images=others(**args)),
        lambda: workflows.require_maps(cache, images=others(**args)),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
    assert not (tmp_path / "m").exists()


def test_a_pipeline_without_the_split_is_refused(comparison, tmp_path):
    raw = others()
    raw["splits"]["road"] = raw["splits"].pop("street")
    with pytest.raises(UnknownName, match=r"no split in the pipeline .* named 'street'"):
        lo.write_maps(comparison, tmp_path, images=raw)


def test_that_there_can_be_maps_is_checked_before_anything_is_scored(cache):
    workflows.require_maps(cache)
    for options in ({"unit": "image"}, {"image_score": "max"}):
        with pytest.raises(ConfigError, match="must be of cells or boxes, got unit image"):
            workflows.require_maps(cache, **options)


@pytest.mark.parametrize(
    ("detectors", "fitted", "most"),
    [(None, [], 3), ("all", [], 3), ("all,knn", [], 3), ("knn", [], None), (None, ["f"], None)],
)
def test_all_that_were_named_get_maps_else_the_3_best(detectors, fitted, most):
    assert workflows.most_maps(detectors, fitted) == most
