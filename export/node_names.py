"""Names of a graph's nodes and tensors, after the layers that they came from."""

from __future__ import annotations

import onnx

from tfproj.core.spec import INPUT_NAME, OUTPUT_NAMES

# What the inputs of an operator hold, from the second on.
ROLES = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), ("weight", "bias")),
    "MatMul": ("weight",),
    "Reshape": ("shape",),
    "Mul": ("factor",),
    "Add": ("addend",),
    "Clip": ("min", "max"),
}
NAMED_BY_LAYER = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "MaxPool")


def rename(graph: onnx.GraphProto, layers: list[str]) -> None:
    """Nodes and tensors after the Keras layer they came from, constants after their reader."""
    fixed = {INPUT_NAME, *OUTPUT_NAMES}
    taken = set(fixed)  # also by a layer of somebody's that is called "scores"
    names: dict[str, str] = {}
    for node in graph.node:
        node.name = _free_name(_node_name(node, layers), taken.difference(node.output))
        taken.add(node.name)
        names.update({o: node.name for o in node.output if o not in fixed})
        roles = ROLES.get(node.op_type, ())
        for position, constant in enumerate(node.input[1:]):
            role = roles[position] if position < len(roles) else f"input{position + 1}"
            names.setdefault(constant, f"{node.name}/{role}")
    for node in graph.node:
        for group in (node.input, node.output):
            group[:] = [names.get(name, name) for name in group]
    for initializer in graph.initializer:
        initializer.name = names.get(initializer.name, initializer.name)


def _node_name(node: onnx.NodeProto, layers: list[str]) -> str:
    if node.output[0] in OUTPUT_NAMES and node.op_type not in NAMED_BY_LAYER:
        return node.output[0]
    # Of a depthwise convolution tf2onnx keeps the layer's name for the bias alone.
    names = [node.name, *(node.input[2:] if node.op_type == "Conv" else ())]
    # TensorFlow appends _1, _2 ... to a scope that it enters again.
    parts = [part.split(":")[0] for name in names for part in name.split("/")]
    for part in parts:
        stem = part.rsplit("_", 1)[0] if part.rpartition("_")[2].isdigit() else part
        layer = next((name for name in (part, stem) if name in layers), None)
        if layer is not None:
            return layer if node.op_type in NAMED_BY_LAYER else f"{layer}/{node.op_type}"
    return node.op_type.lower()


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free
