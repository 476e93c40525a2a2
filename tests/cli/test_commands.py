"""The command line: exit codes, one-line errors, JSON, and nothing lost."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from latentood import __version__, workflows
from latentood.cli import main
from latentood.detectors.families.gaussian.distances import Mahalanobis
from latentood.detectors.registry import DETECTORS
from latentood.extraction.passes import timing
from latentood.store.cache import open_cache
from tests.evaluation.examples import Broken
from tests.extraction.run.test_runner import pipeline

COMMANDS = [
    "train",
    "demo",
    "extract",
    "layers",
    "inspect",
    "verify",
    "detectors",
    "fit",
    "score",
    "advise",
    "tune",
    "compare",
    "ui",
    "doctor",
]


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Run the command line in this process: exit status, stdout, stderr."""
    try:
        main([str(argument) for argument in arguments])
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pipelines") / "small.yaml"
    raw = pipeline(monte_carlo__keep=["entropy", "logits"]).model_dump(mode="json")
    raw["splits"]["train"]["args"]["rows"] = 120
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.fixture(scope="module")
def store(file, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "small.zarr"
    with pytest.raises(SystemExit) as stop:
        main(["extract", str(file), "--store", str(path)])
    assert not stop.value.code
    return path


def test_help_lists_every_command_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom latentood.cli import main\n"
        "try: main(['--help'])\nfinally: print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    help_text, _, modules = done.stdout.rpartition("\n[")
    for command in COMMANDS:
        assert f"│ {command}" in help_text or f" {command} " in help_text
    loaded = {name.strip(" '").partition(".")[0] for name in modules.rstrip("]\n").split(",")}
    assert not loaded & {"torch", "mlflow", "faiss", "zarr", "sklearn", "matplotlib", "pandas"}


@pytest.mark.parametrize(
    "command",
    COMMANDS,
)
def test_every_command_has_an_example(capsys, command):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"latentood {command}" in " ".join(out.split())


def test_wrong_usage_exits_2(capsys):
    assert run(capsys, "extract")[0] == 2
    assert run(capsys, "no-such-command")[0] == 2


def test_usage_is_explained_on_stderr_and_the_version_given_on_stdout(capsys):
    status, out, err = run(capsys, "extract")
    assert (status, out) == (2, "")
    assert "Missing argument 'PIPELINE'" in err
    assert run(capsys, "--version") == (0, f"latentood {__version__}\n", "")


def test_a_dry_run_writes_nothing(capsys, file, tmp_path):
    status, out, _ = run(capsys, "extract", file, "--store", tmp_path / "s", "--dry-run", "--json")
    assert status == 0
    estimated = json.loads(out)
    assert estimated["rows"] == {"train": 120, "id": 23, "far": 17}
    assert estimated["total_bytes"] > 0
    assert not (tmp_path / "s").exists()
    assert (
        "before compression"
        in run(capsys, "extract", file, "--store", tmp_path / "s", "--dry-run")[1]
    )


def test_a_dry_run_refuses_another_limit_as_the_run_itself_would(capsys, file, tmp_path):
    asked = ["extract", file, "--store", tmp_path / "s", "--split", "far", "--limit"]
    assert run(capsys, *asked, "9")[0] == 0
    messages = [run(capsys, *asked, "8", *options)[::2] for options in (["--dry-run"], [])]
    for status, err in messages:
        assert status == 1
        assert "holds another split 'far': rows is 9 there but 8 here" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
@pytest.mark.parametrize("arguments", [["detectors"], ["detectors", "--json"], ["--help"]])
def test_output_to_a_full_disk_is_one_line_and_exit_1(arguments):
    code = f"from latentood.cli import main; main({arguments})"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: the output cannot be written (No space left on device); free some space"
    ]


def test_extract_resumes_and_reports_as_json(capsys, file, store):
    status, out, _ = run(capsys, "extract", file, "--store", store, "--json")
    assert status == 0
    assert json.loads(out)["computed"] == {"train": 0, "id": 0, "far": 0}


def test_extract_says_which_batch_size_was_chosen(capsys, file, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "seconds_per_row", lambda engine, batch: 1 + abs(len(batch) - 32))
    command = ("extract", file, "--store", tmp_path / "s", "--set", "extract.batch_size=auto")
    assert "32 rows at a time" in run(capsys, *command, "--dry-run")[1]
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert "run in batches of 32 rows" in out


def test_inspect_verify_layers_detectors_doctor(capsys, file, store):
    for command, expected in (
        (("inspect", store), "features/penultimate"),
        (("verify", store), "all blocks are as they were written"),
        (("layers", file), "head; its input is penultimate"),
        (("detectors",), "mahalanobis"),
        (("doctor",), "torch"),
    ):
        status, out, err = run(capsys, *command)
        assert status == 0, err
        assert expected in out
        status, out, err = run(capsys, *command, "--json")
        assert status == 0, err
        json.loads(out)


def test_layers_to_choose_are_a_line_for_the_pipeline_file(capsys, file):
    status, line, err = run(capsys, "layers", file, "--suggest")
    assert status == 0, err
    _, listed, _ = run(capsys, "layers", file, "--suggest", "--json")
    assert yaml.safe_load(line) == {"layers": json.loads(listed)}
    assert json.loads(listed)[-1] == "penultimate"


def test_score_writes_results_first_and_prints_the_table(capsys, store, tmp_path):
    names = "msp,mahalanobis,lared"
    status, out, err = run(
        capsys, "score", store, "--detectors", names, "--out", tmp_path, "--tracking", "none"
    )
    assert status == 0, err
    assert "mahalanobis" in out
    assert "\x1b[" not in out, "no colours where the output is not a terminal"
    assert {f.name for f in tmp_path.iterdir()} == {
        "results.csv", "results.json", "scores.parquet", "classes.csv",
    }  # fmt: skip


def test_score_sweeps_layers_and_hyperparameters(capsys, store, tmp_path):
    arguments = ("--detectors", "knn", "--layers", "conv*", "--set", "knn.k=3,5", "--json")
    status, out, err = run(
        capsys, "score", store, *arguments, "--out", tmp_path, "--tracking", "none"
    )
    assert status == 0, err
    rows = json.loads(out)["rows"]
    assert {(row["layer"], row["hyperparameters"]["k"]) for row in rows} == {
        ("conv1", 3), ("conv1", 5), ("conv2", 3), ("conv2", 5),
    }  # fmt: skip


def fitted_file(capsys, store, tmp_path, *options) -> Path:
    path = tmp_path / "m.safetensors"
    status, _, err = run(capsys, "fit", store, "--detector", "mahalanobis", "--out", path, *options)
    assert status == 0, err
    return path


def test_fit_writes_a_file_that_scores_as_the_detector_itself(capsys, store, tmp_path):
    options = ("--set", "mahalanobis.ridge=1e-3")
    path = fitted_file(capsys, store, tmp_path, "--layer", "conv1", *options)
    quiet = ("--out", tmp_path / "r", "--tracking", "none", "--json")
    status, out, err = run(capsys, "score", store, "--fitted", path, *quiet)
    assert status == 0, err
    there = json.loads(out)
    names = ("--detectors", "mahalanobis", "--layers", "conv1")
    here = json.loads(run(capsys, "score", store, *names, *options, *quiet)[1])
    for one, other in zip(there["rows"], here["rows"], strict=True):
        assert one["detector"] == "mahalanobis"
        assert one["layer"] == other["layer"] == "conv1"
        assert one["hyperparameters"]["ridge"] == 1e-3
        assert one["auroc"] == other["auroc"]
    origin = there["fitted"][0]["provenance"]["cache"]
    assert origin["digest"] == there["provenance"]["digest"]


def test_fit_prints_what_it_did(capsys, store, tmp_path):
    out = tmp_path / "knn.safetensors"
    status, text, _ = run(capsys, "fit", store, "--detector", "knn", "--set", "knn.k=3",
                          "--out", out)  # fmt: skip
    assert status == 0
    assert "fitted: knn on 120 rows of train" in text
    assert f"score STORE --fitted {out}" in " ".join(text.split())
    status, text, _ = run(capsys, "fit", store, "--detector", "knn", "--set", "knn.k=3",
                          "--out", out, "--json")  # fmt: skip
    assert json.loads(text)["hyperparameters"]["k"] == 3


def test_a_file_scores_a_store_of_the_same_weights_without_a_fit_split(
    capsys, file, store, tmp_path
):
    path = fitted_file(capsys, store, tmp_path)
    other = tmp_path / "scored.zarr"
    splits = ("--split", "id", "--split", "far")
    assert run(capsys, "extract", file, "--store", other, *splits)[0] == 0
    quiet = ("--out", tmp_path / "r", "--tracking", "none")
    status, _, err = run(capsys, "score", other, "--fitted", path, "--json", *quiet)
    assert status == 0, err
    status, _, err = run(capsys, "score", other, "--detectors", "mahalanobis", *quiet)
    assert status == 1
    assert "needs exactly one split of role fit" in err


def test_a_file_of_another_run_is_refused_unless_any_cache(capsys, file, store, tmp_path):
    path = fitted_file(capsys, store, tmp_path)
    other = tmp_path / "other.zarr"
    changed = ("--set", "seed=9")  # these weights are drawn from the seed
    status, _, err = run(capsys, "extract", file, "--store", other, *changed)
    assert status == 0, err
    quiet = ("--out", tmp_path / "r", "--tracking", "none")
    status, _, err = run(capsys, "score", other, "--fitted", path, *quiet)
    assert status == 1
    assert "must score a cache of the run it was fitted on, but weights is" in err
    status, out, err = run(capsys, "score", other, "--fitted", path, "--any-cache", *quiet)
    assert status == 0, err
    assert "warning: mahalanobis: weights differs between the fit and this cache" in out


def test_memory_changes_no_result(capsys, store, tmp_path):
    results = []
    for size in ("0", "1GiB"):
        names = ("--detectors", "mahalanobis,vim,knn", "--set", "knn.k=3", "--memory", size)
        quiet = ("--out", tmp_path / size, "--tracking", "none", "--json")
        status, out, err = run(capsys, "score", store, *names, *quiet)
        assert status == 0, err
        results.append(json.loads(out))
    same = ("auroc", "aupr_out", "fpr95_id")
    for one, other in zip(*(run["rows"] for run in results), strict=True):
        assert [one[name] for name in same] == [other[name] for name in same]
    assert [run["provenance"]["memory"]["budget"] for run in results] == [0, 1 << 30]
    assert (
        results[0]["provenance"]["memory"]["kept"] == 0 < results[1]["provenance"]["memory"]["kept"]
    )


def test_a_detector_that_fails_is_named_on_stderr_beside_the_results_of_the_others(
    capsys, store, tmp_path
):
    names = ("--detectors", "msp,vim", "--set", "vim.dim=999")
    status, out, err = run(capsys, "score", store, *names, "--out", tmp_path, "--tracking", "none")
    assert status == 1
    assert "error: vim on penultimate: vim: dim must be < the width" in err
    assert "error: " not in out
    assert f"csv:     {tmp_path / 'results.csv'}" in out
    assert (out + err).count("vim: dim must be") == 1


def test_a_detector_that_crashes_costs_the_exit_code_but_no_traceback(
    capsys, store, tmp_path, monkeypatch
):
    def crash(self, *args):
        raise MemoryError("no more\nof it")

    monkeypatch.setattr(Mahalanobis, "fit", crash)
    quiet = ("--out", tmp_path, "--tracking", "none")
    asked = ("score", store, "--detectors", "msp,mahalanobis", *quiet)
    status, out, err = run(capsys, *asked)
    assert status == 1
    assert "msp " in out
    assert "error: mahalanobis on penultimate: mahalanobis: stopped by MemoryError at tests/" in err
    assert "(no more of it); score it alone with --verbose for the traceback\n" in err
    assert "Traceback" not in out + err
    failed = json.loads((tmp_path / "results.json").read_text())["failed"][0]
    assert failed["error"] == "MemoryError"
    assert re.fullmatch(r"tests/cli/test_commands\.py:\d+ in crash", failed["place"])
    assert "Traceback (most recent call last)" in run(capsys, "-v", *asked)[2]


def test_what_all_cannot_use_on_these_rows_is_skipped_and_by_name_an_error(
    capsys, store, tmp_path, monkeypatch
):
    known = {"msp": DETECTORS["msp"], "broken": Broken}
    monkeypatch.setattr(DETECTORS, "known", lambda: known)
    quiet = ("--out", tmp_path, "--tracking", "none")
    status, out, err = run(capsys, "score", store, *quiet)
    assert status == 0, err
    assert "skipped: broken: must not be used, got used; leave it out" in out
    assert "broken" not in err
    status, out, err = run(capsys, "score", store, "--detectors", "broken,msp", *quiet)
    assert status == 1
    assert "error: broken on logits: broken: must not be used, got used; leave it out\n" in err
    assert (out + err).count("must not be used") == 1


@pytest.mark.parametrize(
    ("verb", "command", "kept"),
    [
        ("score", ("score",), "no results were written, and the cache is as it was"),
        (
            "publish",
            ("score", "--detectors", "msp"),
            "results in {out} are whole or not there, and may not be tracked",
        ),
        ("fit", ("fit", "--detector", "msp"), "{out} was not written, and the cache is as it was"),
    ],
)
def test_ctrl_c_exits_130_and_says_what_is_kept(
    capsys, store, tmp_path, monkeypatch, verb, command, kept
):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflows, verb, stop)
    name, *options = command
    status, out, err = run(capsys, name, store, *options, "--out", tmp_path / "o")
    assert status == 130
    assert out == ""
    lead = f"stopped; {kept.format(out=tmp_path / 'o')}: run the same command again\n"
    assert err.endswith(lead)
    assert not (tmp_path / "o").exists()


