"""The page of ``tfproj export --web`` in headless Chromium, opened as a file."""

from __future__ import annotations

import base64
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_models import png

from tfproj import Predictor
from tfproj.cli.main import main
from tfproj.errors import InputError, TfprojError
from tfproj.export import web
from tfproj.export.job import Options, check_others
from tfproj.pretrained import pretrained_file

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402
from test_report_browser import browser  # noqa: E402, F401 (a fixture)

PREDICT = """
const [text, type, done] = arguments;
const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
tfproj.predict(new File([bytes], "a", { type })).then(
  (a) => done({ ...a, picture: null, probabilities: Array.from(a.probabilities),
                mask: a.mask && Array.from(a.mask) }),
  (error) => done({ error: error.message }),
);
"""


@pytest.fixture(scope="module")
def runtime():
    try:
        return web.runtime_parts()
    except TfprojError as error:
        pytest.skip(str(error))


def opened(browser, page):  # noqa: F811
    browser.get_log("performance")
    browser.set_script_timeout(60)
    browser.get(page.as_uri())
    WebDriverWait(browser, 60).until(
        lambda b: b.execute_script("return document.body.dataset.state")
    )
    status = browser.find_element("id", "status").text
    assert browser.execute_script("return document.body.dataset.state") == "ready", status
    return status


