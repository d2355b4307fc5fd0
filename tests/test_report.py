"""The report of toy runs: numbers, missing pieces, hostile names, comparisons, the command."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image
from report_toys import classified, edit_json, segmented, toy_run, write_history

from tfproj.errors import InputError
from tfproj.inference.results import Classification, Segmentation
from tfproj.report import build, new_prediction_page
from tfproj.report.assets import Assets

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def light(monkeypatch):
    """Figures are made but not rendered, which takes most of the time of a report."""

    def figure(self, name, figure, alt):
        return Markup("<svg></svg>")

    monkeypatch.setattr(Assets, "figure", figure)


class Page(HTMLParser):
    """Tags, ids, link targets, metrics and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.ids, self.links, self.images, self.metrics = [], [], [], [], {}
        self.words = []
        self._skip = False
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        self._skip = tag == "style"
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "img":
            self.images.append(attributes)
        if tag == "data":
            self.metrics[attributes["data-metric"]] = float(attributes["value"])

    def handle_data(self, data):
        if not self._skip:
            self.words.append(data)


def metric(record, key):
    """The value in metrics.json that a ``data-metric`` of the page names."""
    split, name, *rest = key.split(".", 2)
    value = record["splits"][split][name]
    return value[rest[0]] if rest else value


def assert_sound(page):
    assert not re.search(r"(src|href)=\"(?!#|data:)", page.source)
    assert 'http-equiv="Content-Security-Policy"' in page.source and "script" not in page.tags
    assert len(page.ids) == len(set(page.ids))
    assert all(link[1:] in page.ids for link in page.links)
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.images)
    assert all(message not in page.text for message in ("nan", "None", "Undefined"))


@pytest.mark.parametrize("make", [classified, segmented])
def test_numbers_on_the_page_are_those_of_metrics_json(make, tmp_path):
    run = make(tmp_path / "run")
    path = build([run])
    assert path == run.report_file
    page, record = Page(path), json.loads(run.metrics_file.read_text())
    assert_sound(page)
    assert len(page.metrics) >= 8
    for key, value in page.metrics.items():
        assert value == metric(record, key), key
    for split in ("train", "val", "test"):
        name = "accuracy" if make is classified else "mean_average_precision_raw"
        assert f"{split}.{name}" in page.metrics


def test_a_run_of_before_has_no_figures_at_the_photographs_own_size(tmp_path):
    run = segmented(tmp_path / "run")
    assert "val.mean_iou_full" in Page(build([run])).metrics

    def older(record):
        for split in record["splits"].values():
            for key in [key for key in split if key.endswith("_full")]:
                del split[key]

    edit_json(run.metrics_file, older)
    page = Page(build([run]))
    assert_sound(page)
    assert "val.mean_iou_full" not in page.metrics and "val.mean_iou" in page.metrics


def test_figures_and_numbers_lie_beside_the_page(tmp_path):
    run = classified(tmp_path / "run")
    build([run])
    folder = run.path / "report"
    for name in ("accuracy", "loss", "per_class_accuracy", "confusion_matrix", "reliability",
                 "filters1", "filters2", "activations1", "activations2"):  # fmt: skip
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((folder / "numbers.json").read_text())
    low, high = (numbers["accuracy"]["test"][k] for k in ("low_95", "high_95"))
    assert 0 < low < numbers["accuracy"]["test"]["value"] < high < 1
    assert 0 <= numbers["expected_calibration_error"] <= 1
    rows = list(csv.DictReader((folder / "per_class.csv").open()))
    assert [row["class"] for row in rows] == ["fox", "dog", "cat"]  # the hardest first
    assert rows[0]["taken_for"] == "cat" and float(rows[0]["accuracy_test"]) == 0.8
    assert len(list(csv.DictReader((folder / "reliability.csv").open()))) == 15


def test_classification_says_which_classes_are_hard(tmp_path, light):
    page = Page(build([classified(tmp_path / "run")]))
    assert "“fox” (80.0% right, most often taken for “cat”); the easiest is “cat”" in page.text
    assert "Training time 1 min 00 s for 3 epochs" in page.text
    assert "cell-2-0" in page.ids and "#cell-2-0" in page.links


def test_the_silenced_class_is_named(tmp_path, light):
    run = segmented(
        tmp_path / "run", classes=("sky", "wall", "door"), silent=1, preset="original"
    )  # fmt: skip
    page = Page(build([run]))
    assert "This model ends in a ReLU" in page.text
    assert "“wall” has collapsed: its score is 0 for every pixel" in page.text
    assert "“sky” has collapsed" not in page.text
    healthy = Page(build([segmented(tmp_path / "healthy")]))
    assert "No class has collapsed" in healthy.text


