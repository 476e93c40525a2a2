import pytest
import torch

import latentood as lo
from latentood.errors import DataError
from latentood.extraction.run.job import prepare
from latentood.extraction.run.runner import run
from latentood.pipeline.schema import parse_pipeline
from latentood.store.cache import open_cache

IMAGES = torch.randn(12, 3, 8, 8)


class Labelled(list):
    """Images with labels 0 to 3, the last of which is no class of the network."""

    def __init__(self, labels=True):
        super().__init__((image, row % 4) if labels else image for row, image in enumerate(IMAGES))


def pipeline(ood, labels=True):
    data = {"target": f"{__name__}.Labelled", "args": {"labels": labels}}
    known = {"target": f"{__name__}.Known"}
    return parse_pipeline(
        {
            "name": "mixed",
            "model": {"target": f"{__name__}.network"},
            "splits": {
                "train": {"role": "fit", **known},
                "street": {"role": "mixed", **data, "ood": ood},
            },
            "extract": {"device": "cpu"},
        }
    )


class Known(list):
    """Images of the three classes."""

    def __init__(self):
        super().__init__((image.flip(0), row % 3) for row, image in enumerate(IMAGES))


def network():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 6), torch.nn.Linear(6, 3))


def test_labels_say_which_images_of_a_mixed_split_are_ood(tmp_path):
    run(prepare(pipeline({"labels": [3], "ignore": [2]})), tmp_path / "c.zarr")
    cache = open_cache(tmp_path / "c.zarr")
    assert cache["street"]["ood"].tolist() == [0, 0, 255, 1] * 3
    comparison = lo.score(cache, detectors="msp,energy", device="cpu")
    assert comparison.id_split is None
    (row, _) = comparison.rows
    assert (row.role, row.n_id, row.n_ood) == ("mixed", 6, 3)


@pytest.mark.parametrize(
    ("ood", "labels", "what"),
    [({}, True, r"ood\.labels is empty"), ({"labels": [3]}, False, "items have no labels")],
)
def test_a_mixed_split_that_does_not_say_what_is_ood_is_refused(ood, labels, what):
    with pytest.raises(
        DataError, match=f"split 'street': labels of a split of role mixed .*{what}"
    ):
        prepare(pipeline(ood, labels))
