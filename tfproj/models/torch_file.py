"""PyTorch's state dicts in the format of before 1.6, read without PyTorch.

Such a file is five pickles in a row (a magic number, the format's version, facts on the system, the
state dict, the keys of its storages), then for each key an int64 count and so many raw numbers,
little-endian. A pickle is a program, and Python's unpickler runs it, so this reader has a machine
of its own. It knows the few steps that a state dict needs, calls nothing, and refuses the rest.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfproj.errors import InputError

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
STORAGES = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
}
ORDERED_DICT = "collections OrderedDict"
TENSOR = "torch._utils _rebuild_tensor_v2"
MAX_BYTES = 2**28  # of a file, and of all its arrays
MAX_STEPS = 2**17  # of a pickle; 40 are a tensor's


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


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, in its order.

    Raises:
        InputError: missing, truncated, too large, of another format, or its pickle does what no
            state dict needs.
    """
    path = Path(path)
    try:
        data = _read(path)
        if data[:2] == b"PK":
            raise InputError(
                f"{path}: PyTorch's newer zip format, which is not read; write the file with "
                "torch.save(..., _use_new_zipfile_serialization=False)"
            )
        return _parse(io.BytesIO(data))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        words = " ".join(str(error).split())[:120] or type(error).__name__
        reason = "".join(c if c.isprintable() else "?" for c in words)
        raise InputError(f"{path}: not weights in PyTorch's old format ({reason})") from None


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a pipe would keep us waiting
        raise InputError(f"{path}: not a file")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MB")
    return data


def _parse(file: io.BytesIO) -> dict[str, np.ndarray]:
    magic, version, _, tensors, keys = (_load(file) for _ in range(5))
    if magic != MAGIC or version != VERSION:
        raise ValueError("other magic number or version")
    if not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise ValueError("it holds other things than tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    values = {_text(key): _numbers(file, storages[_text(key)]) for key in keys}
    return _arrays(tensors, values)


def _numbers(file: io.BytesIO, storage: _Storage) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    body = file.read(storage.count * storage.dtype.itemsize)
    if count != storage.count or len(body) != count * storage.dtype.itemsize:
        raise ValueError("truncated")
    return np.frombuffer(body, storage.dtype)


def _arrays(tensors: dict[str, _Tensor], values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors, whose elements may lie in any order within their storage."""
    room, arrays = MAX_BYTES, {}
    for name, (stored, offset, shape, strides, *_) in tensors.items():
        storage = values[stored.key]
        if any(type(number) is not int or number < 0 for number in (offset, *shape, *strides)):
            raise ValueError("a tensor without a shape")
        reach = sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
        if offset + reach >= len(storage):
            raise ValueError("a tensor beyond its storage")
        room -= math.prod(shape) * storage.itemsize  # steps of 0 make much of little
        if room < 0:
            raise ValueError(f"arrays of more than {MAX_BYTES >> 20} MB")
        steps = [step * storage.itemsize for step in strides]
        view = np.lib.stride_tricks.as_strided(storage[offset:], shape, steps)
        arrays[name] = view.copy()
    return arrays


def _load(file: io.BytesIO) -> Any:
    """The value of one pickle."""
    stack: list = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        name = opcode.name
        if step == MAX_STEPS:
            raise ValueError(f"a pickle of more than {MAX_STEPS} steps")
        if name == "STOP":
            return stack.pop()
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"):
            stack.append(argument)
        elif name == "GLOBAL":
            stack.append(_known(argument))
        elif name in MAKERS:
            marked, count, maker = MAKERS[name]
            start = (marks.pop() if marked else len(stack)) - count
            if start < 0:
                raise ValueError("damaged pickle")
            stack[start:] = [maker(*stack[start:])]
        elif name != "PROTO":
            raise ValueError(f"it holds a step {name}, which no state dict needs")
    raise ValueError("truncated")


def _known(name: str) -> str:
    """A name that a pickle calls; the machine has it as text."""
    if name not in (ORDERED_DICT, TENSOR, *STORAGES):
        raise ValueError(f"it calls {name.replace(' ', '.')}, which no state dict needs")
    return name


def _text(value: Any) -> str:
    # Not even hashed is what is no text: tuples within tuples would overflow the stack.
    if not isinstance(value, str):
        raise ValueError("a name that is no text")
    return value


def _tuple(*items: Any) -> tuple:
    return items


def _append(target: list, *items: Any) -> list:
    target.extend(items)
    return target


def _set(target: dict, *items: Any) -> dict:
    target.update(zip(map(_text, items[::2]), items[1::2], strict=True))
    return target


def _storage(pid: tuple) -> _Storage:
    _, kind, key, _, count, *_ = pid
    if type(count) is not int or count < 0:
        raise ValueError("a storage without a size")
    return _Storage(_text(key), STORAGES[_text(kind)], count)


def _call(function: str, arguments: tuple) -> Any:
    if function == TENSOR and isinstance(arguments[0], _Storage):
        return _Tensor(*arguments)
    if function == ORDERED_DICT and not arguments:
        return {}
    raise ValueError("damaged pickle")


# Step -> (whether it takes all down to the last mark, how many values more, what it makes of them).
MAKERS: dict[str, tuple[bool, int, Callable[..., Any]]] = {
    "NONE": (False, 0, lambda: None),
    "NEWTRUE": (False, 0, lambda: True),
    "NEWFALSE": (False, 0, lambda: False),
    "EMPTY_TUPLE": (False, 0, tuple),
    "EMPTY_LIST": (False, 0, list),
    "EMPTY_DICT": (False, 0, dict),
    "TUPLE1": (False, 1, _tuple),
    "TUPLE2": (False, 2, _tuple),
    "TUPLE3": (False, 3, _tuple),
    "TUPLE": (True, 0, _tuple),
    "APPEND": (False, 2, _append),
    "APPENDS": (True, 1, _append),
    "SETITEM": (False, 3, _set),
    "SETITEMS": (True, 1, _set),
    "BINPERSID": (False, 1, _storage),
    "REDUCE": (False, 2, _call),
    "BUILD": (False, 2, lambda target, attributes: target),  # versions of modules
}
