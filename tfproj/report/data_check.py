"""What ``tfproj data check --deep`` found, as a page of its own or a section of a run's report."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from tfproj.report.page import page_path, render

TITLES = {
    "label": "Probable label errors",
    "source": "Pictures of one source in two splits",
    "burst": "Pictures of one scene in two splits",
    "leak": "Near-duplicates in two splits",
    "near_duplicate": "Near-duplicates within a split",
    "out_of_place": "Images out of place",
}


def write(record: dict[str, Any], output: str | Path) -> Path:
    """Write the page of a data set.

    Args:
        record: as :attr:`tfproj.runs.run.Run.data_check_file` holds it.
    """
    return render("data_check.html", page_path(output), {"checked": values(record)})


def values(record: dict[str, Any]) -> dict[str, Any]:
    """What the macro ``data_check`` of the templates needs; empty for an empty record."""
    if not record:
        return {}
    kinds = []
    for kind, title in TITLES.items():
        own = [_entry(entry) for entry in record["shown"] if entry["kind"] == kind]
        kinds.append({"title": title, "count": record["counts"].get(kind, 0), "shown": own})
    return {**record, "kinds": kinds}


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    images = [
        {**picture, "content": base64.b64decode(picture["content"])} for picture in entry["images"]
    ]
    return {**entry, "images": images}
