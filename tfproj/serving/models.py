"""The models of a server and what they answer for the bytes of a picture."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from tfproj.core import bounds, decoding
from tfproj.errors import InputError, TfprojError, TooLargeError, first_line
from tfproj.inference.calibration import AUTO, threshold
from tfproj.inference.extras import score_limit
from tfproj.inference.image_files import describe
from tfproj.inference.model_file import read_model
from tfproj.inference.predictor import Predictor
from tfproj.inference.results import Classification, Segmentation
from tfproj.serving.settings import MAX_IMAGES, Settings

MAX_LABEL = 200  # characters of a file's name that are said again

Images = list[tuple[str, bytes]]
Answer = dict[str, Any] | bytes  # a record, or a PNG


@dataclass(frozen=True)
class Question:
    """How an image shall be answered.

    Attributes:
        top: classes to name.
        unknown_below: in the place of the model's, where it is not None.
        mask: a segmenter's record holds its mask, too.
        picture: the answer is the mask alone, a PNG.
    """

    top: int = 1
    unknown_below: float | str | None = None
    mask: bool = False
    picture: bool = False

    @classmethod
    def read(cls, query: Mapping[str, str], accept: str) -> Question:
        """From a query and an Accept header; InputError for what is not known or makes no sense."""
        if unknown := set(query) - {"top", "unknown_below", "mask"}:
            raise InputError(f"unknown parameter {min(unknown)[:40]!r}: top, unknown_below, mask")
        top, below = query.get("top", "1"), query.get("unknown_below")
        if not re.fullmatch("[1-9][0-9]{0,5}", top) or query.get("mask", "0") not in ("0", "1"):
            raise InputError("top must be a whole number in 1..999999, and mask 0 or 1")
        try:
            least = below if below in (None, "auto") else float(below)
        except ValueError:
            raise InputError("unknown_below must be a number in 0..1, or auto") from None
        return cls(int(top), least, query.get("mask") == "1", accept.startswith("image/png"))


class Model:
    """One model, shared by all threads.

    Attributes:
        name: in the addresses.
        predictor: with one thread a run: many requests at a time use the CPUs better.
    """

    def __init__(self, name: str, settings: Settings):
        self.name = name
        path, options = settings.models[name]
        self._below = options.get("unknown_below")
        if score_limit(read_model(path, str(path)), str(path)) is not None:
            options = {**options, "unknown_below": AUTO}  # a question may ask for the score
        self.predictor = Predictor(path, threads=1, **options)
        self._max_pixels = settings.max_pixels

    def selftest(self) -> None:
        """Replay the answers in the file, or do one run where it has none; errors as there."""
        try:
            if self.predictor.metadata.get("golden") is not None:
                self.predictor.selftest()
            else:
                spec = self.predictor.spec
                self.predictor.predict(np.zeros((*spec.size, spec.channels), np.uint8))
        except TfprojError as error:
            raise type(error)(f"{self.name}: {error}") from None

    def describe(self) -> dict[str, Any]:
        """What a client should know of the model."""
        spec = self.predictor.spec
        keys = ("task", "classes", "colors", "height", "width", "channels", "resize", "multi_label")
        return {"name": self.name, **{key: getattr(spec, key) for key in keys}}

    def answer(self, label: str, data: bytes, how: Question) -> Answer:
        """The record that ``tfproj predict --json`` has for an image, or its mask as PNG.

        Raises:
            InputError: the image can't be read, or the question does not fit the model.
            TooLargeError: it has too many pixels.
            TfprojError: the model failed.
        """
        predictor = self.predictor
        if (how.picture or how.mask) and predictor.spec.task != "segment":
            raise InputError(f"{self.name} is a classifier: its answer is JSON, without a mask")
        asked = self._below if how.unknown_below is None else how.unknown_below
        scored = asked == AUTO and predictor.unknown_above is not None
        kind = predictor.spec.kind
        below = None if scored else threshold(asked, predictor.metadata, kind, self.name)
        picture = decoding.open_encoded(data, label)
        bounds.require_pixels(*picture.size, label, self._max_pixels)
        try:
            (result,) = predictor.predict([picture])
        except InputError as error:  # of a picture without a name
            raise type(error)(f"{label}: {str(error).removeprefix('image: ')}") from None
        if isinstance(result, Classification) and not scored:
            result.unknown_below, result.unknown_above, result.unknown_score = below, None, None
        if isinstance(result, Segmentation) and how.picture:
            return png(result)
        record = describe(label, result, how.top)
        if isinstance(result, Segmentation) and how.mask:
            record["mask"] = "data:image/png;base64," + base64.b64encode(png(result)).decode()
        return record


def png(result: Segmentation) -> bytes:
    """The mask as a palette image."""
    buffer = io.BytesIO()
    result.mask_image().save(buffer, "PNG")
    return buffer.getvalue()


def read_form(body: bytes, content_type: str) -> Images:
    """(label, bytes) of each file of a form.

    Raises:
        InputError: the form is damaged.
        TooLargeError: there are too many.
    """
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    images: Images = []
    try:
        with PushMultipartParser(boundary) as parser:
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    segment, parts = event, []
                elif event is not None:
                    parts.append(event)
                elif segment.filename is None:
                    field = segment.name[:40]
                    raise InputError(
                        f"the field {field!r} of the form is no file: give options in the address "
                        "(?top=3), and files their names"
                    )
                else:
                    name = segment.filename[:MAX_LABEL] or f"image {len(images) + 1}"
                    images.append((name, b"".join(parts)))
                if len(images) > MAX_IMAGES:
                    raise TooLargeError(f"more than {MAX_IMAGES} images in a request")
    except MultipartError as error:
        raise InputError(f"the form is damaged ({first_line(error)})") from None
    return images
