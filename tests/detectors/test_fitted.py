from typing import Any, Literal

import pytest
import torch

from latentood.detectors import fitted as fitting
from latentood.detectors.base import Detector, Needs
from latentood.detectors.fitted import Fitted, fit
from latentood.detectors.registry import detector
from latentood.errors import DataError, DetectorError, MissingInput
from latentood.latents import LOGITS, Latents
from latentood.plugins import hyper, plugin


@plugin
class Shift(Detector):
    """Largest logit less its mean over ID val rows; for these tests."""

    name = "shift"
    family = "logits"
    paper = works = fails = cost = "none"
    returned: Literal["right", "float32", "columns"] = hyper("right", "what score returns")

    def needs(self) -> Needs:
        return Needs(score=(LOGITS,), val=(LOGITS,))

    def fit(self, train, val=None):
        return {"mean": val.double(LOGITS).amax(dim=1).mean()}

    def prepare(self, state):
        return {"mean": state["mean"], "calls": []}

    def score(self, state: Any, rows: Latents) -> torch.Tensor:
        state["calls"].append(len(rows))
        scores = state["mean"] - rows.double(LOGITS).amax(dim=1)
        return {"right": scores, "float32": scores.float(), "columns": scores.unsqueeze(1)}[
            self.returned
        ]


def test_scores_stream_in_groups_and_the_state_is_prepared_once(blobs, monkeypatch):
    monkeypatch.setattr(fitting, "CHUNK_ROWS", 30)
    fitted = fit(Shift(), blobs.train.latents(), blobs.id.latents())
    fitted.score(blobs.far.latents())
    fitted.score(blobs.id.latents())
    assert fitted._prepared["calls"] == [30, 30, 20, 30, 30, 20]


def test_a_detector_that_needs_val_rows_says_so(blobs):
    with pytest.raises(MissingInput) as caught:
        fit(Shift(), blobs.train.latents())
    assert str(caught.value) == (
        "shift: needs 'logits' of an ID validation split, but none was given; pass val="
    )


@pytest.mark.parametrize("returned", ["float32", "columns"])
def test_a_detector_that_returns_something_else_is_named(blobs, returned):
    fitted = fit(Shift(returned=returned), blobs.train.latents(), blobs.id.latents())
    with pytest.raises(DetectorError, match=r"^shift: score must return \(80,\) float64, got .*; "):
        fitted.score(blobs.far.latents())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_not_finite_is_named_by_its_row(blobs, bad):
    fitted = fit(Shift(), blobs.train.latents(), blobs.id.latents())
    spoilt = Fitted(fitted.detector, {"mean": torch.tensor(bad, dtype=torch.float64)})
    with pytest.raises(DetectorError) as caught:
        spoilt.score(blobs.far.latents("textures").take([LOGITS], 30, 60))
    assert str(caught.value) == (
        f'shift: scores must be finite, got {bad} in row 30 of "textures"; look at that row and at '
        "the scale of what is read"
    )


def test_val_rows_must_have_the_classes_of_the_fit_rows(blobs):
    val = Latents(logits=blobs.id.logits[:, :3], name="val")
    with pytest.raises(DetectorError) as caught:
        fit(Shift(), blobs.train.latents(), val)
    assert str(caught.value) == (
        'shift: logits must have rows of shape (4,) as in the fit rows, got (3,) in "val"; give '
        "latents of the same model and layer"
    )


def test_provenance_names_the_fit_rows_and_the_versions(blobs):
    train = blobs.train.latents()
    fitted = fit(detector("vim"), train, blobs.id.latents("val"))
    assert fitted.provenance["fit"] == {"split": "train", "rows": 240, "origin": train.origin}
    assert fitted.provenance["val"] == {"split": "val", "rows": 80}
    assert set(fitted.provenance["versions"]) == {"latentood", "torch"}
    assert fitted.origin == train.origin
    assert fitted.widths == {"features/penultimate": (16,), "logits": (4,)}


