"""Packages and their folders; everything else stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["tfproj", "tfproj.*"]), "tfproj.cli", "tfproj.export"],
    # cli/ and export/ lie at the top of the repository, but nothing called "cli" or "export"
    # may land in site-packages.
    package_dir={"tfproj.cli": "cli", "tfproj.export": "export"},
    package_data={
        "tfproj": ["py.typed"],
        "tfproj.report": ["templates/*"],
        "tfproj.pretrained": ["*.onnx", "*.md"],
        "tfproj.serving": ["openapi.json", "page.html"],
        "tfproj.export": ["browser/*"],
    },
)
