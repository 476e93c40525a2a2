"""The page holds everything, in little space, and no name is taken for code."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from latentood.errors import ConfigError
from latentood.report.html import (
    Extras,
    Projection,
    Reliability,
    panels,
    read_document,
    write_report,
)
from latentood.report.html.images import thumbnail
from tests.report.html.results import EVIL, SPLITS, write

PANELS = {
    "compared", "warnings", "all", "splits", "curves", "maps", "near-far", "cost", "convergence",
    "correlation", "projection", "images", "errors", "calibration", "provenance",
}  # fmt: skip


class Reader(HTMLParser):
    """Elements with their attributes, texts by the id of their section, and cells of tables."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.section, self.cells = [], {}, None, {}
        self.table = self.cell = None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        own = dict(attributes)
        self.tags.append((tag, own))
        if tag == "section":
            self.section = own["id"]
        if tag == "table":
            self.table = own.get("id")
        if tag == "tr":
            self.cells.setdefault(self.table, []).append([])
        if tag in ("td", "th"):
            self.cells[self.table][-1].append("")

    def handle_data(self, data):
        if self.section:
            self.texts[self.section] = self.texts.get(self.section, "") + data
        if self.table and self.cells.get(self.table, [[]])[-1]:
            self.cells[self.table][-1][-1] += data

    def handle_endtag(self, tag):
        if tag == "table":
            self.table = None


def test_all_panels_are_there_and_those_without_data_say_why(page):
    read = Reader(page())
    assert set(read.texts) == PANELS
    assert "with --store" in read.texts["projection"]
    assert "--images" in read.texts["images"]
    assert "features of each pass" in read.texts["convergence"]
    assert read.cells["predictions"][1:3] == [
        ["accuracy", "0.7500 [0.5000, 1.0000]"],
        ["ECE (15 bins)", "0.1250"],
    ]
    assert read.cells["by-split"][0][-1] == "SCOD"
    assert {row[-1] for row in read.cells["by-split"][1:]} == {"0.5000", "—"}


def test_the_overview_has_intervals_marks_and_means(page):
    read = Reader(page())
    head, first, second = read.cells["overview"]
    assert head[:5] == ["detector", "layer", "AUROC", "AUROC near", "AUROC far"]
    assert first[0] == "vim"
    assert re.fullmatch(r"0\.\d{4} \[0\.\d{4}, 0\.\d{4}\] best", first[3])
    assert second[3].endswith(" p 0.01")
    assert {"FPR95-ood", "AURC", "fit s", "state B"} <= set(head)


def test_a_detector_that_cannot_be_told_from_the_best_is_marked_with_its_p_value(page):
    def close(facts):
        for one in facts["averages"]:
            one["best"] = True

    read = Reader(page(change=close))
    marked = [row[3] for row in read.cells["overview"][1:]]
    assert sorted(text.split("] ")[1] for text in marked) == ["best", "≈ best, p 0.01"]


def test_without_tests_the_page_says_that_differences_may_be_noise(page):
    read = Reader(page(form=1))
    assert "no paired tests" in read.texts["all"]
    assert "cannot be told" not in read.texts["all"]
    assert "AURC" not in read.cells["overview"][0]


def test_both_fpr95_and_all_curves_are_in_the_data(page, data):
    values = data(page())
    assert [one["split"] for one in values["series"]] == list(SPLITS)
    assert all(values["curves"])
    assert set(values["detectors"][0]["rows"]["close"]) == {"fpr95_ood", "fpr95_id", "auroc"}
    assert values["correlation"]["percent"][0][0] == 100
    assert values["detectors"][0]["cost"]["us_per_row"] in (1, 10)


def test_the_same_results_give_the_same_bytes(page):
    assert page() == page()


