"""Extraction end to end on small data: exact, resumable, and clear about what is wrong."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from latentood.errors import ConfigError, DataError, FingerprintMismatch, ModelError, UnknownName
from latentood.extraction.passes import timing
from latentood.extraction.passes.timing import choose_batch_size
from latentood.extraction.run.estimate import estimate
from latentood.extraction.run.job import prepare
from latentood.extraction.run.runner import run
from latentood.latents import Latents
from latentood.pipeline.schema import parse_pipeline
from latentood.stats.entropy import kl_entropy
from latentood.store.cache import open_cache
from latentood.store.verify import verify
from latentood.workflows import extract, layers

NETS = "tests.extraction.nets"


def pipeline(**changes):
    raw = {
        "name": "small",
        "model": {"target": f"{NETS}.OwnDropout"},
        "layers": ["conv1", "conv2", "penultimate"],
        "monte_carlo": {"passes": 4, "activate": True, "keep": ["entropy", "logits", "features"]},
        "splits": {
            "train": {"role": "fit", "target": f"{NETS}.Images", "args": {"rows": 50}},
            "id": {"role": "id", "target": f"{NETS}.Images", "args": {"rows": 23, "seed": 2}},
            "far": {
                "role": "far",
                "target": "latentood.data.GaussianNoise",
                "args": {"length": 17, "shape": [3, 8, 8]},
            },
        },
        "extract": {"block_rows": 16, "batch_size": 5, "device": "cpu"},
    }
    for dotted, value in changes.items():
        node = raw
        *parents, last = dotted.split("__")
        for parent in parents:
            node = node[parent]
        node[last] = value
    return parse_pipeline(raw)


def tree(store: Path) -> dict[str, str]:
    """Every file of a store with the hash of its bytes, but for the lock."""
    return {
        str(file.relative_to(store)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(store.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "small.zarr"
    summary = extract(pipeline(), path)
    assert summary.finished
    assert summary.computed == {"train": 50, "id": 23, "far": 17}
    return path


def test_the_cache_holds_what_the_model_computes_live(store):
    cache = open_cache(store)
    job = prepare(pipeline())
    rows, latents = job.inputs["train"], cache["train"]
    inputs = torch.stack([rows[i][0] for i in range(len(rows))])
    model = job.plan.engine.model
    with torch.no_grad():
        live = model(inputs)
        penultimate = (torch.relu(model.bn(model.conv1(inputs)))).clone()
        penultimate = (penultimate + model.conv2(penultimate)).mean(dim=(2, 3))
    torch.testing.assert_close(latents["logits"], live, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(latents["features/penultimate"], penultimate, rtol=1e-5, atol=1e-5)
    assert latents["labels"].tolist() == [i % 4 for i in range(50)]
    weight, bias = latents.head
    torch.testing.assert_close(
        penultimate.double() @ weight.T + bias, live.double(), rtol=1e-4, atol=1e-5
    )


def test_entropies_are_those_of_the_stored_passes(store):
    latents = open_cache(store)["id"]
    passes = latents["mc.features/conv2"]
    assert passes.shape == (23, 4, 6)
    expected = kl_entropy(passes).float()
    torch.testing.assert_close(latents["mc.entropy/conv2"], expected, rtol=1e-6, atol=1e-6)


def test_entropies_that_were_not_stored_follow_from_the_stored_passes_bit_by_bit(store):
    stored = open_cache(store)["train"]
    derived = Latents(mc_features={"conv2": stored["mc.features/conv2"]})
    assert torch.equal(derived["mc.entropy/conv2"], stored["mc.entropy/conv2"])


def test_only_what_is_asked_for_is_kept(tmp_path):
    extract(pipeline(monte_carlo__keep=["entropy"]), tmp_path / "s", splits=["id"])
    latents = open_cache(tmp_path / "s")["id"]
    assert "mc.entropy/conv2" in latents
    assert not any(key.startswith(("mc.logits", "mc.features")) for key in latents.keys())  # noqa: SIM118


def test_noise_images_need_no_labels(store):
    assert "labels" not in open_cache(store)["far"]


@pytest.mark.parametrize("size", [1, 7, 50])
def test_the_result_does_not_depend_on_the_batch_size(store, tmp_path, size):
    extract(pipeline(extract__batch_size=size), tmp_path / "s")
    there, here = open_cache(store), open_cache(tmp_path / "s")
    for split in there.splits:
        for key in there[split].keys():  # noqa: SIM118
            if key != "head":
                # The same masks; convolutions differ in the last bits. A log stretches those of
                # nearly equal passes.
                tolerance = 1e-3 if "entropy" in key else 1e-5
                a, b = there[split][key], here[split][key]
                torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_running_again_computes_nothing(store):
    before = tree(store)
    summary = extract(pipeline(), store)
    assert summary.computed == {"train": 0, "id": 0, "far": 0}
    assert tree(store) == before


CHILD = """
import sys
from latentood.extraction.run import runner
from latentood.workflows import extract
from tests.extraction.run.test_runner import pipeline
import time
real = runner.compute_block
def slow(*args):
    print("ready", flush=True)
    time.sleep(0.15)
    return real(*args)
