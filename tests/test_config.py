import json

import pytest

from tfproj.errors import InputError
from tfproj.experiment.presets import PRESETS, make_config, read_config_file
from tfproj.runs.config import TrainConfig, config_from_dict


@pytest.mark.parametrize(("task", "preset"), [(t, p) for t in PRESETS for p in PRESETS[t]])
def test_every_preset_is_valid_and_survives_json(task, preset):
    config = make_config(task, preset)
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_flags_win_over_the_preset_and_none_leaves_it():
    config = make_config("segment", "original", epochs=3, learning_rate=None)
    assert config.epochs == 3
    assert config.learning_rate == 1e-4


def test_model_options_of_a_preset_are_not_given_to_another_model():
    assert make_config("segment", "original", model="other").model_options == {}
    assert make_config("classify", model="cnn").model_options == {}
    assert make_config("classify", model="resnet").model_options == {"batch_norm": True}
    options = {"widths": [8, 16]}
    assert make_config("classify", model_options=options).model_options == options


def test_one_side_is_a_square(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("image-size: 48\nresize: crop\n")
    config = make_config("classify", **read_config_file(path))
    assert (config.image_size, config.resize) == ((48, 48), "crop")
    assert config_from_dict(config.to_dict()) == config


def test_segmenters_are_not_cropped():
    with pytest.raises(InputError, match="resize 'crop' is for classify only"):
        make_config("segment", resize="crop")
    for policy in ("stretch", "letterbox"):
        assert make_config("segment", resize=policy).resize == policy


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": 0}, "epochs is 0; it must be above 0"),
        ({"epochs": "many"}, "epochs is 'many'; it must be a whole number"),
        ({"epochs": True}, "it must be a whole number"),
        ({"batch_size": 2.5}, "it must be a whole number"),
        ({"learning_rate": "fast"}, "it must be a number"),
        ({"val_fraction": 1.0}, "between 0 and 1"),
        ({"channels": 2}, "1 .grey. or 3 .RGB."),
        ({"image_size": (4, 64)}, "two sides of 8 to 4096"),
        ({"image_size": (64,)}, "two sides"),
        ({"image_size": 4}, "two sides"),
        ({"image_size": True}, "one or two sides in whole pixels"),
        ({"image_size": "64"}, "one or two sides in whole pixels"),
        ({"resize": "croped"}, "did you mean 'crop'"),
        ({"resize": 1}, "resize is 1; it must be text"),
        ({"optimizer": "adm"}, "did you mean 'adam'"),
        ({"precision": "float16"}, "known: auto, float32, mixed_bfloat16"),
        ({"augment": "fotos"}, "did you mean 'photo'"),
        ({"augment": "photo_mix"}, "for segment only"),
        ({"dice": 0.5}, "for segment only"),
        ({"seed": -1}, "at least 0"),
        ({"seed": 2**32}, "below 2.32"),
        ({"warmup_epochs": float("inf")}, "must be finite"),
        ({"init": 5}, "init is 5; it must be text"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"data": 5}, "it must be text"),
    ],
)
def test_a_wrong_value_is_named(values, message):
    with pytest.raises(InputError, match=message):
        make_config("classify", **values)


def test_unknown_task_and_preset_name_the_closest():
    with pytest.raises(InputError, match="did you mean 'classify'"):
        make_config("clasify")
    with pytest.raises(InputError, match="did you mean 'original'"):
        make_config("segment", "orignal")


def test_yaml_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("epochs: 7\nbatch-size: 16\nimage_size: [32, 48]\n")
    values = read_config_file(path)
    assert make_config("segment", **values) == make_config(
        "segment", epochs=7, batch_size=16, image_size=(32, 48)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: [", "not valid YAML"),
        ("- a\n- b\n", "key: value"),
        ("", "key: value"),
        ("epoch: 3\n", "unknown key 'epoch'; did you mean 'epochs'"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("\x00", "not valid YAML"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_config_file(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_config_file(tmp_path / "no.yaml")


def test_config_needs_a_task():
    with pytest.raises(InputError, match="without 'task'"):
        config_from_dict({"epochs": 3})


def test_config_is_frozen():
    with pytest.raises(AttributeError):
        TrainConfig("classify").epochs = 3


def test_exponents_without_a_point_are_numbers(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("learning_rate: 5e-3\nweight_decay: 1E-05\nepochs: 12\ndice: .5\ndata: e-3\n")
    assert read_config_file(path) == {
        "learning_rate": 0.005, "weight_decay": 1e-5, "epochs": 12, "dice": 0.5, "data": "e-3"
    }  # fmt: skip
