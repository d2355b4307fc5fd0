"""The page of ``tfproj serve`` in headless Chromium, as wide as a telephone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_report_browser import WebDriverWait, browser, requested  # noqa: F401 (a fixture)
from tiny_models import tiny_model

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
from test_serving import SECRET, serving  # noqa: E402

PIXELS = """
const canvas = document.getElementById("canvas");
const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
return [canvas.width, canvas.height, ...data.slice(0, 3)];
"""


def wait(browser, condition):  # noqa: F811
    return WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(condition))


def test_a_picture_is_shown_under_its_mask_and_with_its_classes(browser, tmp_path):  # noqa: F811
    (tmp_path / "walls.onnx").write_bytes(tiny_model("segment"))
    (tmp_path / "pets.onnx").write_bytes(tiny_model())
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(tmp_path / "grey.png")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": True},
    )
    files = [tmp_path / "walls.onnx", tmp_path / "pets.onnx"]
    with serving(*files, token=SECRET) as (port, _, _):
        address = f"http://127.0.0.1:{port}/"
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(address)
        wait(browser, "return !document.getElementById('ask').hidden")
        browser.find_element("id", "file").send_keys(str(tmp_path / "grey.png"))
        wait(browser, "return last !== null")
        assert "token" in browser.find_element("id", "status").text
        browser.find_element("id", "token").send_keys(SECRET + "\n")  # the picture has waited
        wait(browser, "return document.getElementById('model').length === 2")
        wait(browser, "return document.querySelectorAll('#answer li').length > 0")
        assert set(browser.find_element("id", "answer").text.split()) & {"wall", "door"}
        over = browser.execute_script(PIXELS)
        assert over[:2] == [40, 30] and over[2:] != [200, 200, 200]
        script = "fade.value = arguments[0]; fade.dispatchEvent(new Event('input'))"
        browser.execute_script(script, 0)
        assert browser.execute_script(PIXELS)[2:] == [200, 200, 200]

        browser.find_element("css selector", "option[value=pets]").click()
        wait(browser, "return document.querySelectorAll('#answer li').length === 3")
        assert {"cat", "dog", "owl"} <= set(browser.find_element("id", "answer").text.split())
        assert not browser.find_element("id", "fader").is_displayed()

        (tmp_path / "text.png").write_text("text")
        browser.find_element("id", "file").send_keys(str(tmp_path / "text.png"))
        wait(browser, "return document.getElementById('status').classList.contains('bad')")
        assert "not an image" in browser.find_element("id", "status").text
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 320
        own = (address, "data:", "blob:", "chrome:", "chrome-untrusted:")
        assert [url for url in requested(browser) if not url.startswith(own)] == []
        logged = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
        assert [text for text in logged if "status of 40" not in text] == []  # two were refused
