"""The predictor on tiny models: inputs, streaming, threads, threshold, self-test, providers."""

import io
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
import tiny_models
from PIL import Image
from tiny_models import SPECS, pixels, png, tiny_model, with_golden

from tfproj import Predictor
from tfproj.errors import InputError, TfprojError
from tfproj.inference import session
from tfproj.pretrained import pretrained_file

pytestmark = pytest.mark.light


@pytest.fixture(params=["classify", "segment"])
def task(request):
    return request.param


@pytest.fixture
def predictor(task):
    return Predictor(tiny_model(task), threads=1)


def bare(data, images):
    """(scores, probabilities) of onnxruntime alone."""
    raw = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return raw.run(["scores", "probabilities"], {"image": images})


def test_every_kind_of_input_gives_the_model_s_own_answer(task, predictor, tmp_path):
    array = pixels(1, predictor.spec)
    (tmp_path / "a.png").write_bytes(png(array))
    scores, probabilities = bare(tiny_model(task), array[None])
    squeezed = array[..., 0] if array.shape[-1] == 1 else array
    with (tmp_path / "a.png").open("rb") as file:
        sources = [
            tmp_path / "a.png", str(tmp_path / "a.png"), png(array), bytearray(png(array)),
            memoryview(png(array)), io.BytesIO(png(array)), file, Image.fromarray(squeezed),
            Image.open(tmp_path / "a.png"), array, squeezed, array[None],
        ]  # fmt: skip
        answers = [predictor.predict(source) for source in sources]
        file.seek(0)
        sources[5].seek(0)
        for (result,) in [*answers, *(list(predictor.stream(source)) for source in sources)]:
            np.testing.assert_allclose(result.probabilities, probabilities[0], atol=1e-6)
            np.testing.assert_allclose(result.scores, scores[0], atol=1e-5)


def test_batch_sizes_and_orders_make_no_difference(predictor):
    batch = pixels(2, predictor.spec, 11)
    expected = predictor.run(batch)[1]
    mixed = [png(a) if i % 3 else a for i, a in enumerate(batch)]
    for source in (batch, list(batch), mixed, iter(mixed), tuple(map(png, batch))):
        for size in (1, 4, 16):
            items = list(source) if not isinstance(source, np.ndarray) else source
            results = predictor.predict(items, batch_size=size)
            actual = np.stack([r.probabilities for r in results])
            np.testing.assert_allclose(actual, expected, atol=1e-6)
            source = items
    assert predictor.predict([]) == [] and predictor.predict(batch[:0]) == []


