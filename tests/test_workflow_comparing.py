"""``lo.compare``: models side by side, paired where their rows are the same."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import latentood as lo
from latentood.errors import ConfigError, StoreError
from latentood.evaluation.uncertainty.clustered_metrics import Difference, difference
from latentood.evaluation.uncertainty.paired import holm, paired_auroc
from latentood.evaluation.uncertainty.predictions import accuracy_difference
from latentood.evaluation.uncertainty.seeds import Spread, widened
from latentood.extraction.run.job import prepare
from latentood.latents import Latents
from latentood.latents.facts import Origin, SplitFacts
from latentood.latents.splits import SplitsInMemory
from tests.extraction.members.scenes import extract as extract_cells
from tests.extraction.members.test_extract_cells import pipeline as cells_pipeline
from tests.extraction.run.test_runner import NETS, pipeline

SIZES = {"train": 120, "id_test": 150, "close": 90, "noise": 70}
ROLES = {"train": "fit", "id_test": "id", "close": "near", "noise": "far"}
MOVED = {"close": 0.5, "noise": 1.2}
DETECTORS = ["knn", "msp"]


def store(noise=0.3, seed=0, *, fingerprint=None, hashes=True, changed=(), names=None, shift=1.0):
    """A model that sees the same inputs as others, with noise of its own."""
    made, draw = {}, torch.Generator().manual_seed(seed)
    for number, (name, size) in enumerate(SIZES.items()):
        common = torch.Generator().manual_seed(100 + number)
        labels = torch.arange(size) % 3
        seen = torch.eye(3, 8)[labels] * 3 + torch.randn(size, 8, generator=common)
        features = seen + MOVED.get(name, 0.0) * shift + noise * torch.randn(
            size, 8, generator=draw
        )  # fmt: skip
        digests = torch.arange(size) + 1000 * number
        if name in changed:
            digests = digests.flip(0)
        made[name] = Latents(
            name=name, labels=labels, features={"penultimate": features}, logits=features[:, :3],
            hashes=digests if hashes else None,
        )  # fmt: skip
    shown = {name: (names or {}).get(name, name) for name in made}
    return SplitsInMemory(
        {shown[name]: rows for name, rows in made.items()},
        {shown[name]: SplitFacts(ROLES[name], {"fingerprint": name}) for name in made},
        Origin(fingerprint=fingerprint or {}),
    )


def compare(*stores, detectors=DETECTORS, **options):
    return lo.compare(stores, detectors=detectors, device="cpu", **options)


def of(compared, model=None, **wanted):
    """The one line, or the lines, of a comparison."""
    wanted |= {} if model is None else {"model": compared.models[model].name}
    return [
        line for line in compared.lines if all(getattr(line, k) == v for k, v in wanted.items())
    ]


def test_a_store_beside_itself_differs_by_nothing():
    one = store()
    compared = compare(one, one)
    assert [model.name for model in compared.models] == ["store #1", "store #2"]
    gaps = [line.gap for line in of(compared, 1)]
    assert len(gaps) == 2 * 3 * 3  # detectors, averages, metrics
    for gap in gaps:
        assert (gap.value, gap.p_value, gap.p_holm, gap.paired) == (0.0, 1.0, 1.0, True)
        assert gap.low < 0 < gap.high
    assert all(line.gap is None for line in of(compared, 0))
    quality = compared.qualities[1]
    assert (quality.gap.value, quality.gap.p_value, quality.gap.paired) == (0.0, 1.0, True)


def test_differences_are_those_of_the_paired_test_and_its_correction():
    compared = compare(store(), store(seed=1, shift=0.3))
    expected = {}
    for name in DETECTORS:
        results = [
            next(r for r in one.results if r.request.detector == name)
            for one in compared.comparisons.values()
        ]
        scores = {
            split: np.stack([result.scores[split] for result in results])
            for split in ("id_test", "close", "noise")
        }
        paired = paired_auroc(scores["id_test"], [scores["close"], scores["noise"]])
        expected[name] = paired.difference(1, 0), paired.p_values[0, 1]
    corrected = holm([p for _, p in expected.values()])
    for name, p_holm in zip(expected, corrected, strict=True):
        (line,) = of(compared, 1, detector=name, of="mean", metric="auroc")
        (known,) = of(compared, 0, detector=name, of="mean", metric="auroc")
        gap, p_value = expected[name]
        assert (line.gap.value, line.gap.low, line.gap.high) == pytest.approx(gap)
        assert (line.gap.p_value, line.gap.p_holm) == pytest.approx((p_value, p_holm))
        assert line.value - known.value == pytest.approx(line.gap.value)
    assert abs(expected["knn"][0][0]) > 0.1


def test_values_are_those_of_score():
    given = store()
    compared = compare(given, store(seed=1))
    alone = lo.score(given, detectors=DETECTORS, device="cpu")
    for result in alone.results:
        for role, average in result.averages.items():
            (line,) = of(compared, 0, detector=result.request.detector, of=role, metric="auroc")
            assert (line.value, line.low, line.high) == (
                average.auroc, average.auroc_low, average.auroc_high,
            )  # fmt: skip
        (mean,) = of(compared, 0, detector=result.request.detector, of="mean", metric="auroc")
        assert mean.value == result.mean_auroc


@pytest.mark.parametrize("metric", ["auroc", "fpr95_ood", "fpr95_id"])
def test_pairing_makes_differences_of_correlated_scores_better_known(metric):
    stores = store(noise=0.02), store(noise=0.02, seed=1)
    paired = compare(*stores)
    apart = compare(stores[0], store(noise=0.02, seed=1, hashes=False))
    for average in ("mean", "near", "far"):
        wanted = {"detector": "knn", "of": average, "metric": metric}
        (one,), (other,) = of(paired, 1, **wanted), of(apart, 1, **wanted)
        assert (one.gap.paired, other.gap.paired) == (True, False)
        assert one.gap.value == pytest.approx(other.gap.value)
        assert one.gap.high - one.gap.low < 0.7 * (other.gap.high - other.gap.low)


def test_a_split_with_another_input_is_unpaired_and_averages_without_it_stay_paired():
    compared = compare(store(), store(seed=1, changed=["noise"]))
    pairs = {pair.split: (pair.paired, pair.reason) for pair in compared.splits}
    assert pairs == {
        "id_test": (True, ""),
        "close": (True, ""),
        "noise": (False, "other inputs, or in another order"),
    }
    paired = {line.of: line.gap.paired for line in of(compared, 1)}
    assert paired == {"mean": False, "near": True, "far": False}
    assert compared.qualities[1].gap.paired


def test_other_id_rows_unpair_everything():
    compared = compare(store(), store(seed=1, changed=["id_test"]))
    assert not any(line.gap.paired for line in of(compared, 1))
    rows = [one.id_split.outputs.right for one in compared.comparisons.values()]
    known = accuracy_difference(rows[1], rows[0], paired=False)
    gap = compared.qualities[1].gap
    assert (gap.low, gap.high, gap.paired) == (known.low, known.high, False)
    renamed = compare(store(), store(seed=1, names={"id_test": "test"}))
    assert [pair.reason for pair in renamed.splits] == ["the ID split has another name", "", ""]
    assert not any(line.gap.paired for line in of(renamed, 1))


def test_each_model_is_compared_with_the_first_and_all_tests_are_corrected_together():
    compared = compare(store(), store(noise=1.0, seed=1), store(noise=2.0, seed=2))
    wanted = {"of": "near", "metric": "auroc"}
    gaps = [line.gap for model in (1, 2) for line in of(compared, model, **wanted)]
    assert len(gaps) == 4
    assert sorted(gap.p_holm for gap in gaps) == pytest.approx(
        sorted(holm([gap.p_value for gap in gaps]))
    )


def seeded(seed, **options):
    return store(noise=0.5, seed=seed, fingerprint={"weights": "w", "seed": seed}, **options)


def test_stores_that_differ_in_the_seed_alone_are_one_model():
    seeds = [seeded(seed) for seed in range(3)]
    another = store(noise=1.5, seed=9, fingerprint={"weights": "v", "seed": 0})
    compared = compare(*seeds, another)
    assert [len(model.stores) for model in compared.models] == [3, 1]
    single = [lo.score(one, detectors=DETECTORS, device="cpu") for one in seeds]
    for place, name in enumerate(DETECTORS):
        averages = [one.results[place].averages["near"] for one in single]
        (line,) = of(compared, 0, detector=name, of="near", metric="auroc")
        assert line.seeds == tuple(one.auroc for one in averages)
        assert line.value == pytest.approx(np.mean(line.seeds))
        assert line.seed_sd == pytest.approx(np.std(line.seeds, ddof=1))
        assert line.low < np.mean([one.auroc_low for one in averages])
        assert line.high > np.mean([one.auroc_high for one in averages])
        (other,) = of(compared, 1, detector=name, of="near", metric="auroc")
        assert other.seed_sd is None
        assert other.gap.paired
        assert other.gap.value == pytest.approx(other.value - line.value)
        pairs = [
            of(compare(one, another, detectors=[name]), 1, of="near", metric="auroc")[0].gap
            for one in seeds
        ]
        value, low, high = np.mean([(one.value, one.low, one.high) for one in pairs], axis=0)
        known = widened(Difference(value, low, high, 1.0), Spread.of(line.seeds))
        assert (other.gap.low, other.gap.high) == pytest.approx((known.low, known.high))
        assert other.gap.p_value == pytest.approx(known.p)


def test_repeats_alone_have_a_spread_and_no_difference():
    compared = compare(seeded(0), seeded(1))
    assert len(compared.models) == 1
    assert all(line.gap is None and line.seed_sd is not None for line in compared.lines)


@pytest.mark.parametrize(
    "other",
    [
        seeded(0),  # the same seed
        store(noise=0.5, seed=1, fingerprint={"weights": "v", "seed": 1}),
        seeded(1, changed=["noise"]),
        seeded(1, hashes=False),
        replace(
            seeded(1), splits=seeded(1).splits | {"train": SplitFacts("fit", {"fingerprint": "x"})}
        ),
    ],
    ids=["seed", "weights", "rows", "digests", "fit rows"],
)
def test_what_differs_in_more_or_less_than_the_seed_is_another_model(other):
    assert len(compare(seeded(0), other).models) == 2


def test_a_detector_that_one_store_lacks_is_listed_with_its_reason():
    other = store(seed=1)
    bare = {
        name: Latents(
            name=name, labels=rows["labels"], features={"penultimate": rows["features/penultimate"]}
        )
        for name, rows in other.latents.items()
    }
    compared = compare(store(), replace(other, latents=bare))
    (missing,) = compared.missing
    assert (missing.store, missing.request.detector) == ("store #2", "msp")
    assert missing.reason.startswith("msp: needs 'logits', but id_test has")
    assert {line.detector for line in compared.lines} == {"knn"}
    with pytest.raises(ConfigError, match="at least one detector and layer must have scores in"):
        compare(store(), replace(other, latents=bare), detectors=["msp"])


def test_splits_that_not_all_stores_have_are_left_out_and_named():
    compared = compare(store(), store(seed=1, names={"close": "nearby"}))
    assert compared.left_out == {"store #1": ("close",), "store #2": ("nearby",)}
    assert {line.of for line in compared.lines} == {"mean", "far"}
    assert all(line.gap.paired for line in of(compared, 1))


def test_nothing_in_common_is_an_error():
    renamed = {"close": "a", "noise": "b"}
    with pytest.raises(
        ConfigError, match=r"an OOD split .* in common, got store #1 close \(near\)"
    ):
        compare(store(), store(names=renamed))
    with pytest.raises(ConfigError, match="two stores or more, got 1; for the detectors of one"):
        compare(store())
    with pytest.raises(ConfigError, match=r"two stores or more, got a\.zarr"):
        lo.compare("a.zarr")


def test_an_error_names_the_store():
    with pytest.raises(lo.errors.UnknownName, match="compare: store #1: no detector named 'knnn'"):
        compare(store(), store(), detectors="knnn")


def saved_weights(folder):
    """The model of a pipeline whose weights do not depend on the seed."""
    model = prepare(pipeline()).plan.engine.model
    tensors = {name: one.contiguous() for name, one in model.state_dict().items()}
    save_file(tensors, folder / "w.safetensors")
    return {"target": f"{NETS}.OwnDropout", "weights": str(folder / "w.safetensors")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two seeds and another network, on disk."""
    path = tmp_path_factory.mktemp("models")
    same = saved_weights(path)
    for name, changes in {
        "a0": {"model": same},
        "a1": {"model": same, "seed": 1},
        "b": {"seed": 2},
    }.items():
        lo.extract(pipeline(**changes), path / f"{name}.zarr")
    return path


