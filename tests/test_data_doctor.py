"""``tfproj data check --deep``: what was planted in drawn pictures is found, and nothing else."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tfproj import backend

backend.setup()

from tfproj.cli.main import main  # noqa: E402
from tfproj.data import DataOptions  # noqa: E402
from tfproj.data.check import split_dataset  # noqa: E402
from tfproj.data.dataset import Dataset, Split, array_split  # noqa: E402
from tfproj.errors import InputError  # noqa: E402
from tfproj.evaluation import data_doctor  # noqa: E402
from tfproj.evaluation.label_errors import confident, out_of_fold  # noqa: E402
from tfproj.evaluation.likeness import neighbours  # noqa: E402
from tfproj.report import build  # noqa: E402


def scene(seed, shapes=None, side=48):
    """A picture of ``discs`` or ``boxes``, of colours and places of its own."""
    rng = np.random.default_rng(seed)
    shapes = shapes or ("discs", "boxes")[seed % 2]
    picture = Image.new("RGB", (side, side), tuple(rng.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(picture)
    for _ in range(5):
        x, y = rng.integers(0, side * 3 // 4, 2).tolist()
        size = int(rng.integers(side // 6, side // 3))
        draw = pen.ellipse if shapes == "discs" else pen.rectangle
        draw((x, y, x + size, y + size), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return picture


def write(root, pictures):
    """``{SPLIT/CLASS/NAME: picture}`` as files below ``root``; returns it as text."""
    for name, picture in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / name)
    return str(root)


@pytest.fixture(scope="session")
def sick(tmp_path_factory):
    """30 discs and 30 boxes to train on and 6 of each to validate on, and what is wrong there."""
    root = tmp_path_factory.mktemp("sick")
    pictures = {}
    for number in range(72):
        shapes, part = ("discs", "boxes")[number % 2], "train" if number < 60 else "val"
        pictures[f"{part}/{shapes}/{chr(97 + number % 26)}{chr(97 + number // 26)}.png"] = scene(
            number, shapes
        )
    pictures["train/discs/wrong.png"] = scene(1001, "boxes")
    pictures["val/boxes/small.jpg"] = scene(1, "boxes").resize((36, 36))
    pictures["train/boxes/turned.png"] = scene(3, "boxes").transpose(Image.FLIP_LEFT_RIGHT)
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    pictures["train/discs/noise.png"] = Image.fromarray(noise)
    return write(root, pictures)


def examined(name, **options):
    dataset = split_dataset(str(name), DataOptions(**options))
    return data_doctor.examine(dataset), dataset


def by_kind(deep, root):
    found = {}
    for finding in deep.findings:
        found.setdefault(finding.code, []).append(finding.path.removeprefix(f"{root}/"))
    return found


def test_what_was_planted_is_found(sick):
    deep, dataset = examined(sick)
    found = by_kind(deep, sick)
    assert (deep.images, deep.unjudged) == (76, ())
    assert "train/discs/wrong.png" in found["label"][:3] and len(found["label"]) < 8
    assert found["leak"] == ["val/boxes/small.jpg"]
    assert len(found["near_duplicate"]) == 1
    pair = next(f for f in deep.findings if f.code == "near_duplicate")
    assert pair.facts["mirrored"] and "turned.png" in str(pair) and "mirrored" in pair.message
    assert found["out_of_place"][0] == "train/discs/noise.png"
    assert not {"source", "burst"} & found.keys()
    wrong = next(f for f in deep.findings if f.path.endswith("wrong.png") and f.code == "label")
    assert (wrong.facts["given"], wrong.facts["suggested"]) == ("discs", "boxes")
    assert wrong.facts["probability"] > wrong.facts["probability_given"]


def numbered(root, name, suffix="png"):
    """40 scenes seen twice: two windows of one picture, called by ``name`` of scene and view."""
    pictures = {}
    for number in range(40):
        whole = scene(number, side=60)
        for view in range(2):
            box = (8 * view, 6 * view, 8 * view + 48, 6 * view + 48)
            pictures[f"{('discs', 'boxes')[number % 2]}/{name(number, view)}.{suffix}"] = (
                whole.crop(box)
            )
    return write(root, pictures)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        (lambda n, view: f"im_{n + 50 * view:03d}", "source", "--group-modulus 50"),
        (lambda n, view: f"house{chr(65 + n)}_{view}", "source", "same but for the last number"),
        (lambda n, view: f"{10 * n + view:03d}", "burst", "neighbouring numbers"),
    ],
)
def test_leaks_by_name_are_one_finding_that_says_how_to_group(tmp_path, name, code, words):
    deep, _ = examined(numbered(tmp_path / "seen", name), val_fraction=0.3)
    (found,) = [f for f in deep.findings if f.code in ("source", "burst", "leak")]
    assert found.code == code and words in found.message
    assert found.facts["share"] > 0.5 > 0.1 > found.facts["chance"]


def test_grouped_as_told_nothing_leaks(tmp_path):
    root = numbered(tmp_path / "seen", lambda n, view: f"im_{n + 50 * view:03d}")
    deep, _ = examined(root, val_fraction=0.3, group_modulus=50)
    assert not {"source", "burst", "leak"} & by_kind(deep, root).keys()


def test_leaks_by_the_time_in_exif(tmp_path):
    root = numbered(tmp_path / "seen", lambda n, view: f"{chr(65 + n)}{'ab'[view]}", "jpg")
    for number, path in enumerate(sorted((tmp_path / "seen").rglob("*.jpg"))):
        exif = Image.Exif()
        minute, second = divmod(number // 2, 50)
        exif.get_ifd(0x8769)[0x9003] = f"2026:01:02 {minute:02d}:{second:02d}:0{number % 2}"
        with Image.open(path) as picture:
            picture.save(path, exif=exif)
    deep, _ = examined(root, val_fraction=0.3)
    (found,) = [f for f in deep.findings if f.code == "burst"]
    assert "EXIF" in found.message


def test_what_can_not_be_judged_is_said():
    images = np.stack([np.asarray(scene(n, side=32)) for n in range(12)])
    labels = np.array([0, 1] * 4 + [2] * 4)
    splits = {"train": array_split(images, labels)}
    dataset = Dataset("arrays", "classify", ("a", "b", "c"), splits, (32, 32), 3, origin="here")
    few = data_doctor.examine(dataset)
    assert few.unjudged[0] == "label errors: they take two classes of at least 5 images each"
    assert few.unjudged[1] == "images out of place: 12 images, fewer than 20"
    masks = Split(["a", "b"], lambda i: images[i], read_mask=lambda i: images[i, ..., 0])
    deep = data_doctor.examine(dataclasses.replace(dataset, splits={"train": masks}))
    assert deep.unjudged[0].startswith("label errors: masks")
    with pytest.raises(InputError, match="several labels"):
        several = dataclasses.replace(splits["train"], labels=np.ones((12, 3), np.uint8))
        data_doctor.examine(dataclasses.replace(dataset, splits={"train": several}))


def test_neighbours_are_those_of_the_whole_matrix(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    monkeypatch.setattr("tfproj.evaluation.likeness.BLOCK", 150)  # 3 rows at a time
    rows, values = neighbours(features)
    likeness = features @ features.T - 9 * np.eye(50, dtype=np.float32)
    assert (rows == np.argsort(-likeness, 1)[:, :5]).all()
    assert values == pytest.approx(np.sort(likeness, 1)[:, :-6:-1], abs=1e-6)


def test_confident_learning_on_two_clouds():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    features = rng.normal(size=(100, 6)) + 4 * labels[:, None]
    labels[[7, 80]] = 1 - labels[[7, 80]]
    found = confident(out_of_fold(features, labels), labels)
    assert {row for row, _ in found} == {7, 80}
    assert dict(found)[7] == 0
    # A group is not judged by its own members, who all have the same wrong label.
    copies = np.concatenate([features[:1] + 0.01 * rng.normal(size=(12, 6)), features])
    wrong, groups = np.r_[np.ones(12, int), labels], np.r_[np.zeros(12, int), np.arange(1, 101)]
    assert (
        len({row for row, _ in confident(out_of_fold(copies, wrong, groups), wrong)} & {*range(12)})
        == 12
    )


def test_command_page_and_the_report_of_a_run(sick, tmp_path, capsys, monkeypatch):
    from report_toys import classified

    run = classified(tmp_path / "runs" / "classify" / "toy")
    page = tmp_path / "check.html"
    command = ["data", "check", sick, "--deep", "--json"]
    assert main([*command, "--run", str(run.path)]) == 2
    assert "was not trained on these splits" in capsys.readouterr().err
    splits = json.loads(run.splits_file.read_text())
    fingerprint = split_dataset(sick, DataOptions()).fingerprint()
    run.splits_file.write_text(json.dumps(splits | {"fingerprint": fingerprint}))
    assert main([*command, "--run", str(run.path), "--html", str(page)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["ok"] and record["deep"]["images"] == 76
    wrong = next(p for p in record["problems"] if p["file"].endswith("wrong.png"))
    assert (wrong["kind"], wrong["severity"], wrong["suggested"]) == ("label", "warning", "boxes")
    for text in (page.read_text(), build([run]).read_text()):
        assert "Probable label errors" in text and "wrong.png" in text
        assert text.count('<img src="data:image/') >= 6
    assert main(["data", "check", sick, "--html", str(page)]) == 2
    assert "add --deep" in capsys.readouterr().err


@pytest.mark.real_data
def test_views_of_one_house_are_found_by_their_numbers(real_facades):
    dataset = split_dataset("facades", DataOptions(data_dir=str(real_facades)))
    # Every view of some houses, divided as a split without groups would.
    everything = dataclasses.replace(dataset.splits["train"], groups=None)
    chosen = np.flatnonzero(np.array([int(n[-8:-4]) % 302 < 30 for n in everything.names]))
    parts = np.random.default_rng(0).permutation(chosen)
    splits = {"train": everything.subset(parts[20:]), "val": everything.subset(parts[:20])}
    deep = data_doctor.examine(dataclasses.replace(dataset, splits=splits))
    (found,) = [f for f in deep.findings if f.code == "source"]
    assert found.facts["modulus"] == 302 and "--group-modulus 302" in found.message
