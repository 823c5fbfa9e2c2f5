"""From chosen implementations to a program: pointers become addresses, constants blobs, lifetimes one arena."""

import functools
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from enginewright_builder import emit
from enginewright_builder.device import assemble, later, layout, lower, retention
from enginewright_builder.device.implementation import Implementation
from enginewright_builder.emit import Blobs
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.tactics import hopper_order
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
chain (float[4, 8] x) => (float[4, 8] y)
<float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}>
{
    a = Relu (x)
    b = Mul (a, w)
    c = Neg (b)
    y = Relu (c)
}
"""


@pytest.fixture
def chain():
    network = Network(ir.from_onnx_text(MODEL))
    for number, node in enumerate(network.layers()):
        node.name = f"{node.op_type}{number}"
    shapes.infer(network)
    return network


def _pointing(*pointers: Pointer, workspace: int = 0, constants=None) -> Implementation:
    arguments = tuple(Argument(pointer=pointer) for pointer in pointers)
    kernel = Kernel(cubin="k", function="f", grid=(1, 1, 1), block=(32, 1, 1), arguments=arguments)
    step = Step(layer="", kernel=kernel)
    return Implementation(steps=(step,), cubins={"k": b"cubin"}, workspace_bytes=workspace, constants=constants or {})


def _operands(layer, **more) -> Implementation:
    numbers = range(len(layer.problem.operands))
    return _pointing(*(Pointer(space=Space.OPERAND, name=str(number)) for number in numbers), **more)


def _assembled(network, blobs, implement, l2_bytes=None):
    placed = layout.assign(network)
    layers = lower.lower(network, placed.places, placed.free)
    border = assemble.Border(
        inputs=tuple(emit.binding(value) for value in network.inputs),
        outputs=tuple(emit.binding(value) for value in network.outputs),
    )
    return assemble.assemble(
        layers, [implement(layer) for layer in layers], placed.places, border, assemble.Packing(blobs), {}, l2_bytes
    )


def _pointers(step):
    return [argument.pointer for argument in step.kernel.arguments]


def test_inputs_outputs_and_constants_are_found_where_they_lie(chain):
    blobs = Blobs()
    made = _assembled(chain, blobs, _operands)
    first, second, _, last = made.program.steps
    assert _pointers(first)[0] == Pointer(space=Space.INPUT, name="x")
    assert _pointers(last)[-1] == Pointer(space=Space.OUTPUT, name="y")
    weights = _pointers(second)[1]
    assert weights.space is Space.BLOB
    np.testing.assert_array_equal(np.frombuffer(blobs.blob(weights.name), np.float32), np.arange(1, 9))
    assert set(made.blobs) == {weights.name, "cubins/f"}


def test_kernels_that_can_walk_either_way_take_turns(chain):
    (function, at), *_ = hopper_order.REVERSED_AT.items()
    forwards = Argument(value=bytes(at + 4).hex())

    def walking(layer):
        made = _operands(layer)
        kernel = made.steps[0].kernel
        walks = replace(kernel, function=function, arguments=(*kernel.arguments, forwards))
        return replace(made, steps=(Step(layer="", kernel=walks),))

    steps = _assembled(chain, Blobs(), walking).program.steps
    assert [step.kernel.arguments[-1] == forwards for step in steps] == [True, False, True, False]


@pytest.mark.parametrize(("l2_bytes", "marked"), [(32, True), (512, False), (None, False)])
def test_weights_that_do_not_fit_into_the_l2_are_marked_by_kernels_that_can(chain, l2_bytes, marked):
    unmarked = retention.argument(first_to_leave=False)

    def marking(layer):
        made = _operands(layer)
        kernel = made.steps[0].kernel
        asks = later.nothing(kernel.arguments[0].pointer)
        kernel = replace(kernel, arguments=(*kernel.arguments, *asks, unmarked))
        return replace(made, steps=(Step(layer="", kernel=kernel),), fetches_later=not layer.name.startswith("Neg"))

    steps = _assembled(chain, Blobs(), marking, l2_bytes).program.steps
    assert [step.kernel.arguments[-1] != unmarked for step in steps] == [marked, marked, False, marked]


def test_what_lives_at_the_same_time_does_not_overlap_and_what_is_dead_makes_room(chain):
    made = _assembled(chain, Blobs(), _operands)
    written = [_pointers(step)[-1].offset for step in made.program.steps[:3]]
    assert written[0] != written[1] != written[2]
    assert made.arena.bytes == 2 * 256 < made.arena.sum_of_tensors


def test_a_workspace_is_a_part_of_the_arena_that_no_operand_of_its_layer_touches(chain):
    def implement(layer):
        if not layer.name.startswith("Mul"):
            return _operands(layer)
        workspace = Pointer(space=Space.WORKSPACE, offset=64)
        return _pointing(*(Pointer(space=Space.OPERAND, name=str(n)) for n in range(3)), workspace, workspace=4096)

    made = _assembled(chain, Blobs(), implement)
    a, _, b, workspace = _pointers(made.program.steps[1])
    start = workspace.offset - 64
    assert workspace.space is Space.ARENA
    assert made.arena.bytes >= 4096 + 2 * 256
    assert all(not start <= pointer.offset < start + 4096 for pointer in (a, b))


def test_a_constant_that_a_tactic_packs_is_a_blob_of_its_own(chain):
    def implement(layer):
        if not layer.name.startswith("Mul"):
            return _operands(layer)
        packed = {"twice": lambda constants: constants[1] * 2}
        return _pointing(Pointer(space=Space.CONSTANT, name="twice", offset=4), constants=packed)

    blobs = Blobs()
    (pointer,) = _pointers(_assembled(chain, blobs, implement).program.steps[1])
    assert (pointer.space, pointer.offset) == (Space.BLOB, 4)
    np.testing.assert_array_equal(np.frombuffer(blobs.blob(pointer.name), np.float32), np.arange(1, 9) * 2)


def test_what_equal_calls_would_pack_is_packed_once(chain):
    placed = layout.assign(chain)
    (layer,) = (
        each for each in lower.lower(chain, placed.places, placed.free) if each.inputs and each.name.startswith("Mul")
    )
    packed: list[int] = []

    def times(factor, constants):
        packed.append(factor)
        return constants[1] * factor

    packing = assemble.Packing(Blobs())
    factors = (2, 2, 3)
    made = [_pointing(constants={"weights": functools.partial(times, factor)}) for factor in factors]
    blobs = [packing.made(layer, each, "weights") for each in made]
    assert packed == [2, 3]
    assert blobs[0] == blobs[1] != blobs[2]
    unhashable = [_pointing(constants={"weights": functools.partial(times, np.float32([4]))}) for _ in range(2)]
    assert len({packing.made(layer, each, "weights") for each in unhashable}) == 1  # packed twice, kept once
    assert len(packed) == 4