def test_caches_on_disk_are_recognised_as_repeats_and_written(folder, tmp_path):
    paths = [folder / f"{name}.zarr" for name in ("a0", "b", "a1")]
    out = tmp_path / "new" / "out"
    compared = lo.compare(paths, detectors="larem,msp", out=out, device="cpu")
    names = [[one.name for one in model.stores] for model in compared.models]
    assert names == [["a0", "a1"], ["b"]]
    document = json.loads((out / "compare.json").read_text())
    assert [len(model["stores"]) for model in document["models"]] == [2, 1]
    with (out / "compare.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(compared.lines) == len(document["lines"])
    assert [float(line["value"]) for line in lines] == [line.value for line in compared.lines]
    spread = {line.detector: line.seed_sd for line in of(compared, 0, of="far", metric="auroc")}
    assert spread["larem"] > 0  # reads passes, whose masks the seed decides
    assert spread["msp"] == 0


def test_what_is_no_cache_is_an_error(folder, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(StoreError, match="none"):
        lo.compare([folder / "a0.zarr", tmp_path / "none"], detectors="msp")


def test_members_are_paired_over_images_and_units_must_agree(folder, tmp_path):
    stores = tmp_path / "cells.zarr", tmp_path / "more.zarr"
    for seed, path in enumerate(stores):
        extract_cells(path, cells_pipeline(seed=seed))
    compared = lo.compare(stores, detectors="msp", device="cpu")
    assert [pair.paired for pair in compared.splits] == [True] * 3
    alone = lo.score(stores[1], detectors="msp", device="cpu").results[0]
    first = compared.comparisons["cells"].results[0]
    known = difference(alone.estimates["far"]["auroc"], first.estimates["far"]["auroc"])
    (line,) = of(compared, 1, of="far", metric="auroc")
    assert (line.gap.value, line.gap.low, line.gap.high, line.gap.p_value) == (
        known.value, known.low, known.high, known.p,
    )  # fmt: skip
    assert all(one.gap is None for one in compared.qualities)  # cells of an image are alike
    with pytest.raises(ConfigError, match=r"of one unit, got a0 image, cells cell; add --unit"):
        lo.compare([folder / "a0.zarr", stores[0]], detectors="msp")


def test_a_folder_that_cannot_be_written_to_is_one_line(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="must be a folder that can be written to"):
        lo.compare([folder / "a0.zarr", folder / "b.zarr"], detectors="msp", out=tmp_path / "file")