def require_silence(browser):  # noqa: F811
    """No request left the page, and it had nothing to complain of."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    assert sent and {url.partition(":")[0] for url in sent} <= {"file", "blob", "data"}
    said = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not said


def answer(browser, data, kind="image/png"):  # noqa: F811
    found = browser.execute_async_script(PREDICT, base64.b64encode(data).decode(), kind)
    assert "error" not in found, found
    return found


def jpeg(array, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def photographs():
    """(name, file, type): sizes, orientation, transparency and 16 bits."""
    rows, columns = np.indices((180, 260))
    waves = [127 + 120 * np.sin(rows / (9 + 4 * c) + columns / (21 - 5 * c)) for c in range(4)]
    photo = np.stack(waves, -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        ("jpeg", jpeg(photo[..., :3]), "image/jpeg"),
        ("turned jpeg", jpeg(photo[..., :3], exif=exif.tobytes()), "image/jpeg"),
        ("grey jpeg", jpeg(photo[..., 0]), "image/jpeg"),
        ("png", png(photo[:90, :, :3]), "image/png"),
        ("transparent png", png(photo[:, :100]), "image/png"),
        ("16 bits", png(photo[..., 0].astype(np.uint16) * 257), "image/png"),
    ]


@pytest.mark.javascript
@pytest.mark.parametrize("single", [False, True])
def test_the_page_gives_pythons_answers(browser, runtime, tmp_path, single):  # noqa: F811
    model = pretrained_file("fashion_mnist-tiny")
    page = web.write_page(model, tmp_path / ("page.html" if single else "page"), single)
    assert len(list(page.parent.iterdir())) == (1 if single else 5)
    assert "Self-test: 5 images" in opened(browser, page)
    predictor = Predictor(model)
    for name, data, kind in photographs():
        found, expected = answer(browser, data, kind), predictor.predict_one(data)
        np.testing.assert_allclose(
            found["probabilities"], expected.probabilities, atol=1e-4, err_msg=name
        )
        assert found["label"] == expected.label
    require_silence(browser)


@pytest.mark.javascript
def test_masks_and_the_hands_of_a_user(browser, runtime, tmp_path):  # noqa: F811
    """A picture that is chosen is drawn with its mask, at its own size."""
    page = web.write_page(pretrained_file("facades-best"), tmp_path / "page")
    opened(browser, page)
    predictor = Predictor.pretrained("facades")
    _, data, kind = photographs()[0]
    found, expected = answer(browser, data, kind), predictor.predict_one(data)
    np.testing.assert_allclose(found["probabilities"], expected.probabilities.ravel(), atol=1e-4)
    assert np.mean(np.array(found["mask"]) == expected.mask.ravel()) > 0.9999
    file = tmp_path / "photo.jpg"
    file.write_bytes(data)
    browser.find_element("id", "file").send_keys(str(file))
    WebDriverWait(browser, 30).until(lambda b: "px," in b.find_element("id", "status").text)
    picture = browser.find_element("id", "picture")
    assert [picture.get_property(side) for side in ("width", "height")] == [260, 180]
    rows = [row.text for row in browser.find_elements("css selector", "#classes li")]
    shares = expected.shares()
    assert len(rows) == 5
    assert all(name in row and f"{100 * shares[name]:.1f} %" in row
               for name, row in zip(predictor.spec.classes, rows, strict=True))  # fmt: skip
    broken = tmp_path / "broken.png"
    broken.write_bytes(png(np.zeros((9, 9), np.uint8))[:40])
    browser.find_element("id", "file").send_keys(str(broken))
    WebDriverWait(browser, 30).until(
        lambda b: "cannot be read" in b.find_element("id", "status").text
    )
    require_silence(browser)


@pytest.mark.javascript
def test_a_model_that_fails_its_own_test_lets_nobody_in(browser, runtime, tmp_path):  # noqa: F811
    import onnx

    model = onnx.load(pretrained_file("fashion_mnist-tiny"))
    entry = next(p for p in model.metadata_props if p.key == "tfproj")
    record = json.loads(entry.value)
    record["golden"]["vectors"][2]["probabilities_base64"] = record["golden"]["vectors"][1][
        "probabilities_base64"
    ]
    entry.value = json.dumps(record)
    onnx.save(model, tmp_path / "changed.onnx")
    page = web.write_page(tmp_path / "changed.onnx", tmp_path / "page")
    browser.get(page.as_uri())
    WebDriverWait(browser, 60).until(
        lambda b: b.execute_script("return document.body.dataset.state") == "failed"
    )
    assert "self-test failed" in browser.find_element("id", "status").text


@pytest.mark.real_data
@pytest.mark.javascript
def test_eight_real_photographs(browser, runtime, tmp_path):  # noqa: F811
    from tfproj.data import DataOptions, load_dataset

    try:
        split = load_dataset("facades", "segment", DataOptions()).splits["val"]
    except InputError as error:
        pytest.skip(str(error))
    page = web.write_page(pretrained_file("facades-best"), tmp_path / "page")
    opened(browser, page)
    predictor = Predictor.pretrained("facades")
    for file in split.files[:8]:
        found, expected = (
            answer(browser, file.read_bytes(), "image/jpeg"),
            predictor.predict_one(file),
        )
        np.testing.assert_allclose(
            found["probabilities"], expected.probabilities.ravel(), atol=1e-4
        )
        assert (np.array(found["mask"]) == expected.mask.ravel()).all()
    require_silence(browser)


@pytest.mark.javascript
def test_the_command_makes_a_page(runtime, toy_classifier, tmp_path, capsys):
    page = tmp_path / "page.html"
    command = [
        "export",
        str(toy_classifier.path),
        "--output",
        str(tmp_path / "a.onnx"),
        "--no-data",
    ]
    assert main([*command, "--web", str(page), "--single-file"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"page: {page}"
    first = page.read_bytes()
    assert b"{scripts}" not in first and b"onnxruntime" not in first[:2000]
    page.unlink()
    # Of a file, the page alone.
    arguments = ["export", str(tmp_path / "a.onnx"), "--web", str(page), "--single-file", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"web": str(page)}
    assert page.read_bytes() == first


def test_what_is_wrong_is_said_before_the_export(toy_classifier, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    command = ["export", str(toy_classifier.path), "--output", str(tmp_path / "a.onnx")]
    for flags, words in (
        (["--single-file"], "needs --web"),
        (["--web", str(tmp_path / "mine")], "name another place"),
    ):
        assert main([*command, *flags]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize("flags", [["--int8"], ["--output", "a.onnx"], ["--max-mb", "1"],
                                   ["--device", "cpu"]])  # fmt: skip
def test_of_a_file_the_page_alone_is_made(flags, tmp_path, capsys):
    assert main(["export", "fashion_mnist", "--web", str(tmp_path / "page"), *flags]) == 2
    assert "only its page is made" in capsys.readouterr().err


def test_a_place_that_is_taken(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("app.js", "notes.txt", "b.html"):
        (tmp_path / "mine" / name).write_text("mine")
    for place, single in (("mine", False), ("page.html", False), ("mine/notes.txt", True),
                          ("mine/b.html", True)):  # fmt: skip
        with pytest.raises(InputError):
            web.check_page(tmp_path / place, single)
    assert web.check_page(tmp_path / "mine", True) == tmp_path / "mine" / "index.html"
    assert web.check_page(tmp_path / "new", False) == tmp_path / "new" / "index.html"
    assert web.check_page(tmp_path / "new.html", True) == tmp_path / "new.html"


@pytest.mark.parametrize("place", [".", "new/deep", "link"])
def test_a_page_goes_where_folders_can_go(place, tmp_path, monkeypatch):
    """Also into a mount or the working directory, which nothing can take the place of."""
    monkeypatch.setattr(web, "runtime_parts", lambda: dict.fromkeys(web.PARTS, b"runtime"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("fashion_mnist", "fashion_mnist-tiny"):  # the second time in the first's place
        page = web.write_page(pretrained_file(name), place)
    model = page.with_name("model.js").read_text()
    assert base64.b64decode(model.split('"')[1]) == pretrained_file(name).read_bytes()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.rglob(".tfproj-*")) and (tmp_path / "link").is_symlink()


def test_the_runtime_is_fetched_before_the_export(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="install Node.js"):
        check_others(Options(web=str(tmp_path / "page")), "toy")


def test_another_runtime_than_was_tested_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(web, "_fetched", lambda: b"something else")
    with pytest.raises(TfprojError, match="gives another file"):
        web.runtime_parts()
    assert not list(tmp_path.rglob("*.tgz"))


def test_without_npm_the_line_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="install Node.js"):
        web.runtime_parts()
