"""The comparison table, drawn and plain."""

import dataclasses
import io

import pytest
from rich.console import Console

from latentood.report.table import as_text, render


def printed(comparison, *, terminal):
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=240, color_system="standard"
    )
    console.print(render(comparison, terminal=terminal))
    return console.file.getvalue()


def test_plain_text_has_no_colours_and_no_lines_drawn(comparison):
    text = printed(comparison, terminal=False)
    assert "\x1b" not in text
    assert not set(text) & set("│┃─━┏┓┗┛├┤|")
    assert text.rstrip("\n") == as_text(comparison)


def test_the_best_detector_comes_first_and_columns_are_aligned(comparison):
    lines = as_text(comparison).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("detector"))
    header, body = lines[start], lines[start + 1 : start + 4]
    assert header.split("  ")[0] == "detector"
    best = max(comparison.results, key=lambda result: result.mean_auroc)
    assert body[0].startswith("* " + comparison.title(best.request))
    assert {len(line) for line in [header, *body]} == {len(header)}


def test_every_number_says_what_it_is(comparison):
    text = as_text(comparison)
    result = comparison.ranked[0]
    near = result.averages["near"]
    assert f"{near.auroc:.3f} [{near.auroc_low:.3f}, {near.auroc_high:.3f}]" in text
    for name in (
        "AUROC near",
        "AUROC far",
        "FPR95-ood",
        "FPR95-id",
        "AUPR-out",
        "fit s",
        "score s",
    ):
        assert name in text
    assert "FPR95-ood: share of ID at or above the threshold that catches 95% of OOD" in text
    quality = comparison.id_split.outputs.quality()
    assert f"ID predictions on id_test: accuracy {quality.accuracy:.3f} [" in text
    assert f"NLL {quality.nll:.3f} [" in text


def test_fpr95_and_aupr_are_means_over_all_ood_splits(comparison):
    rows = comparison.ranked[0].rows
    start = f"* {rows[0].detector}"
    line = next(x for x in as_text(comparison).splitlines() if x.startswith(start))
    for name in ("fpr95_ood", "fpr95_id", "aupr_out"):
        mean, low, high = (
            sum(getattr(row, f"{name}{end}") for row in rows) / 3 for end in ("", "_low", "_high")
        )
        assert f"{mean:.3f} [{low:.3f}, {high:.3f}]" in line


def test_every_ood_split_has_its_column(comparison):
    text = as_text(comparison)
    header = next(x for x in text.splitlines() if "close (near)" in x)
    assert header.split()[-6:] == ["close", "(near)", "noise", "(far)", "texture", "(far)"]
    row = comparison.ranked[0].rows[2]
    assert f"{row.auroc:.3f} [{row.auroc_low:.3f}, {row.auroc_high:.3f}]" in text


def test_siblings_of_a_grid_have_different_names(comparison):
    assert "distance power=1.0 weights=()" in as_text(comparison)


def test_what_failed_and_what_was_skipped_is_said_once(comparison):
    text = as_text(comparison)
    assert "failed: broken: must not be used, got used; leave it out" in text
    assert "skipped: entropic: needs entropies; re-run extract" in text


def test_a_terminal_gets_lines_and_colours(comparison):
    text = printed(comparison, terminal=True)
    assert "\x1b[" in text
    assert "┃" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_brackets_are_not_taken_for_markup(comparison, terminal):
    reason = "broken: must be one of [red], got [/red]"
    failure = dataclasses.replace(comparison.failed[0], reason=reason)
    result = comparison.results[0]
    request = dataclasses.replace(result.request, layer="blocks[0]/[red]")
    changed = dataclasses.replace(
        comparison, failed=(failure,), results=(dataclasses.replace(result, request=request),)
    )
    text = printed(changed, terminal=terminal)
    assert reason in text
    assert "blocks[0]/[red]" in text


def test_a_comparison_of_failures_alone_can_be_shown(comparison):
    text = as_text(dataclasses.replace(comparison, results=()))
    assert "failed: broken" in text


def test_wrong_predictions_have_a_column_where_there_are_enough_of_them(comparison):
    assert "AUROC wrong" not in as_text(comparison)
    few = dataclasses.replace(comparison.rows[0], n_ood=19, role="wrong")
    for wrong, shown in ((few, False), (dataclasses.replace(few, n_ood=20), True)):
        results = [dataclasses.replace(one, wrong=wrong) for one in comparison.results]
        text = as_text(dataclasses.replace(comparison, results=tuple(results)))
        assert ("AUROC wrong" in text) == shown
    assert f"{few.auroc:.3f} [{few.auroc_low:.3f}, {few.auroc_high:.3f}]" in text
    assert f"AUROC wrong: 20 wrong against {few.n_id} right predictions of id_test" in text
