"""One task: images to the rows of one part, wherever it runs."""

from __future__ import annotations

import contextlib
import io
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnxruntime
import PIL

from tfproj._version import __version__
from tfproj.bulk import places
from tfproj.bulk.parts import Parts, Row, digest
from tfproj.bulk.tries import TRIES, Tries
from tfproj.errors import InputError, first_line
from tfproj.inference.image_files import decisive, describe, shortened
from tfproj.inference.predictor import Predictor
from tfproj.inference.results import Result, Segmentation
from tfproj.inference.table import flat
from tfproj.pretrained import pretrained_file

PART_SIZE = 1000
OPTIONS = ("flip", "providers", "threads", "tiles", "unknown_below")  # of Predictor
FETCHED = 32  # remote images that are asked for at once, and held
DECIDING = (np, onnxruntime, PIL)  # other answers may come from other versions of these


@dataclass(frozen=True)
class Job:
    """What all tasks of an output share: small, plain, and the same on every machine.

    Attributes:
        made_with: versions and the model's digest where the job was begun; a worker with others
            refuses.
        others: as in :func:`predict_paths`.
    """

    model: str
    output: str
    file_format: str = "csv"
    part_size: int = PART_SIZE
    top: int = 1
    batch_size: int = 8
    options: tuple[tuple[str, Any], ...] = ()
    made_with: tuple[tuple[str, str], ...] = ()

    @property
    def parts(self) -> Parts:
        """Of the output."""
        return Parts(self.output, self.file_format)


def predict_paths(
    model: str | os.PathLike,
    paths: Iterable[str],
    output: str,
    *,
    file_format: str = "csv",
    part_size: int = PART_SIZE,
    top: int = 1,
    batch_size: int = 8,
    scan: bool = True,
    **options: Any,
) -> list[Row]:
    """Predict images into part files, leaving out what the parts hold: the task for any engine.

    A part is whole or not there, and is called after its images. So a call may be killed, repeated,
    or run twice at once. An image that killed its process three times gets a row that says so.

    Args:
        model: an ONNX file, or the name of a pretrained model.
        paths: images, by path or URL (``s3://...``, needs ``pip install 'tfproj[bulk]'``).
        output: folder or URL, for ``parts/``, ``masks/`` of a segmenter, and ``settings.json``.
        file_format: "csv", or "parquet" (needs ``tfproj[bulk]``).
        part_size: images of a part, at most.
        top: classes to record for each image.
        batch_size: images that go through the model at once.
        scan: look for the paths in all parts. False: only in those of these very paths, which
            takes no time, where something splits one list always alike.
        options: ``threads`` (1 by default), ``providers``, ``unknown_below``, ``flip`` and
            ``tiles`` of :class:`Predictor`.

    Returns:
        A row for each path, in order, a path given twice once. Its columns are those of ``tfproj
        predict``, and ``error``: None, or why the other ones are.

    Raises:
        InputError: an argument that makes no sense, or an output that other settings began.
        TfprojError: writing failed.
    """
    for name in options.keys() - {*OPTIONS}:
        raise InputError(f"{name}: not for predict_paths; of Predictor it takes {OPTIONS}")
    if isinstance(paths, (str, os.PathLike)):
        raise InputError("paths is one path; give a list")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    given = tuple(sorted(options.items()))
    job = begin(Job(str(model), places.plain(str(output)).rstrip("/"), file_format, part_size,
                    top, batch_size, given))  # fmt: skip
    images = list(dict.fromkeys(places.plain(str(path)) for path in paths))
    wanted = {clean(image) for image in images}
    held = job.parts.held(_open(job)[1]) if scan else ()
    rows = {row["image"]: row for row in held if row["image"] in wanted}
    rest = [image for image in images if clean(image) not in rows]
    for start in range(0, len(rest), part_size):
        rows |= {row["image"]: row for row in part(job, rest[start : start + part_size])}
    return [rows[clean(image)] for image in images]


def begin(job: Job) -> Job:
    """Write down or compare the settings of the output; the job with what it is made with.

    Raises:
        InputError: the output has other settings, or the model can't be used.
    """
    if job.part_size < 1 or job.batch_size < 1 or job.top < 1:
        raise InputError("part_size, batch_size and top must be at least 1")
    predictor, _ = _open(job)
    job.parts.begin({**decisive(predictor, job.top), "format": job.file_format,
                     "part_size": job.part_size})  # fmt: skip
    return replace(job, made_with=_made_with(predictor))


