"""The process that tries damaged inputs of one kind, watched; run by ``hostile.py``.

    python -m tests.soak.inputs KIND FIRST COUNT SECONDS FOLDER FOUND

What is damaged and how is that of ``tests/fuzz_worker.py``. One case in four is guided: what
reached a line of tfproj that none had reached is damaged further.
"""

from __future__ import annotations

import faulthandler
import gzip
import io
import json
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from pathlib import Path

import fuzz_worker
import label_sets
import numpy as np
import onnx
import test_formats
from fuzz_worker import Fuzzer, damage, scramble

import tfproj.inference.session
from tfproj.data import DataOptions, load_dataset
from tfproj.data.check import check
from tfproj.data.sources.fashion_mnist import read_idx
from tfproj.errors import TfprojError
from tfproj.experiment.initial_weights import find_source
from tfproj.pretrained import pretrained_file

from .clients import MODEL
from .frame import Counts, record
from .watch import FAULTS, LIMIT, Guard, Guide, keep

MEMORY = 512 * 2**20  # bytes that it may add to what is resident
ADDRESSES = {"weights": 12 * 2**30, "init": 12 * 2**30}  # bytes; TensorFlow reserves much
WORDS = (b"../../../etc/passwd", b"/etc/passwd", b"\0", b"9" * 5000, b"nan", b"1e999", b"-1", b'"',
         b"\xed\xa0\x80", b"\n", b",", b"\t", b"\xef\xbb\xbf", b"&a [*a, *a]", b"!!python/name:os",
         b"<!DOCTYPE a>", b"[" * 3000, b"{")  # fmt: skip