def test_report_reads_neither_the_data_nor_tensorflow(tmp_path):
    run = classified(tmp_path / "run", data=str(tmp_path / "gone"))
    code = (
        "import sys; from pathlib import Path; from tfproj.runs.run import Run\n"
        "from tfproj.report import build\n"
        f"build([Run(Path({str(run.path)!r}))])\n"
        "assert not {'tensorflow', 'keras', 'onnxruntime', 'sklearn'} & set(sys.modules)\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# What may be missing.


@pytest.mark.parametrize("task", ["classify", "segment"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_that_was_not_evaluated(task, epochs, tmp_path, light):
    run = toy_run(tmp_path / "run", task, ("a", "b"), epochs=epochs)
    page = Page(build([run]))
    assert_sound(page)
    assert "has not been evaluated" in page.text
    assert ("No epoch has been finished yet" in page.text) == (epochs == 0)


FILES = ("history.csv", "environment.json", "splits.json", "report_data",
         "report_data/examples.json", "report_data/examples", "report_data/filters.npz",
         "report_data/model.json", "metrics.json")  # fmt: skip


@pytest.mark.parametrize(
    ("make", "file"),
    [*((make, file) for make in (classified, segmented) for file in FILES),
     (classified, "predictions.csv"), (segmented, "report_data/curves.json")],
)  # fmt: skip
def test_without_one_file(make, file, tmp_path, light):
    run = make(tmp_path / "run")
    path = run.path / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert_sound(Page(build([run])))


@pytest.mark.parametrize("file", ["config.json", "spec.json"])
def test_without_what_makes_it_a_run(file, tmp_path):
    run = classified(tmp_path / "run")
    (run.path / file).unlink()
    with pytest.raises(InputError, match=f"{file} is missing"):
        build([run])


@pytest.mark.parametrize(
    "file",
    ["metrics.json", "report_data/examples.json", "report_data/filters.npz", "predictions.csv",
     "history.csv"],
)  # fmt: skip
def test_a_damaged_file_is_named(file, tmp_path, light):
    run = classified(tmp_path / "run")
    for content in ("split,epoch\ntest,{", *([""] if file.endswith(".npz") else [])):
        (run.path / file).write_text(content)
        with pytest.raises(InputError, match=f"{file}.*damaged"):
            build([run])


@pytest.mark.parametrize("splits", [("train",), ("val",), ("train", "val")])
@pytest.mark.parametrize("make", [classified, segmented])
def test_without_a_test_split(make, splits, tmp_path, light):
    page = Page(build([make(tmp_path / "run", splits=splits)]))
    assert_sound(page)
    assert f"no results of a test split; examples are from the {splits[-1]} split" in page.text


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_history_with_values_that_are_no_numbers(value, tmp_path):
    run = classified(tmp_path / "run")
    write_history(run, 3, val_accuracy=value, val_loss=value, loss=value)
    page = Page(build([run]))
    assert_sound(page)
    assert "2 of 3 (val_accuracy" in page.text
    write_history(run, 1, val_accuracy=value, val_loss=value, loss=value, accuracy=value)
    assert_sound(Page(build([run])))


def test_one_epoch_and_no_mistakes(tmp_path):
    run = classified(tmp_path / "run", mistakes=False)
    write_history(run, 1)
    page = Page(build([run]))
    assert_sound(page)
    assert "There is not one mistake" in page.text
    assert "every class has an accuracy of 100.0%" in page.text


def test_a_class_without_examples(tmp_path, light):
    run = classified(tmp_path / "run")

    def remove_dogs(record):
        for metrics in record["splits"].values():
            metrics["per_class_accuracy"]["dog"] = None
            metrics["confusion_matrix"][1] = [0, 0, 0]

    edit_json(run.metrics_file, remove_dogs)
    assert_sound(Page(build([run])))


def test_two_hundred_classes(tmp_path):
    classes = tuple(f"kind {i:03d} with a rather long name" for i in range(200))
    run = classified(tmp_path / "run", classes, splits=("val", "test"), per_class=6)
    path = build([run])
    page = Page(path)
    assert_sound(page)
    assert path.stat().st_size < 8e6
    assert "details" in page.tags and "The 40 hardest of 200 classes" in page.text


def test_many_classes_of_a_segmentation(tmp_path):
    classes = tuple(f"part {i}" for i in range(30))
    assert_sound(Page(build([segmented(tmp_path / "run", classes)])))


def test_trained_on_after_the_evaluation(tmp_path, light):
    run = classified(tmp_path / "run")
    write_history(run, 5)
    text = Page(build([run])).text
    assert "Evaluated after 3 epochs; by now the run has been trained for 5" in text


def test_mirrored_metrics_stand_beside_the_others(tmp_path, light):
    plain, mirrored = (classified(tmp_path / name) for name in ("plain", "mirrored"))
    found = {"test": {"accuracy": 0.98765}}
    edit_json(mirrored.metrics_file, lambda record: record.update(mirrored=found))
    assert "mirror image" not in Page(build([plain])).text
    said = "Averaged with the mirror image (tfproj evaluate --flip), the test accuracy is 0.9877."
    assert said in Page(build([mirrored])).text


def test_an_evaluation_on_other_data_is_said_to_be(tmp_path, light):
    own, other = (classified(tmp_path / name) for name in ("own", "other"))
    for run, of_training in ((own, True), (other, False)):
        data = {"name": "x", "origin": "/data/x", "of_training": of_training}
        edit_json(run.metrics_file, lambda record, data=data: record.update(data=data))
    assert "/data/x" not in Page(build([own])).text
    assert "on data that it was not trained on: /data/x." in Page(build([other])).text
    page = Page(build([own, other], tmp_path / "page.html"))
    assert "Evaluated on other data (tfproj evaluate --data): other." in page.text


def test_names_of_files_that_are_no_text(tmp_path, light):
    run = classified(tmp_path / "run", names=lambda i: f"caf\udce9 {i}.png")
    assert b"caf\xe9 1.png" in run.predictions_file.read_bytes()
    page = Page(build([run]))
    assert_sound(page)
    assert "caf\\udce9" in page.text


def test_examples_of_another_evaluation_are_not_shown(tmp_path, light):
    run = classified(tmp_path / "run", splits=("val", "test"))
    edit_json(run.metrics_file, lambda record: record["splits"].pop("test"))
    page = Page(build([run]))
    assert_sound(page)
    assert "No examples were saved" in page.text


# Names are data.


@pytest.mark.parametrize("make", [classified, segmented])
def test_hostile_names_do_no_harm(make, tmp_path):
    classes = (HOSTILE, "\"quoted\" & 'so'", "$x^2$ {{ 7*7 }}")
    names = {"names": lambda i: f"\"a' onerror=alert({i}) .png"} if make is classified else {
        "name": "\"a' onerror=alert(1) .png"}  # fmt: skip
    run = make(tmp_path / "<b>run", classes, **names)
    page = Page(build([run]))
    assert_sound(page)
    assert HOSTILE not in page.source and HOSTILE in page.text
    assert "$x^2$ {{ 7*7 }}" in page.text
    assert not any("onerror" in image and image["onerror"] for image in page.images)


def test_names_that_fonts_and_xml_lack(tmp_path, recwarn):
    run = classified(tmp_path / "run", ("猫", "bell\x07", "a\nb"))
    assert_sound(Page(build([run])))
    assert not recwarn.list


def test_examples_outside_of_the_run_are_not_embedded(tmp_path, light):
    run = classified(tmp_path / "run")
    (tmp_path / "secret.png").write_bytes(b"secret")

    def escape(record):
        record["examples"][0]["file"] = "../../secret.png"

    edit_json(run.report_data / "examples.json", escape)
    assert "c2VjcmV0" not in Page(build([run])).source


# Several runs.


def test_comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = classified(tmp_path / "a", learning_rate=0.1)
    second = classified(tmp_path / "b", learning_rate=0.2, mistakes=False)
    path = build([first, second])
    page = Page(path)
    assert path.resolve() == tmp_path / "comparison.html"
    assert_sound(page)
    assert "learning_rate 0.1 0.2" in page.text and "batch_size" not in page.text
    assert "test accuracy 90.00% 100.00% +10.00" in page.text
    assert "fox 80.0% 100.0% +20.0" in page.text
    numbers = json.loads((tmp_path / "comparison" / "numbers.json").read_text())
    assert numbers["numbers"]["test accuracy"] == [0.9, 1.0]


def test_comparison_of_unequal_runs(tmp_path):
    runs = [
        segmented(tmp_path / "x" / "run", splits=("val",)),
        segmented(tmp_path / "y" / "run", ("sky", "tree"), splits=("val", "test")),
        toy_run(tmp_path / "z" / HOSTILE.replace("/", "-"), "segment", ("sky", "wall"), epochs=0),
    ]
    page = Page(build(runs, tmp_path / "out.html"))
    assert_sound(page)
    assert "different classes" in page.text and "has not been evaluated" in page.text
    assert "Average precision, softmax, val split" in page.text


def test_comparison_of_runs_without_a_common_class(tmp_path, light):
    runs = [segmented(tmp_path / "a"), segmented(tmp_path / "b", ("x", "y"))]
    page = Page(build(runs, tmp_path / "out.html"))
    assert "share no class" in page.text and page.tags.count("table") == 1


def test_comparison_of_many_runs(tmp_path, light):
    run = classified(tmp_path / "run")
    page = Page(build([run] * 12, tmp_path / "out.html"))
    assert "(12)" in page.text
    assert_sound(page)


def test_comparison_of_two_tasks_is_refused(tmp_path):
    runs = [classified(tmp_path / "a"), segmented(tmp_path / "b")]
    with pytest.raises(InputError, match="different tasks"):
        build(runs, tmp_path / "out.html")
    with pytest.raises(InputError, match="no run"):
        build([])


@pytest.mark.parametrize("name", ["page.txt", "page", "."])
def test_output_that_is_no_page(name, tmp_path):
    with pytest.raises(InputError, match="html|HTML"):
        build([classified(tmp_path / "run")], tmp_path / name)


def test_other_files_beside_the_page_are_left_alone(tmp_path, light):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "mine.txt").write_text("kept")
    build([classified(tmp_path / "run")], tmp_path / "page.html")
    assert (tmp_path / "page" / "mine.txt").read_text() == "kept"
    assert (tmp_path / "page" / "numbers.json").exists()


# The page of predictions.


def prediction_page(results, output):
    page = new_prediction_page(output)
    for source, result in results:
        page.add(source, result)
    return Page(page.write(output))


def test_prediction_page(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    scores = np.array([1.0, 3.0], np.float32)
    answer = Classification((HOSTILE, "b"), np.array([0.12, 0.88], np.float32), scores)
    doubt = Classification(("a", "b"), answer.probabilities, scores, unknown_below=0.99)
    failed = InputError("gone.png: no such file")
    photo = Image.fromarray(pixels.repeat(10, 0).repeat(10, 1))
    results = [(pixels, answer), (photo, doubt), ("gone.png", failed)]
    page = prediction_page(results, tmp_path / "page.html")
    assert_sound(page)
    assert len(page.images) == 2 and f"{HOSTILE} 12.0%" in page.text and "b 88.0%" in page.text
    assert "unknown" in page.text and "gone.png could not be read" in page.text
    assert photo.size == (600, 400)  # the caller's own, of which the page shows a smaller one


def test_prediction_page_of_masks(tmp_path):
    pixels = np.full((30, 20, 3), 200, np.uint8)
    scores = np.zeros((8, 8, 2), np.float32)
    scores[:4, :, 1] = scores[4:, :, 0] = 1
    result = Segmentation(("wall", "sky"), ("#000000", "#0080FF"), scores, scores, (30, 20))
    page = prediction_page([(pixels, result)], tmp_path / "page.html")
    assert_sound(page)
    assert len(page.images) == 2 and "wall 50.0%" in page.text and "sky 50.0%" in page.text


def test_prediction_page_holds_a_bounded_number(tmp_path, monkeypatch):
    monkeypatch.setattr("tfproj.report.predictions.MAX_IMAGES", 2)
    result = Classification(("a", "b"), np.array([0.5, 0.5], np.float32), np.zeros(2, np.float32))
    pixels = np.zeros((8, 8), np.uint8)
    page = prediction_page([(pixels, result)] * 5, tmp_path / "page.html")
    assert len(page.images) == 2 and "not shown here: 3 images" in page.text
    assert "No image was predicted" in prediction_page([], tmp_path / "none.html").text


# The command.


def test_command(tmp_path, capsys, light):
    from tfproj.cli.report import report

    root = tmp_path / "runs"
    run = classified(root / "classify" / "one")
    classified(root / "classify" / "two")
    report.main(["one", "--runs-dir", str(root)], standalone_mode=False)
    assert capsys.readouterr().out.strip() == str(run.report_file)
    output = tmp_path / "both.html"
    command = ["one", "two", "--runs-dir", str(root), "--output", str(output), "--json"]
    report.main(command, standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["report"] == str(output)
    assert output.exists()
    with pytest.raises(InputError, match="unknown run 'three'"):
        report.main(["three", "--runs-dir", str(root)], standalone_mode=False)


def test_command_without_a_name_takes_the_newest_run(tmp_path, capsys, light):
    from tfproj.cli.report import report

    run = toy_run(tmp_path / "runs" / "classify" / "one", "classify", ("a", "b"))
    run.best_weights.touch()
    report.main(["--runs-dir", str(tmp_path / "runs")], standalone_mode=False)
    assert capsys.readouterr().out.strip() == str(run.report_file)
