"""``python -m tfproj``: the same as the command ``tfproj``."""

from tfproj.cli.main import run

run()
