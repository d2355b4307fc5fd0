"""Which operator set an onnxruntime of some age can read."""

from __future__ import annotations

import re

from tfproj.errors import InputError

# onnxruntime release -> newest ONNX operator set it reads, from the table "ONNX opset support" on
# https://onnxruntime.ai/docs/reference/compatibility.html. Later releases read all that an earlier
# one does. Below 15 there is nothing that anybody asks for; 18 is the newest that tf2onnx 1.17
# writes.
NEWEST = {(1, 10): 15, (1, 11): 16, (1, 12): 17, (1, 13): 17, (1, 14): 18}

# These graphs gain nothing from 18, whose ReduceMean ncnn and onnx2torch read wrongly.
DEFAULT = 17

# The oldest version of the file that may hold these sets, which all of these releases read:
# "Released versions" in https://github.com/onnx/onnx/blob/main/docs/Versioning.md
IR_VERSION = 8


def choose_opset(opset: int | None = None, target_ort: str | None = None) -> int:
    """The operator set to write.

    Args:
        opset: the one wanted; None: ``DEFAULT``, or the newest below it that
            the target reads.
        target_ort: oldest onnxruntime that must load the file, such as ``1.13``; None: any
            that reads the set.

    Raises:
        InputError: not a version, too old, or the two contradict each other.
    """
    newest = NEWEST[max(NEWEST)] if target_ort is None else _newest(target_ort)
    chosen = min(DEFAULT, newest) if opset is None else opset
    if chosen not in NEWEST.values():
        known = f"{min(NEWEST.values())} to {max(NEWEST.values())}"
        raise InputError(f"opset {chosen} is not one of {known}")
    if chosen > newest:
        raise InputError(f"onnxruntime {target_ort} reads opsets up to {newest}, not {chosen}")
    return chosen


def _newest(version: str) -> int:
    match = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)?", version)
    if match is None:
        raise InputError(f"onnxruntime version {version!r}; expected something like 1.20")
    release = (int(match[1]), int(match[2]))
    if release < min(NEWEST):
        oldest = ".".join(map(str, min(NEWEST)))
        raise InputError(f"onnxruntime {version} is too old; the oldest supported is {oldest}")
    return NEWEST[min(release, max(NEWEST))]
