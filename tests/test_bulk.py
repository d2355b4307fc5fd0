"""Millions of images without an engine: parts that are whole, resumed, and survive a death."""

import csv
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import SPECS, pixels, png, tiny_model

from tfproj import Predictor, predict_paths
from tfproj.bulk import engines
from tfproj.cli.main import main
from tfproj.errors import InputError, TfprojError

pytestmark = pytest.mark.light

BROKEN = str(Path("in/19.png"))
# Where a picture of this name is read, the process dies as by a fault in a decoder's C code.
POISON = """
import os
from tfproj.core import image
def read_bytes(path, label=None, read=image.read_bytes):
    if "poison" in str(path):
        os._exit(137)
    return read(path, label)
image.read_bytes = read_bytes
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with two models and 20 images, of which the last is broken."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for task in SPECS:
        Path(f"{task}.onnx").write_bytes(tiny_model(task))
    for number in range(19):
        Path(f"in/{number:02}.png").write_bytes(png(pixels(number, SPECS["segment"])))
    Path("in/19.png").write_bytes(b"no image")
    return tmp_path


def images():
    return sorted(map(str, Path("in").iterdir()))


def parts(output="out"):
    return sorted(Path(output, "parts").iterdir())


def rows_of(output="out"):
    return [row for part in parts(output) for row in table(part)]


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_rows_are_those_of_the_cli_and_errors_are_rows(place, file_format, capsys):
    if file_format == "parquet":
        pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
    assert main(["predict", "classify.onnx", "in", "--output", "cli", "--top", "2"]) == 1
    capsys.readouterr()
    rows = predict_paths(
        "classify.onnx", images(), "out", file_format=file_format, part_size=8, top=2
    )
    expected = table("cli/predictions.csv")
    made = [{k: str(v) for k, v in row.items() if k != "error"} for row in rows[:-1]]
    assert made == expected
    assert all(row["error"] is None for row in rows[:-1])
    assert rows[-1] == {**dict.fromkeys(rows[0]), "image": BROKEN, "error": rows[-1]["error"]}
    assert rows[-1]["error"].startswith(f"{BROKEN}: ")
    assert [path.suffix for path in parts()] == [f".{file_format}"] * 3
    # What is read back is what was returned.
    assert predict_paths(
        "classify.onnx", images(), "out", file_format=file_format, part_size=8, top=2
    ) == rows  # fmt: skip


def test_a_second_call_leaves_out_what_the_parts_hold(place, monkeypatch):
    asked, load = [], Predictor.load
    monkeypatch.setattr(Predictor, "load", lambda self, i: asked.append(i) or load(self, i))
    first = predict_paths("classify.onnx", images()[:10], "out", part_size=4)
    before = {path: path.read_bytes() for path in parts()}
    assert sorted(asked) == images()[:10] and len(before) == 3
    # Others between them, and one twice.
    again = predict_paths("classify.onnx", [*images()[::-1], images()[0]], "out", part_size=4)
    assert sorted(asked) == images()
    assert {path: path.read_bytes() for path in before} == before
    assert [row["image"] for row in again] == images()[::-1]
    assert [row for row in again[::-1] if row["image"] in images()[:10]] == first
    assert sorted(row["image"] for row in rows_of()) == images()
    asked.clear()
    assert predict_paths("classify.onnx", images()[:4], "out", part_size=4, scan=False) == first[:4]
    assert asked == []


def test_a_mask_lies_where_its_image_says(place):
    Path("in/deep").mkdir()
    Path("in/deep/00.jpg").write_bytes(Path("in/00.png").read_bytes())
    paths = ["in/deep/00.jpg", *images()[:3]]
    rows = predict_paths("segment.onnx", paths, "out")
    alone = predict_paths("segment.onnx", paths[1:2], "alone")
    assert len({row["mask"] for row in rows}) == 4
    assert alone[0]["mask"].removeprefix("alone") == rows[1]["mask"].removeprefix("out")
    expected = Predictor("segment.onnx").predict_one(paths[1])
    np.testing.assert_array_equal(np.asarray(Image.open(rows[1]["mask"])), expected.mask)
    assert rows[1]["share_wall"] == round(expected.shares()["wall"], 6)


def test_other_settings_are_refused(place):
    predict_paths("classify.onnx", images()[:2], "out", providers=["CPUExecutionProvider"])
    for more in ({"top": 2}, {"flip": True}, {"part_size": 5}, {"unknown_below": 0.5}):
        with pytest.raises(InputError, match=f"out: was begun with {next(iter(more))} "):
            predict_paths("classify.onnx", images(), "out", **more)
    with pytest.raises(InputError, match="was begun with model "):
        predict_paths("segment.onnx", images(), "out")
    with pytest.raises(InputError, match="explain: not for predict_paths"):
        predict_paths("classify.onnx", images(), "out", explain=True)
    with pytest.raises(InputError, match="paths is one path; give a list"):
        predict_paths("classify.onnx", "in/00.png", "out")
    assert len(rows_of()) == 2


def test_an_image_that_kills_its_process_is_set_aside_after_three_tries(place):
    Path("in/07-poison.png").write_bytes(Path("in/07.png").read_bytes())
    code = f"{POISON}\nfrom tfproj import predict_paths\nimport sys\n" \
           "predict_paths('classify.onnx', sys.argv[1:], 'out', part_size=12)"  # fmt: skip
    command = [sys.executable, "-c", code, *images()]
    ends = [subprocess.run(command, timeout=60).returncode for _ in range(5)]
    # The first death says only which part; three more that it is this image.
    assert ends == [137] * 4 + [0]
    rows = {row["image"]: row for row in rows_of()}
    assert sorted(rows) == images() and len(rows_of()) == 21
    bad = {image: row["error"] for image, row in rows.items() if row["error"]}
    poison = str(Path("in/07-poison.png"))
    assert list(bad) == [poison, BROKEN]
    assert bad[poison].endswith("set aside, since its worker died 3 times")
    healthy = predict_paths("classify.onnx", [images()[0], images()[-2]], "healthy")
    assert [rows[row["image"]]["label"] for row in healthy] == [row["label"] for row in healthy]
    assert list(Path("out/tries").iterdir()) == []


def test_an_image_at_which_the_model_fails_is_a_row(place, monkeypatch):
    run = Predictor.run

    def fail(self, pixels):
        if (pixels == 77).all(axis=(1, 2, 3)).any():
            raise TfprojError("no memory for it")
        return run(self, pixels)

    monkeypatch.setattr(Predictor, "run", fail)
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save("in/07.png")
    rows = predict_paths("classify.onnx", images(), "out")
    bad = str(Path("in/07.png"))
    assert {row["image"]: row["error"] for row in rows[:-1] if row["error"]} == {
        bad: f"{bad}: no memory for it"
    }
    assert len(rows_of()) == 20


def test_a_process_that_dies_leaves_no_half_part_and_harms_no_image(place):
    """Killed while a part is written, three times: no image may be blamed."""
    code = """
