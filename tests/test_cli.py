"""The command line: what it prints, its exit codes, what it leaves behind."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tfproj.cli.main import COMMANDS, main


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def error_line(capsys, args, code):
    """Run a command that must fail; returns its one line on stderr."""
    assert main(args) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert captured.err.splitlines()[-1] == lines[0]
    assert "Traceback" not in captured.err
    return lines[0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "clasify"], "did you mean 'classify'"),
        (["train", "classify", "--epoch", "3"], "--epochs"),
        (["train", "classify", "--epochs", "many"], "'many' is not a valid integer"),
        (["train", "classify", "--epochs", "0"], "epochs is 0"),
        (["train", "classify", "--preset", "orignal"], "did you mean 'original'"),
        (["train", "classify", "--data", "fashion_mnst"], "did you mean 'fashion_mnist'"),
        (["train", "classify", "--data", "facades"], "is for segment, not classify"),
        (["train", "segment", "--data", "./nowhere"], "nowhere: no such directory"),
        (["train", "classify", "--data", "digits", "--model", "unet"], "is for segment"),
        (["train", "segment", "--data", "synthetic_facades", "--image-size", "30", "30"],
         "multiples of 8"),
        (["train", "segment", "--image-size", "30", "--data", "synthetic_facades"],
         "multiples of 8"),
        (["train", "classify", "--image-size", "4"], "image_size is (4, 4)"),
        (["train", "classify", "--image-size=4", "--seed", "3"], "image_size is (4, 4)"),
        (["train", "classify", "--image-size", "4", "5"], "image_size is (4, 5)"),
        (["train", "classify", "--image-size=4", "5"], "image_size is (4, 5)"),
        (["train", "classify", "--image-size", "64", "big"], "extra argument (big)"),
        (["train", "classify", "--image-size", "big"], "'big' is not a valid integer"),
        (["train", "classify", "--image-size"], "--image-size"),
        (["train", "classify", "--resize", "letterbx"], "did you mean 'letterbox'"),
        (["train", "segment", "--resize", "crop"], "for classify only"),
        (["models", "unet", "--image-size", "30"], "multiples of 8"),
        (["models", "--image-size", "30", "unet"], "multiples of 8"),
        (["train", "classify", "--data", "digits", "--name", "a/b"], "plain directory name"),
        (["data", "check", "digits", "--val-fraction", "nan"], "must lie between 0 and 1"),
        (["data", "prepare", "digits", "--output", "o", "--val-fraction", "1"], "between 0 and 1"),
        (["train", "classify", "--config", "no.yaml"], "no.yaml: cannot be read"),
        (["train", "classify", "--resume"], "no run in runs/"),
        (["train", "classify", "--resume", "a", "--seed", "3"], "leave out the other flags"),
        (["evaluate"], "no run in runs/"),
        (["evaluate", "nothing"], "unknown run 'nothing'; there are none"),
        (["export"], "no run in runs/"),
        (["predict", "a.onnx"], "IMAGES"),
        (["predict", "a.onnx", "b.png"], "b.png: no such file"),
        (["models", "unett"], "did you mean 'unet'"),
        (["models", "unet", "--preset", "x"], "unknown preset"),
        (["data", "chek"], "did you mean 'check'"),
        (["data", "check", "digts"], "did you mean 'digits'"),
        (["data", "prepare", "digits"], "--output"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_with_code_2(capsys, args, message):
    assert message in error_line(capsys, args, 2)


def test_a_typo_costs_no_tensorflow(tmp_path):
    code = (
        "import sys\n"
        "from tfproj.cli.main import main\n"
        "codes = [main(a.split()) for a in sys.argv[1:]]\n"
        "print(codes, {'tensorflow', 'keras', 'matplotlib'} & {*sys.modules})"
    )
    commands = [
        "train classify --data digits --epochs 0",
        "train segment --data synthetic_facades --image-size 30 30",
        "train segment --data nothing",
        "train classify --data digits --class-weights nothing.csv",
        "evaluate nothing",
        "export nothing",
        "predict nothing.onnx nothing.png",
        "--help",
        "data list",
        "models",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *commands], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "[2, 2, 2, 2, 2, 2, 2, 0, 0, 0] set()"


def test_help_names_every_command_and_the_exit_codes(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "Exit codes" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys, name):
    assert main([name, "--help"]) == 0
    assert "Usage: tfproj" in capsys.readouterr().out


@pytest.mark.parametrize("args", [[], ["data"]])
def test_a_group_alone_shows_its_help(capsys, args):
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("Usage: tfproj")
    assert len(captured.err.splitlines()) > 5 and not captured.out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert "tfproj, version" in capsys.readouterr().out


def test_debug_shows_the_traceback():
    from tfproj.errors import InputError

    with pytest.raises(InputError):
        main(["train", "classify", "--epochs", "0", "--debug"])


def test_an_unexpected_error_is_one_line_with_code_1(capsys, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("tfproj.cli.data.check_dataset", broken)
    line = error_line(capsys, ["data", "check", "digits"], 1)
    assert "first line" in line
    assert "--debug" in line


def test_a_full_disk_is_one_line_with_code_1(capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "runs/a")

    monkeypatch.setattr("tfproj.cli.data.check_dataset", full)
    line = error_line(capsys, ["data", "check", "digits"], 1)
    assert line == "error: runs/a: No space left on device"


def test_ctrl_c(capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfproj.cli.data.check_dataset", interrupted)
    assert error_line(capsys, ["data", "check", "digits"], 1) == "error: interrupted"


def test_lists_as_text_and_json(capsys):
    for command in (["data", "list"], ["models"]):
        assert main(command) == 0
        text = capsys.readouterr().out
        assert main([*command, "--json"]) == 0
        records = json.loads(capsys.readouterr().out)
        for record in records:
            assert record["name"] in text and record["task"] in ("classify", "segment")
    assert {"unet", "facades-best", "fashion_mnist-tiny-int8"} <= {r["name"] for r in records}


def test_other_tools_words_are_known(capsys, tmp_path):
    assert main(["val", "none", "--runs-dir", str(tmp_path)]) == 2
    assert "none" in capsys.readouterr().err
    words = ["train", "classify", "--data", str(tmp_path / "none"), "--lr", "0"]
    assert main(words) == 2
    assert "learning_rate is 0" in capsys.readouterr().err
    assert main(["train", "segment", "--weights", "facadse"]) == 2
    assert "facadse" in capsys.readouterr().err


def test_models_prints_the_table_of_the_report(capsys):
    assert main(["models", "unet"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "Conv2d-13 dec3_conv1 72, 64, 64 62,280" in lines
    assert lines[-7:] == [
        "Total params 465,857",
        "Trainable params 465,857",
        "Non-trainable params 0",
        "Input size (MB) 0.75",
        "Forward/backward pass size (MB) 89.00",
        "Params size (MB) 1.78",
        "Estimated Total Size (MB) 91.53",
    ]


def test_no_escape_codes_where_stderr_is_no_terminal(capsys):
    assert "\x1b" not in error_line(capsys, ["trian"], 2)


def test_config_file_and_flags(capsys, tmp_path):
    from tfproj.cli.train import build_config

    path = tmp_path / "c.yaml"
    path.write_text("preset: original\nepochs: 5\nseed: 3\n")
    config = build_config("segment", None, str(path), {"epochs": 2})
    assert (config.preset, config.epochs, config.seed) == ("original", 2, 3)
    path.write_text("task: segment\n")
    line = error_line(capsys, ["train", "classify", "--config", str(path)], 2)
    assert "is not for classify" in line


def test_a_saved_configuration_repeats_the_run(tmp_path):
    from tfproj.cli.train import build_config
    from tfproj.core.files import write_json
    from tfproj.experiment.presets import make_config

    config = make_config("segment", "original", epochs=2, image_size=(64, 64))
    write_json(tmp_path / "config.json", config.to_dict())
    assert build_config("segment", None, str(tmp_path / "config.json"), {}) == config


def test_data_prepare_writes_what_data_reads(capsys):
    from tfproj.data import load_dataset

    args = ["data", "prepare", "digits", "--output", "out", "--limit", "60", "--json"]
    assert main(args) == 0
    counts = json.loads(capsys.readouterr().out)["examples"]
    assert main(["data", "check", "out"]) == 0
    assert capsys.readouterr().out.startswith("out: classify, 10 classes")
    dataset, original = load_dataset("./out"), load_dataset("digits")
    assert dataset.classes == original.classes
    assert {name: len(split) for name, split in dataset.splits.items()} == counts
    assert "not an empty directory" in error_line(capsys, args[:-1], 2)


@pytest.mark.parametrize("name", ["digits", "synthetic_facades"])
def test_prepared_groups_are_those_of_the_data_set(name):
    from tfproj.data import DataOptions, load_dataset

    args = ["data", "prepare", name, "--output", "out", "--limit", "40", "--group-modulus", "7"]
    assert main(args) == 0
    original = load_dataset(name, options=DataOptions(limit=40, group_modulus=7))
    for part, split in load_dataset("./out").splits.items():
        source = original.splits[part]
        expected = dict(zip(source.names, map(str, source.groups), strict=True))
        stems = {Path(key).stem: group for key, group in expected.items()}
        assert [stems[Path(n).stem] for n in split.names] == list(split.groups)


@pytest.mark.parametrize("name", ["digits", "synthetic_facades"])
def test_prepared_examples_are_those_of_the_data_set(name):
    from tfproj.core import image
    from tfproj.data import load_dataset

    assert main(["data", "prepare", name, "--output", "out", "--limit", "20"]) == 0
    written, original = load_dataset("./out"), load_dataset(name)
    for part, split in written.splits.items():
        source = original.splits[part]
        for index, file in enumerate(split.names):
            of_source = source.names.index(Path(file).stem)
            pictures = [
                image.load(s.read_image(i), None, original.channels)
                for s, i in ((split, index), (source, of_source))
            ]
            np.testing.assert_array_equal(*pictures)
            if original.task == "classify":
                assert split.labels[index] == source.labels[of_source]
            else:
                np.testing.assert_array_equal(split.read_mask(index), source.read_mask(of_source))


def test_a_thread_of_an_application_may_call_it():
    """Only the main thread may say what a signal does."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(main, ["--version"]).result() == 0
