"""A network that runs couples in place of its layers: what lies in the arena is never overwritten too early.

Every layer of the assembled line is computed by ONNX Runtime, from and to the memory that the program gives it.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from enginewright_builder import emit, passes
from enginewright_builder.device import assemble, couples, in_float32, layout, lower, triples
from enginewright_builder.device.assemble import Assembled, Border
from enginewright_builder.device.couples import Couple
from enginewright_builder.device.implementation import Implementation
from enginewright_builder.device.layout import Place
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.emit import Blobs
from enginewright_builder.network import lowering, shapes
from enginewright_builder.network.network import Network
from enginewright_runtime.plan.recipe import Precision

BLOCKS = 4
X = np.random.default_rng(1).standard_normal((1, 64, 14, 14)).astype(np.float16)


def text() -> str:
    """A residual network: a first block with a downsampling convolution, and some like it."""
    body = ["x0 = Conv <pads = [1, 1, 1, 1]> (x, c)", "p = Relu (x0)", "a = Conv (p, r0)", "z0 = Relu (a)"]
    for number in range(BLOCKS):
        body += [f"b{number} = Conv <pads = [1, 1, 1, 1]> (z{number}, c)", f"w{number} = Relu (b{number})"]
        body += [f"e{number} = Conv (w{number}, e)"]
        body += [f"s{number} = Add (e{number}, y{number - 1})"] if number else ["d = Conv (p, e)", "s0 = Add (e0, d)"]
        body += [
            f"y{number} = Relu (s{number})",
            f"q{number} = Conv (y{number}, r)",
            f"z{number + 1} = Relu (q{number})",
        ]
    lines = "\n    ".join(body)
    weights = "float16[64, 256, 1, 1] r, float16[64, 64, 1, 1] r0, float16[64, 64, 3, 3] c, float16[256, 64, 1, 1] e"
    given = f"float16[1, 64, 14, 14] x, {weights}"
    head = f'<ir_version: 8, opset_import: ["" : 17]> net ({given}) => (float16[1, 64, 14, 14] z{BLOCKS})'
    return f"{head}\n{{\n    {lines}\n}}"


def network() -> Network:
    model, generator = onnx.parser.parse_model(text()), np.random.default_rng(5)
    for given in list(model.graph.input)[1:]:
        shape = [each.dim_value for each in given.type.tensor_type.shape.dim]
        data = (generator.standard_normal(shape) / np.prod(shape[1:]) ** 0.5).astype(np.float16)
        model.graph.initializer.append(onnx.numpy_helper.from_array(data, given.name))
        model.graph.input.remove(given)
    made = Network(ir.from_proto(model))
    shapes.infer(made)
    return made


def computed(alone: Network, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    wide = in_float32.widened(Network(lowering.to_onnx(alone)))
    found = in_float32.run(wide, {name: value.astype(np.float32) for name, value in feed.items()})
    return {name: value.astype(np.float16) for name, value in found.items()}


class Memory:
    """The arena and the network's inputs and outputs, all NaN before something is written."""

    def __init__(self, made: Assembled, border: Border, places: Mapping[str, Place]) -> None:
        self.made, self.places = made, places
        self.arena = np.full(made.arena.bytes, 0xFF, np.uint8)
        outside = (*border.inputs, *border.outputs)
        self.border = {each.name: np.full(2 * int(np.prod(each.shape)), 0xFF, np.uint8) for each in outside}

    def at(self, name: str) -> np.ndarray:
        place = self.places[name]
        inside = place.root not in self.border
        start = self.made.arena.tensors[place.root].offset if inside else 0
        begin = start + 2 * place.offset_elements
        block = self.arena if inside else self.border[place.root]
        flat = block[begin : begin + place.type.span_bytes].view(np.float16)
        return np.lib.stride_tricks.as_strided(flat, place.type.shape, tuple(2 * each for each in place.type.strides))


def line(layers: list[DeviceLayer], found: list[Couple]) -> list[DeviceLayer]:
    """Every couple in its place."""
    joint, gone = {each.place: each.layer for each in found}, {part for each in found for part in each.parts}
    return [joint.get(number, layer) for number, layer in enumerate(layers) if number in joint or number not in gone]


@pytest.mark.parametrize("three", [False, True], ids=["couples", "triples"])
def test_couples_in_the_place_of_their_layers_answer_as_the_model_does(three: bool) -> None:
    given = network()
    (want,) = computed(given, {"x": X}).values()
    passes.run(given, passes.gpu_pipeline(Precision.FP16))
    placed = layout.assign(given)
    layers = lower.lower(given, placed.places, placed.free)
    found = couples.find(given, layers, lambda _layer: True)
    assert ["pair" in each.layer.problem.attributes for each in found] == [True, *[False] * (BLOCKS - 1)]
    if three:
        found = triples.find(given, layers, lambda _layer: True)
        assert [len(each.parts) for each in found] == [3] * BLOCKS
    running = line(layers, found)
    border = Border(
        inputs=tuple(map(emit.binding, given.inputs)), outputs=tuple(emit.binding(value) for value in given.outputs)
    )
    nothing = [Implementation(steps=())] * len(running)
    made = assemble.assemble(running, nothing, placed.places, border, assemble.Packing(Blobs()), {}, None)
    memory = Memory(made, border, placed.places)
    memory.at("x")[...] = X
    for layer in running:
        feed = {value.name or "": np.array(memory.at(value.name or "")) for value in layer.network.inputs}
        for name, value in computed(layer.network, feed).items():
            memory.at(name)[...] = value
    got = memory.at(border.outputs[0].name).astype(np.float64)
    assert np.linalg.norm(got - want) < 1e-3 * np.linalg.norm(want.astype(np.float64))