def test_a_stopped_extraction_exits_130_and_says_on_stderr_how_to_go_on(
    capsys, file, store, monkeypatch
):
    real = workflows.extract

    def stopped(*args, **options):
        return dataclasses.replace(real(*args, **options), finished=False)

    monkeypatch.setattr(workflows, "extract", stopped)
    status, out, err = run(capsys, "extract", file, "--store", store)
    assert status == 130
    assert "stopped; everything finished is kept: run the same command again to resume\n" in err
    assert "stopped" not in out
    assert "next:" not in out
    status, out, _ = run(capsys, "extract", file, "--store", store, "--json")
    assert status == 130
    assert json.loads(out)["finished"] is False


def test_how_things_are_done_is_said_on_stderr_and_only_where_asked_for(capsys, store, tmp_path):
    asked = ("score", store, "--detectors", "all", "--out", tmp_path, "--tracking", "none")
    _, out, err = run(capsys, "-v", *asked, "--json")
    skipped = {one["detector"] for one in json.loads(out)["skipped"]}
    assert skipped
    assert all(f"INFO: skipped: {name}: " in err for name in skipped)
    assert "INFO: " not in run(capsys, *asked, "--json")[2]


def test_a_dead_tracking_server_costs_the_exit_code_not_the_results(capsys, store, tmp_path):
    dead = "http://127.0.0.1:9"
    status, _, err = run(
        capsys, "score", store, "--detectors", "msp", "--out", tmp_path, "--tracking", dead
    )
    assert status == 1
    assert "results are written, but not tracked" in err
    assert (tmp_path / "results.csv").exists()
    assert (tmp_path / "scores.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "{store}", "--detectors", "mahalanobs"], "did you mean 'mahalanobis'"),
        (
            ["score", "{store}", "--detectors", "knn", "--set", "knn.kk=3"],
            "no hyperparameter of knn",
        ),
        (["score", "{store}", "--detectors", "knn", "--layers", "layer9"], "layer9"),
        (["score", "{tmp}/none.zarr"], "none.zarr"),
        (["score", "{store}", "--memory", "lots"], "e.g. 512MiB or 2GiB"),
        (["score", "{store}", "--fitted", "{tmp}/no"], "must be a file that Fitted.save wrote"),
        (
            ["fit", "{store}", "--detector", "knn", "--set", "knn.k=3,5", "--out", "{tmp}/f"],
            "must be for one detector with one value for each hyperparameter, got 2",
        ),
        (["inspect", "{tmp}"], "must be a folder made by latentood extract"),
        (["extract", "{tmp}/none.yaml", "--store", "{tmp}/s"], "cannot be read"),
        (["extract", "{file}", "--store", "{tmp}/s", "--set", "sed=3"], "did you mean 'seed'"),
        (["extract", "{file}", "--store", "{tmp}/s", "--split", "trian"], "did you mean 'train'"),
        (
            ["extract", "{file}", "--store", "{store}", "--set", "seed=9"],
            "seed is 0 there but 9 here",
        ),
        (
            ["extract", "{file}", "--store", "{tmp}/s", "--set", "model.weights=none.pt"],
            "no such file; check model.weights",
        ),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_on_stderr_and_exit_1(
    capsys, file, store, tmp_path, arguments, message
):
    filled = [a.format(store=store, file=file, tmp=tmp_path) for a in arguments]
    status, out, err = run(capsys, *filled)
    assert (status, out) == (1, ""), err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in err
    assert open_cache(store).splits["train"].complete


def test_damage_is_detected_named_and_repaired(capsys, file, tmp_path):
    path = tmp_path / "s.zarr"
    assert run(capsys, "extract", file, "--store", path)[0] == 0
    shard = max((path / "splits/train/features/conv1").glob("c*"), key=lambda f: f.name)
    intact = shard.read_bytes()
    shard.write_bytes(bytes([intact[0] ^ 1]) + intact[1:])
    status, out, err = run(capsys, "verify", path)
    assert status == 1
    assert "features/conv1" in out
    assert "train" in out
    assert f"error: {path}: 1 damaged; verify --discard, then run extract again\n" in err
    status, _, err = run(capsys, "score", path, "--detectors", "mahalanobis", "--layers", "conv1",
                         "--out", tmp_path / "r", "--tracking", "none")  # fmt: skip
    assert status == 1
    assert "features/conv1" in err
    status, out, err = run(capsys, "verify", path, "--discard")
    assert status == 1
    assert "the damaged blocks are dropped; run extract again to repair them\n" in err
    assert "dropped" not in out
    status, out, _ = run(capsys, "extract", file, "--store", path, "--json")
    assert status == 0
    assert json.loads(out)["computed"]["train"] == 8, "one block, the last and short one"
    assert shard.read_bytes() == intact
    assert run(capsys, "verify", path)[0] == 0


def test_scoring_the_fit_images_as_id_is_refused_unless_allowed(capsys, file, tmp_path):
    raw = yaml.safe_load(file.read_text())
    raw["splits"]["id"]["args"] = raw["splits"]["train"]["args"]  # the same images
    same, store = tmp_path / "same.yaml", tmp_path / "same.zarr"
    same.write_text(yaml.safe_dump(raw | {"monte_carlo": None}))
    assert run(capsys, "extract", same, "--store", store)[0] == 0
    score = ["score", store, "--detectors", "knn", "--set", "knn.k=1", "--tracking", "none"]
    status, _, err = run(capsys, *score)
    assert status == 1
    assert "120 of the 120 rows of 'id' also stand in 'train'; give 'id' other data, or add " in err
    assert "--allow-overlap" in err
    status, out, _ = run(capsys, *score, "--allow-overlap")
    assert status == 0
    assert "warning: id: 120 of 120 rows also stand in train\n" in out
    results = json.loads((tmp_path / "same-results" / "results.json").read_text())
    assert results["provenance"]["overlaps"] == [
        {"split": "id", "other": "train", "rows": 120, "of": 120}
    ]