@pytest.mark.parametrize("scale", [1, 2])
def test_an_iterator_may_change_and_close_what_it_gave(predictor, tmp_path, scale):
    """A camera fills one buffer again and again; files are open for their turn only."""
    frames = pixels(3, predictor.spec, 20)
    frames = frames.repeat(scale, 1).repeat(scale, 2)
    expected = [result.probabilities for result in predictor.predict(list(frames))]
    paths = [tmp_path / f"{i}.png" for i in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        path.write_bytes(png(frame))

    def one_buffer():
        buffer = np.empty_like(frames[0])
        for frame in frames:
            buffer[:] = frame
            yield buffer

    def one_bytearray():
        buffer = bytearray()
        for path in paths:
            buffer[:] = path.read_bytes()
            yield buffer
            buffer[:] = b""

    def opened(open_one):
        for path in paths:
            with open_one(path) as file:
                yield file

    givers = (one_buffer(), one_bytearray(), opened(lambda p: p.open("rb")), opened(Image.open))
    for giver in givers:
        found = [result.probabilities for result in predictor.stream(giver, 4)]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_mask_may_be_written_to_whatever_the_image_s_size():
    predictor = Predictor(tiny_model("segment"), threads=1)
    for side in (predictor.spec.height, 40):
        (result,) = predictor.predict(np.zeros((side, side, 3), np.uint8))
        result.mask[0, 0] = 1
        assert result.mask[0, 0] == 1


def test_other_sizes_are_resized_and_masks_have_the_image_s_size(task, predictor):
    large = np.random.default_rng(3).integers(0, 256, (30, 20, 4)).astype(np.uint8)
    (result,) = predictor.predict(large)
    if task == "segment":
        assert result.mask.shape == (30, 20) and result.mask.dtype == np.uint8
        assert sum(result.shares().values()) == pytest.approx(1)
        assert result.mask_image().getpalette()[3:6] == [0xF0, 0xA0, 0]
        assert result.overlay(large, 0.5).size == (20, 30)
        with pytest.raises(InputError, match="the prediction's"):
            result.overlay(large[1:])
    else:
        assert result.label == result.top(1)[0][0] == result.classes[result.index]
        assert result.probability == max(p for _, p in result.top(3))


def test_an_unreadable_image_leaves_the_others_their_answers(predictor):
    array = pixels(1, predictor.spec)
    sources = [array, b"nonsense", png(array), "missing.png", array, b""] * 5
    results = list(predictor.stream(iter(sources), 4, errors="return"))
    assert [isinstance(r, InputError) for r in results] == [False, True] * 15
    assert "missing.png: no such file" in str(results[3])
    good = []
    with pytest.raises(InputError, match="not an image"):
        for result in predictor.stream([array, png(array), b"nonsense", array], 8):
            good.append(result)
    assert len(good) == 2


def test_nonsense_arguments(predictor):
    for options, words in (({"batch_size": 0}, "at least 1"), ({"errors": "skip"}, "'return'")):
        with pytest.raises(InputError, match=words):
            predictor.stream([], **options)
    with pytest.raises(InputError, match="threads 0: must be at least 1"):
        Predictor(tiny_model(), threads=0)
    with pytest.raises(InputError, match=r"threads 100000: .* at most \d+"):
        Predictor(tiny_model(), threads=100_000)
    with pytest.raises(InputError, match="list given"):
        predictor.predict([[1, 2]])


def test_decoding_goes_on_while_the_model_works(predictor, monkeypatch):
    decoded, seen = [], []
    load, run = predictor.load, predictor.run
    monkeypatch.setattr(predictor, "load", lambda s: (load(s), decoded.append(1))[0])

    def slow(batch):
        before = len(decoded)
        time.sleep(0.05)
        seen.append((before, len(decoded)))
        return run(batch)

    monkeypatch.setattr(predictor, "run", slow)
    data = png(pixels(1, predictor.spec))
    assert len(list(predictor.stream((data for _ in range(64)), 4))) == 64
    assert all(after <= 4 * (i + 1) + 3 * 4 for i, (_, after) in enumerate(seen))
    assert sum(after > 4 * (i + 1) for i, (_, after) in enumerate(seen)) > 10


def test_no_thread_is_started_for_one_image_or_for_arrays(predictor, monkeypatch):
    monkeypatch.setattr("tfproj.inference.decoding._pool", lambda workers: pytest.fail("a pool"))
    array = pixels(1, predictor.spec)
    for source in (png(array), [png(array)], array, [array] * 9, np.stack([array] * 9)):
        assert predictor.predict(source)


def test_memory_stays_flat_for_5000_images(task, predictor):
    import tracemalloc

    data, peaks = png(pixels(1, predictor.spec)), []
    tracemalloc.start()
    results = predictor.stream((data for _ in range(5000)), 16)
    for index, _ in enumerate(results):
        if index in (500, 4999):
            peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert index == 4999
    assert peaks[1] < peaks[0] + 300_000


def test_a_stream_can_be_left_early(predictor):
    before = threading.active_count()
    stream = predictor.stream((png(pixels(i, predictor.spec)) for i in range(1000)), 4)
    next(stream)
    stream.close()
    assert threading.active_count() <= before


def test_eight_threads_share_one_predictor(predictor):
    images = pixels(5, predictor.spec, 16)
    files = [png(image) for image in images]
    expected = [r.probabilities for r in predictor.predict(images)]

    def work(seed):
        order = np.random.default_rng(seed).permutation(16)
        results = predictor.predict([files[i] for i in order], batch_size=1 + seed % 5)
        return all(
            np.allclose(r.probabilities, expected[i], atol=1e-6)
            for r, i in zip(results, order, strict=True)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))


def test_unknown_is_below_the_calibrated_probability():
    spec = SPECS["classify"]
    data = tiny_model(calibration={"temperature": 4.0, "unknown_threshold": 0.5})
    plain = Predictor(data, threads=1)
    assert plain.temperature == 4 and not plain.predict(pixels(1, spec))[0].is_unknown
    for result in plain.predict(pixels(1, spec, 5)):
        scaled = np.exp(result.scores.astype(float) / 4)
        assert result.confidence == pytest.approx(scaled.max() / scaled.sum(), abs=1e-6)
    results = Predictor(data, unknown_below=0.45).predict(pixels(1, spec, 50))
    for result in results:
        assert result.is_unknown == (result.confidence < 0.45) == (result.label == "unknown")
        assert (result.index == -1) == result.is_unknown
        assert result.probability == pytest.approx(float(result.probabilities.max()))
    assert 0 < sum(r.is_unknown for r in results) < 50
    assert Predictor(data, unknown_below="auto").unknown_below == 0.5


