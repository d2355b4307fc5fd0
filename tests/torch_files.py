"""Files in PyTorch's old format, written without PyTorch."""

import io
import pickle
import struct
import sys
import types
from collections import OrderedDict
from unittest import mock

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


def torch_file(arrays, **attributes):
    """The bytes of a state dict; ``attributes`` are set on it, as PyTorch does with `_metadata`."""
    modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}
    storages = {}
    with mock.patch.dict(sys.modules, modules):
        rebuild = _named(modules["torch._utils"], "_rebuild_tensor_v2")
        state = OrderedDict()
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            kind = {"f4": "Float", "f2": "Half", "f8": "Double", "i8": "Long"}[array.dtype.str[1:]]
            kind = _named(modules["torch"], f"{kind}Storage")
            key = str(len(storages))
            storages[key] = array
            state[name] = _Tensor(rebuild, _Storage(kind, key, array.size), array)
        for name, value in attributes.items():
            setattr(state, name, value)
        parts = [MAGIC, VERSION, {"little_endian": True}, state, list(storages)]
        data = b"".join(map(_dumps, parts))
    return data + b"".join(struct.pack("<q", a.size) + a.tobytes() for a in storages.values())


def with_state(state, rest=b""):
    """The bytes of a file whose state dict is this pickle."""
    return b"".join(map(_dumps, [MAGIC, VERSION, {}])) + state + rest


def _named(module, name):
    """A stand-in for what a pickle calls ``module.name``."""
    if hasattr(module, name):
        return getattr(module, name)
    made = type(name, (), {"__module__": module.__name__, "__new__": lambda *a: None})
    setattr(module, name, made)
    return made


class _Storage:
    def __init__(self, *facts):
        self.facts = facts


class _Tensor:
    def __init__(self, rebuild, storage, array):
        steps = tuple(step // array.itemsize for step in array.strides)
        self.call = (rebuild, (storage, 0, array.shape, steps, False, OrderedDict()))

    def __reduce__(self):
        return self.call


class _Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, _Storage):
            kind, key, count = thing.facts
            return ("storage", kind, key, "cpu", count, None)
        return None


def _dumps(value):
    file = io.BytesIO()
    _Pickler(file, 2).dump(value)
    return file.getvalue()
