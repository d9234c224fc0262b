"""Weights in 8 bits, for graphs that take as long as it takes to read their weights.

Each weight of a matrix product becomes an integer of -127 to 127, with one scale for each output (symmetric, as NNCF's
`INT8_SYM` mode of weight compression). OpenVINO calculates with them as they are: a product of one row reads a
quarter of float32's memory, or half of bfloat16's.
"""

import numpy as np

from homelab_ai.models.engines.openvino_runtime import ops, ov

_LARGEST = 127


def compress(graph: "ov.Model") -> None:
    """Bring the constant weights of all matrix products of a graph into 8 bits."""
    for product in graph.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        weights = product.input_value(1).get_node()
        if weights.get_type_name() == "Constant" and weights.get_element_type() == ov.Type.f32:
            inputs = 1 if product.get_attributes()["transpose_b"] else 0
            product.input(1).replace_source_output(_compressed(weights.data, inputs).output(0))


def _compressed(weights: "np.ndarray[tuple[int, int], np.dtype[np.float32]]", inputs: int) -> "ov.Node":
    """`inputs` is the axis that is summed over."""
    scales = np.abs(weights).max(axis=inputs, keepdims=True) / _LARGEST
    scales[scales == 0] = 1
    integers = np.rint(weights / scales).astype(np.int8)
    return ops.multiply(ops.convert(ops.constant(integers), "f32"), ops.constant(scales.astype(np.float32)))
