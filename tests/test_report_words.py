"""The arithmetic and the sentences of the report."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tfproj.core.words import plural
from tfproj.report import figures, format, sentences
from tfproj.report.statistics import calibration_error, reliability, wilson
from tfproj.runs.history import best_epoch, out_of_patience


def test_wilson_by_the_textbook():
    # 8 of 10 and 0 of 10, worked out by hand from the formula
    assert wilson(0.8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)
    low, high = wilson(1.0, 5)
    assert high == 1.0 and low == pytest.approx(0.5655175, abs=1e-6)


def test_wilson_covers_a_known_share():
    rng = np.random.default_rng(0)
    hits = [low <= 0.9 <= high for low, high in (wilson(rng.binomial(200, 0.9) / 200, 200)
            for _ in range(2000))]  # fmt: skip
    assert 0.93 < np.mean(hits) < 0.97


def test_expected_calibration_error_of_known_answers():
    probability = np.array([0.95] * 10 + [0.55] * 10)
    right = np.array([True] * 8 + [False] * 2 + [True] * 5 + [False] * 5)
    rows = reliability(probability, right)
    assert calibration_error(rows) == pytest.approx(0.5 * 0.15 + 0.5 * 0.05)
    assert [row["examples"] for row in rows if row["examples"]] == [10, 10]
    assert sum(row["accuracy"] is None for row in rows) == 13


def test_reliability_at_the_edges():
    rows = reliability(np.array([0.0, 1.0]), np.array([False, True]))
    assert rows[0]["examples"] == rows[-1]["examples"] == 1 and calibration_error(rows) == 0


def test_the_best_epoch_is_the_latest_of_those_with_the_least_loss():
    history = [
        {"epoch": 1, "val_accuracy": 0.5, "val_loss": 2.0},
        {"epoch": 2, "val_accuracy": math.nan, "val_loss": math.nan},
        {"epoch": 3, "val_accuracy": 0.5, "val_loss": 1.0},
    ]
    assert best_epoch(history, "val_accuracy") == 3
    assert best_epoch([*history, {**history[0], "epoch": 4}], "val_accuracy") == 3
    assert best_epoch([*history, {**history[2], "epoch": 4}], "val_accuracy") == 4
    assert [out_of_patience(history, "val_accuracy", n) for n in (2, 3, None)] == [
        True,
        False,
        False,
    ]
    assert best_epoch(history, "val_mean_ap") is None
    counted = [{**row, "val_mean_ap": ap} for row, ap in zip(history, (0.2, 0.4, 0.3), strict=True)]
    assert best_epoch(counted, "val_mean_ap") == 2
    assert best_epoch([], "val_accuracy") is None
    assert best_epoch([{"epoch": 1, "val_mean_ap": math.nan}], "val_mean_ap") is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9037, "90.4%"), (0, "0.0%"), (1, "100.0%"), (1e-5, "<0.1%"), (0.99999, ">99.9%"),
     (0.0005, "0.1%"), (None, "–"), (math.nan, "–")],
)  # fmt: skip
def test_percent(value, shown):
    assert format.percent(value) == shown


def test_other_words():
    assert format.percent(0.1234, 2) == "12.34%"
    assert format.percent(0.4, 0) == "40%"
    assert [format.duration(s) for s in (4.25, 75, 4000, None)] == [
        "4.2 s", "1 min 15 s", "1 h 06 min", "–",
    ]  # fmt: skip
    assert [format.signed(v) for v in (0.0123, -0.0123, 0.0001)] == ["+1.2", "−1.2", "±0.0"]
    assert [format.listed("abc"[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert plural(1, "image") == "1 image" and plural(2, "image") == "2 images"
    assert format.short("a$b\nc" + "d" * 30, 10) == r"a\$b cdddd…"
    assert format.significant(1234567.0) == "1.235e+06"


def rows(*accuracies):
    """Of the classes' table: the class, its accuracy, and what it is taken for."""
    return [
        {"class": name, "examples": 0 if value is None else 9, "accuracy_val": value,
         "taken_for": "" if value == 1 else "owl"}
        for name, value in accuracies
    ]  # fmt: skip


def test_hardest_and_easiest_names_the_confusion():
    found = sentences.hardest_and_easiest(rows(("cat", 0.7), ("fox", 1.0), ("elk", None)), "val")
    assert found == (
        "The hardest class of the val split is “cat” (70.0% right, most often taken for “owl”); "
        "the easiest is “fox” (100.0%)."
    )


@pytest.mark.parametrize("value", [1.0, 0.5])
def test_classes_that_are_equally_hard(value):
    found = sentences.hardest_and_easiest(rows(("a", value), ("b", value), ("c", None)), "val")
    assert found == f"In the val split, every class has an accuracy of {value:.1%}."


@pytest.mark.parametrize(
    ("stated", "right", "verdict"),
    [(0.9, 0.8, "too high"), (0.8, 0.9, "too low"), (0.9, 0.905, "right on average: 90.0%")],
)
def test_trust(stated, right, verdict):
    assert verdict in sentences.trust(stated, right, "test")


def test_what_is_not_quite_all_or_none_does_not_look_so():
    nearly = [format.percent(v) for v in (0.9995, 0.99949, 0.0004, 1.0, 0.0)]
    assert nearly == [">99.9%", "99.9%", "<0.1%", "100.0%", "0.0%"]
    assert format.percent(0.99995, 2) == ">99.99%"


def test_collapse_says_what_happened():
    def finding(true, predicted, low, high):
        row = {"class": "wall", "share": true, "predicted_share": predicted}
        return sentences.collapse(row, {"min": low, "max": high}, "val")

    end = "and 36.0% of the val pixels belong to it."
    assert finding(0.36, 0, 0, 0) == (
        f"“wall” has collapsed: its score is 0 for every pixel, {end}"
    )
    assert finding(0.36, 1e-5, -1, 2) == (
        f"“wall” has collapsed: it is predicted for <0.01% of the pixels, {end}"
    )
    assert finding(0.3, 0.2, -1, 2) is None
    assert finding(0, 0, -1, 2) is None


def test_names_that_matplotlib_would_hide_are_in_the_legend():
    curve = {"recall": [0.0, 1.0], "precision": [1.0, 0.5]}
    figure = figures.precision_recall(["_background_", "sky"], ["#000000", "#00FF00"], [curve] * 2)
    words = [text.get_text().lstrip("\u200b") for text in figure.legends[0].get_texts()]
    assert words == ["_background_", "sky"]
    assert_legend_is_inside(figure)
    history = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.6}]
    lines = [figures.Line(history, "loss", "#000000", name) for name in ("_a", "", "_b")]
    (legend,) = figures.curves(lines, "loss").legends
    assert [text.get_text().lstrip("\u200b") for text in legend.get_texts()] == ["_a", "_b"]


def assert_legend_is_inside(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).draw()
    box, (width, height) = figure.legends[0].get_window_extent(), figure.bbox.size
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    assert not box.overlaps(figure.axes[0].get_window_extent())
    assert figure.axes[0].get_window_extent().height > 0.5 * 3.5 * figure.dpi


@pytest.mark.parametrize("classes", [3, 9, 20])
@pytest.mark.parametrize("name", ["part", "a rather long name for {}"])
def test_precision_recall_has_room_for_its_legend(classes, name):
    curve = {"recall": [0.0, 1.0], "precision": [1.0, 0.5]}
    names = [f"{i} {name}" for i in range(classes)]
    given = names, ["#00FF00"] * classes, [curve] * classes
    assert_legend_is_inside(figures.precision_recall(*given))
    assert not figures.precision_recall(*(part * 10 for part in given)).legends
