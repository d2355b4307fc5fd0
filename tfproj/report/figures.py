"""The figures, drawn with matplotlib's objects; no pyplot, so no global state.

Every figure is about as wide as a telephone, so that its words stay readable there. What is
drawn in ``INK`` takes the colour of the page's text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tfproj.report.format import short
from tfproj.report.statistics import Calibration

INK = "#1a1a1b"
GREY = "#808080"
# Readable on white and on near black; the first two tell training from validation.
COLORS = ("#e0803a", "#3d8fd9", "#37a86b", "#b06fd8", "#d9535f", "#9a8c2f", "#2fa5a5", "#8a6d5b")
SPLIT_COLORS = {"train": COLORS[0], "val": COLORS[1], "test": COLORS[2]}
WIDTH = 4.4  # inches
MAX_LEGEND = 20  # classes; more would hide what it explains


@dataclass(frozen=True)
class Line:
    """One curve: values by epoch, how it looks, and the epoch to mark on it."""

    name: str  # empty: not in the legend
    epochs: Sequence[float]
    values: Sequence[float]
    color: str
    dashed: bool = False
    marked: int | None = None


def history_line(
    name: str, history: Sequence[Mapping[str, float]], column: str, color: str, **look
) -> Line:
    """A column of the history; gaps where it is missing or not finite."""
    values = [row.get(column, math.nan) for row in history]
    values = [v if math.isfinite(v) else math.nan for v in values]
    return Line(name, [row["epoch"] for row in history], values, color, **look)


def curves(lines: Sequence[Line], label: str, rates: Sequence[Line] = ()) -> Figure:
    """Values by epoch, with the learning rate in a strip below."""
    if not rates:
        figure, axes = _figure(2.7, 1)
    else:
        figure, axes = _figure(3.4, 2, sharex=True, height_ratios=(3, 1))
    main = axes[0]
    for line in lines:
        _draw_line(main, line)
    main.set_ylabel(label)
    if any(not math.isnan(v) for line in lines for v in line.values):
        legend(main, len(lines))
    for line in rates:
        _draw_line(axes[-1], line)
    if rates:
        axes[-1].set_ylabel("rate")
        axes[-1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
        axes[-1].set_ylim(bottom=0)
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return _styled(figure)


def _draw_line(axes: Axes, line: Line) -> None:
    few = len(line.values) <= 3  # a single point has no line to be seen by
    label = short(line.name, 34) or "_"  # which matplotlib leaves out
    axes.plot(
        line.epochs, line.values, color=line.color, label=label, linewidth=1.6,
        linestyle="--" if line.dashed else "-", marker="o" if few else None, markersize=4,
    )  # fmt: skip
    for epoch, value in zip(line.epochs, line.values, strict=True):
        if epoch == line.marked and not math.isnan(value):
            axes.plot(epoch, value, "o", color=line.color, markersize=7, markeredgecolor=INK)
            axes.axvline(epoch, color=GREY, linewidth=0.8, linestyle=":")


def bars(names: Sequence[str], groups: Mapping[str, Sequence[float | None]], label: str) -> Figure:
    """Horizontal bars from 0 to 1, the first name at the top; one bar per split and name."""
    thick = 0.8 / len(groups)
    figure, (axes,) = _figure(0.75 + len(names) * (0.13 + 0.11 * len(groups)), 1)
    places = np.arange(len(names))
    for number, (group, values) in enumerate(groups.items()):
        heights = [v if v is not None and math.isfinite(v) else 0 for v in values]
        axes.barh(
            places + (number - (len(groups) - 1) / 2) * thick, heights, thick * 0.92,
            color=SPLIT_COLORS[group], label=group,
        )  # fmt: skip
    axes.set_yticks(places, [short(name) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    _percent_axis(axes, "x")
    axes.set_xlabel(label)
    if len(groups) > 1:
        figure.legend(loc="outside upper right", ncols=len(groups), frameon=False, fontsize=9)
    return _styled(figure)


def reliability(measured: Calibration) -> Figure:
    """Accuracy by stated probability, with the share of examples in a strip below."""
    figure, (axes, strip) = _figure(4.2, 2, sharex=True, height_ratios=(4, 1))
    width = 1 / len(measured.count)
    middles = (np.arange(len(measured.count)) + 0.5) * width
    filled = measured.count > 0
    axes.bar(
        middles[filled], measured.accuracy[filled], width * 0.9, color=COLORS[1],
        label="right answers",
    )  # fmt: skip
    axes.plot(
        measured.confidence[filled], measured.accuracy[filled], "o", color=COLORS[0], markersize=4,
        label="their mean probability",
    )  # fmt: skip
    axes.plot((0, 1), (0, 1), color=INK, linewidth=1, linestyle="--", label="perfect")
    axes.set_ylabel("accuracy")
    axes.set_xlim(0, 1)
    _percent_axis(axes, "y")
    legend(axes, 3, loc="upper left")
    strip.bar(middles, measured.count / measured.count.sum(), width * 0.9, color=GREY)
    strip.set_ylabel("share")
    strip.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _percent_axis(strip, "x")
    strip.set_xlabel("probability of the predicted class")
    return _styled(figure)


def precision_recall(
    names: Sequence[str], colors: Sequence[str], curves: Sequence[Mapping | None]
) -> Figure:
    """Precision by recall, one line per class in its colour."""
    labels = [short(n) for n, curve in zip(names, curves, strict=True) if curve]
    columns = 3 if max(map(len, labels), default=0) <= 10 else 2
    explained = 0 < len(labels) <= MAX_LEGEND  # the table beside it has the colours, too
    rows = -(-len(labels) // columns) if explained else 0
    figure, (axes,) = _figure(3.5 + 0.2 * rows, 1)
    for name, color, curve in zip(names, colors, curves, strict=True):
        if curve:
            recall, precision = curve["recall"], curve["precision"]
            # A thin dark edge keeps light colours visible on white; black takes the ink's colour.
            axes.plot(recall, precision, color=INK, linewidth=2.4, alpha=0.35)
            visible = INK if color in ("#000000", "#FFFFFF") else color
            axes.plot(recall, precision, color=visible, linewidth=1.7, label=short(name))
    for side in ("x", "y"):
        _percent_axis(axes, side)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    if explained:
        figure.legend(loc="outside upper center", ncols=columns, frameon=False, fontsize=9)
    return _styled(figure)


def confusion(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """Shares of each true class (rows) by predicted class; the root makes few errors visible."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, (axes,) = _figure(4.4, 1)
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if len(names) <= 25:
        ticks = np.arange(len(names))
        axes.set_xticks(ticks, [short(n, 14) for n in names], rotation=90)
        axes.set_yticks(ticks, [short(n, 14) for n in names])
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return _styled(figure, grid=False)


