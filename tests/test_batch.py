"""Many files: finding them, failures between them, tables that can be continued."""

import contextlib
import csv
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_models import SPECS, pixels, png, tiny_model

from tfproj import Predictor
from tfproj.core.files import cut_last_line
from tfproj.errors import InputError
from tfproj.inference import image_files, table
from tfproj.inference.image_files import Settings, find_images, mask_names

pytestmark = pytest.mark.light


@pytest.fixture(params=["classify", "segment"])
def task(request):
    return request.param


@pytest.fixture
def predictor(task):
    return Predictor(tiny_model(task), threads=1)


@pytest.fixture
def folder(task, tmp_path):
    """Twelve images, three of them damaged."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for i in range(12):
        path = tmp_path / "in" / ("deep" if i % 2 else "") / f"{i:02}.png"
        path.write_bytes(b"" if i in (2, 3, 11) else png(pixels(i, SPECS[task])))
    return tmp_path / "in"


def stream_files(predictor, paths, output=None, batch_size=8, **settings):
    return image_files.stream_files(predictor, paths, Settings(output, batch_size, **settings))


def predict_files(*args, **settings):
    """(records of the images predicted, records of the failures)"""
    items = list(stream_files(*args, **settings))
    return [i for i in items if "error" not in i], [i for i in items if "error" in i]


def rows(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_finding_images(folder):
    for name in (".hidden.png", "note.txt", "B.JPG"):
        (folder / name).touch()
    (folder / "folder.png").mkdir()
    (folder / ".cache").mkdir()
    (folder / ".cache" / "c.png").touch()
    (folder / "out").mkdir()
    (folder / "out" / "mask.png").touch()
    found = find_images([str(folder), str(folder / "00.png"), str(folder / "note.txt")])
    assert len(found) == 12 + 1 + 1 + 1 and len(set(found)) == len(found)
    assert found[:-1] == sorted(found[:-1]) and found[-1].name == "note.txt"
    without = find_images([str(folder)], folder / "out")
    assert len(without) == 13 and not any("out" in p.parts for p in without)
    assert find_images([str(folder / "out")], folder / "out")
    for arguments, words in (([str(folder / "no")], "no such file"), ([str(folder)], None)):
        if words:
            with pytest.raises(InputError, match=words):
                find_images(arguments)
    (folder / "folder.png").rmdir()
    for pattern in ("*", "out/*", "**/*.png"):  # the shell's, where it leaves them
        given = [str(folder / "00.png"), str(folder / pattern)]
        if pattern == "out/*":
            with pytest.raises(InputError, match="no file matches"):
                find_images(given, folder / "out")
        else:
            found = find_images(given, folder / "out")
            assert len(found) > 10 and not any("out" in p.parts for p in found)
    if sys.platform != "win32":
        (folder / "circle").symlink_to("circle")
        left_out = []
        assert len(find_images([str(folder)], folder / "out", left_out)) == 13
        assert folder / "circle" in left_out
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no images in this directory"):
        find_images([str(folder / "empty")])


@pytest.mark.parametrize("file_format", ["csv", "jsonl"])
def test_bad_files_are_told_and_the_others_written(task, predictor, folder, tmp_path, file_format):
    paths, out = find_images([str(folder)]), tmp_path / "out"
    found, failures = predict_files(predictor, paths, out, 4, top=2, file_format=file_format)
    assert len(found) == 9 and len(failures) == 3
    assert [r["image"] for r in found] == [
        str(p) for p in paths if p.stem not in ("02", "03", "11")
    ]
    alone = {str(p): predictor.predict(p)[0] for p in paths if p.stat().st_size}
    written = out / f"predictions.{file_format}"
    if file_format == "csv":
        table = rows(written)
    else:
        table = [json.loads(line) for line in written.read_text().splitlines()]
        assert table == found
    for row, record in zip(table, found, strict=True):
        expected = alone[record["image"]]
        assert row["image"] == record["image"]
        if task == "classify":
            top = [(answer["label"], answer["probability"]) for answer in record["top"]]
            assert [label for label, _ in top] == [label for label, _ in expected.top(2)]
            assert [p for _, p in top] == pytest.approx([p for _, p in expected.top(2)], abs=1e-5)
            if file_format == "csv":
                told = [(row[f"label{k}"], float(row[f"probability{k}"])) for k in ("", "_2")]
                assert told == top
        else:
            assert record["shares"] == pytest.approx(expected.shares(), abs=1e-5)
            if file_format == "csv":
                told = {name: float(row[f"share_{name}"]) for name in expected.shares()}
                assert told == record["shares"]
            with Image.open(record["mask"]) as mask:
                np.testing.assert_array_equal(np.asarray(mask), expected.mask)
    extra = [] if task == "classify" else [f"{i:02}.png" for i in range(12) if i not in (2, 3, 11)]
    assert sorted(p.name for p in out.iterdir()) == sorted([*extra, written.name])
    assert failures[0]["error"].endswith("(0 bytes)")


def without(folder, table):
    """The text of a table whose masks may lie elsewhere; JSON doubles backslashes."""
    text = table.read_text(encoding="utf-8").replace("\\\\", "\\")
    return text.replace(str(folder), "OUT")


@pytest.mark.parametrize("file_format", ["csv", "jsonl"])
@pytest.mark.parametrize("after", [0, 1, 5, 8])
def test_an_interrupted_table_is_continued(predictor, folder, tmp_path, file_format, after):
    paths, out = find_images([str(folder)]), tmp_path / "out"
    whole = tmp_path / "whole"
    predict_files(predictor, paths, whole, 2, file_format=file_format)
    stream = stream_files(predictor, paths, out, 2, file_format=file_format)
    for _ in range(after + 1):
        next(stream)
    stream.close()
    name = f"predictions.{file_format}"
    partial = out / f"{name}.partial"
    assert partial.exists() and not (out / name).exists()
    with partial.open("a") as file:
        file.write('{"image": "cut off')
    again = list(stream_files(predictor, paths, out, 2, file_format=file_format, resume=True))
    assert len(again) < len(paths) or after == 0
    assert without(out, out / name) == without(whole, whole / name)
    assert not list(out.glob("*.partial*"))


@pytest.mark.parametrize("before", ["", "image,label\na.png,b\n"])
@pytest.mark.parametrize("cut_off", ["", "x", "x" * 65_536, "x" * 200_000])
def test_what_is_left_of_a_line_is_dropped(tmp_path, before, cut_off):
    path = tmp_path / "a.csv.partial"
    path.write_bytes((before + cut_off).encode())
    cut_last_line(path)
    assert path.read_bytes() == before.encode()


def test_only_the_same_settings_are_continued(predictor, folder, tmp_path):
    paths, out = find_images([str(folder)]), tmp_path / "out"

    def interrupt():
        stream = stream_files(predictor, paths, out, 2, top=1)
        next(stream)
        stream.close()

    interrupt()
    with pytest.raises(InputError, match="another model or other options"):
        list(stream_files(predictor, paths, out, 2, top=2, resume=True))
    other = Predictor(tiny_model(predictor.spec.task, note="another"), threads=1)
    with pytest.raises(InputError, match="another model"):
        list(stream_files(other, paths, out, 2, resume=True))
    predictor.flip = True
    with pytest.raises(InputError, match="other options"):
        list(stream_files(predictor, paths, out, 2, resume=True))
    predictor.flip = False
    partial = out / "predictions.csv.partial"
    partial.write_text("image,label\na,b,c\n")
    with pytest.raises(InputError, match="damaged"):
        list(stream_files(predictor, paths, out, 2, resume=True))
    assert len(list(stream_files(predictor, paths, out, 2))) == 12  # anew
    assert len(list(stream_files(predictor, paths, out, 2, resume=True))) == 12


def test_a_table_without_images_that_could_be_read(predictor, folder, tmp_path):
    path = folder / "02.png"
    found, failures = predict_files(predictor, [path], tmp_path / "out")
    assert not found and len(failures) == 1
    assert (tmp_path / "out" / "predictions.csv").read_text() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_of_files_may_hold_anything(predictor, folder, tmp_path):
    data = (folder / "00.png").read_bytes()
    names = ["a,b.png", 'quo"te.png', "new\nline.png", "ü.png", os.fsdecode(b"\xff.png")]
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(data)
    for file_format in table.FORMATS:
        predict_files(predictor, paths, tmp_path / "out", 2, file_format=file_format)
    assert [row["image"] for row in rows(tmp_path / "out" / "predictions.csv")] == [
        *map(str, paths)
    ]
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["image"] for line in lines] == [*map(str, paths)]


def test_names_of_masks_never_clash(tmp_path):
    names = ["a.png", "a.jpg", "a_overlay.png", "sub/a.png", "sub/a.jpg", "a_2.png", "a_png.png"]
    found = mask_names([tmp_path / name for name in names])
    taken = [n for name in found.values() for n in (name, f"{name[:-4]}_overlay.png")]
    assert len(found) == len(names) and len(set(taken)) == 2 * len(names)
    assert found[tmp_path / "a.png"] == "a.png"


def test_ten_thousand_masks_of_one_name_are_named_soon(tmp_path):
    paths = [tmp_path / str(i) / "image.png" for i in range(10_000)]
    assert len(set(mask_names(paths).values())) == 10_000


@pytest.mark.parametrize("names", [["a.png"], ["a.jpg", "a.png"], ["a.jpg"], ["a_overlay.jpg"]])
def test_a_mask_never_replaces_what_is_not_one(names, tmp_path):
    predictor = Predictor(tiny_model("segment"), threads=1)
    data = png(pixels(0, SPECS["segment"]))
    paths = [tmp_path / name for name in names]
    for path in (*paths, tmp_path / "a.png", tmp_path / "a_overlay.png"):
        path.write_bytes(data)
    with pytest.raises(InputError, match="would replace it; choose another --output"):
        predict_files(predictor, paths, tmp_path, overlay=True)
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {data}


def test_earlier_masks_are_replaced(folder, tmp_path):
    predictor = Predictor(tiny_model("segment"), threads=1)
    path = folder / "00.png"
    for seed in range(2):
        path.write_bytes(png(pixels(seed, SPECS["segment"])))
        predict_files(predictor, [path], tmp_path / "out")
    (result,) = predictor.predict(path)
    with Image.open(tmp_path / "out" / "00.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), result.mask)


@pytest.mark.parametrize("file_format", table.FORMATS)
def test_images_added_before_a_resume_leave_finished_masks(file_format, tmp_path):
    predictor = Predictor(tiny_model("segment"), threads=1)
    paths = [tmp_path / name / "x.png" for name in ("a", "b", "c")]
    for seed, path in enumerate(paths):
        path.parent.mkdir()
        path.write_bytes(png(pixels(seed, SPECS["segment"])))
    out = tmp_path / "out"
    with contextlib.closing(stream_files(predictor, paths[1:], out, file_format=file_format)) as it:
        next(it)
    list(stream_files(predictor, paths, out, file_format=file_format, resume=True))
    if file_format == "csv":
        table = rows(out / "predictions.csv")
    else:
        table = [*map(json.loads, (out / "predictions.jsonl").read_text().splitlines())]
    assert [row["image"] for row in table] == [str(paths[i]) for i in (1, 0, 2)]
    for row in table:
        (result,) = predictor.predict(row["image"])
        with Image.open(row["mask"]) as mask:
            np.testing.assert_array_equal(np.asarray(mask), result.mask)


def test_the_mask_of_an_image_with_a_long_name(tmp_path):
    predictor = Predictor(tiny_model("segment"), threads=1)
    paths = [tmp_path / ("ü" * 125 + end) for end in ("a.png", "b.png")]
    for path in paths:
        path.write_bytes(png(pixels(0, SPECS["segment"])))
    done, failures = predict_files(predictor, paths, tmp_path / "out", overlay=True)
    assert len({record["mask"] for record in done}) == 2 and not failures


def test_an_output_that_cannot_be_written(predictor, folder):
    with pytest.raises(InputError, match="cannot be written"):
        predict_files(predictor, [folder / "00.png"], folder / "00.png" / "out")
    with pytest.raises(InputError, match="'xml'; expected one of csv, jsonl"):
        predict_files(predictor, [folder / "00.png"], file_format="xml")


def test_unknown_is_in_the_table(folder, tmp_path):
    predictor = Predictor(tiny_model(), threads=1, unknown_below=1.0)
    predict_files(predictor, [folder / "00.png"], tmp_path / "out", top=2)
    (row,) = rows(tmp_path / "out" / "predictions.csv")
    assert row["label"] == "unknown" and 0 < float(row["confidence"]) < 1 and row["label_2"]


def test_memory_is_flat_for_many_files(task, predictor, tmp_path):
    import tracemalloc

    path, peaks = tmp_path / "a.png", []
    path.write_bytes(png(pixels(0, SPECS[task])))
    paths = [path] * 3000
    tracemalloc.start()
    for index, _ in enumerate(stream_files(predictor, paths, None, 16)):
        if index in (300, 2999):
            peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000


def test_describing_an_error_is_one_line(tmp_path):
    record = image_files.describe(tmp_path, InputError("a\nb: no such file"), 1)
    assert record == {"image": str(tmp_path), "error": "a b: no such file"}
