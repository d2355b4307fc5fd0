"""``tfproj card``: what a run's card says, and what the hub reads of it."""

import json

import pytest
import yaml
from report_toys import classified, segmented

from tfproj.cli.main import main
from tfproj.report.card import card


def parts(text):
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


@pytest.fixture(params=[classified, segmented])
def run(request, tmp_path):
    return request.param(tmp_path / "runs")


def test_the_front_matter_is_what_the_hub_reads(run):
    head, _ = parts(card(run))
    metrics = json.loads(run.metrics_file.read_text())
    (entry,) = head["model-index"]
    (result,) = entry["results"]
    split = metrics["splits"][result["dataset"]["split"]]
    assert head["library_name"] == "tfproj" and head["parameters"] == metrics["parameters"]
    kinds = {"classify": "image-classification", "segment": "image-segmentation"}
    assert head["pipeline_tag"] == result["task"]["type"] == kinds[run.config().task]
    assert [m["type"] for m in result["metrics"]] == head["metrics"]
    for metric in result["metrics"]:
        assert metric["value"] == pytest.approx(split[metric["type"]], abs=1e-4)


def test_the_text_says_how_and_how_well(run):
    _, body = parts(card(run))
    config, spec = run.config(), run.spec()
    for words in (*spec.classes, f"Preset `{config.preset}`", f"seed {config.seed}", "## Limits"):
        assert words in body
    split = json.loads(run.metrics_file.read_text())["splits"]["val"]
    assert f"- val, {split['examples']:,} images: " in body
    rows = [line for line in body.splitlines() if line.startswith(f"| {spec.classes[0]} |")]
    first = next(v for v in split.values() if isinstance(v, dict) and set(v) == set(spec.classes))
    assert len(rows) == 1 and f"{first[spec.classes[0]]:.3f}" in rows[0]


def test_warnings_are_limits(run):
    before = run.warnings()
    run.add_warnings({"test": "It learned | nothing.\nAt all."})
    try:
        assert "\n- It learned \\| nothing. At all.\n" in card(run)
    finally:
        run.drop_warning("test")
    assert run.warnings() == before


def test_the_command_prints_or_writes(run, tmp_path, capsys):
    assert main(["card", str(run.path)]) == 0
    assert capsys.readouterr().out == card(run)
    file = tmp_path / "README.md"
    assert main(["card", str(run.path), "--output", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["card"] == file.read_text() == card(run)


def test_a_run_that_was_not_evaluated(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "spec.json", "environment.json", "splits.json", "history.csv"):
        (copy / name).write_bytes((run.path / name).read_bytes())
    assert main(["card", str(copy)]) == 2
    error = capsys.readouterr().err
    assert "not evaluated yet; first: tfproj evaluate" in error and error.count("\n") == 1
