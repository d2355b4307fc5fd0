"""TensorFlow Datasets as a source: ``tfds:NAME``, with a configuration or version if need be.

TFDS is asked for the *encoded* images, so that they go through :mod:`tfproj.core.image` like all
others. They are kept in memory as they are stored (Fashion-MNIST: 30 MB, Oxford pets: 800 MB).
"""

from __future__ import annotations

import contextlib
import re
import socket
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tfproj.data.dataset import DataOptions, Dataset
from tfproj.data.sources.tfds_examples import import_tfds, quiet, read_builder
from tfproj.errors import InputError, first_line, unknown_name

CATALOG = "https://www.tensorflow.org/datasets/catalog"
CONNECT_SECONDS = 10.0


def tfds_dataset(name: str, task: str | None, options: DataOptions) -> Dataset:
    """The data set that TFDS calls ``name``, prepared first where that has not been done.

    Args:
        name: ``mnist``, ``oxford_iiit_pet:4.*.*``, ``cifar10_1/v6``...
        task: ``classify``, ``segment``, or None for ``classify`` where both are possible.
        options: ``data_dir`` is TFDS' data directory, or the folder of one prepared version.

    Raises:
        InputError: unknown name, not prepared and not preparable, or no fitting features.
    """
    with quiet():
        builder = _open(name, options.data_dir)
        if not is_prepared(builder):
            _prepare(builder, f"tfds:{name}")
    return read_builder(builder, task, f"tfds:{name}")


def _open(name: str, data_dir: str | None) -> Any:
    """The builder for ``name``, of another version where only that one is prepared."""
    tfds = import_tfds()
    if data_dir and (Path(data_dir) / "dataset_info.json").is_file():
        return _open_version(name, data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        asked = re.split("[/:]", name)[0]
        raise unknown_name("unknown TFDS data set", asked, known, CATALOG) from None
    # Builders are foreign code, with errors of any type for a wrong version, configuration...
    except Exception as error:
        raise InputError(f"tfds:{name}: {first_line(error)}") from None
    if not is_prepared(builder) and ":" not in name:
        # A version given makes TFDS look for files first, and "*" takes the newest of them.
        with contextlib.suppress(Exception):
            older = tfds.builder(f"{name}:*.*.*", data_dir=data_dir)
            builder = older if is_prepared(older) else builder
    return builder


def _open_version(name: str, folder: str) -> Any:
    try:
        builder = import_tfds().builder_from_directory(folder)
    except Exception as error:
        raise InputError(f"{folder}: not a prepared TFDS set ({first_line(error)})") from None
    if builder.name != re.split("[/:]", name)[0]:
        raise InputError(f"{folder}: holds the TFDS set {builder.name!r}, not {name!r}")
    return builder


def is_prepared(builder: Any) -> bool:
    """Whether the version that the builder stands for lies in its data directory."""
    return Path(builder.data_dir).is_dir()


def _prepare(builder: Any, label: str) -> None:
    """Download and prepare; InputError with one line on why that is not possible."""
    try:
        _check_network(builder)
        builder.download_and_prepare()
    except Exception as error:
        raise InputError(_preparation_failed(builder, label, error)) from None


def _check_network(builder: Any) -> None:
    """Fail at once where the download would: TFDS retries for more than three minutes."""
    downloads = Path(builder.data_dir_root) / "downloads"
    by_hand = getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None)
    # .INFO files stand beside completed downloads, which need no network any more.
    if by_hand or urllib.request.getproxies() or any(downloads.rglob("*.INFO")):
        return
    for url in list(builder.url_infos or ())[:1]:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https"):
            address = (parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme])
            try:
                socket.create_connection(address, CONNECT_SECONDS).close()
            except OSError as error:
                raise OSError(f"no connection to {parts.hostname}: {error}") from None


def _preparation_failed(builder: Any, label: str, error: Exception) -> str:
    manual = getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None)
    if manual and isinstance(error, AssertionError):
        place = Path(builder.data_dir_root) / "downloads" / "manual"
        steps = " ".join(manual.split())[:300]
        return f"{label}: its files must be downloaded by hand into {place}: {steps}"
    return f"{label}: not in {builder.data_dir} and cannot be prepared ({first_line(error)})"
