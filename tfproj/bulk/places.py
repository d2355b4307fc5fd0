"""Files by path or by URL: the local disk as it is, object stores through fsspec."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from tfproj.core import image
from tfproj.core.files import write_bytes, writing
from tfproj.errors import InputError, TfprojError, first_line, missing_extra


class Fetched:
    """An image that was read, or the reason why it could not be, open for a decoding thread."""

    def __init__(self, url: str, content: Any):
        self._url, self._content = url, content

    def read(self) -> bytes:
        """All of it.

        Raises:
            InputError: it could not be read.
        """
        if isinstance(self._content, FileNotFoundError):
            raise InputError(f"{self._url}: no such file")
        if isinstance(self._content, BaseException):
            raise InputError(f"{self._url}: cannot be read ({first_line(self._content)})")
        return bytes(self._content)


def is_remote(url: str) -> bool:
    """Whether fsspec is needed."""
    return "://" in url


def plain(url: str) -> str:
    """A ``file://`` URL as the path that it means; anything else as it is."""
    return url2pathname(url.removeprefix("file://")) if url.startswith("file://") else url


def read(url: str) -> bytes:
    """A whole file; FileNotFoundError where there is none."""
    if not is_remote(url):
        return Path(url).read_bytes()
    files, path = _remote(url)
    with _failing(url):
        return bytes(files.cat_file(path))


def fetch(urls: Sequence[str]) -> list[Fetched]:
    """Remote files, all asked for at once."""

    def fetched(url: str) -> Fetched:
        try:
            files, path = _remote(url)
            return Fetched(url, files.cat_file(path))
        except Exception as error:  # each store has its own types
            return Fetched(url, error)

    with ThreadPoolExecutor(len(urls)) as pool:
        return list(pool.map(fetched, urls))


def write(url: str, data: bytes) -> None:
    """A file that is whole or not there; an object store keeps that promise itself."""
    if not is_remote(url):
        with writing(url):
            Path(url).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(url, data)
        return
    files, path = _remote(url)
    with _failing(url):
        files.pipe_file(path, data)


def remove(url: str) -> None:
    """A file that may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        if is_remote(url):
            files, path = _remote(url)
            files.rm_file(path)
        else:
            Path(url).unlink()


def names(url: str) -> list[str]:
    """Names in a folder, sorted, without hidden ones; none where there is no folder."""
    try:
        if is_remote(url):
            files, path = _remote(url)
            files.invalidate_cache()  # others write there
            found = [entry.rsplit("/", 1)[-1] for entry in files.ls(path, detail=False)]
        else:
            found = [entry.name for entry in Path(url).iterdir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in found if not name.startswith("."))


def search(url: str, output: str) -> Iterator[str]:
    """Images of a remote folder or pattern, or the one file, without what lies in ``output``.

    Raises:
        InputError: nothing is there.
    """
    files, path = _remote(url)
    with _failing(url):
        # Of a file, it finds the file.
        found = sorted(files.glob(path) if glob.has_magic(path) else files.find(path))
    # In the store's own spelling: a URL has several.
    own = f"{files._strip_protocol(output)}/" if is_remote(output) else None
    inside = [name for name in found if name.lower().endswith(image.SUFFIXES)]
    inside = [name for name in inside if own is None or not name.startswith(own)]
    if not inside:
        raise InputError(f"{url}: no images there")
    yield from map(files.unstrip_protocol, inside)


def require(urls: Iterable[str]) -> None:
    """InputError where a package is missing that a store needs, which is no fault of an image's."""
    links = {link for url in urls if is_remote(url) for link in url.split("::")}
    for scheme in {link.partition("://")[0] for link in links if is_remote(link)}:
        try:
            _fsspec().get_filesystem_class(scheme)
        except ImportError as error:
            raise InputError(f"{scheme}://: {first_line(error)}") from None
        except ValueError:  # there is no such store, which its images say
            continue


def _fsspec() -> Any:
    try:
        import fsspec  # noqa: PLC0415 (an extra, and local files need none)
    except ImportError:
        raise missing_extra("fsspec", "bulk") from None
    return fsspec


def _remote(url: str) -> tuple[Any, str]:
    """fsspec's file system and its path."""
    try:
        files, path = _fsspec().core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise InputError(f"{url}: {first_line(error)}") from None
    return files, path


@contextlib.contextmanager
def _failing(url: str) -> Iterator[None]:
    """What a store raises, and each has its own types, as one line."""
    try:
        yield
    except (FileNotFoundError, TfprojError):
        raise
    except Exception as error:
        raise TfprojError(f"{url}: {first_line(error)}") from None
