"""Predict many image files: collect them, survive bad ones, write each result as it comes."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfproj.core import image
from tfproj.core.files import exists, replacing, writing
from tfproj.errors import InputError
from tfproj.inference.predictor import Predictor
from tfproj.inference.results import Classification, MultiLabel, Result, Segmentation
from tfproj.inference.table import TABLES, Output

SHOWN = 10  # names of what is left out
OVERLAY = "_overlay"  # follows a mask's stem


@dataclass(frozen=True)
class Settings:
    """How to predict files.

    Attributes:
        output: directory for ``predictions.csv`` (or ``.jsonl``) and, for segmentation,
            ``NAME.png`` palette masks (and ``NAME_overlay.png``, also of a classifier that is to
            explain itself); made where it does not exist.
            Until the last image the table is called ``predictions.csv.partial``.
        batch_size: images per batch.
        top: classes to record for each image.
        overlay: also write overlays.
        file_format: ``csv`` or ``jsonl``.
        resume: leave out what an interrupted call with the same settings has written.
    """

    output: Path | None = None
    batch_size: int = 8
    top: int = 1
    overlay: bool = False
    file_format: str = "csv"
    resume: bool = False


def find_images(
    arguments: Sequence[str],
    output: str | Path | None = None,
    left_out: list[Path] | None = None,
) -> list[Path]:
    """Files as given, and the images of directories, searched through in sorted order.

    A pattern such as ``*.jpg``, which Windows' shells hand on, means what it matches. Each file is
    listed once. Hidden files and folders are left out, and so is what lies in ``output``, a folder
    below, where earlier masks may be.

    Args:
        left_out: gets the other files, and the folders that are linked or can't be read.

    Raises:
        InputError: a path that does not exist, a pattern without a match, or nothing found.
    """
    return list(dict.fromkeys(each_image(arguments, output, left_out)))


def each_image(
    arguments: Sequence[str],
    output: str | Path | None = None,
    left_out: list[Path] | None = None,
) -> Iterator[Path]:
    """As :func:`find_images`, one by one with flat memory; a file given twice comes twice."""
    target = None if output is None else Path(output).resolve()
    given = [path for argument in arguments for path in _matches(argument, target)]
    for path in given:
        if not exists(Path.exists, path):
            raise InputError(f"{path}: no such file")
    for path in given:
        if not exists(Path.is_dir, path):
            yield path
            continue
        others: list[Path] = []
        empty = True
        for found in _search(path, target, others):
            empty = False
            yield found
        if left_out is not None:
            left_out += others
        if empty:
            hint = f"; {say_left_out(others)}" if others else ""
            raise InputError(f"{path}: no images in this directory{hint}")


def require_apart(arguments: Sequence[str], output: str | Path) -> None:
    """Refuse to write masks into a folder that is searched: the next call would find them there.

    Raises:
        InputError: ``output`` is one of the arguments.
    """
    target = Path(output).resolve()
    if any(Path(argument).resolve() == target for argument in arguments):
        raise InputError(f"{output}: masks would lie among the images; choose another --output")


def say_left_out(paths: Sequence[Path]) -> str:
    """One line about what :func:`find_images` left out."""
    names = ", ".join(map(str, paths[:SHOWN]))
    more = f" and {len(paths) - SHOWN:,} more" if len(paths) > SHOWN else ""
    return (
        f"{len(paths):,} left out ({names}{more}): linked folders are not entered, and images end "
        f"in {' '.join(image.SUFFIXES)}"
    )


def _matches(argument: str, output: Path | None) -> list[Path]:
    """What a pattern matches, sorted; anything else, and a file of that name, is itself."""
    if not glob.has_magic(argument) or exists(Path.exists, Path(argument)):
        return [Path(argument)]
    found = [Path(name) for name in sorted(glob.glob(argument, recursive=True))]
    if output is not None:
        found = [path for path in found if not path.resolve().is_relative_to(output)]
    if not found:
        raise InputError(f"{argument}: no file matches")
    return found


def _search(folder: Path, output: Path | None, others: list[Path]) -> Iterator[Path]:
    """Images below a folder as their paths are sorted."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        others.append(folder)
        return
    for entry in entries:
        path, inside = folder / entry.name, entry.is_dir(follow_symlinks=False)
        linked = entry.is_symlink() and exists(Path.is_dir, path)  # a circle of links is no folder
        if entry.name.startswith(".") or ((inside or linked) and path.resolve() == output):
            continue
        if inside:
            yield from _search(path, output, others)
        elif linked or path.suffix.lower() not in image.SUFFIXES:
            others.append(path)
        else:
            yield path


