"""The import rules of pyproject.toml hold, and each is broken by an import that it forbids."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="the package import-linter is not installed")

ROOT = Path(__file__).parent.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]

# Contract -> (module, import that it may not have).
FORBIDDEN = {
    "layers": ("core/files.py", "from tfproj.runs.run import run"),
    "light": ("inference/session.py", "import keras"),
    "report": ("report/page.py", "import onnx"),
    "plan": ("experiment/plan.py", "import tensorflow"),
    "circles": ("core/words.py", "from tfproj.core import hardware, image\n"),
}
# A circle needs a second import, back.
BACK = {"circles": ("core/hardware.py", "from tfproj.core import words")}


@pytest.fixture
def house(tmp_path):
    """A copy of the package as the wheel has it, with cli/ and export/ inside."""
    left_out = shutil.ignore_patterns("__pycache__", "*.onnx")
    for folder, place in (("tfproj", ""), ("cli", "cli"), ("export", "export")):
        shutil.copytree(ROOT / folder, tmp_path / "tfproj" / place, ignore=left_out)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(house, contract):
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    return subprocess.run(
        [*command, "--no-cache", "--contract", contract], cwd=house, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(house)},
    )  # fmt: skip


def add_import(house, module, line):
    file = house / "tfproj" / module
    text = file.read_text(encoding="utf-8")
    future = "from __future__ import annotations\n"
    file.write_text(text.replace(future, f"{future}\n{line}\n", 1), encoding="utf-8")


def test_every_contract_is_tried():
    assert [contract["id"] for contract in CONTRACTS] == list(FORBIDDEN)


@pytest.mark.parametrize("contract", FORBIDDEN)
def test_a_forbidden_import_breaks_the_contract(house, contract):
    before = lint(house, contract)
    assert before.returncode == 0, before.stdout
    for module, line in filter(None, (FORBIDDEN[contract], BACK.get(contract))):
        add_import(house, module, line)
    after = lint(house, contract)
    assert after.returncode == 1
    assert "BROKEN" in after.stdout, after.stdout + after.stderr
