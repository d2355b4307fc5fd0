"""The figures, drawn with matplotlib's objects; no pyplot, so no global state.

Every figure is about as wide as a telephone, so that its words stay readable there. What is
drawn in ``INK`` takes the colour of the page's text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter

from tfproj.report.format import short

INK = "#1a1a1b"
GREY = "#808080"
# Readable on white and on near black; the first two tell training from validation.
COLORS = ("#e0803a", "#3d8fd9", "#37a86b", "#b06fd8", "#d9535f", "#9a8c2f", "#2fa5a5", "#8a6d5b")
SPLIT_COLORS = {"train": COLORS[0], "val": COLORS[1], "test": COLORS[2]}
WIDTH, MAX_HEIGHT = 4.4, 30  # inches; a figure of metres would be of no use
MAX_LEGEND = 20  # entries; more would hide what it explains
NAMED_CLASSES = 25  # up to here the ticks of a confusion matrix have names
# Thin axes, no box. Ticks take their style when they are drawn: this must be in force then, too.
STYLE = {
    "font.size": 9, "axes.labelsize": 9, "xtick.labelsize": 9, "ytick.labelsize": 9,
    "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True,
    "grid.color": GREY, "grid.alpha": 0.25, "grid.linewidth": 0.6,
    "legend.frameon": False, "lines.linewidth": 1.6, "lines.markersize": 4,
}  # fmt: skip
styled = matplotlib.rc_context(STYLE)


class Line(NamedTuple):
    """A column of a history: how it looks, and the epoch to mark on it."""

    history: Sequence[Mapping[str, float]]
    column: str
    color: str
    label: str = ""  # empty: not in the legend
    dashed: bool = False
    marked: int | None = None


@styled
def curves(lines: Sequence[Line], label: str, rate: Line | None = None) -> Figure:
    """Values by epoch, with the learning rate in a strip below."""
    layout = (3.4, 2, (3, 1)) if rate else (2.7, 1)
    figure, (axes, *strip) = _figure(*layout)
    for line in lines:
        _draw(axes, line)
    axes.set_ylabel(label)
    for below in strip:
        _draw(below, rate)
        below.set(ylabel="rate", ylim=(0, None))
        below.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axis = figure.axes[-1].xaxis
    axis.set_label_text("epoch")
    axis.get_major_locator().set_params(integer=True)
    return _with_legend(figure)


def _draw(axes: Axes, line: Line) -> None:
    """One line, with gaps where values are missing or not finite."""
    epochs = [row["epoch"] for row in line.history]
    values = [row.get(line.column, math.nan) for row in line.history]
    axes.plot(
        epochs, values, color=line.color, linestyle="--" if line.dashed else "-",
        marker="o" if len(values) <= 3 else None,  # a single point has no line to be seen by
        label=short(line.label, 34) or "_",  # an underscore keeps it out of the legend
    )  # fmt: skip
    if line.marked in epochs:
        value = values[epochs.index(line.marked)]
        axes.plot(line.marked, value, "o", color=line.color, markersize=7, markeredgecolor=INK)
        axes.axvline(line.marked, color=GREY, linewidth=0.8, linestyle=":")


@styled
def trials(values: Mapping[int, float]) -> Figure:
    """Values of finished trials by their number, and the best so far as a step line."""
    figure, (axes,) = _figure(2.7)
    numbers, found = list(values), list(values.values())
    axes.plot(numbers, found, "o", color=GREY, label="trial")
    best = np.maximum.accumulate(found) if found else []
    axes.step(numbers, best, where="post", color=COLORS[0], label="best so far")
    axes.set(xlabel="trial", ylabel="validation value")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _with_legend(figure)


@styled
def bars(names: Sequence[str], groups: Mapping[str, Sequence[float | None]], label: str) -> Figure:
    """Horizontal bars from 0 to 1, the first name at the top; one bar per split and name."""
    figure, (axes,) = _figure(0.75 + len(names) * (0.13 + 0.11 * len(groups)))
    thick = 0.8 / len(groups)
    places = np.arange(len(names))
    for number, (group, values) in enumerate(groups.items()):
        shift = (number - (len(groups) - 1) / 2) * thick
        lengths = np.nan_to_num(np.array(values, float))
        axes.barh(places + shift, lengths, thick * 0.92, color=SPLIT_COLORS[group], label=group)
    axes.set_yticks(places, [short(name) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlim(0, 1)
    _in_percent(axes.xaxis)
    axes.set_xlabel(label)
    return _with_legend(figure)


@styled
def reliability(rows: Sequence[Mapping[str, float | None]]) -> Figure:
    """Accuracy by stated probability, with the share of examples in a strip below."""
    figure, (axes, strip) = _figure(4.2, 2, (4, 1))
    columns = ("examples", "confidence", "accuracy")
    count, confidence, accuracy = (np.array([r[c] for r in rows], float) for c in columns)
    width = 1 / len(rows)
    middles = (np.arange(len(rows)) + 0.5) * width
    axes.bar(middles, accuracy, width * 0.9, color=COLORS[1], label="right answers")
    axes.plot(confidence, accuracy, "o", color=COLORS[0], label="their mean probability")
    axes.plot((0, 1), (0, 1), "--", color=INK, linewidth=1, label="perfect")
    axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    strip.bar(middles, count / count.sum(), width * 0.9, color=GREY)
    strip.set(ylabel="share", xlabel="probability of the predicted class")
    strip.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _in_percent(axes.xaxis, axes.yaxis)
    return _with_legend(figure)


@styled
def precision_recall(
    names: Sequence[str], colors: Sequence[str], curves: Sequence[Mapping | None]
) -> Figure:
    """Precision by recall, one line per class in its colour."""
    figure, (axes,) = _figure(3.5)
    for name, color, curve in zip(names, colors, curves, strict=True):
        if curve:
            # A thin dark edge keeps light colours visible on white; black takes the ink's colour.
            recall, precision = curve["recall"], curve["precision"]
            axes.plot(recall, precision, color=INK, linewidth=2.4, alpha=0.35)
            visible = INK if color in ("#000000", "#FFFFFF") else color
            axes.plot(recall, precision, color=visible, label=short(name))
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    _in_percent(axes.xaxis, axes.yaxis)
    return _with_legend(figure)


@styled
def confusion(shares: np.ndarray, names: Sequence[str]) -> Figure:
    """Shares of each true class (rows) by predicted class; the root makes few errors visible."""
    figure, (axes,) = _figure(4.4)
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(visible=False)
    if len(names) <= NAMED_CLASSES:
        labels = [short(name, 14) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=90)
        axes.set_yticks(range(len(names)), labels)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def _figure(height: float, rows: int = 1, ratios=None) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(WIDTH, min(height, MAX_HEIGHT)), layout="constrained")
    return figure, figure.subplots(rows, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]


def _in_percent(*axes: Axis) -> None:
    for axis in axes:
        axis.set(major_locator=MultipleLocator(0.25), major_formatter=PercentFormatter(1, 0))


def _with_legend(figure: Figure) -> Figure:
    """Explain the lines above the axes, in a figure that is higher by as much."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if 0 < len(labels) <= MAX_LEGEND:
        longest = max(map(len, labels))
        columns = 3 if longest <= 10 else 2 if longest <= 22 else 1
        figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(labels) / columns))
        figure.legend(handles, labels, loc="outside upper left", ncols=columns)
    return figure