import os, sys
from tfproj import predict_paths
from tfproj.bulk.parts import Parts
def die(*_):
    os._exit(137)
Parts.write = die
predict_paths('classify.onnx', sys.argv[1:], 'out')
"""
    for _ in range(4):
        done = subprocess.run([sys.executable, "-c", code, *images()], timeout=60)
        assert done.returncode == 137
    assert not Path("out/parts").exists()
    rows = predict_paths("classify.onnx", images(), "out")
    assert [row["image"] for row in rows if row["error"]] == [BROKEN]


def test_images_and_parts_may_lie_in_an_object_store(place):
    fsspec = pytest.importorskip("fsspec", reason="the package fsspec is not installed")
    files = fsspec.filesystem("memory")
    for image in images():
        files.pipe_file(f"/bucket/{Path(image).as_posix()}", Path(image).read_bytes())
    urls = [f"memory://bucket/{Path(image).as_posix()}" for image in images()]
    rows = predict_paths("segment.onnx", [*urls, "memory://bucket/none.png"], "memory://bucket/out")
    local = predict_paths("segment.onnx", [Path(i).absolute().as_uri() for i in images()],
                          Path("out").absolute().as_uri())  # fmt: skip
    shares = [name for name in rows[0] if name.startswith("share_")]
    assert [[row[name] for name in shares] for row in rows[:-1]] == [
        [row[name] for name in shares] for row in local
    ]
    assert rows[-2]["error"].startswith("memory://bucket/in/19.png: ")
    assert rows[-1]["error"] == "memory://bucket/none.png: no such file"
    assert files.cat_file(rows[0]["mask"]) == Path(local[0]["mask"]).read_bytes()
    assert len(files.ls("/bucket/out/parts")) == 1
    # Names that look like a pattern, and members of an archive: a billion small files are too many.
    files.pipe_file("/bucket/[1].png", Path(images()[0]).read_bytes())
    with zipfile.ZipFile("shard.zip", "w") as archive:
        archive.write(images()[0], "deep/a.png")
    odd = ["memory://bucket/[1].png", f"zip://deep/a.png::{Path('shard.zip').absolute().as_uri()}"]
    for row in predict_paths("segment.onnx", odd, "odd"):
        assert [row[name] for name in shares] == [local[0][name] for name in shares]
    with pytest.raises(InputError, match="was begun with top 1, now it is 2"):
        predict_paths("segment.onnx", urls, "memory://bucket/out", top=2)
    files.rm("/bucket", recursive=True)


def test_names_that_are_no_utf_8_are_spelled_out(place):
    if sys.platform != "linux":
        pytest.skip("file systems elsewhere refuse such names")
    odd = os.fsdecode(b"in/\xff.png")
    os.rename("in/00.png", odd)
    rows = predict_paths("classify.onnx", [odd], "out")
    assert rows[0]["image"] == "in/\\xff.png" and rows[0]["error"] is None
    assert predict_paths("classify.onnx", [odd], "out") == rows and len(parts()) == 1


def test_a_name_may_hold_the_end_of_a_line(place):
    if sys.platform == "win32":
        pytest.skip("no file is called so there")
    os.rename("in/00.png", "in/a\rb\n.png")
    rows = predict_paths("classify.onnx", images(), "out")
    assert predict_paths("classify.onnx", images(), "out") == rows


@pytest.fixture
def command(place, monkeypatch):
    """Runs ``predict --engine dask --output out`` in this process; returns the exit code."""
    monkeypatch.setitem(engines.PACKAGES, "dask", "csv")  # which is there
    monkeypatch.setitem(
        engines.ENGINES, "dask", lambda job, tasks, *_: (engines._work(job, some) for some in tasks)
    )

    def run(model, *args, output="out"):
        engine = ["--engine", "dask", "--output", output]
        return main(["predict", f"{model}.onnx", *args, *engine])

    return run


def test_a_list_is_read_before_anything_is_begun(command, capsys):
    assert command("classify", "in", "--list", "none.txt") == 2
    Path("a.parquet").write_bytes(b"PAR1...PAR1")
    assert command("classify", "in", "--list", "a.parquet") == 2
    assert "a.parquet: is Parquet; say with --column" in capsys.readouterr().err
    assert not Path("out").exists()
    # As Windows' editors write it.
    Path("a.txt").write_bytes("in/00.png\r\n\r\nin/19.png\r\n".encode("utf-8-sig"))
    assert command("classify", "--list", "a.txt") == 1
    assert capsys.readouterr().out.startswith("1 images predicted\n")
    assert [Path(row["image"]).name for row in rows_of()] == ["00.png", "19.png"]


def test_a_wrong_column_is_said_before_anything_is_begun(command, capsys):
    pyarrow = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"path": ["in/00.png", None, "in/01.png"]}), "a.parquet")
    assert command("classify", "in", "--list", "a.parquet", "--column", "image") == 2
    assert "a.parquet: no column 'image'" in capsys.readouterr().err and not Path("out").exists()
    assert command("classify", "--list", "a.parquet", "--column", "path") == 0
    assert len(rows_of()) == 2


def test_masks_are_no_images_of_the_next_call(command, capsys):
    assert command("segment", "in", output="in") == 2
    assert "masks would lie among the images" in capsys.readouterr().err
    for _ in range(2):
        assert command("segment", "in", "in/*", output="in/out") == 1
    assert len(rows_of("in/out")) == 20


def test_a_device_that_is_not_there_is_refused(command, capsys):
    assert command("classify", "in", "--device", "cuda") == 2
    assert "device cuda: this onnxruntime has no CUDA" in capsys.readouterr().err
    assert command("classify", "in/00.png", "--device", "cpu") == 0


def test_settings_that_are_none_are_refused(place):
    for text in ("[]", "3", "{"):
        Path("out").mkdir(exist_ok=True)
        Path("out/settings.json").write_text(text)
        with pytest.raises(InputError, match="choose another output|or another output"):
            predict_paths("classify.onnx", images(), "out")


def test_a_store_whose_package_is_missing_makes_no_rows(place):
    fsspec = pytest.importorskip("fsspec", reason="the package fsspec is not installed")
    said = "Install absent to access it"
    fsspec.register_implementation("absent", "absent.FileSystem", clobber=True, errtxt=said)
    for url in ("absent://a/b.png", "zip://b.png::absent://a.zip"):
        with pytest.raises(InputError, match="absent://: Install absent to access it"):
            predict_paths("classify.onnx", ["in/00.png", url], "out")
    assert not Path("out/parts").exists() and not Path("out/tries").exists()
    (row,) = predict_paths("classify.onnx", ["wrong://a/b.png"], "out")
    assert "Protocol not known" in row["error"]


def test_wrong_options_of_the_command_are_one_line(place, capsys):
    for arguments, expected in (
        (["--workers", "2"], "--workers: only with --engine dask or ray"),
        (["--list", "a.txt"], "--list: only with --engine dask or ray"),
        (["--format", "parquet"], "--format parquet: only with --engine dask or ray"),
        (["--engine", "dask"], "--engine needs --output, and writes csv or parquet"),
        (["--engine", "dask", "--output", "o", "--html", "a.html"], "--html: not with --engine"),
        (["--engine", "dask", "--output", "o", "--column", "a"], "--column needs --list"),
    ):
        assert main(["predict", "classify.onnx", "in", *arguments]) == 2
        assert capsys.readouterr().err.strip() == f"error: {expected}"
    assert not Path("o").exists()
