"""Model files and images that did not come from us: what is refused, and with which words."""

import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib

import numpy as np
import onnx
import pytest
import tiny_models
from onnx import TensorProto, helper
from PIL import Image, PngImagePlugin
from tiny_models import CLASSIFY, SPECS, pixels, png, proto, serialize, tiny_model

from tfproj import Predictor
from tfproj.core import decoding, image
from tfproj.errors import InputError, TfprojError
from tfproj.inference import model_file
from tfproj.inference.protobuf import FIXED32, FIXED64, MAX_FIELDS, VARINT, Field, Reader


def refused(data, *words):
    """Refused before onnxruntime sees it, in one line with these words."""
    with pytest.raises(InputError) as caught:
        model_file.read_model(data, "model.onnx")
    message = str(caught.value)
    assert message.startswith("model.onnx: ") and "\n" not in message
    for word in words:
        assert word in message, message
    with pytest.raises(InputError):
        Predictor(data)


def changed(change, task="classify", **more):
    """A tiny file whose graph ``change`` has had in hand."""
    model = proto(task)
    change(model)
    return serialize(model, {**SPECS[task].to_dict(), **more})


@pytest.mark.parametrize("task", SPECS)
def test_good_files_are_accepted_as_bytes_and_as_files(task, tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(tiny_model(task, extra=1))
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes())):
        predictor = Predictor(source)
        assert predictor.spec == SPECS[task] and predictor.metadata["extra"] == 1


def test_external_data(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(1024))
    for key, value in (("location", str(tmp_path / "secret")), ("location", "/etc/passwd")):

        def change(model, key=key, value=value):
            weight = model.graph.initializer[1]
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            weight.external_data.add(key=key, value=value)

        refused(changed(change), "external data", "'kernel'")


def test_external_data_in_a_constant():
    def change(model):
        value = TensorProto(data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
        model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=value))

    refused(changed(change), "external data")


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "evil", "ai.onnx.training"])
def test_operators_of_other_domains(domain):
    def change(model):
        model.graph.node[0].domain = domain
        model.opset_import.append(helper.make_opsetid(domain, 1))

    refused(changed(change), f"to the domain '{domain}'")


def test_a_domain_that_is_only_imported_does_no_harm():
    def change(model):
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))

    assert Predictor(changed(change)).spec == CLASSIFY


@pytest.mark.parametrize("name", ["Loop", "If", "Scan", "RandomNormal", "ConstantOfShape", "Tile",
                                  "StringNormalizer", "NoSuchThing"])  # fmt: skip
def test_operators_that_are_never_written(name):
    def change(model):
        model.graph.node[0].op_type = name

    refused(changed(change), f"'{name}' is not one that tfproj writes")


def test_graphs_inside_operators():
    def change(model):
        model.graph.node[0].attribute.append(helper.make_attribute("body", model.graph))

    refused(changed(change), "'Cast' holds a graph of its own")


def test_local_functions_and_training_graphs():
    def function(model):
        node = helper.make_node("Relu", ["a"], ["b"])
        model.functions.append(
            helper.make_function("x", "f", ["a"], ["b"], [node], model.opset_import)
        )

    refused(changed(function), "local functions")
    refused(changed(lambda model: model.training_info.add()), "training graphs")


def test_sparse_weights_and_unknown_fields():
    refused(changed(lambda m: m.graph.sparse_initializer.add()), "sparse weights")
    refused(changed(lambda m: m.graph.quantization_annotation.add()), "unexpected content")
    refused(changed(lambda m: m.graph.node[0].MergeFromString(b"\xf8\x07\x01")), "field 127")
    refused(tiny_model() + tiny_model(), "too many")  # protobuf would merge the two


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strides", [0, 0]), ("strides", [10**6, 1]), ("pads", [-1, 0, 0, 0]), ("group", 0),
        ("pads", [2**40] * 4), ("kernel_shape", [5000, 5000]), ("dilations", [0, 0]),
        ("blocksize", 0), ("output_padding", [-1, 0]), ("output_shape", [10**9, 10**9]),
    ],
)  # fmt: skip
def test_windows_of_absurd_size(name, value):
    def change(model):
        model.graph.node[3].attribute.append(helper.make_attribute(name, value))

    refused(changed(change), f"'Conv' has {name}")


@pytest.mark.parametrize(
    "dims", [[1 << 62, 4], [-1], [3, 3], [2**32, 2**32], [0], [1] * 9, [4, 1, 3, 4]]
)
def test_weights_that_are_not_as_long_as_they_say(dims):
    def change(model):
        model.graph.initializer[1].dims[:] = dims

    refused(changed(change), "'kernel'")


