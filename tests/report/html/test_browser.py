"""The page works in a browser without network: no complaint, no request, all controls."""

import numpy as np
import pytest

from latentood.report.html import Extras, Projection, Reliability, read_document, write_report
from tests.report.html.results import EVIL, SPLITS, write

DETECTORS = [(name, "penultimate", {}) for name in ("knn", "vim", "ash", "energy")]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A report with all panels."""
    folder = tmp_path_factory.mktemp("browser")
    document = read_document(write(folder / "results", detectors=DETECTORS))
    points = {name: np.arange(5) for name in SPLITS}
    map_of = Projection("PCA", "a map", np.random.default_rng(0).normal(size=(20, 2)))
    diagram = Reliability((2, 3), (0.4, 0.9), (0.5, 1.0))
    extras = Extras(points, [map_of], reliability=diagram)
    return write_report(document, folder / "report.html", extras)


def column(tab, table, number):
    return tab.locator(f"#{table} tbody tr:visible > :nth-child({number})").all_inner_texts()


def test_the_page_opens_without_complaint_or_request_and_draws_its_charts(file, opened):
    tab, troubles = opened(file)
    assert troubles == []
    drawn = tab.locator("figure[data-chart]:has(> svg)").count()
    assert drawn == tab.locator("figure[data-chart]").count() == 7
    assert tab.locator("noscript").count() == 0


def test_a_click_on_a_heading_sorts_and_another_turns_the_order(file, opened):
    tab, _ = opened(file)
    heading = tab.locator("#overview thead th", has_text="FPR95-id")
    place = tab.locator("#overview thead th").all_inner_texts().index("FPR95-id") + 1
    for expected in ("descending", "ascending"):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == expected
        values = [float(text) for text in column(tab, "overview", place)]
        assert values == sorted(values, reverse=expected == "descending")
        assert len(set(values)) > 1
    tab.locator("#overview thead th button").first.press("Enter")
    assert column(tab, "overview", 1) == sorted(name for name, _, _ in DETECTORS)
    assert heading.get_attribute("aria-sort") is None


def test_rows_are_filtered_by_text_by_split_and_by_group(file, opened):
    tab, _ = opened(file)
    controls = tab.locator("[data-table=overview]")
    controls.locator("[type=search]").fill("KN pen")
    assert column(tab, "overview", 1) == ["knn"]
    assert controls.locator("output").inner_text() == "1 of 4 shown"
    controls.locator("[type=search]").fill("")
    controls.locator("[type=checkbox]").check()
    marked = column(tab, "overview", 1)
    assert 1 <= len(marked) < 4
    assert tab.locator("#overview tbody tr:visible td.best").count() >= len(marked)
    tab.locator("[data-table=by-split] select").select_option("noise")
    assert set(column(tab, "by-split", 3)) == {"noise"}
    assert len(column(tab, "by-split", 3)) == 4


def test_the_slider_moves_the_threshold_with_keys_and_says_what_is_kept_and_caught(file, opened):
    tab, troubles = opened(file)
    text, slider = tab.locator("#threshold-text"), tab.locator("#threshold")
    before = text.inner_text()
    assert "ID kept: 95.0% of test" in before
    slider.focus()
    for _ in range(5):
        slider.press("ArrowLeft")
    after = text.inner_text()
    assert after != before
    assert slider.get_attribute("aria-valuetext") == after
    slider.press("Home")
    assert "ID kept: 0.0% of test; OOD caught: close 100.0%, noise 100.0%" in text.inner_text()
    tab.get_by_role("button", name="keep 95% of ID").click()
    assert text.inner_text() == before
    tab.get_by_role("button", name="catch 95% of noise").click()
    assert "noise 95.0%" in text.inner_text()
    assert troubles == []


def test_both_fpr95_of_the_results_stand_beside_the_slider_and_agree_with_it(file, opened):
    tab, _ = opened(file)
    rows = tab.locator("#threshold-rows tr", has_text="close").locator("td").all_inner_texts()
    role, kept, _, fpr95_id, fpr95_ood = rows
    assert role == "near"
    assert kept == f"{100 * float(fpr95_id):.1f}%"
    tab.get_by_role("button", name="catch 95% of close").click()
    flagged = tab.locator("#threshold-rows tr[data-role=id] td").nth(2).inner_text()
    assert flagged == f"{100 * float(fpr95_ood):.1f}%"


def test_another_detector_and_split_are_drawn(file, opened):
    tab, troubles = opened(file)
    roc = tab.locator("figure[data-chart=roc] > svg")
    before = roc.get_attribute("aria-label")
    tab.locator("#detector").select_option(label="ash · penultimate")
    assert roc.get_attribute("aria-label") != before
    assert "ash" in roc.get_attribute("aria-label")
    assert roc.locator("path.line").count() == 3
    tab.locator("#ood").select_option("noise")
    assert roc.locator("path.line").count() == 1
    tab.locator("#colouring").select_option("score")
    assert "ash" in tab.locator("figure[data-chart=projection]").inner_text()
    assert troubles == []


def test_arrow_keys_walk_through_a_chart_and_say_where_they_are(file, opened):
    tab, _ = opened(file)
    chart = tab.locator("figure[data-chart=near-far]")
    chart.locator("> svg").focus()
    said = []
    for key in ("ArrowRight", "ArrowRight", "End", "Home"):
        chart.locator("> svg").press(key)
        said.append(chart.locator(".readout").inner_text())
    assert said[0] == said[3]
    assert len(set(said)) == 3
    assert all("near 0." in text and "far " in text for text in said)
    matrix = tab.locator("figure[data-chart=correlation]")
    matrix.locator("> svg").focus()
    matrix.locator("> svg").press("ArrowDown")
    matrix.locator("> svg").press("ArrowDown")
    first, second = matrix.locator(".readout").inner_text().split(": ")[0].split(" and ")
    assert first != second


def test_every_chart_has_a_name_and_its_numbers_as_a_table(file, opened):
    tab, troubles = opened(file)
    for chart in tab.locator("figure[data-chart]").all():
        assert len(chart.locator("> svg").get_attribute("aria-label")) > 20
        assert chart.locator("figcaption").inner_text()
        chart.locator("summary").click()
        chart.locator("table tbody tr").first.wait_for()  # the table is made when it is opened
    assert troubles == []


def test_on_paper_all_panels_are_there_without_controls(file, opened):
    tab, _ = opened(file)
    tab.emulate_media(media="print")
    assert tab.locator("section:visible").count() == 15
    assert tab.locator("figure[data-chart] > svg:visible").count() == 7
    for control in ("select", "input", "nav", "button.copy"):
        assert tab.locator(f"{control}:visible").count() == 0


def test_the_page_is_not_wider_than_a_phone(file, opened):
    tab, _ = opened(file, viewport={"width": 360, "height": 700})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(file, opened, scheme):
    tab, _ = opened(file, color_scheme=scheme)
    ratios = tab.evaluate(
        """() => {
          const light = (colour) => {
            const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
              .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const ground = light(getComputedStyle(document.body).backgroundColor);
          return ["body", "figcaption", "nav a", ".i", ".empty"].map((name) => {
            const ink = light(getComputedStyle(document.querySelector(name)).color);
            return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
          });
        }"""
    )
    assert min(ratios) > 4.5


def test_names_that_look_like_code_do_nothing(tmp_path, opened):
    folder = write(
        tmp_path / "results",
        detectors=[(EVIL, EVIL, {}), ("knn", "l", {})],
        splits={EVIL: ("id", 0.0), f"a{EVIL}": ("near", 1.0), f"b{EVIL}": ("far", 2.0)},
    )
    tab, troubles = opened(write_report(read_document(folder), tmp_path / "report.html"))
    tab.locator("#detector").select_option("1")
    for summary in tab.locator("figure summary").all():
        summary.click()
    assert troubles == []
    assert tab.locator("img").count() == 0
    assert EVIL in tab.locator("#threshold-text").inner_text()


def test_a_page_without_curves_opens_without_complaint(tmp_path, opened):
    folder = write(tmp_path / "results", splits={"test": ("id", 0.0)})
    tab, troubles = opened(write_report(read_document(folder), tmp_path / "report.html"))
    assert troubles == []
    assert tab.locator("#detector").count() == 0
