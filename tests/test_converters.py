"""The second converter: another way to the same file, behind the same gate."""

import numpy as np
import onnx
import pytest

pytest.importorskip("tensorflow")

from tfproj import Predictor  # noqa: E402
from tfproj.cli.main import main  # noqa: E402
from tfproj.core.spec import OUTPUT_NAMES, ModelSpec  # noqa: E402
from tfproj.errors import InputError, TfprojError  # noqa: E402
from tfproj.experiment.presets import PRESETS, TASK_DEFAULTS  # noqa: E402
from tfproj.export.job import Options, prepare  # noqa: E402

OTHER = "jax2onnx"


@pytest.fixture
def installed():
    pytest.importorskip(OTHER, reason=f"the extra {OTHER} is not installed")


def export(run, folder, converter, *flags):
    path = folder / f"{converter}.onnx"
    command = ["export", str(run.path), "--output", str(path), "--converter", converter, *flags]
    assert main(command) == 0
    return Predictor(path)


@pytest.mark.parametrize(("task", "flags"), [("classifier", []), ("segmenter", ["--dynamic-size"])])
def test_both_files_pass_the_gate(installed, task, flags, request, tmp_path, capsys):
    run = request.getfixturevalue(f"toy_{task}")
    files = {name: export(run, tmp_path, name, *flags) for name in ("tf2onnx", OTHER)}
    one, other = (file.metadata for file in files.values())
    assert [m["graph"]["converter"].split()[0] for m in (one, other)] == ["tf2onnx", OTHER]
    assert other["verification"]["max_difference"] < 1e-5 and one["outputs"] == other["outputs"]
    nodes = [
        {
            node.name
            for node in onnx.load(tmp_path / f"{name}.onnx").graph.node
            if "conv" in node.name
        }
        for name in files
    ]
    assert nodes[1] and {name for name in nodes[1] if "/" not in name} <= nodes[0]
    pixels = np.random.default_rng(0).integers(0, 256, (2, *run.spec().size, run.spec().channels))
    answers = [file.run(pixels.astype(np.uint8)) for file in files.values()]
    for first, second in zip(*answers, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-4)


NETWORKS = [(task, p) for task, presets in PRESETS.items() for p in presets if p != "finetune"]


@pytest.mark.parametrize(("task", "preset"), NETWORKS)
def test_networks_of_all_presets(installed, task, preset):
    """``-rP`` shows the differences, in parts of the largest value or of 1."""
    import keras

    from tfproj.export.convert import simple_graph
    from tfproj.export.simplify import check
    from tfproj.export.unknown import Surroundings, extended
    from tfproj.inference.session import CPU, open_session
    from tfproj.models.features import stage_means
    from tfproj.models.registry import build_model

    recipe, draw = {**TASK_DEFAULTS[task], **PRESETS[task][preset]}, np.random.default_rng(0)
    shape = (64, 64, 3) if task == "segment" or preset == "photo" else (28, 28, 1)
    classes, options = tuple("abc"), recipe.get("model_options", {})
    spec = ModelSpec(task, recipe["model"], classes, (), *shape, dynamic_size=task == "segment")
    keras.utils.set_random_seed(0)
    model, found = build_model(spec, options), None
    model.set_weights([w + draw.uniform(0, 0.1, w.shape) for w in model.get_weights()])
    if task == "classify":
        wide = stage_means(model).shape[-1]
        found = Surroundings(draw.normal(size=(wide, wide)) / wide, draw.normal(size=wide), 1.0)
    proto, _ = simple_graph(model, spec, options, 17, found, OTHER)
    proto.ir_version = 8
    check(proto)
    pixels = draw.integers(0, 256, (3, *shape)).astype(np.uint8)
    expected = extended(model, spec, found)(pixels, training=False)
    expected = expected if isinstance(expected, dict) else {"scores": expected}
    session = open_session(proto.SerializeToString(), preset, 1, [CPU])
    answers = session.run(list(expected), {"image": pixels})
    for answer, (name, value) in zip(answers, expected.items(), strict=True):
        difference = np.abs(answer - value).max() / max(1, np.abs(value).max())
        print(f"{task} {preset} {name}: {difference:.1e}")
        assert difference < 1e-5
    assert {o.name for o in proto.graph.output} <= set(OUTPUT_NAMES)


def test_a_model_that_jax_cannot_take(installed):
    import keras

    from tfproj.export.with_jax2onnx import convert

    image = keras.Input((8, 8, 1), dtype="uint8")
    model = keras.Model(image, keras.layers.Lambda(lambda x: x)(image))
    with pytest.raises(TfprojError, match="jax2onnx cannot take this model: .*leave --converter"):
        convert(model, 17)


def test_a_converter_that_is_not_there_or_unknown(toy_classifier, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'tfproj\[jax2onnx\]'"):
        prepare(toy_classifier, tmp_path / "a.onnx", Options(converter=OTHER, no_data=True))
    with pytest.raises(InputError, match="did you mean 'jax2onnx'"):
        prepare(toy_classifier, tmp_path / "a.onnx", Options(converter="jaxonnx", no_data=True))
    with pytest.raises(InputError, match="--converter is for --format onnx"):
        prepare(None, None, Options(converter=OTHER, format="tflite"))