def part(job: Job, images: Sequence[str]) -> list[Row]:
    """The rows of one part of a job that was begun; predicted where the part isn't there.

    Raises:
        InputError: the packages or the model are not those with which the job was begun, or one is
            missing that reads the images.
        TfprojError: writing failed.
    """
    predictor, columns = _open(job)
    for (name, here), (_, there) in zip(_made_with(predictor), job.made_with, strict=True):
        if here != there:
            raise InputError(f"worker on {socket.gethostname()}: {name} {here}, but the job was "
                             f"begun with {there}; give all machines the same")  # fmt: skip
    name = job.parts.name(images)
    rows = job.parts.read(name, columns)
    if rows is None:
        places.require(images)
        with Tries(f"{job.output}/tries/{name}.json") as tries:
            found = _results(job, predictor, images, tries)
            rows = [_row(job, image, result, columns) for image, result in found]
            job.parts.write(name, rows, columns)
    return rows


def clean(text: str) -> str:
    """A name or message with what is no UTF-8 spelled out, as tables can hold it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _results(
    job: Job, predictor: Predictor, images: Sequence[str], tries: Tries
) -> Iterator[tuple[str, Result]]:
    """Each image and its result or error; one by one from where the model or a process failed."""
    done = 0
    if not tries.careful:
        with contextlib.suppress(Exception):
            step = FETCHED if any(map(places.is_remote, images)) else len(images)
            for start in range(0, len(images), step):
                some = images[start : start + step]
                for pair in zip(some, _stream(job, predictor, some), strict=True):
                    yield pair
                    done += 1
    for image in images[done:]:
        if image in tries.set_aside:
            error = f"{image}: set aside, since its worker died {TRIES} times"
            yield image, InputError(error)
            continue
        tries.at(image)
        try:
            (result,) = _stream(job, predictor, [image])
        except Exception as error:  # out of memory for a large image, say: no reason to stop
            result = InputError(f"{image}: {first_line(error)}")
        yield image, result
    if done < len(images):
        tries.at(None)  # writing the part is no image's fault


def _stream(job: Job, predictor: Predictor, images: Sequence[str]) -> Iterator[Result]:
    return predictor.stream(_sources(images), job.batch_size, errors="return")


def _sources(images: Sequence[str]) -> list[Any]:
    remote = [image for image in images if places.is_remote(image)]
    fetched = dict(zip(remote, places.fetch(remote), strict=True)) if remote else {}
    return [fetched.get(image, image) for image in images]


def _row(job: Job, image: str, result: Result, columns: Mapping[str, type]) -> Row:
    record = describe(clean(image), result, job.top)
    empty = dict.fromkeys(columns)
    if "error" in record:
        error = record["error"].replace("image file:", f"{image}:", 1)  # what bytes are called
        return empty | {"image": record["image"], "error": clean(error)}
    if isinstance(result, Segmentation):
        record["mask"] = _write_mask(job, image, result)
    return empty | flat(record)


def _write_mask(job: Job, image: str, result: Segmentation) -> str:
    """At a place that follows from the image's path alone, in one of 4,096 folders."""
    code, stem = digest(image), shortened(PurePosixPath(image.replace("\\", "/")).stem)
    place = f"{job.output}/masks/{code[:3]}/{clean(stem)}-{code}.png"
    data = io.BytesIO()
    result.mask_image().save(data, "PNG")
    places.write(place, data.getvalue())
    return place


def _open(job: Job) -> tuple[Predictor, dict[str, type]]:
    path = Path(job.model)
    if path.suffix != ".onnx" and not path.is_file():
        path = pretrained_file(job.model)
    status = path.stat() if path.is_file() else None
    stamp = status and (status.st_mtime_ns, status.st_size)
    return _opened(path, stamp, job.top, job.options)


@lru_cache(maxsize=1)
def _opened(
    path: Path, stamp: tuple[int, int] | None, top: int, options: tuple[tuple[str, Any], ...]
) -> tuple[Predictor, dict[str, type]]:
    """The predictor of this process, and the columns of its rows with their types."""
    predictor = Predictor(path, **{"threads": 1, **dict(options)})
    black = np.zeros((*predictor.spec.size, predictor.spec.channels), np.uint8)
    record = describe("", predictor.predict_one(black), top)
    columns = {name: type(value) for name, value in flat(record).items()}
    return predictor, columns | {"error": str}


@lru_cache(maxsize=1)
def _made_with(predictor: Predictor) -> tuple[tuple[str, str], ...]:
    packages = [(package.__name__, package.__version__) for package in DECIDING]
    return ("tfproj", __version__), *packages, ("model", predictor.digest)
