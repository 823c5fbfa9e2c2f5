"""The small-batch convolution on Hopper, as far as it can be tested without a card: choice, packing, compiling."""

import dataclasses
import struct
from typing import Any

import numpy as np
import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device import later, retention
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain, row_major
from enginewright_builder.tactics import hopper_latency_conv, latency_choice, latency_geometry
from enginewright_builder.tactics.latency_geometry import Configuration, Window, Work
from enginewright_runtime.engine.cuda.program import Pointer, Space

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2, 5})


def pixels(shape: tuple[int, ...], dtype: str = "float16") -> TensorType:
    return TensorType(dtype=dtype, shape=shape, strides=channels_last(shape))


def problem(
    channels: int = 64, outputs: int = 64, size: int = 14, kernel: int = 3, dtype: str = "float16", **changes: Any
) -> Problem:
    """A convolution that keeps the size; `changes` go into its attributes."""
    y = pixels((1, outputs, size, size), dtype)
    inputs = (
        pixels((1, channels, size, size), dtype),
        plain(dtype, (outputs, channels, kernel, kernel)),
        plain("float32", (outputs,)),
        y if changes.pop("residual", False) else None,
    )
    pad = kernel // 2
    attributes = {
        "strides": [1, 1],
        "pads": [pad] * 4,
        "dilations": [1, 1],
        "groups": 1,
        "activation": "Relu",
        "activation_parameters": {},
        "gated": False,
    }
    return Problem(kind=Kind.CONVOLUTION, inputs=inputs, outputs=(y,), attributes={**attributes, **changes})


def pair(outputs: int = 256) -> Problem:
    """A residual block's end: 128 channels at 7x7 and 64 at 14x14, both 1x1."""
    return Problem(
        kind=Kind.CONVOLUTION,
        inputs=(
            pixels((1, 128, 7, 7)),
            plain("float16", (outputs, 128, 1, 1)),
            plain("float32", (outputs,)),
            None,
            pixels((1, 64, 14, 14)),
            plain("float16", (outputs, 64, 1, 1)),
        ),
        outputs=(pixels((1, outputs, 7, 7)),),
        attributes={"strides": [1, 1], "pads": [0] * 4, "activation": "", "pair": {"strides": [2, 2]}},
    )


