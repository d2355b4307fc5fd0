"""The pages in headless Chromium: complete, silent, offline, readable on a telephone."""

from __future__ import annotations

import base64
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from report_toys import classified, segmented, toy_run

from tfproj.inference.results import Segmentation
from tfproj.report import build, new_prediction_page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
HOSTILE = ("<script>alert(1)</script>", "w" * 120, "\"quotes\" and 'more'")
NAME = 'it\'s "quoted" ' + "long" * 30 + ".png"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromedriver are not installed (apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Name -> HTML file."""
    root = tmp_path_factory.mktemp("pages")
    runs = {
        "classify": classified(root / "classify"),
        "segment": segmented(root / "segment", silent=1, preset="original"),
        "hostile": classified(root / "hostile", HOSTILE, names=lambda i: f"{i} {NAME}"),
        "hostile-masks": segmented(root / "hostile-masks", HOSTILE, name=NAME),
        "many": classified(root / "many", tuple(f"kind {i}" for i in range(200)), per_class=4),
        "untrained": toy_run(root / "untrained", "classify", ("a", "b"), epochs=0),
    }
    found = {name: build([run]) for name, run in runs.items()}
    found["compare"] = build([runs["hostile"], runs["classify"]], root / "compare.html")
    scores = np.random.default_rng(0).random((8, 8, 2), np.float32)
    answer = Segmentation(("wall", HOSTILE[1]), ("#000000", "#0080FF"), scores, scores, (90, 60))
    pixels = np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    page = new_prediction_page(root / "predictions.html")
    page.add(pixels, answer)
    found["predictions"] = page.write(root / "predictions.html")
    return found


ALL = ("classify", "segment", "hostile", "hostile-masks", "many", "untrained", "compare",
       "predictions")  # fmt: skip
SECTIONS = {
    "classify": ("summary", "curves", "classes", "confusion", "gallery", "filters", "reliability",
                 "model"),
    "segment": ("summary", "curves", "classes", "examples", "confusion", "collapse", "filters",
                "model"),
    "compare": ("summary", "curves", "settings", "classes"),
}  # fmt: skip


def show(browser, path, width=1280, scheme="light", media=""):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())
    # A jump within the page before may still be under way, and get then returns too soon.
    WebDriverWait(browser, 20).until(
        lambda driver: driver.execute_script(
            "return location.pathname === arguments[0] && document.readyState === 'complete'",
            path.as_uri().removeprefix("file://"),
        )
    )


def requested(browser):
    """URLs that the page has asked for since :func:`show`."""
    messages = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


@pytest.mark.parametrize("name", ALL)
def test_no_error_and_no_request(name, pages, browser):
    show(browser, pages[name])
    assert browser.get_log("browser") == []
    addresses = requested(browser)
    assert pages[name].as_uri() in addresses
    # The browser's own new tab, which no page can ask for, may still be loading.
    own = ("data:", "chrome:", "chrome-untrusted:")
    assert [a for a in addresses if not a.startswith(own)] == [pages[name].as_uri()]
    assert browser.execute_script("return typeof window.alert") == "function"  # still a live page


@pytest.mark.parametrize("name", SECTIONS)
def test_sections_and_pictures_are_there(name, pages, browser):
    show(browser, pages[name])
    for section in SECTIONS[name]:
        height = browser.execute_script(
            "return document.getElementById(arguments[0])?.getBoundingClientRect().height", section
        )
        assert height and height > 60, section
    blank = browser.execute_script(
        """return [...document.images].filter(image => {
             if (!image.complete || !image.naturalWidth) return true;
             const canvas = document.createElement('canvas');
             canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
             const context = canvas.getContext('2d');
             context.drawImage(image, 0, 0);
             const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
             return new Set(new Uint32Array(data.buffer)).size < 2;
           }).map(image => image.alt)"""
    )
    assert blank == []
    assert name == "compare" or browser.execute_script("return document.images.length") >= 9


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_are_drawn_in_the_colours_of_the_page(scheme, pages, browser):
    show(browser, pages["classify"], scheme=scheme)
    figures = browser.find_elements("css selector", "figure.plot svg")
    assert len(figures) >= 4
    for figure in figures:
        pixels = np.asarray(Image.open(io.BytesIO(figure.screenshot_as_png)).convert("L"))
        ground = np.bincount(pixels.ravel()).argmax()
        assert (ground > 240) if scheme == "light" else (ground < 40)
        ink = pixels.min() if scheme == "light" else pixels.max()
        assert abs(int(ink) - int(ground)) > 150 and pixels.std() > 5


@pytest.mark.parametrize("name", ALL)
def test_no_sideways_scrolling_on_a_telephone(name, pages, browser):
    show(browser, pages[name], width=320)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 320


def test_a_cell_of_the_confusion_matrix_shows_its_images(pages, browser):
    show(browser, pages["classify"])
    links = browser.find_elements("css selector", ".matrix td.miss a")
    assert len(links) == 2  # dog as fox, fox as cat
    for link in links:
        target = link.get_attribute("hash").removeprefix("#")
        block = browser.find_element("id", target)
        assert not block.is_displayed()
        link.click()
        assert block.is_displayed()
        images = block.find_elements("tag name", "img")
        assert len(images) == int(link.text) and all(image.is_displayed() for image in images)
        top = browser.execute_script("return arguments[0].getBoundingClientRect().top", block)
        assert 0 <= top < 800
    browser.find_element("css selector", ".matrix td.hit a").click()
    assert browser.find_element("css selector", ".class:has(:target) summary").is_displayed()


def test_a_class_with_its_gallery_closed_opens_by_its_link(pages, browser):
    show(browser, pages["many"])
    closed = browser.find_elements("css selector", "details.class:not([open])")
    assert len(closed) > 100
    target = closed[0].find_element("css selector", "[id]").get_attribute("id")
    assert not closed[0].find_element("tag name", "img").is_displayed()
    browser.find_element("css selector", f"a[href='#{target}']").click()
    assert closed[0].find_element("tag name", "img").is_displayed()
    summary = closed[0].find_element("tag name", "summary")
    top = browser.execute_script("return arguments[0].getBoundingClientRect().top", summary)
    assert 0 <= top < 800
    summary.click()
    assert not closed[0].find_element("tag name", "img").is_displayed()


def test_names_are_shown_and_not_run(pages, browser):
    for name in ("hostile", "hostile-masks"):
        show(browser, pages[name])
        assert HOSTILE[0] in browser.find_element("tag name", "body").text
        assert browser.find_elements("tag name", "script") == []
    show(browser, pages["hostile"])
    assert NAME in browser.find_element("id", "gallery").text


def test_printing(pages, browser):
    show(browser, pages["classify"], scheme="dark", media="print")
    assert not browser.find_element("tag name", "nav").is_displayed()
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000
