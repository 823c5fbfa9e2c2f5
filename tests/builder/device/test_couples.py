"""Which layers can be done two or three at a time, and what right means for them."""

import numpy as np
import onnx
import onnx_ir as ir

from enginewright_builder import passes
from enginewright_builder.device import checking, couples, layout, lower, triples
from enginewright_builder.device.couples import Couple
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.problem import Kind
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.tactics import device as tactics
from enginewright_runtime.plan.recipe import Effort, Precision

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 << 10)
BLOCK = """
<ir_version: 8, opset_import: ["" : 17]>
block (float16[1, 64, 14, 14] x, float16[64, 256, 1, 1] r, float16[64, 64, 3, 3] c, float16[256, 64, 1, 1] e1,
       float16[256, 64, 1, 1] e2) => (float16[1, 256, 14, 14] end)
{
    x0 = Conv <pads = [1, 1, 1, 1]> (x, c)
    one = Conv (x0, e1)
    y = Relu (one)
    two = Conv (y, r)
    z = Relu (two)
    three = Conv <pads = [1, 1, 1, 1]> (z, c)
    w = Relu (three)
    four = Conv (w, e2)
    sum = Add (four, y)
    end = Relu (sum)
}
"""


def lowered(text: str = BLOCK) -> tuple[Network, list[DeviceLayer]]:
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
    return network, lower.lower(network, placed.places, placed.free)


def found(text: str = BLOCK) -> list[Couple]:
    network, layers = lowered(text)
    return couples.find(network, layers, lambda _layer: True)


def test_a_point_convolution_and_the_next_one_of_its_result_are_a_couple() -> None:
    (couple,) = found()
    problem = couple.layer.problem
    assert (couple.parts, couple.place, problem.kind) == ((1, 2), 1, Kind.COUPLE)
    assert [each.shape[1] for each in problem.outputs] == [256, 64]
    assert sorted(couple.layer.constants) == [1, 6]
    assert problem.attributes["next"]["activation"] == "Relu"


def test_no_layer_is_in_two_couples() -> None:
    text = BLOCK.replace("three = Conv <pads = [1, 1, 1, 1]> (z, c)", "three = Conv (z, e2)").replace(
        "(w, e2)", "(w, r)"
    )
    text = text.replace("sum = Add (four, y)\n    end = Relu (sum)", "end = Relu (four)").replace(
        "[1, 256, 14, 14] end", "[1, 64, 14, 14] end"
    )
    assert [each.parts for each in found(text)] == [(1, 2), (3, 4)]


def test_a_second_one_with_a_residual_or_a_stride_is_none() -> None:
    assert found(BLOCK.replace("two = Conv (y, r)", "two = Conv <strides = [1, 1], pads = [1, 1, 1, 1]> (y, r)")) == []
    assert found(BLOCK.replace("one = Conv (x0, e1)", "one = Conv <pads = [1, 1, 1, 1]> (x0, e1)")) == []


def test_only_the_couples_own_tactic_is_asked_for_it() -> None:
    (couple,) = found(BLOCK.replace("float16[1, 64, 14, 14]", "float16[256, 64, 14, 14]"))
    offered = tactics.candidates(couple.layer, HOPPER, Effort.BALANCED)
    assert {each.tactic for each in offered} == {"hopper couple"}
    assert tactics.candidates(couple.layer, HOPPER, Effort.BALANCED, "cudnn") == []


def test_the_reference_of_a_couple_is_its_two_layers_one_behind_the_other() -> None:
    (couple,) = found()
    check, layer = checking.check(couple.layer), couple.layer
    (x,) = check.feed.values()
    y = np.maximum(np.einsum("kc,nchw->nkhw", layer.constants[1][:, :, 0, 0].astype(np.float64), x), 0)
    z = np.maximum(np.einsum("kc,nchw->nkhw", layer.constants[6][:, :, 0, 0].astype(np.float64), y), 0)
    rounded = {name: value.astype(np.float16) for name, value in zip(layer.outputs, (y, z), strict=True)}
    assert check.judge(rounded)[0] == ""
    wrong = {**rounded, layer.outputs[1]: rounded[layer.outputs[1]] * np.float16(1.01)}
    assert check.judge(wrong)[0]


def triples_of(text: str = BLOCK) -> list[Couple]:
    network, layers = lowered(text)
    return triples.find(network, layers, lambda _layer: True)


def test_a_3x3_convolution_that_only_a_couple_reads_makes_it_a_triple_in_the_couples_place() -> None:
    (triple,) = triples_of()
    problem, layer = triple.layer.problem, triple.layer
    assert (triple.parts, triple.place, problem.kind) == ((0, 1, 2), 1, Kind.TRIPLE)
    assert [each.shape[1] for each in problem.outputs] == [256, 64]
    assert sorted(layer.constants) == [1, 3, 8]
    assert problem.attributes["before"]["pads"] == (1, 1, 1, 1)
    assert (layer.inputs[0], layer.outputs) == ("x", ("y", "z"))


def test_a_result_that_somebody_else_wants_makes_none() -> None:
    assert triples_of(BLOCK.replace("=> (float16[1, 256, 14, 14] end)", "=> (float16[1, 256, 14, 14] end, x0)")) == []
    assert (
        triples_of(
            BLOCK.replace("three = Conv <pads = [1, 1, 1, 1]> (z, c)", "three = Conv <pads = [1, 1, 1, 1]> (x0, c)")
        )
        == []
    )


def test_a_larger_or_smaller_window_makes_none() -> None:
    assert triples_of(BLOCK.replace("x0 = Conv <pads = [1, 1, 1, 1]> (x, c)", "x0 = Relu (x)")) == []


def test_only_the_triples_own_tactic_is_asked_for_it() -> None:
    text = BLOCK.replace("float16[1, 64, 14, 14]", "float16[256, 64, 14, 14]")
    (triple,) = triples_of(
        text.replace("(x, c)", "(x, c)\n    x1 = Conv <pads = [1, 1, 1, 1]> (x0, c)").replace("(x0, e1)", "(x1, e1)")
    )
    offered = tactics.candidates(triple.layer, HOPPER, Effort.BALANCED)
    assert {each.tactic for each in offered} == {"hopper triple"}
    assert tactics.candidates(triple.layer, HOPPER, Effort.BALANCED, "cudnn") == []


def test_the_reference_of_a_triple_is_its_layers_one_behind_the_other() -> None:
    (triple,) = triples_of()
    check, layer = checking.check(triple.layer), triple.layer
    (x,) = check.feed.values()

    def times(number: int, given: np.ndarray) -> np.ndarray:
        weights = layer.constants[number][:, :, 0, 0].astype(np.float64)
        return np.maximum(np.einsum("kc,nchw->nkhw", weights, given.astype(np.float64)), 0).astype(np.float16)

    around = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), axis=(2, 3))
    b = np.einsum("kcij,nchwij->nkhw", layer.constants[1].astype(np.float64), windows).astype(np.float16)
    y = times(3, b)
    rounded = dict(zip(layer.outputs, (y, times(8, y)), strict=True))
    assert check.judge(rounded)[0] == ""
    wrong = {**rounded, layer.outputs[1]: rounded[layer.outputs[1]] * np.float16(1.01)}
    assert check.judge(wrong)[0]