def stream_files(
    predictor: Predictor,
    paths: Sequence[Path],
    settings: Settings | None = None,
    observe: Callable[[Path, Result], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Predict files one after the other with flat memory.

    Args:
        predictor: the model.
        paths: image files.
        settings: see :class:`Settings`.
        observe: called with each path and its result, or the error in its place.

    Yields:
        A record for each image, in order: ``image`` and ``top`` or ``shares`` (and ``mask``), or
        ``image`` and ``error`` for one that can't be read.

    Raises:
        InputError: the output can't be written, a mask would replace a file that is no earlier
            mask, an interrupted table has other settings, or there is nothing to overlay.
    """
    how = settings or Settings()
    settled = {**decisive(predictor, how.top), "overlay": how.overlay}
    masks = predictor.spec.task == "segment"
    if how.overlay and not (masks or predictor.explain):
        raise InputError("overlay is for segmentation; a classifier explains itself: explain")
    kinds = slice(0 if masks else 1, 2 if how.overlay or predictor.explain else 1)
    if how.output is not None:
        _require_free(how.output, mask_names(paths), kinds)
    with Output.open(how.output, how.file_format, settled, how.resume) as table:
        rest = [path for path in paths if str(path) not in table.done]
        names = mask_names(rest, table.done.values())
        results = predictor.stream(rest, how.batch_size, errors="return")
        for path, result in zip(rest, results, strict=True):
            record = describe(path, result, how.top)
            if how.output is not None and isinstance(result, (Segmentation, Classification)):
                files = _files(how.output / names[path], kinds)
                _write_pictures(result, path, files)
                if files:
                    record["mask" if masks else "explanation"] = str(files[0])
            if "error" not in record:
                table.write(record)
            if observe is not None:
                observe(path, result)
            yield record


def decisive(predictor: Predictor, top: int) -> dict[str, Any]:
    """What the rows depend on, plain JSON types: a table is only continued with the same."""
    names = ("unknown_below", "unknown_above", "flip", "explain")
    settings = {"model": predictor.digest, "top": top}
    settings |= {name: getattr(predictor, name) for name in names}
    return settings | ({"tiles": predictor.tiling.scale} if predictor.tiling is not None else {})


def describe(path: str | Path, result: Result, top: int) -> dict[str, Any]:
    """The record of one image, a file or what else it is called: plain JSON types."""
    record: dict[str, Any] = {"image": str(path)}
    if isinstance(result, InputError):
        record["error"] = " ".join(str(result).split())
    elif isinstance(result, Segmentation):
        record["shares"] = {k: round(v, 6) for k, v in result.shares().items()}
    else:
        if isinstance(result, MultiLabel):
            most = dict(result.top(len(result.classes)))
            record["labels"] = [_answer(name, most[name]) for name in result.labels]
        else:
            if result.unknown_below is not None or result.unknown_above is not None:
                record["label"] = result.label
                record["confidence"] = round(result.confidence, 6)
            if result.unknown_score is not None:
                record["unknown_score"] = round(result.unknown_score, 4)
        record["top"] = [_answer(*answer) for answer in result.top(top)]
    return record


def _answer(name: str, probability: float) -> dict[str, Any]:
    return {"label": name, "probability": round(probability, 6)}


def mask_names(paths: Sequence[Path], others: Iterable[str] = ()) -> dict[Path, str]:
    """A file name for each mask: the image's stem, with its suffix or a number if taken.

    Args:
        paths: the images.
        others: masks that exist and stay.
    """
    taken = {name for other in others if other for name in _stems(Path(other).stem)}
    numbers: dict[str, int] = {}
    names = {}
    for path in paths:
        stem = name = shortened(path.stem)
        while not taken.isdisjoint(_stems(name)):
            # a.jpg beside a.png first becomes a_jpg, then a_2, a_3 ...
            number = numbers[stem] = numbers.get(stem, 0) + 1
            first = f"{stem}{path.suffix}".replace(".", "_")
            name = first if number == 1 else f"{stem}_{number}"
        taken.update(_stems(name))
        names[path] = f"{name}.png"
    return names


def _stems(mask: str) -> tuple[str, str]:
    """Of a mask and of its overlay."""
    return mask, f"{mask}{OVERLAY}"


def shortened(stem: str) -> str:
    """So short that a number, ``_overlay`` and the ending of a temporary file can follow."""
    encoded = os.fsencode(stem)
    return stem if len(encoded) <= 200 else encoded[:200].decode("utf-8", "ignore")


def _require_free(output: Path, names: Mapping[Path, str], kinds: slice) -> None:
    """Refuse to replace images that are read, and what is there from anyone but an earlier call."""
    with writing(output):
        ours = any((output / name).exists() for name in TABLES)
        inputs = {path.resolve() for path in names}
        for target in (file for name in names.values() for file in _files(output / name, kinds)):
            if target.resolve() in inputs or (target.exists() and not ours):
                raise InputError(f"{target}: a mask would replace it; choose another --output")


def _files(mask: Path, kinds: slice) -> list[Path]:
    """The mask, its overlay, or both."""
    return [mask.with_name(f"{stem}.png") for stem in _stems(mask.stem)[kinds]]


def _write_pictures(
    result: Segmentation | Classification, source: Path, files: Sequence[Path]
) -> None:
    for path in files:
        if isinstance(result, Segmentation) and path == files[0]:
            picture = result.mask_image()
        else:
            picture = result.overlay(source)
        with replacing(path) as temporary:
            picture.save(temporary)
