"""``tfproj benchmark``, and the choice of a file by a budget."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from tfproj import Predictor
from tfproj.cli.main import main
from tfproj.core import hardware
from tfproj.errors import TfprojError
from tfproj.export.budget import Budget, Candidate, _candidates, _closest, export_within
from tfproj.export.job import Options
from tfproj.inference import profile, timing
from tfproj.inference.timing import Timing, busy, measure, thread_counts
from tfproj.pretrained import pretrained_file


def test_a_file_is_timed_in_a_process_of_its_own(capsys):
    assert (
        main(["benchmark", "fashion_mnist-tiny", "--threads", "1", "--seconds", "0.2", "--json"])
        == 0
    )
    facts = json.loads(capsys.readouterr().out)
    (found,) = facts["timings"]
    assert facts["bytes"] == pretrained_file("fashion_mnist-tiny").stat().st_size
    assert found["threads"] == 1 and found["batch"] == 32
    assert 0 < found["p50_ms"] <= found["p99_ms"] < 1000 * found["start_s"] < 60_000
    assert 20 < found["peak_mb"] < 1000
    # At least a tenth of what the latency lets one expect, at most what no batch can give.
    assert 0.1 < found["images_per_s"] * found["p50_ms"] / 1000 < 100


def test_few_runs_have_no_p99(monkeypatch, capsys):
    one = Timing(2, 0.5, 12.25, None, 20, 90.0, 4, 210.4)
    monkeypatch.setattr("tfproj.cli.benchmark.measure", lambda *_: one)
    assert main(["benchmark", "facades", "--threads", "2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1].split() == ["2", "12.25", "-", "90.0", "0.50", "210"]
    assert "256 x 256 x 3" in out[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["nothing.onnx"], "no such file"), (["facades", "--provider", "X"], "provider X"),
     (["facades", "--threads", "0"], "0 is not in the range"),
     (["facades", "--seconds", "0"], "0 is not in the range")],
)  # fmt: skip
def test_wrong_requests(arguments, words, capsys):
    assert main(["benchmark", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fashion_mnist-tiny", "fashion_mnist-tiny-int8"])
def test_the_operators_are_those_of_the_graph(name, capsys):
    command = ["benchmark", name, "--operators", "--threads", "1", "--seconds", "0.1"]
    assert main([*command, "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["operators"]}
    kinds = [one for one in found.values() if one["name"] in ("Conv", "QLinearConv")]
    graph = onnx.load(pretrained_file(name)).graph
    assert sum(one["nodes"] for one in kinds) == sum(n.op_type == "Conv" for n in graph.node)
    assert max(one["us"] for one in kinds) == max(one["us"] for one in found.values()) > 0
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == [
        "all", str(sum(one["nodes"] for one in found.values()))
    ]  # fmt: skip


def test_a_long_profile_is_no_longer_than_it_must_be(monkeypatch):
    runs, run = [], profile.answers.run
    monkeypatch.setattr(profile, "MOST_RUNS", 45)
    monkeypatch.setattr(profile.answers, "run", lambda *given: runs.append(1) or run(*given))
    assert profile.operators(pretrained_file("fashion_mnist-tiny"), 1, 600)
    assert len(runs) == 45


def test_another_provider_has_no_operators(monkeypatch, capsys):
    monkeypatch.setattr(
        "tfproj.cli.benchmark.Predictor", lambda *_, **__: Predictor.pretrained("facades")
    )
    assert main(["benchmark", "facades", "--operators", "--provider", "X"]) == 2
    assert "--operators: onnxruntime does not look into X" in capsys.readouterr().err


def test_a_module_of_the_working_directory_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert measure(pretrained_file("fashion_mnist-tiny"), 1, 0.1).p50_ms > 0


def test_a_child_that_fails_is_one_line(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(TfprojError, match="cannot be timed .*not an ONNX"):
        measure(tmp_path / "a.onnx", 1)


@pytest.mark.parametrize(("cpus", "expected"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6))])
def test_threads_that_are_tried(cpus, expected, monkeypatch):
    monkeypatch.setattr(hardware, "available_cpus", lambda: cpus)
    assert thread_counts() == expected


def test_a_busy_machine_is_named(monkeypatch):
    monkeypatch.setattr(hardware, "available_cpus", lambda: 4)
    monkeypatch.setattr(timing.os, "getloadavg", lambda: (1.9, 9, 9), raising=False)
    assert busy() is None
    monkeypatch.setattr(timing.os, "getloadavg", lambda: (2.1, 0, 0), raising=False)
    assert "load 2.1 on 4 CPUs" in busy()


@pytest.fixture
def timed(monkeypatch):
    """Latencies by the side of the image, on one thread and on two; the files are real."""

    def measured(file, threads, seconds):
        side = Predictor(file).spec.width
        return Timing(threads, 0.1, side / threads, None, 10, 1.0, 4, 1.0)

    monkeypatch.setattr("tfproj.export.budget.measure", measured)
    monkeypatch.setattr("tfproj.export.budget.thread_counts", lambda: (1, 2))
    monkeypatch.setattr("tfproj.export.budget.busy", lambda: "the machine is busy")


def test_the_largest_that_is_fast_enough(toy_segmenter, timed, tmp_path, capsys):
    run, width = toy_segmenter, toy_segmenter.spec().width
    path = tmp_path / "a.onnx"
    command = ["export", str(run.path), "--output", str(path), "--json", "--half"]
    assert main([*command, "--max-ms", str(0.4 * width)]) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)["budget"]
    assert "the machine is busy" in captured.err
    assert [one["size"][1] for one in facts["tried"]][0] == width
    chosen = facts["chosen"]
    assert chosen == facts["tried"][-1] and chosen["threads"] == 2 and chosen["size"][1] < width
    assert all(one["reason"] == f"{one['size'][1] / 2:.2f} ms" for one in facts["tried"][:-1])
    predictor = Predictor(path)
    assert list(predictor.spec.size) == chosen["size"]
    assert chosen["metrics"] == predictor.metadata["half"]["metrics"]
    assert predictor.selftest().max_difference < 1e-4


def test_half_the_bytes_where_float32_has_too_many(toy_segmenter, timed, tmp_path):
    whole = export_within(toy_segmenter, tmp_path / "a.onnx", Options(), Budget(None, 1000))
    mb = whole["bytes"] / 1e6
    assert whole["budget"]["chosen"]["kind"] == "float32" and len(whole["budget"]["tried"]) == 1
    found = export_within(toy_segmenter, tmp_path / "b.onnx", Options(), Budget(None, mb - 0.001))
    tried = found["budget"]["tried"]
    assert [one["kind"] for one in tried] == ["float32", "half"]
    assert tried[0]["reason"] == f"{mb:.2f} MB" and found["bytes"] / 1e6 < mb
    assert Predictor(tmp_path / "b.onnx").spec.size == toy_segmenter.spec().size


def test_nothing_fits(toy_segmenter, timed, tmp_path, capsys):
    arguments = ["export", str(toy_segmenter.path), "--output", str(tmp_path / "a.onnx")]
    assert main([*arguments, "--max-mb", "0.001", "--no-data"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "nothing fits 0.001 MB: the smallest is float32 with" in error
    assert not list(tmp_path.iterdir())


@pytest.fixture
def drawn(monkeypatch):
    """Exports of one byte in int8 and two in float32; half can't be made."""

    def export(run, file, options):
        if options.half:
            raise TfprojError("a weight is too large for 16 bits")
        file.write_bytes(b"1" if options.int8 else b"12")
        return {"bytes": file.stat().st_size, "verification": {"metrics": {}}}

    monkeypatch.setattr("tfproj.export.budget.export_onnx", export)
    one = Timing(1, 0.1, 1.0, None, 10, 1.0, 4, 1.0)
    monkeypatch.setattr("tfproj.export.budget.measure", lambda *_: one)
    monkeypatch.setattr("tfproj.export.budget.also_written", lambda *given: {"name": given[2]})