def test_a_missing_fit_array_names_the_detector_and_what_there_is(blobs):
    train = Latents(features={"penultimate": blobs.train.features}, name="train")
    with pytest.raises(MissingInput) as caught:
        fit(detector("rmd"), train)
    assert str(caught.value).startswith(
        "rmd: needs 'labels', but train has 'features/penultimate'; "
    )


def test_no_fit_rows_is_a_named_error(blobs):
    with pytest.raises(DataError, match=r"^train: there are no rows to fit knn on; "):
        fit(detector("knn"), blobs.train.rows(slice(0)).latents())


def test_a_fit_value_that_is_not_finite_is_named_by_its_row(blobs):
    features = blobs.train.features.clone()
    features[33, 4] = torch.nan
    train = Latents(features={"penultimate": features}, labels=blobs.train.labels, name="train")
    for name in ("mahalanobis", "knn"):
        with pytest.raises(DataError, match=r"^train: features/penultimate .* in row 33; "):
            fit(detector(name), train)


@pytest.mark.parametrize(("label", "row"), [(-1, 5), (4, 200)])
def test_a_label_that_is_no_class_is_named_by_its_row(blobs, label, row):
    labels = blobs.train.labels.clone()
    labels[row] = label
    train = Latents(
        features={"penultimate": blobs.train.features},
        logits=blobs.train.logits,
        labels=labels,
        name="train",
    )
    with pytest.raises(DataError) as caught:
        fit(detector("mahalanobis"), train)
    assert str(caught.value) == (
        f"train: labels must be ≥ 0 and < 4, the number of classes, got {label} in row {row}; fix "
        "the data set's labels, or fit on a split without such rows"
    )


def test_a_negative_label_is_refused_where_nothing_tells_the_classes(blobs):
    train = Latents(
        features={"penultimate": blobs.train.features}, labels=blobs.train.labels - 1, name="train"
    )
    with pytest.raises(DataError, match=r"^train: labels must be ≥ 0, got -1 in row 4; "):
        fit(detector("mahalanobis"), train)


def test_labels_must_be_integers(blobs):
    train = Latents(
        features={"penultimate": blobs.train.features}, labels=blobs.train.labels.double()
    )
    with pytest.raises(DataError, match=r"labels must be integers, got torch\.float64; "):
        fit(detector("mahalanobis"), train)


def test_feature_maps_must_be_pooled_first():
    maps = Latents(features={"penultimate": torch.randn(60, 8, 4, 4)}, name="train")
    with pytest.raises(DataError) as caught:
        fit(detector("knn"), maps)
    assert str(caught.value) == (
        "train: features/penultimate must be (N, D) to use knn, got (60, 8, 4, 4); pool or "
        "reshape it first"
    )
    with pytest.raises(DataError, match=r"logits must be \(N, C\) to use msp, got \(5,\)"):
        fit(detector("msp"), maps).score(Latents(logits=torch.randn(5)))


def test_passes_must_be_as_many_as_in_the_fit_split(blobs):
    fitted = fit(detector("mutual_information"), blobs.train.latents())
    rows = Latents(mc_logits=blobs.far.mc_logits[:, :8], name="rows")
    with pytest.raises(DetectorError, match=r"mc\.logits must have rows of shape \(16, 4\)"):
        fitted.score(rows)


def test_neither_gradients_nor_the_graph_are_kept():
    logits = torch.randn(4, 3, requires_grad=True)
    rows = Latents(logits=logits)
    assert not fit(detector("energy"), rows).score(rows).requires_grad


def test_a_state_follows_the_rows_to_their_device_and_is_laid_out_plainly(blobs):
    fitted = fit(detector("mahalanobis"), blobs.train.latents(), device="cpu")
    assert fitted.device == torch.device("cpu")
    assert all(tensor.is_contiguous() for tensor in fitted.state.values())
    assert Fitted(detector("msp"), {}).device is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_scores_of_the_cpu(blobs):
    for name in ("mahalanobis", "rmd", "vim", "knn", "she", "lared", "larem", "mutual_information"):
        here, there = (
            fit(detector(name), blobs.train.latents(), device=d).score(blobs.far.latents())
            for d in ("cpu", "cuda")
        )
        torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)