@pytest.mark.parametrize("form", [1, 2])
def test_no_name_is_taken_for_html_or_code(page, data, form):
    def poison(facts):
        facts["warnings"] = facts["skipped"] = []
        facts["failed"] = [
            {
                "detector": EVIL,
                "layer": EVIL,
                "hyperparameters": {EVIL: 1},
                "reason": EVIL,
                "error": EVIL,
            }
        ]
        facts["warnings"] = [EVIL]
        facts["provenance"]["pipeline"] = {"name": EVIL, "model": {"target": EVIL}}
        facts["provenance"]["versions"] = {EVIL: {EVIL: EVIL}}
        facts["provenance"]["device"] = EVIL

    text = page(
        detectors=[(EVIL, EVIL, {EVIL: EVIL}), ("knn", "l", {"k": "</script>"})],
        splits={EVIL: ("id", 0.0), "</script><b>": ("near", 1.0), f"far{EVIL}": ("far", 2.0)},
        change=poison,
        form=form,
    )
    read = Reader(text)
    tags = [tag for tag, _ in read.tags]
    assert tags.count("script") == 2
    assert not {"img", "b"} & set(tags)
    assert not any(name.startswith("on") for _, own in read.tags for name in own)
    assert data(text)["series"][1]["split"] == "</script><b>"
    assert EVIL in read.cells["overview"][1] or EVIL in read.cells["overview"][2]


def test_names_that_are_not_text_are_shown_as_escapes(page):
    names = {"te\x1b[31mst": ("id", 0.0), "cl\nose": ("near", 1.0)}
    text = page(splits=names)
    assert "\x1b" not in text
    assert r"te\x1b[31mst" in Reader(text).texts["compared"]


def test_only_the_script_of_the_page_may_run_and_nothing_may_be_loaded(page):
    text = page()
    policy = next(own["content"] for tag, own in Reader(text).tags if own.get("http-equiv"))
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    loaded = [own for tag, own in Reader(text).tags if tag in ("link", "img", "iframe")]
    assert loaded == []
    assert len(re.findall(r"<script", text)) == 2


def test_without_ood_splits_the_panels_say_so(page):
    read = Reader(page(splits={"test": ("id", 0.0)}))
    assert "No OOD split was scored" in read.texts["all"]
    assert "There are no curves" in read.texts["curves"]
    assert "there are not both" in read.texts["near-far"]
    assert "no misses" in read.texts["errors"]


def test_scores_that_are_not_finite_leave_out_their_curve_and_the_agreement(page, data):
    def broken(detector, split, values):
        return (
            np.where(np.arange(len(values)) == 3, np.nan, values) if detector == "vim" else values
        )

    text = page(scores=broken)
    values = data(text)
    assert [one is None for one in values["curves"]].count(True) == 1
    assert values["correlation"] is None
    assert "finite scores" in Reader(text).texts["correlation"]
    assert text.count("<option value=") - len(SPLITS) == 1


def test_equal_scores_have_a_page(page, data):
    values = data(page(scores=lambda detector, split, values: np.full(len(values), 1.5)))
    assert all(values["curves"])
    assert values["correlation"]["percent"] == [[100, 0], [0, 100]]


def test_results_of_which_all_detectors_failed_have_a_page(page):
    def fail(facts):
        facts["failed"] = [one | {"reason": "no memory"} for one in facts["fitted"]]
        for kind in ("rows", "averages", "fitted", "selective", "cost"):
            facts[kind] = []

    read = Reader(page(change=fail, splits={}))
    assert "no memory" in read.texts["warnings"]
    assert "No OOD split was scored" in read.texts["all"]


def test_one_row_for_each_split_has_a_page(page, data):
    assert all(data(page(rows=1))["curves"])


def test_false_alarms_and_misses_are_those_at_the_threshold_that_keeps_95_percent(page):
    def known(detector, split, values):
        numbers = np.arange(100.0)
        return numbers if split == "test" else numbers + 60

    read = Reader(page(rows=100, scores=known))
    alarms, misses = read.cells["alarms-0"][1:], read.cells["misses-0"][1:]
    assert [row[0] for row in alarms] == [f"test-{n}" for n in (99, 98, 97, 96, 95)]
    assert alarms[0][1:] == ["test", "99.0000", "0", "1"]
    assert misses[0][1:] == ["close", "60.0000", "—", "0"]
    assert len(misses) == 10


