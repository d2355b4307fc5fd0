"""Damaged files of every kind; run by test_fuzz.py in a process of its own.

    python fuzz_worker.py CASES SEED

Case N is the same in every run. Its outcome is success or one line; anything else is printed with
the case's number, and the exit code is 1. The last number in the output tells which case ended the
process with a signal; a case that takes too long ends it with the stack of all threads.
"""

import copy
import faulthandler
import io
import json
import random
import resource
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import tiny_models
from PIL import Image
from tiny_models import SPECS

import tfproj.inference.session
from tfproj import Predictor
from tfproj.cli.main import main
from tfproj.cli.train import build_config
from tfproj.core import decoding
from tfproj.core.files import read_json
from tfproj.errors import TfprojError
from tfproj.experiment.presets import make_config
from tfproj.inference.model_file import OPERATORS
from tfproj.runs.config import config_from_dict
from tfproj.runs.run import find_run

SECONDS = 20  # for one case on a busy machine; most take some milliseconds
EXTREMES = (0, 1, -1, 2, 7, 255, 65535, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
JSON_VALUES = (None, True, -1, 0, 10**30, 1e308, float("nan"), "", "\ud800", "\x1b[2J\n", [], {},
               [[]], "segment", "classify", [1, 2], ["a", "a"], "9" * 5000)  # fmt: skip


def damage(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Flip, cut, overwrite, repeat or splice bytes, up to four times."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at = rng.randrange(len(data))
        kind = rng.randrange(7)
        if kind <= 1:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 3:
            del data[at : at + rng.choice((1, 4, len(data)))]
        elif kind == 4:
            data[at:at] = data[at : at + rng.randint(1, 64)]
        elif kind == 5:
            start = rng.randrange(len(other))
            data[at : at + rng.randint(0, 32)] = other[start : start + rng.randint(1, 64)]
        else:
            data[at : at + 4] = rng.choice(EXTREMES).to_bytes(8, "little", signed=True)[:4]
    return bytes(data)


def scramble(value, rng: random.Random):
    """A JSON value with one part replaced, removed or added."""
    value = copy.deepcopy(value)
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            del value[key]
        else:
            value[key] = scramble(value[key], rng)
        return value
    if isinstance(value, list) and value and rng.random() < 0.7:
        index = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value * rng.choice((0, 2, 200))
        value[index] = scramble(value[index], rng)
        return value
    return rng.choice(JSON_VALUES)


def scramble_graph(model: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    """A well-formed file with one to three changes of meaning."""
    model = copy.deepcopy(model)
    graph = model.graph
    for _ in range(rng.randint(1, 3)):
        node, weight = rng.choice(graph.node), rng.choice(graph.initializer)
        kind = rng.randrange(8)
        if kind == 0:
            node.op_type = rng.choice(sorted(OPERATORS))
        elif kind == 1 and node.attribute:
            _scramble_attribute(rng.choice(node.attribute), rng)
        elif kind == 2 and node.input:
            names = [name for n in graph.node for name in (*n.input, *n.output)] + ["", "none"]
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        elif kind == 3 and node.input:
            del node.input[rng.randrange(len(node.input)) :]
        elif kind == 4:
            # Another shape with as many elements.
            count = int(np.prod(weight.dims))
            split = rng.choice([d for d in range(1, count + 1) if count % d == 0] or [1])
            weight.dims[:] = rng.choice(([count], [split, count // split], [1, 1, 1, 1, count]))
        elif kind == 5 and weight.raw_data:
            weight.raw_data = damage(weight.raw_data, rng, b"\xff\xff\xff\x7f" * 4)
            weight.dims[:] = [len(weight.raw_data) // (8 if weight.data_type == 7 else 4)]
        elif kind == 6:
            name, values = rng.choice(list(_NEW_ATTRIBUTES.items()))
            node.attribute.append(onnx.helper.make_attribute(name, rng.choice(values)))
        else:
            graph.node.insert(rng.randrange(len(graph.node)), node)
    return model


_NEW_ATTRIBUTES = {
    "group": (0, 2, -1, 4096), "strides": ([0, 0], [1, 4096], [2]), "axis": (-9, 0, 4096),
    "pads": ([4096] * 4, [-1, 0, 0, 0], [1]), "dilations": ([0, 1], [4096, 4096]),
    "kernel_shape": ([0, 0], [4096, 4096], [3]), "auto_pad": ("SAME_UPPER", "NONE"),
    "output_padding": ([4096, 4096], [-5, 1]), "output_shape": ([4096, 4096], [1]),
    "blocksize": (0, -1, 4096), "to": (0, 99, 8), "perm": ([0, 0, 0, 0], [5]), "ceil_mode": (1,),
    "axes": ([9], [-9]), "storage_order": (1,), "transB": (1, -7), "mode": ("linear", "x"),
}  # fmt: skip


def _scramble_attribute(attribute: onnx.AttributeProto, rng: random.Random) -> None:
    if attribute.ints:
        numbers = (*EXTREMES, 3, 16, 1000, 4096)
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(numbers)
    else:
        attribute.i = rng.choice((*EXTREMES, *range(20)))


class Fuzzer:
    """One method for each kind of file."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.protos = {task: tiny_models.proto(task) for task in SPECS}
        self.records = {task: self._record(task) for task in SPECS}
        self.models = {t: tiny_models.serialize(self.protos[t], self.records[t]) for t in SPECS}
        self.images = list(self._images())
        self.predictors = [Predictor(data, threads=1) for data in self.models.values()]
        self.configs = [make_config(task).to_dict() for task in SPECS]
        often = [self.onnx_bytes, self.onnx_graph, self.picture]
        seldom = [self.metadata, self.config, self.run_directory, self.command_line]
        self.kinds = [*often, *seldom, *often]

    @staticmethod
    def _record(task: str) -> dict:
        data = tiny_models.with_golden(task)
        calibration = {"temperature": 1.5, "unknown_threshold": 0.3}
        return {**Predictor(data, threads=1).metadata, "calibration": calibration}

    @staticmethod
    def _images():
        noise = np.random.default_rng(0).integers(0, 256, (20, 14, 4)).astype(np.uint8)
        exif = Image.Exif()
        exif[decoding.ORIENTATION] = 6
        for name in decoding.FORMATS:
            for array in (noise[..., 0], noise[..., :3], noise):
                buffer, picture = io.BytesIO(), Image.fromarray(array)
                if name == "JPEG" and picture.mode == "RGBA":
                    picture = picture.convert("CMYK")
                more = {} if name in ("BMP", "GIF", "PPM") else {"exif": exif}
                picture.save(buffer, name, **more)
                yield buffer.getvalue()
        for mode, name in (("P", "PNG"), ("1", "TIFF"), ("I;16", "PNG"), ("LAB", "TIFF")):
            buffer = io.BytesIO()
            Image.new(mode, (9, 9)).save(buffer, name)
            yield buffer.getvalue()
        frames, buffer = [Image.fromarray(noise[..., i]) for i in range(3)], io.BytesIO()
        frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
        yield buffer.getvalue()
        for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
            buffer = io.BytesIO()
            Image.fromarray(noise[..., :3]).save(buffer, "TIFF", compression=compression)
            yield buffer.getvalue()

    def kind(self, number: int):
        return self.kinds[number % len(self.kinds)]

    def case(self, number: int) -> None:
        self.kind(number)(random.Random(number))

    def onnx_bytes(self, rng: random.Random) -> None:
        task, other = rng.sample(sorted(SPECS), 2)
        self._use(damage(self.models[task], rng, self.models[other]))

    def onnx_graph(self, rng: random.Random) -> None:
        task = rng.choice(sorted(SPECS))
        graph = scramble_graph(self.protos[task], rng)
        self._use(tiny_models.serialize(graph, self.records[task]))

    def metadata(self, rng: random.Random) -> None:
        task = rng.choice(sorted(SPECS))
        text = json.dumps(self.records[task], ensure_ascii=rng.random() < 0.5)
        if rng.random() < 0.5:
            text = json.dumps(scramble(self.records[task], rng))
        elif rng.random() < 0.2:
            text = "[" * 100_000
        else:
            text = damage(text.encode(), rng, text.encode()).decode(errors="replace")
        self._use(tiny_models.serialize(self.protos[task], text))

    def _use(self, data: bytes) -> None:
        predictor = Predictor(data, threads=1)
        spec = predictor.spec
        for result in predictor.predict(tiny_models.png(np.zeros((5, 5, 3), np.uint8))):
            str(result.label if spec.task == "classify" else result.mask_image())
        predictor.selftest()

    def picture(self, rng: random.Random) -> None:
        chosen, other = rng.sample(self.images, 2)
        data = damage(chosen, rng, other)
        for predictor in self.predictors:
            predictor.predict(data)

    def config(self, rng: random.Random) -> None:
        record = rng.choice(self.configs)
        text = json.dumps(scramble(record, rng))
        path = self.folder / rng.choice(("config.json", "config.yaml"))
        data = text.encode() if rng.random() < 0.5 else damage(text.encode(), rng, text.encode())
        path.write_bytes(data)
        if path.suffix == ".yaml":
            build_config(record["task"], None, str(path), {})
        else:
            config_from_dict(read_json(path))

    def run_directory(self, rng: random.Random) -> None:
        task = rng.choice(sorted(SPECS))
        folder = self.folder / "run"
        folder.mkdir(exist_ok=True)
        for name, record in (("config", make_config(task).to_dict()),
                             ("spec", SPECS[task].to_dict())):  # fmt: skip
            text = json.dumps(scramble(record, rng) if rng.random() < 0.4 else record).encode()
            data = damage(text, rng, text) if rng.random() < 0.2 else text
            (folder / f"{name}.json").write_bytes(data)
        found = find_run(str(folder))
        found.config(), found.spec()

    def command_line(self, rng: random.Random) -> None:
        """Through ``tfproj predict``: one line on stderr and a documented exit code."""
        task = rng.choice(sorted(SPECS))
        model, picture = self.folder / "model.onnx", self.folder / "picture.png"
        model.write_bytes(self.models[task] if rng.random() < 0.5 else
                          damage(self.models[task], rng, self.models[task]))  # fmt: skip
        chosen, other = rng.sample(self.images, 2)
        picture.write_bytes(damage(chosen, rng, other))
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
        try:
            code = main(["predict", str(model), str(picture), "--threads", "1"])
            said = sys.stderr.getvalue()
        finally:
            sys.stdout, sys.stderr = before
        lines = [line for line in said.splitlines() if "could not be read" not in line]
        if code not in (0, 1, 2) or len(lines) != (code > 0) or "(unexpected " in said:
            raise AssertionError(f"exit code {code}: {said}")


def run(cases: int, first: int) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder))
        outcomes = {"accepted": Counter(), "refused": Counter()}
        for number in range(first, first + cases):
            print(number, flush=True)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            try:
                fuzzer.case(number)
                outcomes["accepted"][fuzzer.kind(number).__name__] += 1
            except TfprojError as error:
                outcomes["refused"][fuzzer.kind(number).__name__] += 1
                if "\n" in str(error):
                    failed += 1
                    print(f"case {number}: not one line: {error!r:.300}")
            except BaseException:
                failed += 1
                print(f"case {number}:\n{traceback.format_exc()}")
            faulthandler.cancel_dump_traceback_later()
        if cases >= 1000:  # a kind that is always refused, or never, tries nothing
            kinds = {kind.__name__ for kind in fuzzer.kinds}
            outcomes["refused"]["command_line"] += 1  # it looks at its refusals itself
            for outcome, counts in outcomes.items():
                for name in kinds - set(counts):
                    failed += 1
                    print(f"{name}: not one case was {outcome}")
    print(f"{outcomes}, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    # A model or an image that asks for more is to be refused before it gets it.
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    tfproj.inference.session.MAX_MEMORY = 512 * 2**20
    warnings.simplefilter("ignore")
    faulthandler.enable()
    sys.exit(run(int(sys.argv[1]), int(sys.argv[2])))
