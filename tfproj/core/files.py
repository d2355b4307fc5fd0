"""Files: reading them with one clear line for what is wrong, writes that are whole or not there."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfproj.core import leftovers
from tfproj.errors import InputError, NotWritable, NotWritten, first_line


def expand_home(path: str) -> str:
    """The path with ``~`` in front as the home directory; ``~name`` is a name like any other."""
    return os.path.expanduser(path) if path == "~" or path[:2] in ("~/", "~\\") else path


def exists(test: Callable[[Path], bool], path: Path) -> bool:
    """Path's own tests raise for a name that is too long for the file system."""
    try:
        return test(path)
    except OSError:
        return False


def read_json(path: Path) -> Any:
    """Parsed JSON; InputError where the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError:
        raise InputError(f"{path}: damaged, not valid JSON") from None


def read_object(path: Path) -> dict[str, Any]:
    """A parsed JSON object; InputError where the file is missing or holds anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged, not a JSON object")
    return value


def sha256(path: Path) -> str:
    """Of the content of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# What says that a place is no place to write, rather than that writing failed.
UNWRITABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT,
}  # fmt: skip


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn a failure to write into one line that names ``path``.

    Raises:
        NotWritable: one may not write there.
        NotWritten: no space left, or another fault of the disk.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or first_line(error)
        if error.errno in UNWRITABLE:
            raise NotWritable(f"{path}: cannot be written ({reason})") from None
        raise NotWritten(f"{path}: writing failed ({reason})") from None


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    The temporary name keeps the suffix, since writers such as Keras go by it. Whatever goes
    wrong, ``path`` is either the old file or the whole new one.
    """
    path = Path(path)
    with writing(path):
        leftovers.sweep(path.parent)
        handle, name = tempfile.mkstemp(path.suffix, leftovers.prefix(), path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files
            _take_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_directory(path: str | Path) -> Iterator[Path]:
    """Like :func:`replacing` for a directory that belongs to the run as a whole.

    The old one is removed only when the new one is complete.
    """
    path = Path(path)
    with writing(path):
        leftovers.sweep(path.parent)
        temporary = Path(tempfile.mkdtemp("", leftovers.prefix(), path.parent))
        try:
            yield temporary
            os.chmod(temporary, 0o777 & ~_umask())
            _take_place(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _take_place(temporary: Path, path: Path) -> None:
    """Rename, also where nothing is renamed over what is there: a directory, or a file system."""
    try:
        os.replace(temporary, path)
    except OSError as error:
        directories = temporary.is_dir() and path.exists()
        if not (directories or (error.errno == errno.EEXIST and path.is_file())):
            raise
        old = temporary.with_name(f"{temporary.name}{leftovers.WAS}{path.name}")
        path.rename(old)
        try:
            temporary.rename(path)
        except OSError:
            old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink()


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all or none, and the first takes its place last."""
    with contextlib.ExitStack() as stack:
        for path, data in files.items():
            stack.enter_context(replacing(path)).write_bytes(data)


def write_text(path: str | Path, text: str, errors: str = "strict") -> None:
    """Write UTF-8 text atomically, with LF on every system; ``errors`` as in ``str.encode``."""
    write_bytes(path, text.encode("utf-8", errors))


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, indented for a reader."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_csv(path: str | Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of equal keys atomically; floats keep every digit (``repr``)."""
    lines = [rows[0], *([row[name] for name in rows[0]] for row in rows)] if rows else []
    # Names of files may hold bytes that are no UTF-8; they are written as they are.
    write_text(path, "".join(map(csv_line, lines)), errors="surrogateescape")


def csv_line(values: Iterable[Any]) -> str:
    """One line of a CSV file, with LF at its end."""
    buffer = io.StringIO()
    # Its own end is CRLF: of another one it leaves a lone CR in a value unquoted.
    csv.writer(buffer).writerow(values)
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def cut_last_line(path: Path) -> None:
    """Drop what an interruption left of a line at the end."""
    with path.open("rb+") as file:
        end = position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            found = file.read(position - start).rfind(b"\n")
            if found >= 0:
                position = start + found + 1
                break
            position = start
        if position < end:
            file.truncate(position)