@pytest.fixture
def extras():
    """Everything that a cache and a pipeline add."""
    points = {name: np.arange(3) for name in SPLITS}
    xy = np.arange(24.0).reshape(12, 2)
    point = {"detector": "mcd", "layer": "mc.logits", "hyperparameters": {}, "role": "near"}
    passes = [
        SimpleNamespace(**point, split=split, passes=t, auroc=0.7, auroc_low=0.6, auroc_high=0.8)
        for t in (2, 4)
        for split in ("close", "")
    ]
    diagram = Reliability((2, 0), (0.5, 0.0), (1.0, 0.0))

    def image_of(split, row):
        return np.full((3, 4, 5), row) + np.arange(5)

    return Extras(points, [Projection("PCA", "about", xy)], passes, diagram, {"ece": 0.5}, image_of)


def test_what_a_cache_adds_is_shown(page, data, extras):
    text = page(extras)
    read, values = Reader(text), data(text)
    assert "0.5000" in read.texts["calibration"]
    assert values["projection"]["of"] == [n for n in range(4) for _ in range(3)]
    assert values["projection"]["maps"][0]["xy"][0] == [0, 0]
    assert values["projection"]["maps"][0]["xy"][-1] == [1000, 1000]
    assert len(values["projection"]["percentiles"][0]) == 12
    (line,) = values["convergence"]
    assert line["passes"] == [2, 4]
    assert line["values"] == [[0.7, 0.6, 0.8]] * 2
    images = [own for tag, own in read.tags if tag == "img"]
    assert len(images) > 4 * 12  # the ends of 4 splits for 2 detectors, and the errors
    assert all(own["src"].startswith("data:image/") for own in images)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 8, 8), (4, 8, 8), (3, 300, 200)])
def test_thumbnails_are_small_whatever_the_input(shape):
    import io

    from PIL import Image

    values = np.random.default_rng(0).normal(size=shape)
    source = re.search(r'src="data:image/(\w+);base64,([^"]+)"', thumbnail(values))
    picture = Image.open(io.BytesIO(base64.b64decode(source[2])))
    assert max(picture.size) == min(72, max(shape[-2:]))
    assert picture.mode == ("RGB" if shape[0] == 3 and len(shape) == 3 else "L")
    assert len(source[2]) < 8000


def test_an_equal_image_is_drawn():
    assert thumbnail(np.zeros((3, 8, 8))).startswith("<img")


def test_the_command_names_what_is_not_the_default(page):
    read = Reader(
        page(
            detectors=[("knn", "layer1", {"layer": "layer1", "k": 10}), ("absent", "l", {"a": [1]})]
        )
    )
    command = read.texts["provenance"]
    assert "--detectors absent,knn --set 'absent.a=[1]' --set knn.layer=layer1" in command
    assert "--set knn.k=10 " in command


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    document = read_document(write(tmp_path / "results"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"report: .* must be a file that can be written"):
        write_report(document, tmp_path / "file" / "report.html")


def test_seventy_detectors_fit_in_a_few_megabytes(page):
    many = [(f"d{n}", "penultimate", {"k": n}) for n in range(70)]
    assert len(page(detectors=many, rows=300)) < 2_500_000


def test_the_agreement_says_what_it_leaves_out(page, monkeypatch):
    assert " only." not in Reader(page()).texts["correlation"]
    monkeypatch.setattr(panels, "_MOST_RANKED", 2)
    monkeypatch.setattr(panels, "_MOST_SCORES", 200)
    many = [(name, "penultimate", {}) for name in ("a", "b", "c")]
    text = Reader(page(detectors=many)).texts["correlation"]
    assert "Of the first 2 detectors and one of 3 rows only." in text  # 240 rows of 2 detectors


def test_the_json_is_in_the_page_once(page):
    text = page()
    assert json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert text.count('id="data"') == 1