def test_a_kind_that_cannot_be_made_is_passed_over(toy_segmenter, drawn, tmp_path):
    found = export_within(toy_segmenter, tmp_path / "a.onnx", Options(), Budget(None, 1.5e-6))
    reasons = [(one["kind"], one["reason"]) for one in found["budget"]["tried"]]
    assert reasons[1:] == [("half", "a weight is too large for 16 bits"), ("int8", None)]


def test_a_repository_has_the_name_that_was_checked(toy_segmenter, drawn, tmp_path):
    found = export_within(toy_segmenter, tmp_path / "a.onnx", Options(int8=True), Budget(None, 1))
    assert found["name"] == "toy-int8"


def test_half_the_size_is_tried_where_three_quarters_round_up():
    job = SimpleNamespace(
        options=Options(no_data=True),
        spec=SimpleNamespace(model="encoder_unet", size=(64, 64)),
        planned=SimpleNamespace(config=SimpleNamespace(model_options={"widths": [8] * 4})),
    )
    tried = []
    for candidate in _candidates(job, tried):
        tried.append(candidate)
    assert [one.size for one in tried] == [(64, 64), (32, 32)]


def test_what_a_choice_has_no_use_for_is_refused(toy_segmenter, tmp_path, capsys):
    command = ["export", str(toy_segmenter.path), "--output", str(tmp_path / "a.onnx")]
    for flags, words in (
        (["--keep-rejected"], "--keep-rejected is for one file"),
        (["--format", "tflite"], "are for --format onnx"),
    ):
        assert main([*command, "--max-mb", "1", *flags]) == 2
        assert words in capsys.readouterr().err


