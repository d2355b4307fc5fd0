"""Read ONNX's messages, strictly: https://protobuf.dev/programming-guides/encoding/.

What a message may hold is given by a schema; all else is an error, where a normal parser skips or
merges it. So no other reader of the same bytes can see something that was not checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tfproj.errors import InputError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTH = {FIXED64: 8, FIXED32: 4}
# A second of reading at most; a model of this package has some thousands of fields.
MAX_FIELDS = 500_000


class Field(NamedTuple):
    """One field of a message: its name, its wire types, and whether it may occur again."""

    name: str
    wires: tuple[int, ...] = (BYTES,)
    many: bool = False


# The fields of ONNX messages that a model of this package may have; numbers as in onnx.proto. Some
# are listed only so that model_file can say by name what it refuses. All that is missing here
# (sparse tensors, optional and sequence types, devices ...) is refused by the reader.
_INT, _INTS = (VARINT,), (VARINT, BYTES)
MODEL = {
    1: Field("ir_version", _INT), 2: Field("producer_name"), 3: Field("producer_version"),
    4: Field("domain"), 5: Field("model_version", _INT), 6: Field("doc_string"),
    7: Field("graph"), 8: Field("opset_import", many=True), 14: Field("metadata", many=True),
    20: Field("training_info", many=True), 25: Field("functions", many=True),
}  # fmt: skip
GRAPH = {
    1: Field("node", many=True), 2: Field("name"), 5: Field("initializer", many=True),
    10: Field("doc_string"), 11: Field("input", many=True), 12: Field("output", many=True),
    13: Field("value_info", many=True), 15: Field("sparse_initializer", many=True),
    16: Field("metadata", many=True),
}  # fmt: skip
NODE = {
    1: Field("input", many=True), 2: Field("output", many=True), 3: Field("name"),
    4: Field("op_type"), 5: Field("attribute", many=True), 6: Field("doc_string"),
    7: Field("domain"), 9: Field("metadata", many=True),
}  # fmt: skip
ATTRIBUTE = {
    1: Field("name"), 2: Field("f", (FIXED32,)), 3: Field("i", _INT), 4: Field("s"),
    5: Field("t"), 6: Field("g"), 7: Field("floats", (FIXED32, BYTES), many=True),
    8: Field("ints", _INTS, many=True), 9: Field("strings", many=True),
    11: Field("graphs", many=True), 13: Field("doc_string"), 20: Field("type", _INT),
}  # fmt: skip
TENSOR = {
    1: Field("dims", _INTS, many=True), 2: Field("data_type", _INT),
    4: Field("float_data", (FIXED32, BYTES), many=True),
    5: Field("int32_data", _INTS, many=True), 7: Field("int64_data", _INTS, many=True),
    8: Field("name"), 9: Field("raw_data"),
    10: Field("double_data", (FIXED64, BYTES), many=True),
    11: Field("uint64_data", _INTS, many=True), 12: Field("doc_string"),
    13: Field("external_data", many=True), 14: Field("data_location", _INT),
    16: Field("metadata", many=True),
}  # fmt: skip
VALUE = {1: Field("name"), 2: Field("type"), 3: Field("doc_string"), 4: Field("meta", many=True)}
TYPE = {1: Field("tensor"), 6: Field("denotation")}
TENSOR_TYPE = {1: Field("element", _INT), 2: Field("shape")}
SHAPE = {1: Field("dim", many=True)}
DIM = {1: Field("value", _INT), 2: Field("symbol"), 3: Field("denotation")}
ENTRY = {1: Field("key"), 2: Field("value")}


class Reader:
    """Parses the messages of one file and counts their fields and packed numbers."""

    def __init__(self, max_fields: int = MAX_FIELDS):
        self._left = max_fields

    def message(self, data: memoryview, schema: Mapping[int, Field], what: str) -> dict[str, list]:
        """The fields of one message.

        Args:
            data: the message, without its own tag and length.
            schema: field number -> what may stand there.
            what: what error messages call the message.

        Returns:
            Name -> values in file order: int (unsigned, below 2**64) or memoryview.

        Raises:
            InputError: not well-formed, or a field that is not in the schema.
        """
        found: dict[str, list] = {}
        position, end = 0, len(data)
        value: int | memoryview
        while position < end:
            tag, position = _varint(data, position)
            number, wire = tag >> 3, tag & 7
            field = schema.get(number)
            if field is None or wire not in field.wires:
                raise InputError(f"unexpected content in {what} (field {number}, type {wire})")
            if wire == VARINT:
                value, position = _varint(data, position)
            else:
                start = position
                size = _WIDTH.get(wire)
                if size is None:
                    size, start = _varint(data, position)
                position = start + size
                if position > end:
                    raise InputError(f"damaged: {what} ends too early")
                value = data[start:position]
            values = found.setdefault(field.name, [])
            values.append(value)
            self._left -= 1
            if self._left < 0 or (len(values) > 1 and not field.many):
                raise InputError(f"unexpected content in {what} (too many of {field.name!r})")
        return found

    def integers(self, values: list) -> list[int]:
        """int64 values of a repeated field, whether packed or not; each packed one counts, too."""
        numbers: list[int] = []
        for value in values:
            if isinstance(value, int):
                numbers.append(value)
                continue
            position = 0
            while position < len(value):
                number, position = _varint(value, position)
                numbers.append(number)
                self._left -= 1
                if self._left < 0:
                    raise InputError("unexpected content (too many numbers)")
        return [n - (1 << 64) if n >> 63 else n for n in numbers]


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """(unsigned value, position behind it)."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                break
            return value, position
    raise InputError("damaged: not a protobuf file")


def text(values: list, what: str) -> str:
    """A string field ("" where it is absent); InputError where it is not UTF-8."""
    try:
        return str(values[0], "utf-8") if values else ""
    except UnicodeDecodeError:
        raise InputError(f"damaged: {what} is not UTF-8") from None
