"""Products of few rows, without a card: what they take, pack and compile."""

import dataclasses
import struct
from typing import Any

import numpy as np
import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, plain
from enginewright_builder.tactics import row_product

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
AMPERE = dataclasses.replace(HOPPER, capability=80)
CONSTANT = frozenset({1, 2})


def product(
    rows: int = 1, depth: int = 2048, outputs: int = 1000, dtype: str = "float16", y: str = "float16", **changes: Any
) -> Problem:
    return Problem(
        kind=Kind.PRODUCT,
        inputs=(plain(dtype, (rows, depth)), plain(dtype, (depth, outputs)), plain("float32", (outputs,)), None),
        outputs=(plain(y, (rows, outputs)),),
        attributes={"alpha": 1.0, "activation": "", **changes},
    )


def names(given: Problem, device: Device = HOPPER) -> list[str]:
    return [each.name for each in row_product.RowProduct().candidates(given, device, CONSTANT)]


def test_few_outputs_want_several_warps_each() -> None:
    assert names(product(), AMPERE)[0] == "2 warps an output"


def test_many_outputs_want_one_warp_each() -> None:
    assert names(product(outputs=4096), AMPERE)[0] == "1 warps an output"


def test_short_sums_are_not_shared() -> None:
    assert names(product(depth=256), AMPERE) == ["1 warps an output"]


def test_on_hopper_the_matrix_is_streamed_first() -> None:
    assert names(product(depth=256)) == [
        "streamed, 8 outputs at a time",
        "streamed, 4 outputs at a time",
        "1 warps an output",
    ]


def test_matrix_units_come_first_where_several_rows_repay_them() -> None:
    assert names(product(rows=2), AMPERE)[0] == "by matrix units"
    assert "by matrix units" not in names(product(rows=1), AMPERE)


def test_matrix_units_are_for_half_types() -> None:
    assert "by matrix units" not in names(product(rows=8, dtype="float32", y="float32"))


def test_blocks_of_eight_outputs_multiply_by_matrix_units() -> None:
    kernel = row_product.multiplying(product(rows=8, outputs=1001), HOPPER).steps[0].kernel
    assert kernel is not None
    assert (kernel.grid, kernel.block) == ((126, 1, 1), (256, 1, 1))


@pytest.mark.parametrize(("shared", "stages"), [(227 * 1024, 6), (99 * 1024, 2)])
def test_a_stream_takes_the_shared_memory_there_is(shared: int, stages: int) -> None:
    kernel = row_product.streaming(product(), 8, dataclasses.replace(HOPPER, shared_bytes=shared)).steps[0].kernel
    assert kernel is not None
    assert kernel.shared_bytes == stages * 32 * 1024
    assert kernel.grid == (125, 1, 1)


def test_more_groups_than_multiprocessors_are_dealt_in_turns() -> None:
    kernel = row_product.streaming(product(outputs=4096), 8, HOPPER).steps[0].kernel
    assert kernel is not None
    assert kernel.grid == (132, 1, 1)


@pytest.mark.parametrize(("depth", "outputs"), [(16, 3), (256, 8), (1064, 20), (520, 9)])
@pytest.mark.parametrize("together", [4, 8])
def test_streamed_weights_are_where_the_kernel_looks(depth: int, outputs: int, together: int) -> None:
    made = row_product.streaming(product(depth=depth, outputs=outputs), together, HOPPER)
    matrix = np.arange(depth * outputs, dtype=np.float32).reshape(depth, outputs)
    flat = made.constants["weights"]({1: matrix.astype(np.float16)}).reshape(-1)
    units = depth // 8
    for output in range(outputs):
        group, place = divmod(output, together)
        for unit in range(units):
            chunk, lane = divmod(unit, 32)
            width = min(32, units - chunk * 32)
            at = group * units * together + chunk * 32 * together + place * width + lane
            assert (flat[at * 8 : at * 8 + 8] == matrix[unit * 8 : unit * 8 + 8, output].astype(np.float16)).all()
    assert flat.size == -(-outputs // together) * together * depth


def test_runs_on_ampere_without_dependent_launch() -> None:
    kernel = row_product.implementation(product(), 1, dataclasses.replace(HOPPER, capability=80)).steps[0].kernel
    assert kernel is not None
    assert not kernel.dependent


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (dataclasses.replace(product(), kind=Kind.ATTENTION), "it is no product"),
        (product(dtype="int8", y="int8"), "its operands are not of one float type, or y is neither that nor float32"),
        (product(rows=9), "it has more than 8 rows"),
        (product(depth=2047), "its rows are not contiguous in units of 16 bytes"),
    ],
)
def test_declines_with_a_reason(given: Problem, reason: str) -> None:
    assert row_product.refusal(given, HOPPER, CONSTANT) == reason
    assert names(given) == []