def _figure(height: float, rows: int, **layout) -> tuple[Figure, list[Axes]]:
    ratios = {"height_ratios": layout.pop("height_ratios")} if "height_ratios" in layout else {}
    # Long pages of bars need no more than this; a figure of metres would be of no use.
    figure = Figure(figsize=(WIDTH, min(height, 30)), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False, gridspec_kw=ratios, **layout)
    return figure, list(axes[:, 0])


def _percent_axis(axes: Axes, side: str) -> None:
    ticks = (0, 0.25, 0.5, 0.75, 1)
    axes.set(**{f"{side}ticks": ticks, f"{side}ticklabels": [f"{t:.0%}" for t in ticks]})
    axes.set(**{f"{side}lim": (0, 1)})


def legend(axes: Axes, entries: int, loc: str = "best") -> None:
    """A legend without a box; in two columns where it is long and the names are short."""
    longest = max((len(label) for label in axes.get_legend_handles_labels()[1]), default=0)
    ncols = 2 if entries > 4 and longest <= 20 else 1
    axes.legend(loc=loc, frameon=False, fontsize=9, ncols=ncols)


def _styled(figure: Figure, grid: bool = True) -> Figure:
    """Thin axes, no box, everything that is text in ink."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9)
        for text in (axes.xaxis.label, axes.yaxis.label, axes.yaxis.get_offset_text()):
            text.set(color=INK, fontsize=9)
        if grid:
            axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
            axes.set_axisbelow(True)
    for box in [*figure.legends, *(a.get_legend() for a in figure.axes)]:
        for text in box.get_texts() if box else ():
            text.set_color(INK)
    return figure
