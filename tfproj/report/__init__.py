"""The report: what a run learned, as one HTML file made from the files of the run directory.

No TensorFlow, and not the data set either: ``evaluate`` has left in the run what is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfproj.errors import missing_extra
from tfproj.runs.run import Run

if TYPE_CHECKING:
    from tfproj.report.predictions import PredictionPage, Result

__all__ = ["build", "new_prediction_page", "prediction_page"]

COMPARISON_FILE = "comparison.html"


def build(runs: Sequence[Run], output: str | Path | None = None) -> Path:
    """Write the report of one run, or the comparison of several.

    The page is self-contained. Its figures as PNG and its numbers as JSON and CSV are written
    into a folder beside it that is called like the page without its suffix.

    Args:
        runs: one or more; several must be of one task.
        output: the HTML file. None: ``report.html`` in the run directory for one run,
            ``comparison.html`` in the working directory for several.

    Returns:
        The HTML file.

    Raises:
        InputError: no run, runs of different tasks, damaged files, or an unusable ``output``.
    """
    _require("matplotlib", "jinja2")
    from tfproj.report import compare, single

    runs = list(runs)
    if len(runs) == 1:
        return single.write(runs[0], output or runs[0].report_file)
    return compare.write(runs, output or COMPARISON_FILE)


def prediction_page(
    results: Iterable[tuple[object, Result]],
    output: str | Path,
    title: str = "Predictions",
) -> Path:
    """Write a page of predicted images.

    Args:
        results: (image as given to the predictor, its ``Classification`` or ``Segmentation``);
            taken one by one, only small pictures are kept.
        output: the HTML file.
        title: heading of the page.

    Returns:
        The HTML file.
    """
    page = new_prediction_page(output, title)
    for source, result in results:
        page.add(source, result)
    return page.write(output)


def new_prediction_page(output: str | Path, title: str = "Predictions") -> PredictionPage:
    """An empty page to ``add`` results to and ``write``.

    Raises:
        InputError: the template library is missing, or ``output`` is no place for a page.
    """
    _require("jinja2")
    from tfproj.report.page import page_path
    from tfproj.report.predictions import PredictionPage

    page_path(output)
    return PredictionPage(title)


def _require(*modules: str) -> None:
    """Name the extra to install before any work is done."""
    import importlib.util

    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise missing_extra(module, "train")