def test_declines_a_batch_of_matrices() -> None:
    given = product()
    batched = dataclasses.replace(given, inputs=(given.inputs[0], plain("float16", (2, 2048, 1000)), *given.inputs[2:]))
    assert row_product.refusal(batched, HOPPER, CONSTANT) == "its operands are not a matrix of rows and a matrix"


def test_declines_a_bias_of_each_element() -> None:
    given = product(rows=2)
    wide = dataclasses.replace(given, inputs=(*given.inputs[:2], plain("float32", (2, 1000)), None))
    assert row_product.refusal(wide, HOPPER, CONSTANT) == "its bias is not one number an output"


def test_declines_a_residual() -> None:
    given = product()
    added = dataclasses.replace(given, inputs=(*given.inputs[:3], given.outputs[0]))
    assert row_product.refusal(added, HOPPER, CONSTANT) == "it has a residual"


def test_declines_turing() -> None:
    assert "8.0" in row_product.refusal(product(), dataclasses.replace(HOPPER, capability=75), CONSTANT)


def test_the_matrix_is_packed_as_rows_of_outputs() -> None:
    made = row_product.implementation(product(depth=16, outputs=3), 1, HOPPER)
    matrix = np.arange(48, dtype=np.float16).reshape(16, 3)
    packed = made.constants["weights"]({1: matrix})
    assert packed.flags.c_contiguous
    assert (packed == matrix.T).all()


def test_a_missing_bias_is_zeros_and_a_single_one_is_spread() -> None:
    made = row_product.implementation(product(outputs=3), 1, HOPPER)
    assert made.constants["bias"]({}).tolist() == [0, 0, 0]
    assert made.constants["bias"]({2: np.array([2.0], dtype=np.float16)}).tolist() == [2, 2, 2]


def test_rows_of_a_wider_buffer_keep_their_step() -> None:
    given = product(rows=4)
    wide = TensorType(dtype="float16", shape=(4, 2048), strides=(4096, 1))
    made = row_product.implementation(dataclasses.replace(given, inputs=(wide, *given.inputs[1:])), 2, HOPPER)
    kernel = made.steps[0].kernel
    assert kernel is not None
    assert struct.unpack("<4if", bytes.fromhex(kernel.arguments[4].value)) == (2048, 1000, 4096, 1000, 1.0)
    assert kernel.grid == (250, 1, 1)


@pytest.mark.parametrize("capability", [80, 86, 89, 90, 100, 120])
def test_compiles_for_every_architecture_that_it_takes(capability: int) -> None:
    device = dataclasses.replace(HOPPER, capability=capability)
    for given in (product(), product(rows=8, activation="Relu"), product(dtype="float32", y="float32")):
        text = row_product.source("row_product.cu", given, {"WARPS": 2})
        assert "0 bytes spill stores" in compiler.resources(text, device.architecture)
    for given in (product(), product(rows=8, dtype="bfloat16", y="float32")):
        text = row_product.source("row_matrix.cu", given, {})
        assert "0 bytes spill stores" in compiler.resources(text, device.architecture)


@pytest.mark.parametrize("capability", [90, 100, 120])
def test_a_stream_compiles_for_every_architecture_that_has_the_copy_engine(capability: int) -> None:
    device = dataclasses.replace(HOPPER, capability=capability)
    for given in (product(), product(rows=8, activation="Relu"), product(rows=3, dtype="float32", y="float32")):
        text = row_product.source("row_stream.cu", given, {"OUTPUTS": 8, "STAGES": 2})
        assert "0 bytes spill stores" in compiler.resources(text, device.architecture)


def test_compiles_for_bfloat16() -> None:
    text = row_product.source(
        "row_product.cu", product(dtype="bfloat16", y="bfloat16", activation="Tanh"), {"WARPS": 4}
    )
    assert "0 bytes spill stores" in compiler.resources(text, HOPPER.architecture)
