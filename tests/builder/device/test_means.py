"""Which convolutions are done with the mean of their pixels, and what right means for them."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from enginewright_builder import passes
from enginewright_builder.device import checking, layout, lower, means
from enginewright_builder.device.couples import Couple
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.tactics import device as tactics
from enginewright_runtime.plan.recipe import Effort, Precision

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 << 10)
END = """
<ir_version: 8, opset_import: ["" : 17]>
block (float16[2, 64, 7, 7] x, float16[64, 64, 1, 1] u, float16[128, 64, 1, 1] w, float16[64, 128, 1, 1] v)
    => (float16[2, 64, 1, 1] end)
{
    t = Conv (x, u)
    a = Conv (t, w)
    b = Relu (a)
    c = Conv (b, v)
    s = Add (c, t)
    y = Relu (s)
    end = GlobalAveragePool (y)
}
"""


def found(text: str = END) -> list[Couple]:
    """With random weights, through the GPU's passes."""
    model = onnx.parser.parse_model(text)
    generator = np.random.default_rng(5)
    for given in list(model.graph.input)[1:]:
        shape = [each.dim_value for each in given.type.tensor_type.shape.dim]
        data = (generator.standard_normal(shape) / np.prod(shape[1:]) ** 0.5).astype(np.float16)
        model.graph.initializer.append(onnx.numpy_helper.from_array(data, given.name))
        model.graph.input.remove(given)
    network = Network(ir.from_proto(model))
    shapes.infer(network)
    passes.run(network, passes.gpu_pipeline(Precision.FP16))
    placed = layout.assign(network)
    return means.find(network, lower.lower(network, placed.places, placed.free), lambda _layer: True)


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "AveragePool <kernel_shape = [7, 7]>"])
def test_a_convolution_and_the_mean_of_all_its_pixels_are_found(pool: str) -> None:
    (couple,) = found(END.replace("GlobalAveragePool", pool))
    problem, layer = couple.layer.problem, couple.layer
    assert (couple.parts, couple.place, problem.kind) == ((2, 3), 3, Kind.MEAN)
    assert (problem.attributes["size"], problem.attributes["activation"]) == ((7, 7), "Relu")
    assert (layer.inputs[0], layer.inputs[3], layer.outputs) == ("b", "t", ("end",))
    assert sorted(layer.constants) == [1]


def test_a_result_that_somebody_else_wants_is_not_only_averaged() -> None:
    assert found(END.replace("1, 1] end)", "1, 1] end, float16[2, 64, 7, 7] y)")) == []


def test_a_pool_of_a_part_of_the_picture_is_no_mean() -> None:
    smaller = END.replace("GlobalAveragePool", "AveragePool <kernel_shape = [6, 6]>").replace("1, 1] end", "2, 2] end")
    assert found(smaller) == []
    padded = "AveragePool <kernel_shape = [7, 7], pads = [1, 1, 1, 1]>"
    assert found(END.replace("GlobalAveragePool", padded).replace("1, 1] end", "3, 3] end")) == []


def test_only_its_own_tactic_is_asked_for_it() -> None:
    (couple,) = found()
    offered = tactics.candidates(couple.layer, HOPPER, Effort.BALANCED)
    assert {each.tactic for each in offered} == {"hopper latency mean"}
    assert tactics.candidates(couple.layer, HOPPER, Effort.BALANCED, "cudnn") == []


def test_its_reference_is_the_mean_of_the_convolution() -> None:
    (couple,) = found()
    check, layer = checking.check(couple.layer), couple.layer
    b, t = (check.feed[name or ""] for name in (layer.inputs[0], layer.inputs[3]))
    weights = layer.constants[1][:, :, 0, 0].astype(np.float64)
    y = np.maximum(np.einsum("kc,nchw->nkhw", weights, b) + t, 0).astype(np.float16)  # as two layers would
    mean = y.astype(np.float64).mean(axis=(2, 3), keepdims=True).astype(np.float16)
    assert check.judge({layer.outputs[0]: mean})[0] == ""
    assert check.judge({layer.outputs[0]: mean * np.float16(1.02)})[0]
