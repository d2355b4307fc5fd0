"""Annotation files, which may come from anywhere: read within bounds, and the files they name."""

from __future__ import annotations

import functools
import json
import os
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from tfproj.core import bounds
from tfproj.core.words import nfc
from tfproj.data.dataset import SPLITS
from tfproj.data.findings import Findings
from tfproj.data.sources.tables import SPLIT_FOLDERS, read_text
from tfproj.errors import InputError

SPLIT_OF = {word: split for split, words in SPLIT_FOLDERS.items() for word in words}
LONGEST = 255  # bytes of the name of a file or folder; file systems take no more
KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; InputError says where it is damaged."""
    text = read_text(path)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno:,}, column {error.colno:,}"
        raise InputError(f"{path}: no valid JSON ({error.msg}, {place})") from None
    except RecursionError:
        raise InputError(f"{path}: JSON that is nested too deeply") from None
    except ValueError:  # a number of more digits than Python takes
        raise InputError(f"{path}: no valid JSON (a number of too many digits)") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: no JSON object")
    return value


def field(record: Any, key: str, kind: type, place: str) -> Any:
    """``record[key]``; InputError at ``place`` where there is none of that type."""
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "missing" if value is None else repr(value)[:40]
        raise InputError(f"{place}: {key!r} is {found}; it must be {KINDS[kind]}")
    return value


def class_name(record: Any, key: str, place: str) -> str:
    """A name that is not empty, in one spelling of Unicode."""
    name = nfc(field(record, key, str, place)).strip()
    if not name:
        raise InputError(f"{place}: {key!r} is empty; give the class a name")
    return name


def size_of(record: Any, keys: tuple[str, str], place: str) -> tuple[int, int]:
    """(height, width) of an image, as large as an image may be."""
    height, width = (field(record, key, int, place) for key in keys)
    if min(height, width) < 1:
        raise InputError(f"{place}: an image of {width} x {height} px")
    bounds.require_pixels(width, height, place)
    return height, width


def within(root: Path, base: Path, text: str, place: str) -> Path:
    """The file that an annotation below ``root`` names, relative to ``base``; it need not exist.

    Raises:
        InputError: the path is absolute, leads out of ``root``, of which nothing is read, or has a
            name that no file can have.
    """
    plain = text.replace("\\", "/")
    start = base.relative_to(root).as_posix()
    path = posixpath.normpath(posixpath.join(start, plain))
    if not plain or "\0" in plain or re.match("/|[A-Za-z]:", plain) or path.split("/")[0] == "..":
        raise InputError(f"{place}: {text[:200]!r} is no path inside {root}; make it relative")
    if max(len(part.encode(errors="replace")) for part in path.split("/")) > LONGEST:
        raise InputError(f"{place}: {text[:50]!r}... is too long for the name of a file")
    return root / path


def located(path: Path, place: str | Path, findings: Findings) -> Path | None:
    """The file that an annotation names; None, and a finding, where there is none."""
    file = existing(path)
    if file is None:
        findings.error(path, "unpaired", f"no such file, though {place} names it")
    return file


def existing(path: Path) -> Path | None:
    """The file, or the one beside it whose name is spelled otherwise in Unicode; None for none."""
    if path.is_file():
        return path
    if path.name.isascii() or not path.parent.is_dir():
        return None
    return _by_spelling(path.parent, path.parent.stat().st_mtime_ns).get(nfc(path.name))


@functools.lru_cache(8)
def _by_spelling(folder: Path, changed: int) -> dict[str, Path]:
    """What lies in a folder, last ``changed`` then, by its name in one spelling."""
    return {nfc(path.name): path for path in folder.iterdir()}


def base_of(root: Path, home: Path, names: Iterable[str], split: str, place: str) -> Path:
    """The folder that the paths of an annotation file are relative to.

    Args:
        root: of the data set, in whose folders it is looked for, two levels deep.
        home: where the annotation file lies.
        names: some of the paths; the first that exists decides.
        split: what it is for; of several folders that fit, one that tells it is taken.

    Raises:
        InputError: several fit, or a path leads out of ``root``.
    """
    below = [*_folders_in(root), *(path for top in _folders_in(root) for path in _folders_in(top))]
    for name in names:
        if existing(within(root, home, name, place)):
            return home
        inside = ".." not in PurePosixPath(name.replace("\\", "/")).parts
        others = (root, *below) if inside else ()
        fit = [folder for folder in others if existing(within(root, folder, name, place))]
        fit = [folder for folder in fit if split_in(folder.name) == split] or fit
        if len(fit) > 1:
            listed = " and ".join(str(path.relative_to(root)) for path in fit[:2])
            raise InputError(
                f"{place}: {name!r} lies in {listed}; which is meant? Remove the other"
            )
        if fit:
            return fit[0]
    return home


def _folders_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))


def split_in(text: str) -> str | None:
    """The split that a name tells, as ``instances_val2017`` does; None where it tells none."""
    told = {SPLIT_OF[word] for word in re.findall("[a-z]+", text.lower()) if word in SPLIT_OF}
    return told.pop() if len(told) == 1 else None


def by_split(files: Iterable[Path], what: str) -> dict[str, Path]:
    """Files by the split that their names or folders tell; one that tells none is for training.

    Raises:
        InputError: two are for one split, or none is for training.
    """
    found: dict[str, Path] = {}
    for path in files:
        split = split_in(path.stem) or SPLIT_OF.get(path.parent.name, "train")
        if split in found:
            raise InputError(f"{path}: {what} for {split!r}, as is {found[split].name}; keep one")
        found[split] = path
    found = {split: found[split] for split in SPLITS if split in found}
    if found and "train" not in found:
        raise InputError(f"{next(iter(found.values()))}: there is no {what} for 'train'")
    return found