runner.compute_block = slow
extract(pipeline(), sys.argv[1])
"""


def child(store: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_killed_extraction_resumes_bit_identical(store, tmp_path):
    path = tmp_path / "killed.zarr"
    for delay in (0.2, 0.5):  # the store's own tests kill far more often, and more finely
        process = child(path)
        time.sleep(delay)
        process.kill()
        process.communicate()
    extract(pipeline(), path)
    assert tree(path) == tree(store)
    assert verify(path) == []


def test_sigterm_finishes_the_block_in_hand_and_leaves_a_store_to_resume(store, tmp_path):
    path = tmp_path / "stopped.zarr"
    process = child(path)
    time.sleep(0.4)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert verify(path) == []
    summary = extract(pipeline(), path)
    assert 0 < sum(summary.computed.values()) < 90
    assert tree(path) == tree(store)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seed": 1}, "seed"),
        ({"monte_carlo__passes": 5}, "monte_carlo"),
        ({"extract__dtype": "float16"}, "dtype"),
        ({"model__target": f"{NETS}.Conv", "monte_carlo": None}, "model"),
        ({"splits__id__args": {"rows": 23, "seed": 3}}, "fingerprint"),
    ],
    ids=str,
)
def test_a_store_of_another_run_is_refused_by_the_field_that_differs(store, changes, field):
    before = tree(store)
    with pytest.raises(FingerprintMismatch, match=field):
        extract(pipeline(**changes), store)
    assert tree(store) == before


def test_running_out_of_gpu_memory_halves_the_batch_with_the_same_masks(
    store, tmp_path, monkeypatch, caplog
):
    job = prepare(pipeline())
    real = type(job.plan.engine).run

    def small(engine, batch, keys):
        if len(batch) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(engine, batch, keys)

    monkeypatch.setattr(type(job.plan.engine), "run", small)
    run(job, tmp_path / "s")
    assert "going on with halves" in caplog.text
    whole, halved = open_cache(store)["id"], open_cache(tmp_path / "s")["id"]
    for key in ("logits", "mc.logits", "mc.features/conv2"):
        torch.testing.assert_close(whole[key], halved[key], rtol=1e-5, atol=1e-5)


def test_mixed_precision_is_an_option_of_the_fingerprint(store, tmp_path):
    with pytest.raises(FingerprintMismatch, match='autocast is null there but "bfloat16" here'):
        extract(pipeline(extract__autocast="bfloat16"), store)
    extract(pipeline(extract__autocast="bfloat16"), tmp_path / "s")
    full, mixed = open_cache(store)["id"], open_cache(tmp_path / "s")["id"]
    assert not torch.equal(full["logits"], mixed["logits"])
    torch.testing.assert_close(full["logits"], mixed["logits"], rtol=0.05, atol=0.05)


def test_an_automatic_batch_size_is_one_that_was_timed():
    engine = prepare(pipeline()).plan.engine
    assert choose_batch_size("auto", engine, torch.zeros(1, 3, 8, 8)) in (
        8,
        16,
        32,
        50,
        64,
        128,
        256,
    )
    assert choose_batch_size(None, engine, torch.zeros(1, 3, 8, 8)) == 50
    assert choose_batch_size(7, engine, torch.zeros(1, 3, 8, 8)) == 7


def test_progress_reports_rows_and_the_bytes_on_the_disk(tmp_path):
    news: list[tuple[str, int, int, int]] = []
    summary = extract(pipeline(), tmp_path / "s", progress=lambda *now: news.append(now))
    assert news[:3] == [("train", 0, 50, 0), ("id", 0, 23, 0), ("far", 0, 17, 0)]
    last = {name: (rows, of, size) for name, rows, of, size in news}
    for name, rows in (("train", 50), ("id", 23), ("far", 17)):
        folder = tmp_path / "s" / "splits" / name
        shards = [f for f in folder.rglob("c.*") if "committed" not in f.parts]
        size = sum(shard.stat().st_size for shard in shards)
        assert last[name] == (rows, rows, size)
        assert summary.written[name] == size > 0
    news.clear()
    again = extract(pipeline(), tmp_path / "s", progress=lambda *now: news.append(now))
    assert set(news) == {("train", 50, 50, 0), ("id", 23, 23, 0), ("far", 17, 17, 0)}
    assert again.written == again.computed == {"train": 0, "id": 0, "far": 0}


def test_a_batch_size_that_was_timed_stays_with_the_cache(tmp_path, monkeypatch):
    def fastest(size):
        monkeypatch.setattr(
            timing, "seconds_per_row", lambda engine, batch: 1 + abs(len(batch) - size)
        )

    automatic, path = pipeline(extract__batch_size="auto"), tmp_path / "s"
    fastest(8)
    extract(automatic, path, splits=["train"])
    fastest(16)
    assert prepare(automatic).batch_size == 16
    assert prepare(automatic, store=path).batch_size == 8
    assert prepare(automatic, store=path, batch_size=7).batch_size == 7
    extract(automatic, path)
    assert open_cache(path).header.pipeline["extract"]["batch_size"] == 8
    extract(automatic, path, overwrite=True)
    assert open_cache(path).header.pipeline["extract"]["batch_size"] == 16


def test_limit_takes_rows_evenly(tmp_path):
    extract(pipeline(), tmp_path / "s", limit=10, splits=["train"])
    cache = open_cache(tmp_path / "s")
    assert cache.ids("train") == ["0", "5", "10", "15", "20", "25", "30", "35", "40", "45"]


def test_an_image_that_fails_to_decode_is_named(tmp_path):
    broken = pipeline(splits__id__args={"rows": 23, "broken_row": 9})
    with pytest.raises(DataError, match=r"split 'id': row 9 \(9\) cannot be read: cannot identify"):
        extract(broken, tmp_path / "s")


def test_a_value_too_large_for_the_stored_dtype_is_named(tmp_path):
    loud = {"model__target": f"{NETS}.Loud", "monte_carlo": None}
    extract(pipeline(**loud), tmp_path / "s")
    message = r"the features/penultimate of row 0 \(0\) are not finite.*set dtype: float32"
    with pytest.raises(DataError, match=message):
        extract(pipeline(**loud, extract__dtype="float16"), tmp_path / "half")


def test_what_was_committed_before_an_error_is_kept(tmp_path):
    broken = pipeline(splits__id__args={"rows": 40, "nan_row": 33})
    with pytest.raises(DataError, match=r"split 'id': the logits of row 33 \(33\) are not finite"):
        extract(broken, tmp_path / "s")
    cache = open_cache(tmp_path / "s")
    assert cache.splits["train"].complete
    assert not cache.splits["id"].complete
    assert verify(tmp_path / "s") == []


def test_an_image_file_is_named_by_its_path(tmp_path):
    folder = tmp_path / "images" / "class0"
    folder.mkdir(parents=True)
    from PIL import Image

    for name in "abcd":
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    (folder / "c.png").write_bytes(b"not an image")
    images = {
        "role": "far",
        "target": "torchvision.datasets.ImageFolder",
        "args": {"root": str(tmp_path / "images")},
        "transform": {"target": "torchvision.transforms.ToTensor"},
    }
    with pytest.raises(DataError, match=r"split 'far': row 2 \(class0/c.png\) cannot be read"):
        extract(pipeline(splits__far=images), tmp_path / "s")


def test_labels_outside_the_classes_are_named(tmp_path):
    shifted = pipeline(splits__id__args={"rows": 23, "label_shift": 1})
    with pytest.raises(DataError, match=r"labels must be from 0 to 3, got 4 in row 3"):
        extract(shifted, tmp_path / "s")


def test_an_empty_split_is_named(tmp_path):
    with pytest.raises(DataError, match="split 'id': has no rows"):
        extract(pipeline(splits__id__args={"rows": 0}), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_random_transform_is_found_out(tmp_path):
    random = {"target": "torchvision.transforms.v2.GaussianNoise"}
    with pytest.raises(
        DataError, match="row 0 differs between two reads; remove random transforms"
    ):
        extract(pipeline(transform=random), tmp_path / "s")


def test_unknown_splits_and_devices_are_named(tmp_path):
    with pytest.raises(UnknownName, match="no split named 'trian'; did you mean 'train'"):
        extract(pipeline(), tmp_path / "s", splits=["trian"])
    with pytest.raises(ConfigError, match="device 'cuda:99': cannot be used here"):
        extract(pipeline(), tmp_path / "s", device="cuda:99")


def test_errors_in_the_model_come_before_the_store_is_made(tmp_path):
    with pytest.raises(ModelError, match="layer 'conv9'"):
        extract(pipeline(layers=["conv9"]), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_an_estimate_counts_rows_blocks_and_bytes(tmp_path):
    cost = estimate(prepare(pipeline()), tmp_path / "s")
    assert cost.rows == {"train": 50, "id": 23, "far": 17}
    assert cost.blocks == {"train": 4, "id": 2, "far": 2}
    assert cost.array_bytes["train"]["features/conv2"] == 50 * 6 * 4
    assert cost.array_bytes["train"]["mc.features/conv2"] == 50 * 4 * 6 * 4
    assert cost.seconds_per_row > 0
    assert cost.free_bytes > 0
    assert not (tmp_path / "s").exists()


def test_the_outline_shows_shapes_noise_and_the_head():
    facts = {layer.name: layer for layer in layers(pipeline())}
    assert facts["conv1"].shape == (6, 8, 8)
    assert facts["drop2"].stochastic
    assert not facts["conv1"].stochastic
    assert facts["fc"].head
    assert facts["fc"].shape == (4,)


def test_loading_workers_give_the_same_cache(store, tmp_path):
    extract(pipeline(extract__workers=1), tmp_path / "s")
    assert tree(tmp_path / "s").keys() == tree(store).keys()
    shards = [name for name in tree(store) if not name.endswith("zarr.json")]
    assert all(tree(tmp_path / "s")[name] == tree(store)[name] for name in shards)