def test_weights_of_odd_types_and_places():
    def string(model):
        model.graph.initializer[1].data_type = TensorProto.STRING

    def twice(model):
        model.graph.initializer[1].float_data.extend([0.0] * 36)

    def typed(model):
        weight = model.graph.initializer[2]
        weight.ClearField("raw_data")
        weight.float_data.extend([0.0] * 4)

    refused(changed(string), "unexpected type")
    refused(changed(twice), "not as long")
    assert Predictor(changed(typed)).spec == CLASSIFY


def test_inputs_and_outputs():
    graph = {"input": "its input does not fit", "output": "its output"}

    def shape(end, index, value):
        def change(model):
            dims = getattr(model.graph, end)[0].type.tensor_type.shape.dim
            dims[index].dim_value = value

        return changed(change)

    for end, index, value in (("input", 1, 9), ("input", 0, 1), ("input", 3, 3), ("output", 1, 7),
                              ("output", 0, 5), ("output", 1, 10**12)):  # fmt: skip
        refused(shape(end, index, value), graph[end])

    def kind(model):
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT

    def rank(model):
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1)

    def name(model):
        model.graph.output[1].name = "other"

    def more(model):
        model.graph.input.append(helper.make_tensor_value_info("b", 1, [1]))

    def sequence(model):
        element = helper.make_tensor_type_proto(1, [1])
        model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(element))

    refused(changed(kind), graph["input"])
    refused(changed(more), graph["input"])
    refused(changed(rank), graph["output"])
    refused(changed(name), "its outputs are not")
    refused(changed(sequence), "unexpected content in a type")
    refused(changed(lambda m: m.graph.input[0].ClearField("type")), "not a tensor")
    refused(changed(lambda m: m.graph.ClearField("output")), "its outputs are not")
    refused(changed(lambda m: m.ClearField("graph")), "without a graph")


def test_free_height_and_width_only_where_the_record_says_so():
    def change(model):
        for end, axes in ((model.graph.input, (1, 2)), (model.graph.output, (1, 2))):
            for value in end:
                for axis in axes:
                    value.type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"

    refused(changed(change, "segment"), "its input does not fit")
    predictor = Predictor(changed(change, "segment", dynamic_size=True))
    batch = np.zeros((2, 4, 6, 3), np.uint8)
    assert predictor.run(batch)[1].shape == (2, 4, 6, 2)
    refused(tiny_model("segment", dynamic_size=True), "its input does not fit")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "no metadata"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("9" * 5000, "not valid JSON"),
        ("[1]", "not a JSON object"),
        ({}, "schema None"),
        ({"schema": "1\n2"}, "schema"),
        ({**CLASSIFY.to_dict(), "task": "detect"}, "'detect'"),
        ({**CLASSIFY.to_dict(), "classes": ["a"]}, "at least two"),
        ({**CLASSIFY.to_dict(), "classes": [1, 2, 3]}, "strings"),
        ({**CLASSIFY.to_dict(), "classes": ["a", "b", "\x1b[2J"]}, "not a line of text"),
        ({**CLASSIFY.to_dict(), "classes": ["a", "b", "\u202elamina"]}, "not a line of text"),
        ({**CLASSIFY.to_dict(), "classes": ["a", "b", "\ud800"]}, "not a line of text"),
        ({**CLASSIFY.to_dict(), "classes": ["a", "b", "c" * 500]}, "not a line of text"),
        ({**CLASSIFY.to_dict(), "colors": ["red", "blue", "x"]}, "colours"),
        ({**CLASSIFY.to_dict(), "height": "8"}, "'height'"),
        ({**CLASSIFY.to_dict(), "height": 10**9}, "too large"),
        ({**CLASSIFY.to_dict(), "width": -8}, "not usable"),
    ],
)
def test_metadata(record, words):
    refused(serialize(proto(), record), words)


def test_too_many_classes():
    names = [str(i) for i in range(300)]
    record = {**SPECS["segment"].to_dict(), "classes": names, "colors": []}
    refused(serialize(proto("segment"), record), "300 classes; at most 256")


def test_metadata_that_is_there_twice():
    model = onnx.load_from_string(tiny_model())
    model.metadata_props.append(model.metadata_props[0])
    refused(model.SerializeToString(), "'tfproj' occurs twice")


