"""Layers with tails on every architecture: who takes them, and that all kernels compile without spilling."""

import numpy as np
import onnx_ir as ir
import pytest
from compile_sweep import offers
from compile_sweep.architectures import DEVICES
from compile_sweep.offers import Offer

from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.tactics import then_tail
from enginewright_runtime.plan.recipe import Effort, Precision

HOPPERS = {"hopper latency convolution", "hopper halo convolution", "hopper gemm", "hopper split gemm"}
PADDED = "Conv<pads = [1, 1, 1, 1]>(x, w)"
GATE = "a = Softplus(c) b = Tanh(a) d = Mul(c, b) y = Mul(d, r)"
Shape = tuple[int, ...]


def offered(x: Shape, w: Shape, y: Shape, body: str, capability: int) -> dict[str, Offer]:
    """The first kernel of each tactic for a layer between casts."""
    given = {"x": x, "r": y, "w": w, "h": ()}
    named = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in given.items())
    text = f'<ir_version: 8, opset_import: ["" : 18]> net ({named}) => (float[{",".join(map(str, y))}] y) {{ {body} }}'
    network = Network(ir.from_onnx_text(text))
    for name in ("w", "h"):
        value = next(each for each in network.graph.inputs if each.name == name)
        network.graph.inputs.remove(value)
        value.const_value = ir.tensor(np.full(given[name], 0.3, np.float32), name=name)
        network.graph.register_initializer(value)
    shapes.infer(network)
    device = DEVICES[capability]
    layers = [
        layer
        for layer in offers.layers_of(network, device, Precision.FP16)
        if layer.problem.attributes.get("activation") is not None
    ]
    found: dict[str, Offer] = {}
    for each in offers.offers(layers, device, Effort.FAST):
        found.setdefault(each.tactic, each)
    return found


@pytest.mark.parametrize(
    ("x", "w", "y", "body", "wanted"),
    [
        ((2, 64, 14, 14), (64, 64, 3, 3), (2, 64, 14, 14), f"c = {PADDED} {GATE}", HOPPERS),
        ((1, 512, 7, 7), (64, 512, 3, 3), (1, 64, 7, 7), f"c = {PADDED} a = Exp(c) y = Add(a, r)",
         HOPPERS - {"hopper halo convolution"}),
        ((1, 3, 64, 64), (16, 3, 3, 3), (1, 16, 64, 64), f"c = {PADDED} a = Abs(c) y = Add(a, h)",
         {"hopper stem convolution"}),
        ((1, 3, 64, 64), (64, 3, 7, 7), (1, 64, 16, 16),
         "c = Conv<pads = [3, 3, 3, 3], strides = [2, 2]>(x, w) a = Selu(c) "
         "y = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(a)", {"hopper stem convolution"}),
        ((3, 256), (256, 512), (3, 512), "c = MatMul(x, w) a = Sin(c) y = Sub(h, a)",
         {"row product", "hopper gemm", "hopper split gemm"}),
    ],
    ids=["3x3", "3x3 of many channels", "of a picture", "of a picture, in bands", "rows"],
)  # fmt: skip
def test_on_hopper_all_fast_kernels_take_a_tail_and_compile(
    x: Shape, w: Shape, y: Shape, body: str, wanted: set[str]
) -> None:
    found = offered(x, w, y, body, 90)
    assert wanted <= set(found)
    for name in wanted:
        assert "float tail(float v, float r)" in found[name].source
        assert offers.resources(found[name], DEVICES[90]).spilled == 0


@pytest.mark.parametrize(
    ("capability", "wanted"), [(75, {"generated"}), (80, {"generated", "row product", then_tail.NAME})]
)
def test_elsewhere_tails_compile_too(capability: int, wanted: set[str]) -> None:
    found = offered((3, 256), (256, 512), (3, 512), "c = MatMul(x, w) a = Sin(c) y = Sub(h, a)", capability)
    assert set(found) == wanted
    for each in found.values():
        assert offers.resources(each, DEVICES[capability]).spilled == 0
