"""The page of ``tfproj predict --html``: a user's own photographs and what was predicted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from tfproj.core import image
from tfproj.core.thumbnails import encode, thumbnail
from tfproj.errors import InputError
from tfproj.report.page import page_path, render

if TYPE_CHECKING:
    from tfproj.inference.results import Classification, MultiLabel, Result, Segmentation

MAX_IMAGES = 200  # what a page of a few MB holds; the others are counted
SIDE = 320  # px
TOP = 3  # classes named for a classified image
ALPHA = 0.55  # weight of the class colours over the photograph


class PredictionPage:
    """Collects small pictures of predicted images and writes them as one page."""

    def __init__(self):
        self._items: list[dict[str, Any]] = []
        self._failures: list[tuple[str, str]] = []
        self._left_out = 0
        self._legend: list[tuple[str, str]] = []

    def add(self, source: image.ImageLike, result: Result) -> None:
        """Add one image.

        Args:
            source: the image as it was given to the predictor.
            result: what the predictor answered, or why the image can't be read.
        """
        is_path = isinstance(source, (str, os.PathLike))
        name = str(source) if is_path else f"image {len(self._items) + 1}"
        if isinstance(result, InputError):
            self._failures.append((name, str(result)))
        elif len(self._items) == MAX_IMAGES:
            self._left_out += 1
        else:
            picture = thumbnail(image.convert(image.open_image(source), 3), SIDE)
            describe = self._segmented if hasattr(result, "mask_image") else _classified
            self._items.append({"name": name, **describe(picture, result)})

    def write(self, output: str | Path) -> Path:
        """Write the page; returns its path."""
        values = {
            "items": self._items,
            "legend": self._legend,
            "failures": self._failures,
            "left_out": self._left_out,
        }
        return render("predictions.html", page_path(output), values)

    def _segmented(self, picture: Image.Image, result: Segmentation) -> dict[str, Any]:
        self._legend = list(zip(result.classes, result.colors, strict=True))
        mask = result.mask_image().resize(picture.size, Image.Resampling.NEAREST).convert("RGB")
        overlay = Image.blend(picture, mask, ALPHA)
        shares = sorted(result.shares().items(), key=lambda item: -item[1])
        return {
            "pictures": [_embedded(picture), _embedded(overlay)],
            "answers": [(name, share) for name, share in shares if share > 0],
        }


def _classified(picture: Image.Image, result: Classification | MultiLabel) -> dict[str, Any]:
    answers = result.top(TOP)
    if hasattr(result, "labels"):
        answers = (
            result.top(len(result.labels)) if result.labels else [("no label", None), *answers]
        )
    elif result.is_unknown:
        # No class is certain enough; what comes closest is still listed.
        answers = [(result.label, None), *answers]
    return {"pictures": [_embedded(picture)], "answers": answers}


def _embedded(picture: Image.Image) -> dict[str, Any]:
    return {"content": encode(picture)[0], "size": picture.size}