def pooled(given: Problem) -> Problem:
    """With a max pool of 2x2 behind it."""
    n, c, h, w = given.outputs[0].shape
    pool = {"kernel": [2, 2], "strides": [2, 2], "pads": [0] * 4}
    y = pixels((n, c, h // 2, w // 2), given.outputs[0].dtype)
    return dataclasses.replace(given, outputs=(y,), attributes={**given.attributes, "pool": pool})


def candidates(given: Problem) -> list[str]:
    offered = hopper_latency_conv.HopperLatencyConvolution().candidates(given, HOPPER, CONSTANT)
    return [each.name for each in offered]


@pytest.mark.parametrize(
    "given",
    [
        problem(),
        problem(channels=8, outputs=8, size=7, kernel=1),
        problem(channels=24, outputs=1000, size=13),
        problem(dtype="bfloat16"),
        problem(kernel=7, channels=16),
        problem(residual=True),
        problem(dilations=[2, 2], pads=[2] * 4),
        problem(activation="Sigmoid", gated=True),
        pair(),
        pooled(problem()),
    ],
)
def test_takes(given: Problem) -> None:
    assert candidates(given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (dataclasses.replace(problem(), kind=Kind.POOLING), "it is no convolution"),
        (problem(dtype="float32"), "its operands are not all float16 or all bfloat16"),
        (problem(groups=2), "it is grouped"),
        (problem(outputs=12), "an operand is not NHWC with pixels in 16-byte units"),
        (problem(channels=3), "an operand is not NHWC with pixels in 16-byte units"),
        (problem(strides=[8, 8]), "its window is too large for a box"),
        (pooled(problem(residual=True)), hopper_latency_conv.ANOTHER_POOL),
        (problem(channels=16384), hopper_latency_conv.NOTHING_FITS),
        (problem(channels=512, outputs=512, size=400), hopper_latency_conv.NOTHING_FITS),
    ],
)
def test_declines_with_a_reason(given: Problem, reason: str) -> None:
    assert hopper_latency_conv.refusal(given, HOPPER, CONSTANT) == reason
    assert candidates(given) == []


def test_declines_other_architectures() -> None:
    for capability in (80, 89, 100, 120):
        device = dataclasses.replace(HOPPER, capability=capability)
        assert "9.0" in hopper_latency_conv.refusal(problem(), device, CONSTANT)


def test_declines_weights_that_are_computed() -> None:
    assert hopper_latency_conv.refusal(problem(), HOPPER, frozenset({2})) == "its weights or bias are not constant"


def test_declines_a_picture_in_nchw() -> None:
    shape = (1, 64, 14, 14)
    given = problem()
    wrong = TensorType(dtype="float16", shape=shape, strides=row_major(shape))
    given = dataclasses.replace(given, inputs=(wrong, *given.inputs[1:]))
    assert "NHWC" in hopper_latency_conv.refusal(given, HOPPER, CONSTANT)


def test_declines_a_pair_with_a_residual() -> None:
    given = pair()
    inputs = (*given.inputs[:3], given.outputs[0], *given.inputs[4:])
    reason = hopper_latency_conv.refusal(dataclasses.replace(given, inputs=inputs), HOPPER, CONSTANT)
    assert reason == "its pair is not of two 1x1 convolutions without padding and residual"


def test_names_tell_configurations_apart() -> None:
    work = hopper_latency_conv.work_of(problem(channels=512, outputs=512))
    found = latency_choice.configurations(work, 132, "float16")
    assert len({each.name for each in found}) == len(found) == latency_choice.LIMIT


def test_bfloat16_never_sends_sums_as_float16() -> None:
    names = candidates(problem(channels=512, outputs=512, size=7, dtype="bfloat16"))
    assert names
    assert not any("as float16" in name for name in names)


def test_every_configuration_fits_and_covers_all_channels() -> None:
    for channels, kernel in ((24, 5), (72, 1), (288, 3), (512, 3), (2048, 1)):
        given = problem(channels=channels, kernel=kernel)
        for each in latency_choice.configurations(hopper_latency_conv.work_of(given), 132, "float16"):
            assert each.virtual_channels() >= channels
            assert latency_geometry.shared_bytes(hopper_latency_conv.work_of(given), each) <= 227 * 1024


def test_packed_weights_stand_where_the_kernel_multiplies_them() -> None:
    configuration = Configuration(block_channels=32, blocks=2, splits=2)
    weights = np.arange(72 * 100 * 9, dtype=np.float64).reshape(72, 100, 3, 3)
    packed = latency_geometry.pack_weights(weights, None, configuration)
    assert packed.shape == (2, 2, 2, 9, 2, 2, 64, 8)
    for output, channel, r, s in ((0, 0, 0, 0), (71, 99, 2, 2), (37, 65, 1, 2), (8, 31, 2, 0)):
        split, within = divmod(channel, 64)
        block, in_block = divmod(within, 32)
        sixteen, in_sixteen = divmod(in_block, 16)
        chunk, last = divmod(in_sixteen, 8)
        tile, in_tile = divmod(output, 64)
        # outputs 2 g and 2 g + 1 of sixteen are rows g and g + 8
        row = in_tile // 16 * 16 + in_tile % 16 // 2 + in_tile % 2 * 8
        assert packed[tile, split, block, r * 3 + s, sixteen, chunk, row, last] == weights[output, channel, r, s]


def test_what_does_not_change_the_packing_packs_once() -> None:
    """Hundreds of choices are timed inside the network, and packing a layer's weights takes longer than that."""
    given = problem(channels=512)

    def maker(**choice: Any) -> Any:
        configuration = Configuration(**{"block_channels": 64, "blocks": 2, "splits": 4, **choice})
        made = hopper_latency_conv.implementation(given, configuration, HOPPER.architecture)
        return made.constants["weights"]

    one = maker(rows=7)
    for alike in (maker(rows=4, half=True), maker(rows=7, walk=2), maker(rows=7, abreast=2)):
        assert (alike.func, alike.args) == (one.func, one.args)
    assert maker(groups=2).args != one.args


def test_a_block_holds_a_buffer_for_each_tile_abreast_and_the_weights_once() -> None:
    work = hopper_latency_conv.work_of(problem())

    def memory(**choice: int) -> int:
        return latency_geometry.shared_bytes(work, Configuration(block_channels=64, blocks=1, **choice))

    buffer = memory(walk=2) - memory()
    assert memory(abreast=3) == memory() + 2 * buffer


def test_pixels_wait_for_few_weights_where_a_kernel_begins_when_the_one_before_ends() -> None:
    given = problem(channels=256, outputs=256)
    x = pixels((8, 256, 14, 14))
    batch = dataclasses.replace(given, inputs=(x, *given.inputs[1:]), outputs=(x,))

    def pieces(of: Problem, **choice: Any) -> tuple[int, int, int]:
        configuration = Configuration(**{"block_channels": 64, **choice})
        return latency_geometry.pieces(hopper_latency_conv.work_of(of), configuration)

    assert pieces(batch, blocks=2, splits=2, half=True, abreast=2) == (6, 6, 1)  # of 24 KiB each
    assert pieces(batch, blocks=1, splits=4, half=True) == (1, 1, 1)  # two blocks fit
    assert pieces(batch, blocks=4, splits=1, ring=15) == (36, 15, 5)  # of 8 KiB each
    assert pieces(given, blocks=2, splits=2, half=True, abreast=2) == (1, 1, 1)  # other multiprocessors are free


def test_weights_that_do_not_fit_whole_come_through_a_ring() -> None:
    work = hopper_latency_conv.work_of(problem(channels=512, outputs=512, size=7))

    def ring(**choice: Any) -> int:
        given = Configuration(**{"block_channels": 64, **choice})
        found = latency_geometry.with_ring(work, given)
        more = dataclasses.replace(found, ring=found.ring + 1)
        assert latency_geometry.shared_bytes(work, found) <= 227 * 1024 or not found.ring
        assert not found.ring or latency_geometry.shared_bytes(work, more) > 227 * 1024
        return found.ring

    assert ring(blocks=2, splits=4, half=True, abreast=3) == 17
    assert ring(blocks=2, splits=4, half=True, abreast=2) == 0  # fits whole
    assert ring(blocks=8, splits=1, groups=2, abreast=2) == 0  # three slots are too few
    assert ring(blocks=4, splits=2, half=True, walk=2) == 0


def test_pictures_are_beside_one_another_in_a_block() -> None:
    """Seven tiles above one another, in pairs."""
    given = problem()
    x = pixels((7, 64, 7, 7))
    given = dataclasses.replace(given, inputs=(x, *given.inputs[1:]), outputs=(x,))
    configuration = Configuration(block_channels=64, blocks=1, abreast=2)
    kernel = hopper_latency_conv.implementation(given, configuration, HOPPER.architecture).steps[0].kernel
    assert kernel is not None
    assert (kernel.grid, kernel.block) == ((1, 1, 4), (256, 1, 1))


def test_packed_weights_fill_with_zeros() -> None:
    weights = np.ones((8, 24, 1, 1), dtype=np.float16)
    packed = latency_geometry.pack_weights(weights, None, Configuration(block_channels=64, blocks=1))
    assert packed.dtype == np.float16
    assert packed.size == 64 * 64
    assert packed.sum() == 8 * 24


def test_the_pairs_weights_begin_at_a_whole_block() -> None:
    configuration = Configuration(block_channels=32, blocks=3, splits=1)
    first, second = np.full((64, 40, 1, 1), 1.0), np.full((64, 8, 1, 1), 2.0)
    packed = latency_geometry.pack_weights(first, second, configuration)
    assert configuration.pair_from(40) == 64
    assert (packed[0, 0, 2, 0, 0, 0] == 2.0).all()
    assert packed[0, 0, :2].sum() == 64 * 40


def test_packed_bias_is_float32_in_whole_blocks() -> None:
    bias = latency_geometry.pack_bias(np.ones(72, dtype=np.float16), 72, Configuration(block_channels=64, blocks=1))
    assert bias.dtype == np.float32
    assert bias.shape == (128,)
    assert bias.sum() == 72


def test_an_input_tile_has_a_part_for_each_residue() -> None:
    tile = latency_geometry.input_tile(Window(kernel=(3, 3), stride=(2, 2)), 7)
    assert (tile.parts, tile.rows, tile.columns, tile.box) == (2, 15, 9, (17, 15))


def test_a_kernel_of_one_row_skips_rows() -> None:
    tile = latency_geometry.input_tile(Window(kernel=(1, 1), stride=(2, 2)), 4)
    assert (tile.parts, tile.rows, tile.columns, tile.box) == (1, 4, 8, (15, 7))


def test_dilation_spreads_a_tile() -> None:
    tile = latency_geometry.input_tile(Window(kernel=(3, 3), dilation=(2, 2)), 4)
    assert (tile.parts, tile.rows, tile.columns) == (1, 8, 12)


def test_columns_are_shared_out_evenly() -> None:
    assert Work(window=Window(kernel=(1, 1)), images=1, channels=8, outputs=8, height=9, width=9).columns == 5


def test_a_pooled_layers_tiles_hold_whole_windows() -> None:
    work = hopper_latency_conv.work_of(pooled(problem(channels=512, outputs=512)))
    assert (work.height, work.width, work.columns) == (14, 14, 8)
    found = latency_choice.configurations(work, 132, "float16")
    assert {each.splits for each in found} == {2, 4}  # of eight blocks two would own a window
    assert all(each.rows % 2 == 0 for each in found)


def test_arguments_are_the_kernels() -> None:
    given = problem(residual=True)
    configuration = Configuration(block_channels=64, blocks=1, rows=7)
    made = hopper_latency_conv.implementation(given, configuration, HOPPER.architecture)
    kernel = made.steps[0].kernel
    assert kernel is not None
    maps = [each.tensor_map for each in kernel.arguments[:3]]
    assert [each.pointer.name for each in maps if each is not None] == ["0", "0", "3"]
    pointers = [each.pointer for each in kernel.arguments[3:7]]
    assert [each.name for each in pointers if each is not None] == ["weights", "bias", "4", "3"]
    sizes = struct.unpack("<11i4x2Q", bytes.fromhex(kernel.arguments[7].value))
    assert sizes[:7] == (64, 14, 14, 7, 2, 2, 1)
    asks = later.nothing(Pointer(space=Space.CONSTANT, name="weights"))
    assert kernel.arguments[8:] == (*asks, retention.argument(first_to_leave=False))
    assert kernel.grid == (1, 2, 2)
    assert kernel.dependent


def test_a_slice_of_a_wider_buffer_keeps_its_steps() -> None:
    given = problem()
    wide = TensorType(dtype="float16", shape=(1, 64, 14, 14), strides=(14 * 14 * 256, 1, 14 * 256, 256))
    given = dataclasses.replace(given, outputs=(wide,))
    configuration = Configuration(block_channels=64, blocks=1)
    kernel = hopper_latency_conv.implementation(given, configuration, HOPPER.architecture).steps[0].kernel
    assert kernel is not None
    assert struct.unpack("<11i4x2Q", bytes.fromhex(kernel.arguments[7].value))[7:9] == (256, 14 * 256)


FAMILIES = [
    (problem(kernel=1), {}),
    (problem(kernel=1, residual=True), {"groups": 2}),
    (problem(strides=[2, 2]), {"rows": 4}),
    (problem(dtype="bfloat16"), {"splits": 2, "block_channels": 32}),
    (problem(channels=256), {"splits": 4, "half": True}),
    (problem(channels=512, residual=True), {"splits": 8, "walk": 2, "groups": 2}),
    (problem(kernel=7, channels=16), {"block_channels": 16, "rows": 5}),
    (problem(activation="Clip", activation_parameters={"min": 0.0, "max": 6.0}), {"rows": 1}),
    (problem(activation="LeakyRelu", gated=True), {"rows": 8, "walk": 4}),
    (pair(), {"block_channels": 64, "blocks": 3}),
    (pooled(problem()), {"rows": 8, "walk": 2}),
    (pooled(problem(channels=512)), {"splits": 4, "rows": 6, "half": True}),
    (problem(channels=256, residual=True), {"splits": 2, "blocks": 2, "abreast": 2, "half": True}),
    (problem(kernel=1, residual=True), {"groups": 2, "abreast": 2}),
    (pooled(problem(channels=256)), {"splits": 4, "rows": 8, "abreast": 4}),
    (problem(channels=512, size=7), {"splits": 4, "blocks": 2, "abreast": 3, "ring": 17, "half": True}),
    (problem(channels=256, strides=[2, 2]), {"splits": 2, "blocks": 2, "abreast": 2, "ring": 9}),
]


@pytest.mark.parametrize(("given", "choice"), FAMILIES)
def test_compiles_without_spilling(given: Problem, choice: dict[str, Any]) -> None:
    configuration = Configuration(**{"block_channels": 64, "blocks": 1, **choice})
    text = hopper_latency_conv.source(given, configuration)
    assert "0 bytes spill stores" in compiler.resources(text, HOPPER.architecture)