def scrambled(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """JSON of another meaning."""
    try:
        return json.dumps(scramble(json.loads(data), rng)).encode()
    except (ValueError, RecursionError):
        return damage(data, rng, other)


def worded(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Text with a word, or a line, that is not expected there."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((*WORDS, *data.splitlines())) + data[at + rng.randint(0, 8) :]


class Inputs(Fuzzer):
    """The kinds of the fuzzer, and those that need files beside them."""

    def __init__(self, folder: Path, guide: Guide):
        super().__init__(folder)
        self._guide = guide
        fuzz_worker.damage = lambda data, rng, other: guide.damage(data, rng, other, damage)

    def prepare(self, kind: str) -> None:
        """What only this kind needs."""
        if kind in ("annotations", "masks"):
            self._sets = {**test_formats.SEGMENTATION, **test_formats.CLASSIFICATION}
            self._sets["several"] = lambda root: label_sets.write_cells(
                root, label_sets.write_shapes(root, {"train": 4, "val": 2})
            )
            for name, write in self._sets.items():
                write(self.folder / "sets" / name)
        elif kind == "weights":
            self._prepare_weights()
        elif kind == "init":
            self._prepare_init()
        elif kind == "idx":
            self._idx = [bytes((0, 0, 8, 3, *[0, 0, 0, 4] * 3)) + bytes(64)]
            self._idx += [bytes((0, 0, 8, 1, 0, 0, 0, 9)) + bytes(9)]
            self._idx += [gzip.compress(data, mtime=0) for data in self._idx]

    def annotations(self, rng: random.Random) -> None:
        """Text beside the pictures of a data set, in every format."""
        self._with_damaged(rng, False)

    def masks(self, rng: random.Random) -> None:
        """Pictures and masks of a data set, in every format."""
        self._with_damaged(rng, True)

    def _with_damaged(self, rng: random.Random, pictures: bool) -> None:
        name = rng.choice(sorted(self._sets))
        root = self.folder / "sets" / name
        files = sorted(p for p in root.rglob("*") if p.is_file())
        chosen = [path for path in files if (path.suffix == ".png") == pictures]
        if not chosen:
            chosen = files
        path, other = rng.choice(chosen), rng.choice(files).read_bytes()
        data = path.read_bytes()
        change = rng.choice((damage, {".json": scrambled, ".png": damage}.get(path.suffix, worded)))
        seed = rng.choice(self.images) if pictures and rng.random() < 0.3 else data
        try:
            path.write_bytes(self._guide.damage(seed, rng, other, change))
            self._read(root, name == "several")
        finally:
            path.write_bytes(data)

    def _read(self, root: Path, several: bool) -> None:
        options = DataOptions(multi_label=several)
        for finding in check(str(root), options).findings:
            if "\n" in str(finding):
                raise AssertionError(f"not one line: {finding!r:.300}")
        for split in load_dataset(str(root), None, options).splits.values():
            for index in range(len(split)):
                split.read_image(index)
                if split.read_mask is not None:
                    split.read_mask(index)

    def _prepare_weights(self) -> None:
        from tfproj import backend

        backend.setup()
        import keras

        layers = [keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
        self._model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
        for weight in self._model.weights:
            weight.assign(np.zeros(weight.shape))
        path = self.folder / "whole.keras"
        self._model.save(path)
        with zipfile.ZipFile(path) as archive:
            self._parts = {name: archive.read(name) for name in archive.namelist()}

    def weights(self, rng: random.Random) -> None:
        """A ``.keras`` file, damaged as a whole or in one part."""
        from tfproj.models.checkpoint import load_weights

        name = rng.choice((*self._parts, "model.weights.h5", "model.weights.h5", ""))
        parts, file = dict(self._parts), io.BytesIO()
        if name:
            parts[name] = fuzz_worker.damage(parts[name], rng, parts["model.weights.h5"])
        with zipfile.ZipFile(file, "w", rng.choice((0, 8))) as archive:
            for part, data in parts.items():
                archive.writestr(zipfile.ZipInfo(part), data)
        data = file.getvalue() if name else fuzz_worker.damage(file.getvalue(), rng, b"PK\1\2")
        path = self.folder / "damaged.keras"
        path.write_bytes(data)
        load_weights(self._model, path)

    def _prepare_init(self) -> None:
        from tfproj import backend

        backend.setup()
        from tfproj.models.registry import build_model

        path = pretrained_file(MODEL)
        self._whole, self._source = onnx.load(path), find_source(str(path), "classify")
        self._model = build_model(self._source.spec, self._source.options)

    def init(self, rng: random.Random) -> None:
        """What a training is to start from, an ONNX file of another graph."""
        from tfproj.training.transfer import initialise

        path, whole = self.folder / "init.onnx", self._whole.SerializeToString()
        made = fuzz_worker.damage(whole, rng, whole)
        if rng.random() < 0.7:
            made = fuzz_worker.scramble_graph(self._whole, rng).SerializeToString()
        path.write_bytes(made)
        source = find_source(str(path), "classify")
        options, images = self._source.options, np.zeros((4, 28, 28, 1), np.uint8)
        initialise(self._model, self._source.spec, options, source, images)

    def idx(self, rng: random.Random) -> None:
        """MNIST's format."""
        path = self.folder / "idx"
        path.write_bytes(fuzz_worker.damage(rng.choice(self._idx), rng, self._idx[0]))
        read_idx(path, rng.choice((1, 3)))


def main(kind: str, first: int, count: int, seconds: float, folder: Path, found: Path) -> None:
    """Try cases until so many are tried, or so many seconds over; what came of it is printed."""
    guide, guard = Guide(folder, found), Guard(folder)
    inputs = Inputs(folder, guide)
    inputs.prepare(kind)
    number, end, counts = first, time.monotonic() + seconds, Counts()
    refused, most = 0, _resident() + MEMORY
    while number < first + count and counts.failed < FAULTS and time.monotonic() < end:
        (folder / "number").write_text(str(number))
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        guard.on, guard.seen, said = True, [], ""
        try:
            with guide.watching(number):
                getattr(inputs, kind)(random.Random(number))
        except TfprojError as error:
            refused += 1
            said = f"not one line: {error!r:.200}" if "\n" in str(error) else ""
        except BaseException as error:
            traceback.print_exc()
            place = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error!s:.160} ({place.filename}:{place.lineno})"
        guard.on = False
        faulthandler.cancel_dump_traceback_later()
        said = said or next(iter(guard.seen), "")
        if not said and _resident() > most:
            said, most = "more memory than its limit", _resident() + MEMORY
        notes = [f"case {number}: {said} {keep(folder, found)}"] if said else []
        counts.add(Counts(1, bool(said), notes))
        number += 1
    counts.notes += [f"{refused:,} refused, {guide.reached} lines reached"]
    print(json.dumps(record(counts)))


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    kind, first, count, seconds, *folders = sys.argv[1:]
    limit = ADDRESSES.get(kind, 4 * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    tfproj.inference.session.MAX_MEMORY = 512 * 2**20
    tempfile.tempdir, sys.dont_write_bytecode = folders[0], True
    warnings.simplefilter("ignore")
    main(kind, int(first), int(count), float(seconds), *map(Path, folders))
