"""The report: what a run learned, as one HTML file made from the files of the run directory.

No TensorFlow, and not the data set either: ``evaluate`` has left in the run what is shown.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tfproj.errors import InputError, missing_extra
from tfproj.runs.run import Run

if TYPE_CHECKING:
    from tfproj.report.predictions import PredictionPage

__all__ = ["build", "build_study", "new_data_page", "new_prediction_page"]

COMPARISON_FILE, STUDY_FILE = "comparison.html", "study.html"


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
    if not runs:
        raise InputError("no run to report on")
    _require("matplotlib", "jinja2")
    from tfproj.report import compare, single  # noqa: PLC0415 (matplotlib, once it is needed)

    if len(runs) == 1:
        return single.write(runs[0], output or runs[0].report_file)
    return compare.write(runs, output or COMPARISON_FILE)


def build_study(study: str, output: str | Path | None = None) -> Path:
    """Write the page of a search.

    Args:
        study: as ``tfproj tune --study`` has it.
        output: the HTML file; None: ``study.html`` in the working directory.

    Raises:
        InputError: there is no such study, or an unusable ``output``.
    """
    _require("matplotlib", "jinja2")
    if importlib.util.find_spec("optuna") is None:
        raise missing_extra("optuna", "tune")
    from tfproj.report import study as page  # noqa: PLC0415 (matplotlib and Optuna)

    return page.write(study, output or STUDY_FILE)


def new_prediction_page(output: str | Path) -> PredictionPage:
    """An empty page to ``add`` results to and ``write``.

    Raises:
        InputError: the template library is missing, or ``output`` is no place for a page.
    """
    _require("jinja2")
    from tfproj.report.page import page_path  # noqa: PLC0415 (Jinja, once it is needed)
    from tfproj.report.predictions import PredictionPage  # noqa: PLC0415 (Jinja)

    page_path(output)
    return PredictionPage()


def new_data_page(output: str | Path) -> Callable[[dict], Path]:
    """What writes the record of a data check as a page there.

    Raises:
        InputError: as :func:`new_prediction_page`.
    """
    _require("jinja2")
    from tfproj.report import data_check  # noqa: PLC0415 (Jinja)
    from tfproj.report.page import page_path  # noqa: PLC0415 (Jinja, once it is needed)

    return partial(data_check.write, output=page_path(output))


def _require(*modules: str) -> None:
    """Name the extra to install before any work is done."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise missing_extra(module, "train")