@pytest.mark.parametrize(
    ("task", "value", "words"),
    [
        ("classify", 1.5, "0..1"),
        ("classify", "much", "0..1"),
        ("classify", "auto", "no threshold"),
        ("segment", 0.5, "segmenter"),
    ],
)
def test_thresholds_that_make_no_sense(task, value, words):
    with pytest.raises(InputError, match=words):
        Predictor(tiny_model(task), unknown_below=value)


@pytest.mark.parametrize("value", [0, -1, "2", True, 1e9, float("nan")])
def test_temperatures_that_make_no_sense(value):
    with pytest.raises(InputError, match="temperature"):
        Predictor(tiny_model(calibration={"temperature": value}))


@pytest.mark.parametrize("stride", [1, 2])
def test_selftest(task, stride):
    found = Predictor(with_golden(task, stride=stride), threads=1).selftest()
    assert found.vectors == 2 and found.tolerance == 1e-4 and found.max_difference < 1e-5


def test_selftest_fails_on_other_answers_and_without_vectors(task):
    with pytest.raises(TfprojError, match="differs by 0.01") as caught:
        Predictor(with_golden(task, shift=0.01), threads=1).selftest()
    assert not isinstance(caught.value, InputError)
    with pytest.raises(InputError, match="no golden vectors"):
        Predictor(tiny_model(task), threads=1).selftest()


@pytest.mark.parametrize(
    "golden",
    [
        [], {}, "text", {"tolerance": 1e-4, "vectors": []}, {"tolerance": "x", "vectors": [1]},
        {"tolerance": 1e-4, "vectors": [{"name": "a"}]},
        {"tolerance": 1e-4, "vectors": [{"name": "a", "image_base64": "", "shape": [1],
                                         "probabilities_base64": "AAAAAA==", "stride": 0}]},
        {"tolerance": 1e-4, "vectors": [{"name": "a", "image_base64": "?", "shape": [3],
                                         "probabilities_base64": ""}]},
    ],
)  # fmt: skip
def test_damaged_golden_vectors(golden):
    with pytest.raises(InputError, match="damaged"):
        Predictor(tiny_model(golden=golden), threads=1).selftest()


def test_a_provider_that_is_not_there_is_an_error():
    with pytest.raises(
        InputError, match="CUDAExecutionProvider is not available; available: .*CPU"
    ):
        Predictor(tiny_model(), providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    for nothing in ([], "CPUExecutionProvider"):
        with pytest.raises(InputError, match="at least one"):
            Predictor(tiny_model(), providers=nothing)


def test_a_device_is_taken_or_refused_in_one_line():
    pixels = np.zeros((1, 8, 8, 1), np.uint8)
    given = [Predictor(tiny_model(), device=device).run(pixels)[0] for device in ("cpu", None)]
    np.testing.assert_array_equal(*given)
    for device, words in [("cuda", "onnxruntime-gpu"), ("gpu", "CUDA"), ("tpu", "unknown device")]:
        with pytest.raises(InputError, match=words):
            Predictor(tiny_model(), device=device)
    with pytest.raises(InputError, match="exclude each other"):
        Predictor(tiny_model(), device="cpu", providers=["CPUExecutionProvider"])


def test_a_provider_that_onnxruntime_leaves_out_is_an_error(monkeypatch):
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "get_providers", lambda self: ["AzureExecutionProvider"]
    )
    with pytest.raises(InputError, match="left out the provider CPUExecutionProvider"):
        Predictor(tiny_model())


def test_openvino_names_its_extra(monkeypatch):
    if session.OPENVINO in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-openvino is installed")
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    with pytest.raises(InputError, match=r"pip install 'tfproj\[openvino\]'"):
        Predictor(tiny_model(), providers=[session.OPENVINO])
    with pytest.raises(InputError, match="cannot be combined"):
        Predictor(tiny_model(), providers=[session.OPENVINO, session.CPU])
    plugin = types.SimpleNamespace(get_library_path=lambda: "/nowhere/plugin.so")
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", plugin)
    with pytest.raises(InputError, match=session.OPENVINO):
        Predictor(tiny_model(), providers=[session.OPENVINO])