def test_what_is_not_worth_a_try():
    first = Candidate("int8", (8, 8), reason="int8 is not faster")
    assert _closest([first, Candidate("int8", (4, 4), reason="one size")]) == first.reason
    assert Candidate("float32", (8, 8), 1.0, None).large
    assert not Candidate("float32", (8, 8), 1.0, {1: 3.0}, 1).slow
    assert Candidate("float32", (8, 8), 1.0, {1: 3.0}).slow
    assert not Candidate("int8", (8, 8), reason="costs too much").large


@pytest.mark.parametrize("flags", [["--max-ms", "0"], ["--max-mb", "-1"], ["--image-size", "7"]])
def test_limits_that_make_no_sense(toy_segmenter, flags, tmp_path):
    output = ["--output", str(tmp_path / "a.onnx")]
    assert main(["export", str(toy_segmenter.path), *output, *flags]) == 2
    assert not list(tmp_path.iterdir())


def test_another_size_keeps_keras_answers(toy_segmenter, tmp_path):
    size = [side // 2 for side in toy_segmenter.spec().size]
    flags = ["--image-size", *map(str, size), "--no-data"]
    assert (
        main(["export", str(toy_segmenter.path), "--output", str(tmp_path / "a.onnx"), *flags]) == 0
    )
    predictor = Predictor(tmp_path / "a.onnx")
    pixels = np.zeros((1, *size, predictor.spec.channels), np.uint8)
    assert predictor.run(pixels)[1].shape[1:3] == tuple(size)


def test_a_network_of_one_size_says_so(toy_classifier, tmp_path, capsys):
    height, width = toy_classifier.spec().size
    flags = ["--image-size", str(height // 2), str(width // 2), "--no-data"]
    assert (
        main(["export", str(toy_classifier.path), "--output", str(tmp_path / "a.onnx"), *flags])
        == 2
    )
    assert f"of {height} x {width} px alone; leave --image-size out" in capsys.readouterr().err
