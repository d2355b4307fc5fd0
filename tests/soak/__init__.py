"""Proof that tfproj keeps working and loses nothing: ``python -m tests.soak``, see ``run.py``."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "tests"), str(ROOT / "benchmarks")]  # what they draw and ask with
