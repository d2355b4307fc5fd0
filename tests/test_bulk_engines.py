"""``tfproj predict --engine``: workers and drivers that are killed lose and double nothing."""

import collections
import csv
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_bulk import POISON
from tiny_models import SPECS, pixels, png, tiny_model

from tfproj.bulk import engines, task
from tfproj.cli.main import main
from tfproj.errors import InputError, TfprojError

dask = pytest.importorskip("dask", reason="the package dask is not installed")
distributed = pytest.importorskip("distributed", reason="the package distributed is not installed")

IMAGES, PART = 1200, 60


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 1,200 images, one of them broken, and a model beside it."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "in").mkdir()
    for number in range(IMAGES - 1):
        data = png(pixels(number % 40, SPECS["classify"]))
        (folder / f"in/{number:04}.png").write_bytes(data)
    (folder / "in/broken.png").write_bytes(b"no image")
    (folder / "in/notes.txt").write_bytes(b"left out")
    (folder / "model.onnx").write_bytes(tiny_model())
    assert main(["predict", str(folder / "model.onnx"), str(folder / "in"),
                 "--output", str(folder / "cli")]) == 1  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def cluster():
    """Two workers on the loopback."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
        silence_logs=40,
    ) as started:  # fmt: skip
        yield started


def rows_of(folder):
    """Rows by image, after a look that none is there twice."""
    rows = [row for part in (folder / "parts").iterdir() for row in table(part)]
    twice = [name for name, n in collections.Counter(r["image"] for r in rows).items() if n > 1]
    assert not twice
    return {row["image"]: row for row in rows}


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def same_as_cli(photos, rows):
    expected = table(photos / "cli/predictions.csv")
    assert len(expected) == IMAGES - 1
    return all(rows[row["image"]] == {**row, "error": ""} for row in expected)


def job(photos, output, **more):
    model = str(photos / "model.onnx")
    return task.begin(task.Job(model, str(output), part_size=PART, **more))


def tasks(photos):
    images = sorted(map(str, (photos / "in").glob("*.png")))
    return iter([images[i : i + PART] for i in range(0, len(images), PART)])


def predict(photos, output, *more):
    return ["predict", str(photos / "model.onnx"), str(photos / "in"), "--engine", "dask",
            "--output", str(output), "--part-size", str(PART), *more]  # fmt: skip


def test_a_killed_worker_loses_and_doubles_nothing(photos, tmp_path):
    found = engines.run("dask", job(photos, tmp_path), tasks(photos), 2, None)
    done = [next(found)]
    workers = [child for child in multiprocessing.active_children() if "Dask" in child.name]
    os.kill(workers[0].pid, signal.SIGKILL)
    done += found
    assert sum(part.images for part in done) == IMAGES
    rows = rows_of(tmp_path)
    assert len(rows) == IMAGES and same_as_cli(photos, rows)
    errors = [text for part in done for text in part.errors]
    assert [row["error"] for row in rows.values() if row["error"]] == errors
    assert len(errors) == 1 and "broken.png: " in errors[0]


def test_an_image_that_kills_its_worker_is_set_aside_and_named(photos, tmp_path, capsys):
    names = [photos / f"in/{number:04}.png" for number in range(30)]
    (tmp_path / "poison.png").write_bytes(names[0].read_bytes())
    names.insert(17, tmp_path / "poison.png")
    (tmp_path / "list.txt").write_text("\n".join(map(str, names)) + "\n")
    (tmp_path / "poison.py").write_text(POISON)
    with dask.config.set({"distributed.worker.preload": [str(tmp_path / "poison.py")]}):
        code = main(["predict", str(photos / "model.onnx"), "--list", str(tmp_path / "list.txt"),
                     "--engine", "dask", "--output", str(tmp_path / "out"), "--json",
                     "--workers", "1"])  # fmt: skip
    said = capsys.readouterr()
    expected = f"{tmp_path / 'poison.png'}: set aside, since its worker died 3 times"
    assert code == 1 and f"error: {expected}" in said.err
    found = json.loads(said.out)
    assert (found["images"], found["errors"], found["left_out"]) == (31, 1, 0)
    rows = rows_of(tmp_path / "out")
    assert [row["error"] for row in rows.values() if row["error"]] == [expected]
    assert len(rows) == 31


def test_a_killed_driver_goes_on_with_what_its_parts_do_not_hold(
    photos, tmp_path, capsys, monkeypatch
):
    command = [sys.executable, "-m", "tfproj", *predict(photos, tmp_path, "--workers", "2")]
    parts, end = tmp_path / "parts", time.monotonic() + 120
    with subprocess.Popen(command) as driver:
        while not parts.exists() or len(list(parts.glob("part-*"))) < 2:
            assert driver.poll() is None and time.monotonic() < end
            time.sleep(0.002)
        driver.send_signal(signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in parts.glob("part-*")}
    assert main(predict(photos, tmp_path, "--workers", "2", "--json")) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert "note: 1 left out" in said.err and "notes.txt" in said.err
    # Workers may have ended a part between the two starts.
    assert found["images"] + found["left_out"] == IMAGES
    assert found["left_out"] >= PART * len(before) > 0 and found["images"] > 0
    rows = rows_of(tmp_path)
    assert len(rows) == IMAGES and same_as_cli(photos, rows)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # With nothing left, no engine is started; errors of before are not forgotten.
    monkeypatch.setitem(engines.ENGINES, "dask", None)
    assert main(predict(photos, tmp_path, "--workers", "2", "--json")) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["left_out"] == IMAGES and found["earlier_errors"] == 1


def test_workers_with_other_packages_or_another_model_are_refused(photos, cluster, tmp_path):
    address = cluster.scheduler_address
    with distributed.Client(address, set_as_default=False) as client:
        patch = "import tfproj.bulk.task as t; t._made_with.cache_clear(); t.__version__ = {!r}"
        client.run(exec, patch.format("0.0.7"))
        with pytest.raises(InputError, match="worker on .*: tfproj 0.0.7, but the job was begun"):
            list(engines.run("dask", job(photos, tmp_path / "a"), tasks(photos), None, address))
        time.sleep(0.5)  # tasks that were on their way are refused, too
        assert not (tmp_path / "a/parts").exists()
        client.run(exec, patch.format(task.__version__))
    begun = job(photos, tmp_path)
    model = tmp_path / "model.onnx"
    model.write_bytes(tiny_model(temperature=2.0))
    with pytest.raises(InputError, match="worker on .*: model "):
        other = dataclasses.replace(begun, model=str(model))
        list(engines.run("dask", other, tasks(photos), None, address))
    assert not (tmp_path / "parts").exists()


def test_a_cluster_may_grow_and_end(photos, tmp_path):
    asked = []

    def counted():
        for some in tasks(photos):
            asked.append(some)
            yield some

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as started:  # fmt: skip
        address = started.scheduler_address
        found = engines.run("dask", job(photos, tmp_path), counted(), None, address)
        next(found)
        assert len(asked) == 2
        started.scale(2)
        started.wait_for_workers(2)
        next(found)
        assert len(asked) == 1 + 2 * 2  # one is done, and two are under way for each worker
    with pytest.raises(TfprojError, match=r"the cluster is gone \(.*the same call continues"):
        list(found)


def test_an_address_that_does_not_answer(photos, tmp_path, capsys, monkeypatch):
    assert engines.TIMEOUT == 10
    monkeypatch.setattr(engines, "TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert main(predict(photos, tmp_path, "--address", address)) == 2
    assert capsys.readouterr().err.startswith(f"error: {address}: no answer within 1 s (")
    for address in ("tcp://127.0.0.1:9", "nowhere", "http://127.0.0.1:x"):
        assert main(predict(photos, tmp_path, "--address", address)) == 2
        assert capsys.readouterr().err.startswith(f"error: {address}: no answer within 1 s (")


@pytest.mark.parametrize(("engine", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_that_is_not_installed(photos, tmp_path, capsys, monkeypatch, engine, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert main([*predict(photos, tmp_path), "--engine", engine]) == 2
    expected = f"this needs the package '{module}': pip install 'tfproj[{engine}]'"
    assert capsys.readouterr().err.strip() == f"error: {expected}"
    assert not (tmp_path / "settings.json").exists()  # nothing was begun


def test_other_settings_are_refused_before_the_engine_starts(photos, tmp_path, capsys):
    job(photos, tmp_path)
    assert main(predict(photos, tmp_path, "--top", "2")) == 2
    assert "was begun with top 1, now it is 2" in capsys.readouterr().err
    assert main(predict(photos, tmp_path, "--workers", "2", "--address", "tcp://a:1")) == 2
    assert "--workers and --address exclude each other" in capsys.readouterr().err
    assert main([*predict(photos, tmp_path), str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'absent'}: no such file\n"


def test_ray_gives_the_same_and_leaves_out_the_same(photos, tmp_path, capsys):
    pytest.importorskip("ray", reason="the package ray is not installed")
    arguments = predict(photos, tmp_path, "--engine", "ray", "--workers", "2", "--json")
    assert main(arguments) == 1
    assert json.loads(capsys.readouterr().out)["images"] == IMAGES
    assert same_as_cli(photos, rows_of(tmp_path))
    next((tmp_path / "parts").iterdir()).unlink()
    assert main(arguments) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["images"] + found["left_out"] == IMAGES and 0 < found["images"] <= PART
    assert len(rows_of(tmp_path)) == IMAGES


@pytest.mark.parametrize(("name", "module"), [("ray_data", "ray.data"), ("spark", "pyspark")])
def test_the_examples_for_other_engines(photos, tmp_path, name, module):
    pytest.importorskip(module, reason=f"the package {module} is not installed")
    if module == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    images = next(tasks(photos))[:30]
    (tmp_path / "list.txt").write_text("\n".join(images))
    script = Path(__file__).parent.parent / "examples" / f"{name}.py"
    arguments = [photos / "model.onnx", tmp_path / "list.txt", tmp_path / "out"]
    for _ in range(2):
        done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1:] == ["30 rows"], done.stderr[-2000:]
    assert sorted(rows_of(tmp_path / "out")) == images


def test_lists_and_object_stores_are_searched(photos, tmp_path):
    from tfproj.bulk import plan

    fsspec = pytest.importorskip("fsspec", reason="the package fsspec is not installed")
    arrow = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
    import pyarrow.parquet

    files = fsspec.filesystem("memory")
    for name in ("a/1.png", "a/b/2.JPG", "a/notes.txt", "a/out/masks/000/3.png"):
        files.pipe_file(f"/store/{name}", b"x")
    whole = ["memory:///store/a/1.png", "memory:///store/a/b/2.JPG"]
    assert [*plan.find(["memory://store/a"], "memory://store/a/out")] == whole
    assert [*plan.find(["memory://store/a/*.png"], "out")] == whole[:1]
    with pytest.raises(InputError, match="memory://store/c: no images there"):
        list(plan.find(["memory://store/c"], "out"))
    pyarrow.parquet.write_table(arrow.table({"path": [*whole, None]}), tmp_path / "list.parquet")
    assert [*plan.listed(str(tmp_path / "list.parquet"), "path")] == whole
    with pytest.raises(InputError, match="list.parquet: no column 'url'"):
        list(plan.listed(str(tmp_path / "list.parquet"), "url"))
    files.rm("/store", recursive=True)
