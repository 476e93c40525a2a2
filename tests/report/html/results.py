"""Results folders of any format, written without the code that is tested."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latentood.evaluation import metrics

SPLITS = {
    "test": ("id", 0.0),
    "close": ("near", 1.0),
    "noise": ("far", 3.0),
    "photos": ("far", 2.0),
}
"""Name → role and shift of the scores."""

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'
METRICS = ("auroc", "aupr_out", "aupr_in", "fpr95_ood", "fpr95_id")


def write(folder, *, detectors=None, splits=SPLITS, rows=60, form=2, change=None, scores=None):
    """Write ``results.json`` and ``scores.parquet``, and give the folder.

    Args:
        folder: Where.
        detectors: (name, layer, hyperparameters) each.
        splits: As above.
        rows: Of each split.
        form: Format of the JSON.
        change: Called with the document before it is written.
        scores: Called with detector, split and drawn scores; gives what is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    detectors = detectors or [("knn", "penultimate", {"k": 50}), ("vim", "penultimate", {"dim": 0})]
    drawn = draw(detectors, splits, rows, scores or (lambda detector, split, values: values))
    document = document_of(detectors, splits, drawn, form)
    if change:
        change(document)
    (folder / "results.json").write_text(json.dumps(document), encoding="utf-8")
    write_scores(folder / "scores.parquet", detectors, splits, drawn)
    return folder


def draw(detectors, splits, rows, scores):
    generator = np.random.default_rng(0)
    return {
        (place, name): np.asarray(
            scores(detector[0], name, generator.normal(shift + 0.1 * place, 1, rows))
        )
        for place, detector in enumerate(detectors)
        for name, (_, shift) in splits.items()
    }


def document_of(detectors, splits, drawn, form):
    asked = [
        {"detector": name, "layer": layer, "hyperparameters": own} for name, layer, own in detectors
    ]
    ids = next((name for name, (role, _) in splits.items() if role == "id"), None)
    lines = [
        one
        | {"split": split, "role": role}
        | measured(drawn[place, ids], drawn[place, split], form)
        for place, one in enumerate(asked)
        for split, (role, _) in splits.items()
        if role in ("near", "far") and ids
    ]
    document = {
        "format": form,
        "provenance": {
            "created": "2026-01-02T03:04:05+00:00",
            "pipeline": {"name": "blobs", "model": {"target": "a.model"}},
            "digest": "d" * 64,
            "weights": "w" * 64,
            "seed": 7,
            "splits": {
                name: {"role": role, "rows": 9, "data": {"fingerprint": "f" * 64}}
                for name, (role, _) in {"train": ("fit", 0), **splits}.items()
            },
            "versions": {"score": {"latentood": "0.1.0"}},
            "device": "cpu",
        },
        "unit": "image",
        "id": {"split": ids, "rows": 9, "accuracy": 0.75} if ids else None,
        "rows": lines,
        "averages": averages(asked, lines, form),
        "intervals": [],
        "wrong_predictions": [],
        "fitted": [one | {"provenance": {"warnings": []}} for one in asked],
        "failed": [],
        "skipped": [],
        "warnings": [],
    }
    if form >= 2:
        document |= {
            "predictions": {
                "accuracy": 0.75,
                "accuracy_low": 0.5,
                "accuracy_high": 1.0,
                "ece": 0.125,
                "brier": 0.5,
                "nll": 1.25,
            },
            "selective": [
                one | {"aurc": 0.0625, "excess_aurc": 0.03, "augrc": 0.05, "scod": {"close": 0.5}}
                for one in asked
            ],
            "cost": [
                one | {"fit_seconds": 1.5, "us_per_row": 10.0**k, "state_bytes": 4096}
                for k, one in enumerate(asked)
            ],
        }
    return document


def measured(ids, oods, form):
    facts = {"n_id": len(ids), "n_ood": len(oods), "fit_seconds": 0.5, "score_seconds": 0.25}
    if not (np.isfinite(ids).all() and np.isfinite(oods).all()):
        return facts | dict.fromkeys([*METRICS, "auroc_low", "auroc_high"], 0.5)
    values = {name: getattr(metrics, name)(ids, oods) for name in METRICS}
    ends = METRICS if form >= 2 else METRICS[:1]
    lows = {f"{name}_low": values[name] - 0.01 for name in ends}
    return facts | values | lows | {f"{name}_high": values[name] + 0.01 for name in ends}


def averages(asked, lines, form):
    made = []
    for one in asked:
        for role in ("near", "far"):
            own = [row for row in lines if row["role"] == role and one.items() <= row.items()]
            if own:
                value = float(np.mean([row["auroc"] for row in own]))
                line = one | {"role": role, "auroc": value}
                made.append(line | {"auroc_low": value - 0.01, "auroc_high": value + 0.01})
    if form >= 2:
        for role in ("near", "far"):
            own = [one for one in made if one["role"] == role]
            top = max((one["auroc"] for one in own), default=0)
            for one in own:
                best = one["auroc"] == top
                one |= {"p_value": None if best else 0.01, "best": best}
    return made


def write_scores(path, detectors, splits, drawn):
    name = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [("split", name), ("row", pa.int64()), ("id", pa.string()), ("label", pa.int64()),
         ("prediction", pa.int64()), ("detector", name), ("layer", name), ("score", pa.float64()),
         ("hyperparameters", name)]
    )  # fmt: skip
    with pq.ParquetWriter(path, schema) as table:
        for split in splits:
            for place, (detector, layer, own) in enumerate(detectors):
                scores = drawn[place, split]
                count = len(scores)
                values = {
                    "split": [split] * count,
                    "row": range(count),
                    "id": [f"{split}-{row}" for row in range(count)],
                    "label": [row % 3 if split == "test" else None for row in range(count)],
                    "prediction": [row % 2 for row in range(count)],
                    "detector": [detector] * count,
                    "layer": [layer] * count,
                    "score": scores,
                    "hyperparameters": [json.dumps(own, ensure_ascii=False)] * count,
                }
                columns = [
                    pa.array(values[one.name], one.type.value_type).dictionary_encode()
                    if one.type == name
                    else pa.array(values[one.name], one.type)
                    for one in schema
                ]
                table.write_table(pa.table(columns, schema=schema))
