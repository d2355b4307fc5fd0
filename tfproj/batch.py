"""Predict many image files: collect them, survive bad ones, write each result as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfproj import image
from tfproj.errors import InputError
from tfproj.predict import Predictor
from tfproj.records import Output
from tfproj.results import Classification, Segmentation
from tfproj.runs import replacing

Result = Classification | Segmentation | InputError


@dataclass(frozen=True)
class Settings:
    """How to predict files.

    Attributes:
        output: directory for ``predictions.csv`` (or ``.jsonl``) and, for segmentation,
            ``NAME.png`` palette masks (and ``NAME_overlay.png``); made where it does not exist.
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


def find_images(arguments: Sequence[str], output: str | Path | None = None) -> list[Path]:
    """Files as given, and the images of directories, searched through in sorted order.

    Each is listed once. Hidden files and folders are left out, and so is what lies in ``output``,
    where earlier masks may be.

    Raises:
        InputError: a path that does not exist, or nothing found.
    """
    paths: dict[Path, None] = {}
    for argument in map(Path, arguments):
        if argument.is_dir():
            inside = _search(argument, Path(output) if output is not None else None)
            if not inside:
                raise InputError(f"{argument}: no images in this directory")
            paths.update(dict.fromkeys(inside))
        elif argument.exists():
            paths[argument] = None
        else:
            raise InputError(f"{argument}: no such file")
    return list(paths)


def _search(folder: Path, output: Path | None) -> list[Path]:
    def hidden(path: Path) -> bool:
        return any(part.startswith(".") for part in path.relative_to(folder).parts)

    found = [p for p in folder.rglob("*") if p.suffix.lower() in image.SUFFIXES and not hidden(p)]
    if output is not None and folder.resolve() in output.resolve().parents:
        found = [p for p in found if output.resolve() not in p.resolve().parents]
    return sorted(p for p in found if not p.is_dir())


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
        InputError: the output can't be written, or there is nothing to resume with these settings.
    """
    how = settings or Settings()
    names = mask_names(paths)
    decisive = {"model": predictor.digest, "top": how.top, "overlay": how.overlay,
                "unknown_below": predictor.unknown_below}  # fmt: skip
    with Output.open(how.output, how.file_format, decisive, how.resume) as table:
        rest = [path for path in paths if str(path) not in table.done]
        results = predictor.stream(rest, how.batch_size, "return")
        for path, result in zip(rest, results, strict=True):
            record = describe(path, result, how.top)
            if isinstance(result, Segmentation) and how.output is not None:
                target = how.output / names[path]
                record["mask"] = str(_write_mask(result, path, target, how.overlay))
            if "error" not in record:
                table.write(record)
            if observe is not None:
                observe(path, result)
            yield record


def describe(path: Path, result: Result, top: int) -> dict[str, Any]:
    """The record of one image: plain JSON types."""
    record: dict[str, Any] = {"image": str(path)}
    if isinstance(result, InputError):
        record["error"] = " ".join(str(result).split())
    elif isinstance(result, Segmentation):
        record["shares"] = {k: round(v, 6) for k, v in result.shares().items()}
    else:
        if result.unknown_below is not None:
            record["label"] = result.label
            record["confidence"] = round(result.confidence, 6)
        record["top"] = [{"label": name, "probability": round(p, 6)} for name, p in result.top(top)]
    return record


def mask_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A file name for each mask: the image's stem, with its suffix or a number if taken."""
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    names = {}
    for path in paths:
        name = path.stem
        while not taken.isdisjoint({name, f"{name}_overlay"}):
            # a.jpg beside a.png first becomes a_jpg, then a_2, a_3 ...
            number = numbers[path.stem] = numbers.get(path.stem, 0) + 1
            name = path.name.replace(".", "_") if number == 1 else f"{path.stem}_{number}"
        taken |= {name, f"{name}_overlay"}
        names[path] = f"{name}.png"
    return names


def _write_mask(result: Segmentation, source: Path, target: Path, overlay: bool) -> Path:
    targets = [target, target.with_name(f"{target.stem}_overlay.png")][: 1 + overlay]
    for path in targets:
        if path.exists() and path.samefile(source):
            raise InputError(f"{path}: would replace its image; choose another --output")
    with replacing(target) as temporary:
        result.mask_image().save(temporary)
    if overlay:
        with replacing(targets[1]) as temporary:
            result.overlay(source).save(temporary)
    return target
