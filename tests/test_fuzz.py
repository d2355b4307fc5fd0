"""Damaged files never end in a traceback, a signal or a hang; see fuzz_worker.py.

TFPROJ_FUZZ_CASES sets how many are tried (``make fuzz``: 20,000).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("yaml")

WORKER = Path(__file__).with_name("fuzz_worker.py")
CASES = int(os.environ.get("TFPROJ_FUZZ_CASES", "2000"))
PART = 2000  # cases per process: a process that ends with a signal takes only these with it


@pytest.mark.parametrize("first", range(0, CASES, PART))
def test_damaged_files_end_in_success_or_one_line(first):
    count = min(PART, CASES - first)
    command = [sys.executable, str(WORKER), str(count), str(first)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + count / 10)
    lines = done.stdout.splitlines()
    told = [line for line in lines if not line.isdigit()]
    last = next((line for line in reversed(lines) if line.isdigit()), "none")
    assert done.returncode == 0, (
        f"exit code {done.returncode}, last case {last}\n" + "\n".join(told[-60:])
        + done.stderr[-4000:]
    )  # fmt: skip
    assert told[-1].endswith(", 0 failed")