def test_openvino_gives_the_same_answers(task):
    if session.OPENVINO not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-openvino is not installed")
    images = pixels(1, SPECS[task], 3)
    expected = Predictor(tiny_model(task)).run(images)[1]
    actual = Predictor(tiny_model(task), providers=[session.OPENVINO]).run(images)[1]
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_openvino_gets_large_images_one_at_a_time():
    if session.OPENVINO not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-openvino is not installed")
    predictor = Predictor.pretrained("facades-default", providers=[session.OPENVINO])
    assert isinstance(predictor._session._session, session.OneByOne)
    images = pixels(1, predictor.spec, 3)
    expected = Predictor.pretrained("facades-default").run(images)[1]
    np.testing.assert_allclose(predictor.run(images)[1], expected, atol=1e-3)


def test_one_by_one_gives_the_batch_s_answers(task):
    images, data = pixels(1, SPECS[task], 3), tiny_model(task)
    options = onnxruntime.SessionOptions()
    options.add_free_dimension_override_by_name(session.BATCH, 1)
    one = session.OneByOne(onnxruntime.InferenceSession(data, options))
    for count in (1, 3):
        found = one.run(["scores", "probabilities"], {"image": images[:count]})
        for actual, expected in zip(found, bare(data, images[:count]), strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_the_free_dimension_of_exported_files_has_its_name():
    options = onnxruntime.SessionOptions()
    options.add_free_dimension_override_by_name(session.BATCH, 1)
    file = pretrained_file("fashion_mnist-tiny")
    assert onnxruntime.InferenceSession(file).get_inputs()[0].shape[0] == session.BATCH
    assert onnxruntime.InferenceSession(file, options).get_inputs()[0].shape[0] == 1


def test_threads_come_from_the_cpus_we_may_use(monkeypatch):
    monkeypatch.setattr("tfproj.core.hardware.available_cpus", lambda: 3)
    assert session._options(None).intra_op_num_threads == 3
    assert session._options(1).intra_op_num_threads == 1


def test_a_failing_model_is_one_line(predictor):
    with pytest.raises(TfprojError, match="the model failed") as caught:
        predictor.run(np.zeros((1, 3, 3, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_answers_of_another_shape(predictor, monkeypatch):
    """Where height and width are free, only the answer itself shows its shape."""
    monkeypatch.setattr(
        predictor, "_session", types.SimpleNamespace(run=lambda *_: [np.ones(3)] * 2)
    )
    with pytest.raises(TfprojError, match=r"answers with the shape \(3,\)"):
        predictor.predict(pixels(0, predictor.spec))


def test_weights_that_are_not_numbers():
    pytest.importorskip("onnx")
    model = tiny_models.proto()
    nan = onnxruntime.OrtValue.ortvalue_from_numpy(np.full(3, np.nan, np.float32)).numpy()
    next(w for w in model.graph.initializer if w.name == "dense_bias").raw_data = nan.tobytes()
    data = tiny_models.serialize(model, SPECS["classify"].to_dict())
    with pytest.raises(TfprojError, match="not numbers"):
        Predictor(data).predict(pixels(1, SPECS["classify"]))


@pytest.mark.parametrize("vnni", [True, False])
def test_int8_sums_take_the_exact_way_where_the_cpu_would_clip_them(monkeypatch, vnni):
    """With VNNI it is not needed, and halves the speed of some CPUs (Zen 5)."""
    monkeypatch.setattr("tfproj.core.hardware.cpu_has_vnni", lambda: vnni)
    try:
        setting = session._options(1).get_session_config_entry("session.x64quantprecision")
    except RuntimeError:  # not set
        setting = "0"
    assert setting == ("0" if vnni else "1")


def test_int8_sums_are_not_clipped_on_any_cpu():
    """Two products of 255 * 127 are more than 16 bits hold, in which CPUs without VNNI add them."""
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def quantised(name, out, scale, zero):
        return [
            helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [out]),
        ]

    arrays = {
        "one": np.float32(1), "zero": np.uint8(0), "szero": np.int8(0), "large": np.float32(16384),
        "kernel": np.full((8, 16, 1, 1), 127, np.int8),
    }  # fmt: skip
    nodes = [
        *quantised("x", "x_d", "one", "zero"),
        helper.make_node("DequantizeLinear", ["kernel", "one", "szero"], ["w"]),
        helper.make_node("Conv", ["x_d", "w"], ["c"]),
        *quantised("c", "y", "large", "zero"),
    ]
    image, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, channels, 4, 4))
        for name, channels in (("x", 16), ("y", 8))
    )
    stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()]
    graph = helper.make_graph(nodes, "sum", [image], [out], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    opened = session.open_session(model.SerializeToString(), "sum", 1, [session.CPU])
    (found,) = opened.run(None, {"x": np.full((1, 16, 4, 4), 255, np.float32)})
    expected = 16 * 255 * 127
    np.testing.assert_allclose(found, expected, atol=16384 / 2)
