"""PyTorch's state dicts in the format of before 1.6, read without PyTorch.

Such a file is five pickles in a row (a magic number, the format's version, facts on the system, the
state dict, the keys of its storages), then for each key an int64 count and so many raw numbers,
little-endian. A pickle can call anything, so this reader knows the few names that a state dict
needs and refuses all others.
"""

from __future__ import annotations

import collections
import io
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfproj.errors import InputError

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}
MAX_BYTES = 2**30


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    count: int


class _Tensor(NamedTuple):
    """What PyTorch calls ``_rebuild_tensor_v2`` with."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool
    hooks: Any


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in STORAGES:
            return name
        raise pickle.UnpicklingError(f"it calls {module}.{name}, which no state dict needs")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, count, *_ = pid
        return _Storage(key, STORAGES[kind], count)


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, in its order.

    Raises:
        InputError: missing, truncated, of another format, or its pickle calls what a state dict
            does not need.
    """
    try:
        data = _read(Path(path))
        if data[:2] == b"PK":
            raise InputError(f"{path}: PyTorch's newer zip format, which is not read")
        return _parse(io.BytesIO(data))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path}: not weights in PyTorch's old format ({reason})") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MB")
    return data


def _parse(file: io.BytesIO) -> dict[str, np.ndarray]:
    magic, version, _, tensors, keys = (_Unpickler(file).load() for _ in range(5))
    if magic != MAGIC or version != VERSION:
        raise ValueError("other magic number or version")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    values = {}
    for key in keys:
        dtype, count = storages[key].dtype, storages[key].count
        head, body = file.read(8), file.read(count * dtype.itemsize)
        if np.frombuffer(head, "<i8") != count or len(body) != count * dtype.itemsize:
            raise ValueError("truncated")
        values[key] = np.frombuffer(body, dtype)
    return {name: _array(tensor, values) for name, tensor in tensors.items()}


def _array(tensor: _Tensor, values: dict[str, np.ndarray]) -> np.ndarray:
    """A tensor, whose elements may lie in any order within its storage."""
    _, offset, shape, strides, *_ = tensor
    storage = values[tensor.storage.key]
    reach = sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides)) < 0 or offset + reach >= len(storage):
        raise ValueError("a tensor beyond its storage")
    steps = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps).copy()
