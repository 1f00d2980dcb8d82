"""ONNX -> TensorFlow -> LiteRT for the few operations that YuNet and SFace use; `onnx` only parses, the rest is here.

Tensors are NHWC throughout: a Flatten therefore permutes the weights that follow it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
TINY = 1e-30  # folded weights below this are denormal or near it: zeroed, they slow a CPU down several times


class Unsupported(ValueError):
    """The graph holds something that this converter was not written for."""


def graph(path: Path) -> Any:
    import onnx

    return onnx.load(str(path)).graph


def weights(parsed: Any) -> dict[str, Array]:
    """Initializers by name, each batch normalisation that follows a convolution folded into it (in `parsed` too)."""
    from onnx import numpy_helper

    values = {each.name: numpy_helper.to_array(each).copy() for each in parsed.initializer}
    readers: dict[str, list[Any]] = {}
    for node in parsed.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in list(parsed.node):
        after = readers.get(node.output[0], [])
        if node.op_type != "Conv" or len(after) != 1 or after[0].op_type != "BatchNormalization":
            continue
        norm = after[0]
        scale, shift = _affine(norm, values)
        kernel = values[node.input[1]]
        bias = values[node.input[2]] if len(node.input) > 2 else np.zeros(len(kernel), np.float32)
        values[node.input[1]] = _flush(kernel * scale.reshape(-1, 1, 1, 1))
        name = f"{node.output[0]}.bias"
        values[name] = _flush(bias * scale + shift)
        del node.input[2:]
        node.input.append(name)
        node.output[0] = norm.output[0]
        parsed.node.remove(norm)
    return values


def _affine(norm: Any, values: dict[str, Array]) -> tuple[Array, Array]:
    """A batch normalisation as scale and shift."""
    epsilon = _attributes(norm).get("epsilon", 1e-5)
    gamma, beta, mean, variance = (values[name].astype(np.float64) for name in norm.input[1:5])
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def _flush(values: Array) -> Array:
    single = values.astype(np.float32)
    single[np.abs(single) < TINY] = 0
    return single


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def network(parsed: Any, constants: dict[str, Array]) -> Callable[[Any], dict[str, Any]]:
    """A function of TensorFlow operations: NHWC picture(s) -> the graph's outputs by name."""
    source = next(each.name for each in parsed.input if each.name not in constants)
    outputs = [each.name for each in parsed.output]

    def run(picture: Any) -> dict[str, Any]:
        values: dict[str, Any] = {source: picture}
        flat: dict[str, tuple[int, int, int]] = {}  # flattened tensors -> the h, w, c they had
        for node in parsed.node:
            _operate(node, values, constants, flat)
        return {name: values[name] for name in outputs}

    return run


def _operate(node: Any, values: dict[str, Any], constants: dict[str, Array],
             flat: dict[str, tuple[int, int, int]]) -> None:
    """Adds the node's output to `values`."""
    import tensorflow as tf

    said = _attributes(node)
    kind, name, out = node.op_type, node.input[0], node.output[0]
    x = values[name] if name in values else constants[name]
    if kind == "Conv":
        y = _convolve(x, constants[node.input[1]], constants[node.input[2]], said)
    elif kind == "Relu":
        y = tf.nn.relu(x)
    elif kind == "PRelu":
        slope = constants[node.input[1]].reshape(1, 1, -1)
        y = tf.nn.relu(x) + tf.nn.relu(-x) * (-slope)  # in these words, LiteRT makes one PRELU of it
    elif kind == "MaxPool":
        y = tf.nn.max_pool2d(x, said["kernel_shape"], said["strides"], "VALID")
    elif kind == "Resize":
        # twice the size, nearest: four copies side by side in the channels, then spread out. Its shape follows from the
        # input's shape, so that one file serves every picture size and XNNPACK takes the whole graph
        if list(constants[node.input[2]]) != [1, 1, 2, 2] or said.get("mode") != b"nearest":
            raise Unsupported(f"{node.name}: expected Resize to twice the size, nearest; got {said}")
        y = tf.nn.depth_to_space(tf.concat([x] * 4, axis=-1), 2)
    elif kind in ("Add", "Sub", "Mul"):
        other = node.input[1]
        second = values[other] if other in values else constants[other]
        y = {"Add": tf.add, "Sub": tf.subtract, "Mul": tf.multiply}[kind](x, second)
    elif kind == "BatchNormalization":
        scale, shift = _affine(node, constants)
        y = x * _flush(scale) + _flush(shift)
    elif kind == "Dropout":
        y = x
        if name in flat:
            flat[out] = flat[name]
    elif kind == "Flatten":
        flat[out] = tuple(x.shape[1:])
        y = tf.reshape(x, [-1, int(np.prod(x.shape[1:]))])
    elif kind == "Gemm":
        matrix = constants[node.input[1]]
        if name in flat:
            h, w, c = flat[name]
            matrix = matrix.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(matrix), -1)
        y = tf.matmul(x, np.ascontiguousarray(matrix.T)) + constants[node.input[2]]
    else:
        raise Unsupported(f"{node.name}: operation {kind} is not one of those YuNet and SFace use")
    values[out] = y


