"""Weights in PyTorch's old format, and files that only look like it: nothing of them is run."""

import io
import os
import pickle
import pickletools
import struct
import zipfile

import numpy as np
import pytest
from torch_files import torch_file, with_state

from tfproj.errors import InputError
from tfproj.models import torch_file as reader

RNG = np.random.default_rng(0)
ARRAYS = {
    "stem.weight": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "stem.bias": RNG.normal(size=4).astype(np.float16),
    "steps": np.array(7),
    "fc.weight": RNG.normal(size=(2, 5)),
}
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"


def read(folder, data):
    (folder / "a.pth").write_bytes(data)
    return reader.read_state_dict(folder / "a.pth")


def refused(folder, data, *words):
    with pytest.raises(InputError) as caught:
        read(folder, data)
    message = str(caught.value)
    assert message.startswith(str(folder / "a.pth")) and message.isprintable()
    for word in words:
        assert word in message, message


def one_tensor(count, shape, strides, offset=b"K\x00"):
    """The pickle of {"a": a tensor of float32}, each argument as the steps that push it."""
    storage = STORAGE + count + b"NtQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + b"\x89}tR"
    return b"\x80\x02}X\x01\x00\x00\x00a" + call + b"s."


def test_arrays_come_back_in_order_and_kind(tmp_path):
    found = read(tmp_path, torch_file(ARRAYS, _metadata={"": {"version": 1}}))
    assert list(found) == list(ARRAYS)
    for array, expected in zip(found.values(), ARRAYS.values(), strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


def test_elements_lie_as_their_strides_say(tmp_path):
    keys = pickle.dumps(["0"], 2) + struct.pack("<q6f", 6, *range(6))
    state = one_tensor(b"K\x06", b"K\x02K\x02\x86", b"K\x01K\x02\x86", offset=b"K\x01")
    np.testing.assert_array_equal(read(tmp_path, with_state(state, keys))["a"], [[1, 3], [2, 4]])


def test_files_that_are_none(tmp_path):
    whole = torch_file(ARRAYS)
    with pytest.raises(InputError, match="cannot be read .No such file"):
        reader.read_state_dict(tmp_path / "absent.pth")
    with pytest.raises(InputError, match="not a file"):
        reader.read_state_dict(tmp_path)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", b"")
    refused(tmp_path, archive.getvalue(), "newer zip format", "_use_new_zipfile_serialization")
    refused(tmp_path, b"", "not weights in PyTorch's old format")
    refused(tmp_path, whole[:-1], "truncated")
    refused(tmp_path, whole[: len(whole) // 2], "not weights")
    refused(tmp_path, whole[13:], "not weights")
    refused(tmp_path, pickle.dumps(3, 2) + whole[19:], "not weights")


@pytest.mark.parametrize("call", [(os.system, ("touch ran",)), (eval, ("open('ran', 'w')",))])
@pytest.mark.parametrize("protocol", range(5))
def test_a_call_is_refused_and_not_made(tmp_path, monkeypatch, call, protocol):
    monkeypatch.chdir(tmp_path)

    class Evil:
        def __reduce__(self):
            return call

    evil = pickle.dumps({"a": Evil()}, protocol)
    refused(tmp_path, with_state(evil), "which no state dict needs")
    refused(tmp_path, evil, "which no state dict needs")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
    assert list(pickle.loads(evil)) == ["a"]  # it is as evil as it looks
    assert (tmp_path / "ran").exists()


# What Python's own unpickler did with these, even where it knows two harmless names only: it
# changed a class of ours, filled 4 GB, overflowed the stack, built a number of gigabytes.
@pytest.mark.parametrize(
    ("state", "words"),
    [
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x05\x00\x00\x00shapeK\x01s\x86b.", ""),
        (b"\x80\x02Nr\xff\xff\xff\xff.", ""),
        (b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.", "no text"),
        (b"\x80\x02})" + b"\x85" * 140_000 + b"Ns.", "more than 131072 steps"),
        (b"\x80\x02" + b"(" * 140_000 + b"t.", "more than 131072 steps"),
        (b"\x80\x02X\xff\xff\xff\xffabc.", "expected 4294967295 bytes"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", ""),
        (b"\x80\x02}X\x01\x00\x00\x00as.", "damaged pickle"),
        (b"\x80\x02}}X\x01\x00\x00\x00aK\x01s\x86R.", "damaged pickle"),
        (b"\x80\x02cos\nsys\x1b[2Jtem\n.", "it calls os.sys?[2Jtem"),
        (b"\x80\x02}X\x01\x00\x00\x00aK\x01s.", "other things than tensors"),
        (b"\x80\x02}X\x01\x00\x00\x00a" + STORAGE + b"J\xff\xff\xff\xffNtQs.", "without a size"),
    ],
    ids=range(12),
)  # fmt: skip
def test_tricks_of_pickles(tmp_path, state, words):
    refused(tmp_path, with_state(state, pickle.dumps([], 2)), "not weights", words)


@pytest.mark.parametrize(
    ("count", "shape", "strides", "words"),
    [
        (b"K\x01", b"J\x00\x00\x00\x10\x85", b"K\x00\x85", "more than 256 MB"),
        (b"K\x01", b"K\x02\x85", b"K\x01\x85", "beyond its storage"),
        (b"K\x01", b"J\xff\xff\xff\xff\x85", b"K\x01\x85", "without a shape"),
        (b"K\x01", b"K\x01\x85", b"K\x01K\x01\x86", "zip()"),
        (b"K\x01", b"X\x01\x00\x00\x00a", b"K\x01\x85", "without a shape"),
        (b"K\x02", b"K\x02\x85", b"K\x01\x85", "truncated"),
        (b"J\xff\xff\xff\x7f", b"K\x01\x85", b"K\x01\x85", "truncated"),
        (b"\x8a\x09" + b"\xff" * 8 + b"\x7f", b"K\x01\x85", b"K\x01\x85", ""),
    ],
)
def test_tensors_that_are_not_there(tmp_path, count, shape, strides, words):
    keys = pickle.dumps(["0"], 2) + struct.pack("<qf", 1, 1.0)
    data = with_state(one_tensor(count, shape, strides), keys)
    refused(tmp_path, data, "not weights", words)


def test_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MAX_BYTES", 1 << 10)
    refused(tmp_path, torch_file({"a": np.zeros(300, np.float32)}), "larger than 0 MB")


def test_mutated_bytes_give_arrays_or_one_line(tmp_path):
    """Any byte of the pickles changed, taken out or doubled, and steps of all kinds put in."""
    whole = torch_file(ARRAYS)
    end = len(whole) - sum(8 + a.nbytes for a in ARRAYS.values())
    codes = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
    rng, refusals = np.random.default_rng(0), 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(end))
            piece = [bytes(rng.integers(0, 256, 1, np.uint8)), b"", bytes(data[place : place + 9])]
            data[place : place + 1] = [*piece, codes[rng.integers(len(codes))]][rng.integers(4)]
        try:
            arrays = read(tmp_path, data)
        except InputError as error:
            refusals += 1
            assert str(error).isprintable()
        else:
            assert all(type(array) is np.ndarray for array in arrays.values())
    assert 250 < refusals < 500