def test_files_that_are_no_onnx_files(tmp_path):
    refused(b"", "empty")
    for data in (b"\xff" * 50, b"not a model at all", png(pixels(0, CLASSIFY)), b"\x00" * 99):
        refused(data)
    for share in (0.1, 0.5, 0.9, 0.999):
        data = tiny_model()
        refused(data[: int(len(data) * share)])
    # Bytes that onnxruntime takes for its own format, yet a well-formed ONNX file.
    refused(b"\x12\x06" + b"..ORTM" + tiny_model(), "not an ONNX file")
    for path, words in (
        (tmp_path, "not a regular file"),
        (tmp_path / "no.onnx", "no such file"),
        ("/dev/zero", "not a regular file"),
        ("a\0b", "not a file name"),
    ):
        with pytest.raises(InputError, match=words):
            Predictor(path)


def test_size_limit(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(tiny_model())
    for source in (path, path.read_bytes()):
        with pytest.raises(InputError, match="larger than 0 MB"):
            Predictor(source, max_bytes=1000)


def test_a_file_of_very_many_fields_is_refused_soon():
    refused(tiny_model() + b"\x42\x00" * (MAX_FIELDS + 1), "too many")


def test_a_graph_of_very_many_operators():
    def change(model):
        model.graph.node.extend([model.graph.node[0]] * (model_file.MAX_NODES + 1))

    refused(changed(change), "operators; at most 10000")


@pytest.mark.parametrize("data", [b"\x80", b"\x08\x80", b"\x08" + b"\xff" * 9 + b"\x7f"])
def test_numbers_that_end_too_early_or_are_too_large(data):
    with pytest.raises(InputError, match="not a protobuf file"):
        Reader().message(memoryview(data), {1: Field("a", (VARINT,))}, "it")


@pytest.mark.parametrize(("wire", "width"), [(FIXED32, 4), (FIXED64, 8)])
def test_numbers_of_fixed_width(wire, width):
    schema, data = {1: Field("a", (wire,))}, bytes([8 | wire, *range(width)])
    assert Reader().message(memoryview(data), schema, "it") == {"a": [bytes(range(width))]}
    with pytest.raises(InputError, match="it ends too early"):
        Reader().message(memoryview(data[:-1]), schema, "it")


def test_packed_numbers_count_as_well():
    assert Reader().integers([memoryview(b"\x01\x02"), 3]) == [1, 2, 3]
    reader = Reader()
    reader.integers([memoryview(bytes(MAX_FIELDS))])
    with pytest.raises(InputError, match="too many numbers"):
        reader.integers([memoryview(b"\x00")])


def test_too_much_memory_is_one_line():
    """In a process of its own, since the limit is one of the process."""
    code = f"""
import sys, numpy as np
sys.path.insert(0, {os.path.dirname(__file__)!r})
import tiny_models, tfproj.inference.session
from tfproj import Predictor
from tfproj.errors import TfprojError
tfproj.inference.session.MAX_MEMORY = 2**26
predictor = Predictor(tiny_models.tiny_model("segment"), threads=1)
predictor.run(np.zeros((8, 8, 12, 3), np.uint8))
try:
    predictor.run(np.zeros((100_000, 8, 12, 3), np.uint8))
except TfprojError as error:
    print(error)
predictor.run(np.zeros((8, 8, 12, 3), np.uint8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "the model needs too much memory for 100000 images at once\n", done
    assert done.returncode == 0 and not done.stderr


def chunk(kind, data):
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_text_bombs_in_png_files():
    bomb = zlib.compress(bytes(200 * 2**20), 9)
    head, rest = png(pixels(0, CLASSIFY))[:33], png(pixels(0, CLASSIFY))[33:]
    for kind, data in ((b"zTXt", b"a\0\0" + bomb), (b"iTXt", b"a\0\1\0\0\0" + bomb),
                       (b"iCCP", b"a\0\0" + bomb)):  # fmt: skip
        tracemalloc.start()
        image.load(head + chunk(kind, data) + rest, None, 1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6


def test_large_text_and_profiles_do_no_harm():
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 500_000)
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels(0, SPECS["segment"]))
    picture.save(buffer, "PNG", pnginfo=text, icc_profile=bytes(300_000))
    np.testing.assert_array_equal(image.load(buffer.getvalue(), None, 3), np.asarray(picture))


@pytest.mark.parametrize("name", ["GIF", "TIFF", "WEBP"])
def test_of_many_frames_only_the_first_is_decoded(name, monkeypatch):
    frames = [Image.new("RGB", (60, 60), (4 * i, 0, 0)) for i in range(60)]
    buffer = io.BytesIO()
    frames[0].save(buffer, name, save_all=True, append_images=frames[1:])
    kind = type(Image.open(buffer))
    sought, seek = [], kind.seek
    monkeypatch.setattr(kind, "seek", lambda self, n: (sought.append(n), seek(self, n))[1])
    assert (image.load(buffer.getvalue(), None, 3) == 0).all()
    assert set(sought) <= {0}


def test_a_damaged_exif_entry_does_not_hide_the_orientation():
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    data = bytearray(exif.tobytes())
    # A second entry: a rational that lies outside the block.
    data[14:16] = b"\x00\x02" if data[6:8] == b"MM" else b"\x02\x00"
    entry = struct.pack(">HHII" if data[6:8] == b"MM" else "<HHII", 0x011A, 5, 1, 99999)
    data[28:28] = entry
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "JPEG", exif=bytes(data))
    assert image.load(buffer.getvalue(), None, 3).shape == (20, 10, 3)


@pytest.mark.parametrize("name", ["ICO", "EPS", "PDF", "PCX", "TGA", "SGI", "ICNS"])
def test_formats_that_are_not_on_the_list(name):
    buffer = io.BytesIO()
    try:
        Image.new("RGB", (32, 32)).save(buffer, name)
    except (KeyError, OSError) as error:
        pytest.skip(f"Pillow cannot write {name}: {error}")
    with pytest.raises(InputError, match="not an image, or not one of PNG"):
        image.load(buffer.getvalue(), None, 3)


def test_pipes_and_devices_are_refused_and_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", "/dev/zero", "a\0.png"):
        with pytest.raises(InputError, match="not a"):
            image.load(path, None, 3)


def test_files_above_the_limit(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(pixels(0, CLASSIFY)))
    monkeypatch.setattr(image, "MAX_FILE_BYTES", 50)
    for source in (tmp_path / "a.png", io.BytesIO(bytes(51))):
        with pytest.raises(InputError, match="larger than"):
            image.load(source, None, 3)
    with pytest.raises(InputError, match="mode 'rb'"):
        image.load(io.StringIO("text"), None, 3)


AUDITED = """
import json, sys
written, sockets, read = [], [], []
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        flags = args[2] or 0
        writes = flags & 0b11 or (isinstance(args[1], str) and set(args[1]) & set("wax+"))
        (written if writes else read).append(str(args[0]))
    elif event.startswith("socket."):
        sockets.append(event)
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link"):
        written.append(str(args[0]))
sys.addaudithook(hook)
from tfproj.cli.main import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, "written": written, "sockets": sockets}), file=sys.stderr)
"""


def audited(args, home):
    # onnxruntime would hold its reports back for these two as well.
    kept = {k: v for k, v in os.environ.items() if k != "CI" and not k.startswith("ORT_")}
    environment = {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home),
                   "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    command = [sys.executable, "-c", AUDITED, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home.parent)
    return done.stdout, json.loads(done.stderr.splitlines()[-1])


def test_no_network_and_nothing_written_but_the_output(tmp_path):
    home, output = tmp_path / "home" / "nobody", tmp_path / "out"
    home.parent.mkdir()
    (tmp_path / "a.onnx").write_bytes(tiny_models.with_golden("segment"))
    (tmp_path / "a.png").write_bytes(png(pixels(0, SPECS["segment"])))
    args = ["predict", tmp_path / "a.onnx", tmp_path / "a.png"]
    out, seen = audited([*args, "--selftest"], home)
    assert seen == {"code": 0, "written": [], "sockets": []} and "wall" in out
    _, seen = audited([*args, "--output", output, "--overlay"], home)
    assert seen["code"] == 0 and seen["sockets"] == []
    assert seen["written"] and all(path.startswith(str(output)) for path in seen["written"])
    assert not home.exists() and not list(home.parent.iterdir())
    names = sorted(path.name for path in output.iterdir())
    assert names == ["a.png", "a_overlay.png", "predictions.csv"]


def test_a_model_cannot_reach_the_network(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("a socket"))
    assert Predictor(tiny_model()).predict(pixels(0, CLASSIFY))


def test_a_failing_inference_is_one_line():
    def change(model):
        # Accepted when loaded, since the number of rows is only known at run time.
        model.graph.initializer[3].raw_data = np.array([7, 64], np.int64).tobytes()

    before = threading.active_count()
    predictor = Predictor(changed(change), threads=1)
    with pytest.raises(TfprojError, match="the model failed") as caught:
        predictor.predict(pixels(0, CLASSIFY))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert threading.active_count() <= before + 1