def _convolve(x: Any, kernel: Array, bias: Array, said: dict[str, Any]) -> Any:
    """ONNX kernels are (out, in / group, h, w); TensorFlow's are (h, w, in, out), depthwise (h, w, in, 1)."""
    import tensorflow as tf

    size, strides, pads = list(said["kernel_shape"]), list(said["strides"]), list(said["pads"])
    padding: Any = "VALID"
    if any(pads):
        same = strides == [1, 1] and pads == [size[0] // 2, size[1] // 2] * 2
        padding = "SAME" if same else [[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]]
    if padding not in ("SAME", "VALID"):
        x = tf.pad(x, padding)
        padding = "VALID"
    if said["group"] == 1:
        return tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), strides, padding) + bias
    if said["group"] != len(kernel):
        raise Unsupported(f"expected groups of one channel, got {said['group']} groups for {len(kernel)} channels")
    return tf.nn.depthwise_conv2d(x, kernel.transpose(2, 3, 0, 1), [1, *strides, 1], padding) + bias


HEADS = ("cls", "obj", "bbox", "kps")  # 1, 1, 4 and 10 numbers a cell
STRIDES = (8, 16, 32)


def join_heads(parsed: Any, constants: dict[str, Array]) -> None:
    """YuNet's four heads of a stride, each a 1×1 and a depthwise convolution of a few channels, as one pair of 16
    channels; the sigmoids go (only the cells worth it need them, afterwards). A tenth of the detector's time."""
    from onnx import helper

    makers = {name: node for node in parsed.node for name in node.output}
    for stride in STRIDES:
        points, depths = [], []
        for head in HEADS:
            node = makers[f"{head}_{stride}"]
            while node.op_type in ("Sigmoid", "Reshape", "Transpose"):
                parsed.node.remove(node)
                node = makers[node.input[0]]
            depths.append(node)
            points.append(makers[node.input[0]])
        for convs, given, made in ((points, points[0].input[0], f"points_{stride}"),
                                   (depths, f"points_{stride}", f"stride_{stride}")):
            apart = convs is points and len({each.input[0] for each in convs}) > 1
            if apart or {each.op_type for each in convs} != {"Conv"}:
                raise Unsupported(f"stride {stride}: expected four heads of two convolutions on one feature map")
            for part, index in (("kernel", 1), ("bias", 2)):
                constants[f"{made}.{part}"] = np.concatenate([constants[each.input[index]] for each in convs])
            said = _attributes(convs[0])
            said["group"] = 1 if convs is points else len(constants[f"{made}.kernel"])
            for each in convs:
                parsed.node.remove(each)
            parsed.node.append(helper.make_node("Conv", [given, f"{made}.kernel", f"{made}.bias"], [made], **said))
    del parsed.output[:]
    parsed.output.extend(helper.make_tensor_value_info(f"stride_{stride}", 1, None) for stride in STRIDES)


def detector(path: Path) -> Any:
    """YuNet as a TensorFlow function of a (1, H, W, 3) BGR picture; H and W multiples of 32. One output a stride,
    (1, H / stride, W / stride, 16): class and object score before the sigmoid, 4 of the box, 10 of the landmarks."""
    import tensorflow as tf

    parsed = graph(path)
    constants = weights(parsed)
    join_heads(parsed, constants)
    run = network(parsed, constants)

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32, name="picture")])
    def detect(picture: Any) -> dict[str, Any]:
        return run(picture)

    return detect


def embedder(path: Path) -> Any:
    """SFace as a TensorFlow function of a (1, 112, 112, 3) aligned RGB face -> (1, 128), not normalised."""
    import tensorflow as tf

    parsed = graph(path)
    run = network(parsed, weights(parsed))

    @tf.function(input_signature=[tf.TensorSpec([1, 112, 112, 3], tf.float32, name="face")])
    def embed(face: Any) -> dict[str, Any]:
        return {"embedding": run(face)["fc1"]}

    return embed


BUILDERS: dict[str, Callable[[Path], Any]] = {"yunet": detector, "sface": embedder}


def lite(function: Any, int8: bool) -> bytes:
    """A .tflite file; `int8`: weights in 8 bits, activations quantised as they come (dynamic range)."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    made: bytes = converter.convert()
    return made


def main(arguments: list[str]) -> None:
    """`python -m models.convert yunet from.onnx to.tflite f32 …`, four words a file: a process of its own, because
    TensorFlow takes seconds to start and 600 MB, which go with it."""
    for name, source, target, form in zip(*[iter(arguments)] * 4, strict=True):
        Path(target).write_bytes(lite(BUILDERS[name](Path(source)), int8=form == "int8"))
        print(f"{name} {form}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
