"""The fields of ONNX messages that a model of this package may have; numbers as in ``onnx.proto``.

Some are listed only so that :mod:`tfproj.inference.model_file` can say by name what it refuses.
All that is missing here (sparse tensors, optional and sequence types, devices ...) is refused by
the reader.
"""

from __future__ import annotations

from tfproj.inference.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field

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
