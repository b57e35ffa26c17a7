"""The network: a small DenseNet, as a forward pass in JAX and as an ONNX graph.

After a stem (5x5 convolution of stride 2, ReLU, 2x2 maximum) come dense blocks. A layer of a block (normalise,
ReLU, 3x3 convolution) reads everything that the block made so far and *appends* its own few channels, so early
features stay available to late layers. Between blocks a transition (normalise, ReLU, 1x1 convolution, 2x2 average
pooling) halves channels and sides. At the end: normalise, ReLU, mean over the image, one logit per finding, sigmoid.

Shapes: images are (batch, 1, side, side) float32 with grey levels from 0 to 1, as the ONNX graph takes them; inside
JAX the channels come last. Parameters and running statistics are flat dictionaries from a name to an array.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax import lax
from onnx import TensorProto, helper, numpy_helper

STEM_CHANNELS = 24
GROWTH = 12  # channels that a layer appends
BLOCKS = (4, 6, 6)  # layers per dense block
EPSILON = 1e-5
MOMENTUM = 0.9  # of the running statistics

Arrays = dict[str, jax.Array]


def _layers() -> Iterator[tuple[str, int, int]]:
    """(name, channels in, channels out) of each layer that follows the stem, in order."""
    channels = STEM_CHANNELS
    for block, layers in enumerate(BLOCKS):
        for layer in range(layers):
            yield f"block{block}_layer{layer}", channels, GROWTH
            channels += GROWTH
        if block < len(BLOCKS) - 1:
            yield f"transition{block}", channels, channels // 2
            channels //= 2
    yield "head", channels, 0


def create(key: jax.Array, outputs: int) -> tuple[Arrays, Arrays]:
    """Fresh parameters and running statistics for a network with ``outputs`` logits."""
    parameters: Arrays = {}
    statistics: Arrays = {}

    def add_convolution(name: str, side: int, channels_in: int, channels_out: int) -> None:
        nonlocal key
        key, draw = jax.random.split(key)
        scale = (2.0 / (side * side * channels_in)) ** 0.5
        parameters[f"{name}_kernel"] = scale * jax.random.normal(draw, (side, side, channels_in, channels_out))

    add_convolution("stem", 5, 1, STEM_CHANNELS)
    parameters["stem_bias"] = jnp.zeros(STEM_CHANNELS)
    for name, channels_in, channels_out in _layers():
        parameters[f"{name}_scale"] = jnp.ones(channels_in)
        parameters[f"{name}_shift"] = jnp.zeros(channels_in)
        statistics[f"{name}_mean"] = jnp.zeros(channels_in)
        statistics[f"{name}_variance"] = jnp.ones(channels_in)
        if name == "head":
            parameters["head_kernel"] = jnp.zeros((channels_in, outputs))
            parameters["head_bias"] = jnp.zeros(outputs)
        else:
            add_convolution(name, 1 if name.startswith("transition") else 3, channels_in, channels_out)
    return parameters, statistics


def count(parameters: Arrays) -> int:
    """Number of trained values."""
    return sum(value.size for value in parameters.values())


# --- forward pass


def _convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    edge = kernel.shape[0] // 2
    padding = [(edge, edge), (edge, edge)]
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _windows(x: jax.Array) -> jax.Array:
    """(n, h, w, channels) -> (n, h/2, 2, w/2, 2, channels): the 2x2 windows that pooling reduces."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def logits(parameters: Arrays, statistics: Arrays, images: jax.Array, *, training: bool) -> tuple[jax.Array, Arrays]:
    """Logits (batch, findings) of images (batch, 1, side, side), and the running statistics after this batch.

    In training a batch is normalised by its own mean and variance; afterwards the running ones are used.
    """
    updated = dict(statistics)

    def activate(name: str, x: jax.Array) -> jax.Array:
        mean, variance = statistics[f"{name}_mean"], statistics[f"{name}_variance"]
        if training:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            for key, value in ((f"{name}_mean", mean), (f"{name}_variance", variance)):
                updated[key] = MOMENTUM * statistics[key] + (1 - MOMENTUM) * value
        normal = (x - mean) * lax.rsqrt(variance + EPSILON)
        return jax.nn.relu(normal * parameters[f"{name}_scale"] + parameters[f"{name}_shift"])

    x = jnp.transpose(images, (0, 2, 3, 1))
    x = jax.nn.relu(_convolve(x, parameters["stem_kernel"], stride=2) + parameters["stem_bias"])
    x = _windows(x).max((2, 4))
    for name, _, _ in _layers():
        active = activate(name, x)
        if name == "head":
            x = active.mean((1, 2)) @ parameters["head_kernel"] + parameters["head_bias"]
        elif name.startswith("transition"):
            x = _windows(_convolve(active, parameters[f"{name}_kernel"])).mean((2, 4))
        else:
            x = jnp.concatenate([x, _convolve(active, parameters[f"{name}_kernel"])], axis=-1)
    return x, updated


# --- ONNX


def to_onnx(parameters: Arrays, statistics: Arrays, labels: list[str], image_size: int) -> onnx.ModelProto:
    """The same network as a graph: input ``images`` (n, 1, side, side), output ``probabilities`` (n, findings)."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: jax.Array) -> str:
        array = np.ascontiguousarray(value, dtype=np.float32)
        constants.append(numpy_helper.from_array(array, name))
        return name

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def convolve(x: str, name: str, stride: int = 1, bias: str | None = None) -> str:
        kernel = parameters[f"{name}_kernel"]
        weights = constant(f"{name}_kernel", jnp.transpose(kernel, (3, 2, 0, 1)))
        inputs = [x, weights] if bias is None else [x, weights, constant(bias, parameters[bias])]
        pads = [kernel.shape[0] // 2] * 4
        return add("Conv", inputs, f"{name}_convolved", strides=[stride, stride], pads=pads)

    def activate(x: str, name: str) -> str:
        arrays = {**parameters, **statistics}
        keys = [f"{name}_{part}" for part in ("scale", "shift", "mean", "variance")]
        normal = add(
            "BatchNormalization", [x, *(constant(key, arrays[key]) for key in keys)], f"{name}_normal", epsilon=EPSILON
        )
        return add("Relu", [normal], f"{name}_active")

    x = add("Relu", [convolve("images", "stem", stride=2, bias="stem_bias")], "stem_active")
    x = add("MaxPool", [x], "stem_pooled", kernel_shape=[2, 2], strides=[2, 2])
    for name, _, _ in _layers():
        active = activate(x, name)
        if name == "head":
            pooled = add("Flatten", [add("GlobalAveragePool", [active], "pooled")], "features")
            weights = [constant(key, parameters[key]) for key in ("head_kernel", "head_bias")]
            add("Sigmoid", [add("Gemm", [pooled, *weights], "logits")], "probabilities")
        elif name.startswith("transition"):
            x = add("AveragePool", [convolve(active, name)], f"{name}_pooled", kernel_shape=[2, 2], strides=[2, 2])
        else:
            x = add("Concat", [x, convolve(active, name)], f"{name}_joined", axis=1)

    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, image_size, image_size])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(labels)])
    graph = helper.make_graph(nodes, "densenet", [images], [probabilities], constants)
    # An opset and file version old enough for any ONNX Runtime of the last years.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"labels": ",".join(labels)})
    onnx.checker.check_model(model, full_check=True)
    return model
