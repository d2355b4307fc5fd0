"""Which operator set and file version an onnxruntime of some age can read."""

from __future__ import annotations

import re

from tfproj.errors import InputError

# The newest operator set that tf2onnx 1.17 writes. Nothing in these graphs gains from a newer one.
DEFAULT_OPSET = 18
# 13 is the first with scales per channel; below 15 there is nothing that anybody asks for.
OLDEST_OPSET = 15

# onnxruntime release -> (newest ONNX operator set, newest IR version of the file), from the table
# "ONNX opset support" on https://onnxruntime.ai/docs/reference/compatibility.html, which ends at
# 1.20. Later releases read all that an earlier one does.
SUPPORT = {
    (1, 10): (15, 8),
    (1, 11): (16, 8),
    (1, 12): (17, 8),
    (1, 13): (17, 8),
    (1, 14): (18, 8),
    (1, 15): (19, 8),
    (1, 16): (19, 9),
    (1, 17): (20, 9),
    (1, 18): (21, 10),
    (1, 19): (21, 10),
    (1, 20): (21, 10),
}

# Operator set -> oldest IR version of the file that may hold it: "Released versions" in
# https://github.com/onnx/onnx/blob/main/docs/Versioning.md
IR_OF_OPSET = {15: 8, 16: 8, 17: 8, 18: 8}


def choose_opset(opset: int | None = None, target_ort: str | None = None) -> tuple[int, int]:
    """(operator set, IR version) to write: as new as asked for, as old a file as that allows.

    Args:
        opset: the operator set wanted; None: the newest that the target reads.
        target_ort: oldest onnxruntime that must load the file, such as ``1.13``; None: any
            since 1.14.

    Raises:
        InputError: not a version, too old, or the two contradict each other.
    """
    newest, newest_ir = SUPPORT[max(SUPPORT)] if target_ort is None else _support(target_ort)
    chosen = min(DEFAULT_OPSET, newest) if opset is None else opset
    if chosen not in IR_OF_OPSET:
        known = f"{min(IR_OF_OPSET)} to {max(IR_OF_OPSET)}"
        raise InputError(f"opset {chosen} is not one of {known}")
    if chosen > newest or IR_OF_OPSET[chosen] > newest_ir:
        raise InputError(f"onnxruntime {target_ort} reads opsets up to {newest}, not {chosen}")
    return chosen, IR_OF_OPSET[chosen]


def _support(version: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)?", version)
    if match is None:
        raise InputError(f"onnxruntime version {version!r}; expected something like 1.20")
    release = (int(match[1]), int(match[2]))
    if release < min(SUPPORT):
        oldest = ".".join(map(str, min(SUPPORT)))
        raise InputError(f"onnxruntime {version} is too old; the oldest supported is {oldest}")
    return SUPPORT[min(release, max(SUPPORT))]
