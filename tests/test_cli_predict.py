"""``tfproj predict`` on tiny models: formats, exit codes, progress, self-test."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_models import SPECS, pixels, png, tiny_model, with_golden

from tfproj.cli.main import main
from tfproj.cli.terminal import Progress
from tfproj.core.files import write_json
from tfproj.errors import InputError
from tfproj.inference.image_files import decisive, find_images
from tfproj.inference.predictor import Predictor

pytestmark = pytest.mark.light
needs_any_name = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems refuse names that are no text"
)
needs_signals = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no signals, and pipes of its own"
)


@pytest.fixture(params=["classify", "segment"])
def task(request):
    return request.param


@pytest.fixture
def files(task, tmp_path):
    """(model, folder of three images)."""
    (tmp_path / "in").mkdir()
    (tmp_path / "a.onnx").write_bytes(with_golden(task))
    for i in range(3):
        (tmp_path / "in" / f"{i}.png").write_bytes(png(pixels(i, SPECS[task])))
    return str(tmp_path / "a.onnx"), str(tmp_path / "in")


def test_text(task, files, capsys):
    assert main(["predict", *files]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert len(lines) == 3 and not captured.err
    assert all(f"{Path(files[1], f'{i}.png')}: " in line for i, line in enumerate(lines))


def test_json_is_one_document(task, files, capsys):
    assert main(["predict", *files, "--json", "--top", "2"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["predictions"]) == 3 and record["failures"] == []
    first = record["predictions"][0]
    assert len(first["top"]) == 2 if task == "classify" else sum(first["shares"].values()) > 0.99


def test_csv_and_json_lines_on_stdout(files, capsysbinary):
    assert main(["predict", *files, "--format", "jsonl"]) == 0
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert [json.loads(line)["image"] for line in lines] == [
        str(Path(files[1], f"{i}.png")) for i in range(3)
    ]
    assert main(["predict", *files, "--format", "csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsysbinary.readouterr().out.decode())))
    assert [row["image"] for row in table] == [str(Path(files[1], f"{i}.png")) for i in range(3)]


def test_bad_files_set_the_exit_code(files, capsys, tmp_path):
    for name in ("empty.png", "text.png"):
        (tmp_path / "in" / name).write_text("" if name == "empty.png" else "hello")
    for style in ([], ["--json"], ["--format", "csv"], ["--output", str(tmp_path / "out")]):
        assert main(["predict", *files, *style]) == 1
        captured = capsys.readouterr()
        assert captured.err.count("error: ") == 2
        assert captured.err.endswith("2 of 5 images could not be read\n")
        if style == ["--json"]:
            failures = json.loads(captured.out)["failures"]
            assert [Path(f["image"]).name for f in failures] == ["empty.png", "text.png"]
    assert main(["predict", files[0], f"{files[1]}/empty.png", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["predictions"] == []


@needs_any_name
def test_names_with_control_characters_stay_on_one_line(files, capsys, tmp_path):
    name = os.fsdecode(b"a\x1b[2J\n\xff.png")
    (tmp_path / "in" / name).write_bytes((tmp_path / "in" / "0.png").read_bytes())
    (tmp_path / "in" / f"z{name}").write_bytes(b"")
    assert main(["predict", *files]) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 4 and len(captured.err.splitlines()) == 2
    assert "\x1b" not in captured.out + captured.err


def test_selftest(task, files, capsys, tmp_path):
    assert main(["predict", files[0], "--selftest"]) == 0
    assert "self-test passed: 2 images" in capsys.readouterr().err
    assert main(["predict", files[0], "--selftest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["selftest"]["vectors"] == 2
    assert main(["predict", *files, "--selftest"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    (tmp_path / "b.onnx").write_bytes(with_golden(task, shift=0.01))
    assert main(["predict", str(tmp_path / "b.onnx"), "--selftest"]) == 1
    assert "self-test failed" in capsys.readouterr().err
    (tmp_path / "c.onnx").write_bytes(tiny_model(task))
    assert main(["predict", str(tmp_path / "c.onnx"), "--selftest"]) == 2
    for more in (["--output", str(tmp_path / "out")], ["--html", str(tmp_path / "a.html")]):
        capsys.readouterr()
        assert main(["predict", files[0], "--selftest", *more]) == 2  # there is nothing to write
        assert "Missing argument 'IMAGES...'" in capsys.readouterr().err


def test_unknown(capsys, tmp_path):
    (tmp_path / "a.onnx").write_bytes(tiny_model(calibration={"unknown_threshold": 1.0}))
    (tmp_path / "a.png").write_bytes(png(pixels(0, SPECS["classify"])))
    args = ["predict", str(tmp_path / "a.onnx"), str(tmp_path / "a.png"), "--unknown-below"]
    for value, unknown in (("auto", True), ("1", True), ("0", False)):
        assert main([*args, value]) == 0
        assert (".png: unknown " in capsys.readouterr().out) == unknown
    for value in ("2", "much"):
        assert main([*args, value]) == 2
        assert "not in 0..1, nor 'auto'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--overlay"], "--overlay needs --output"),
        (["--resume"], "--resume needs --output"),
        (["--json", "--format", "csv"], "exclude each other"),
        (["--provider", "NoSuchProvider"], "NoSuchProvider is not available"),
        (["--format", "xml"], "xml"),
    ],
)
def test_wrong_usage(files, capsys, more, words):
    assert main(["predict", *files, *more]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and len(captured.err.splitlines()) == 1 and not captured.out


@needs_signals
@pytest.mark.parametrize("task", ["classify"], indirect=True)
def test_an_interrupted_run_is_resumed(files, tmp_path, capsys):
    # Nobody reads what it prints, so it comes to a halt before it is done.
    count = 6000
    folder, out = tmp_path / "in", tmp_path / "out"
    data = (folder / "0.png").read_bytes()
    for i in range(count):
        (folder / f"{i}.png").write_bytes(data)
    command = [sys.executable, "-m", "tfproj", "predict", *files, "--output", str(out)]
    # In the background of a shell SIGINT is ignored, which children inherit.
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    partial = out / "predictions.csv.partial"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size > 2000):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1 and "continue with --resume" in said and "Traceback" not in said
    done = len(partial.read_text().splitlines()) - 1
    assert 0 < done < count and not (out / "predictions.csv").exists()
    assert main(["predict", *files, "--output", str(out), "--resume", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == count - done
    names = [row["image"] for row in csv.DictReader((out / "predictions.csv").open())]
    assert len(names) == len(set(names)) == count


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress(monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    log = io.StringIO()
    with Progress(10, "images", log) as progress:
        for _ in range(5):
            progress.step()
    assert log.getvalue() == (
        "2 of 10 images, 0.2/s, 48 s left\n4 of 10 images, 0.2/s, 36 s left\n"
    )
    terminal = Terminal()
    with Progress(10, "images", terminal) as progress:
        progress.step()
    assert terminal.getvalue() == "\r\033[K1 of 10 images, 0.2/s, 54 s left\r\033[K"


@pytest.fixture
def page(tmp_path):
    """Where a page of predictions goes."""
    pytest.importorskip("jinja2")
    return tmp_path / "pages" / "photos.html"


def test_html_shows_every_image_and_what_failed(task, files, capsys, tmp_path, page):
    (tmp_path / "in" / "empty.png").write_text("")
    assert main(["predict", *files, "--html", str(page)]) == 1
    assert f"page: {page}" in capsys.readouterr().err
    text = page.read_text(encoding="utf-8")
    assert all(f"{i}.png" in text for i in range(3))
    assert "0 bytes" in text
    assert text.count("data:image") >= (3 if task == "classify" else 6)


@pytest.mark.parametrize("task", ["classify"], indirect=True)
def test_an_overlay_of_a_classifier_is_refused_before_anything_is_written(files, tmp_path, capsys):
    assert main(["predict", *files, "--overlay", "--output", str(tmp_path / "out")]) == 2
    assert "overlay is for segmentation" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["classify"], indirect=True)
def test_html_says_what_a_resumed_call_leaves_out(files, tmp_path, capsys, page):
    out = ["--output", str(tmp_path / "out")]
    (tmp_path / "in" / "2.png").rename(tmp_path / "2.png")
    assert main(["predict", *files, *out]) == 0
    table = tmp_path / "out" / "predictions.csv"
    table.rename(f"{table}.partial")  # as if it had been interrupted
    predictor = Predictor(files[0])
    write_json(Path(f"{table}.partial.json"), {**decisive(predictor, 1), "overlay": False})
    (tmp_path / "2.png").rename(tmp_path / "in" / "2.png")
    assert main(["predict", *files, *out, "--resume", "--html", str(page)]) == 0
    assert f"page: {page} (without 2 images of earlier calls)" in capsys.readouterr().err


@needs_any_name
def test_html_of_a_name_that_is_no_text(files, tmp_path, page):
    for content, name in ((png(pixels(0, SPECS["classify"])), b"\xe9.png"), (b"", b"\xff.png")):
        (tmp_path / "in" / os.fsdecode(name)).write_bytes(content)
    assert main(["predict", *files, "--html", str(page)]) == 1
    assert {r"\udce9.png", r"\udcff.png"} <= set(re.findall(r"\\udc..\.png", page.read_text()))


def test_a_refused_call_prints_no_json(files, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "out")
    assert main(["predict", *files, "--json", "--output", out]) == 2
    captured = capsys.readouterr()
    assert not captured.out and "cannot be written" in captured.err


def test_names_that_are_too_long(files, tmp_path, capsys):
    assert main(["predict", files[0], "a" * 300]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["predict", "a" * 300, files[1]]) == 2
    assert "unknown model or run" in capsys.readouterr().err


@needs_signals
def test_a_reader_that_goes_away(files, tmp_path):
    for i in range(3, 1500):
        shutil.copy(tmp_path / "in" / "0.png", tmp_path / "in" / f"{i}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tfproj", "predict", *files, "--output", str(out)]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait() == 1 and "continue with --resume" in said and "Traceback" not in said
    assert (out / "predictions.csv.partial").exists()


def test_html_is_refused_before_any_work(files, capsys, page):
    page.mkdir(parents=True)
    assert main(["predict", *files, "--html", str(page)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "name the HTML file to write" in captured.err


def test_masks_do_not_go_among_the_images(task, files, capsys):
    """An interrupted call could not be resumed: it would take the masks for images."""
    model, folder = files
    code = main(["predict", model, folder, "--output", f"{folder}/"])
    assert code == (2 if task == "segment" else 0)
    assert ("choose another --output" in capsys.readouterr().err) == (task == "segment")
    assert main(["predict", model, folder, "--output", f"{folder}/out"]) == 0


def test_a_page_that_can_not_be_written_costs_no_prediction(files, capsys, monkeypatch, page):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert main(["predict", *files, "--html", str(page)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "no permission" in captured.err


def test_what_a_folder_holds_besides_images_is_said(files, capsys, tmp_path):
    model, folder = files
    for name in ("a.jfif", "b.pbm"):
        shutil.copy(Path(folder, "0.png"), Path(folder, name))
    assert main(["predict", *files]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 5 and not captured.err
    Path(folder, "e.heic").touch()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(Path(folder, "0.png"), tmp_path / "elsewhere")
    try:
        Path(folder, "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:  # Windows lets few users
        Path(folder, "linked.txt").touch()
    assert main(["predict", *files]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 5
    assert captured.err.startswith(f"note: 2 left out ({Path(folder, 'e.heic')}, ")
    assert "linked" in captured.err and len(captured.err.splitlines()) == 1
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.heic").touch()
    assert main(["predict", model, str(tmp_path / "none")]) == 2
    assert "no images in this directory; 1 left out" in capsys.readouterr().err


def test_the_home_directory_where_the_shell_leaves_it(files, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert main(["predict", "~/a.onnx", "~/in", "--output=~/out"]) == 0
    assert (tmp_path / "out" / "predictions.csv").is_file()


def test_a_pattern_means_what_it_matches(tmp_path):
    """Windows' shells hand patterns on."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    names = ["a.png", "b.png", "c.txt", "deep/d.png", "x[1].png"]
    for name in names:
        (tmp_path / "in" / name).touch()

    def found(*patterns):
        paths = find_images([str(tmp_path / "in" / pattern) for pattern in patterns])
        return [path.relative_to(tmp_path / "in").as_posix() for path in paths]

    assert found("*.png") == ["a.png", "b.png", "x[1].png"]
    assert found("[ab].png", "b.png", "x[1].png") == ["a.png", "b.png", "x[1].png"]
    assert found("**/d.*") == found("d*") == ["deep/d.png"]
    with pytest.raises(InputError, match=r"\*\.jpg: no file matches"):
        found("a.png", "*.jpg")
