"""The Hopper matrix kernels as far as they can be tested without a card: forms, maps, packing, choice, compiling."""

import dataclasses
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.tactics import (
    hopper_form,
    hopper_gemm,
    hopper_halo,
    hopper_launch,
    hopper_order,
    hopper_split_gemm,
)
from enginewright_builder.tactics.hopper_form import Form
from enginewright_builder.tactics.hopper_operand import Matrix, Windows
from enginewright_runtime.engine.cuda.program import TensorMap

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2, 5})
GEMM, SPLIT = hopper_gemm.HopperGemm(), hopper_split_gemm.HopperSplitGemm()
HALO = hopper_halo.HopperHaloConvolution()


def pixels(shape: tuple[int, ...], dtype: str = "float16", wide: int = 0) -> TensorType:
    if not wide:
        return TensorType(dtype=dtype, shape=shape, strides=channels_last(shape))
    _, _, h, w = shape
    return TensorType(dtype=dtype, shape=shape, strides=(h * w * wide, 1, w * wide, wide))


def convolution(
    channels: int = 64, outputs: int = 128, size: int = 14, kernel: int = 3, dtype: str = "float16", **changes: Any
) -> Problem:
    """A convolution that keeps the size unless pads or strides are given; other changes go into its attributes."""
    pads, strides = changes.pop("pads", [kernel // 2] * 4), changes.pop("strides", [1, 1])
    dilations, out = changes.pop("dilations", [1, 1]), changes.pop("out", dtype)
    height, width = ((size + pads[i] + pads[i + 2] - (kernel - 1) * dilations[i] - 1) // strides[i] + 1 for i in (0, 1))
    y = pixels((2, outputs, height, width), out, changes.pop("wide_out", 0))
    inputs = (
        pixels((2, channels, size, size), dtype, changes.pop("wide_in", 0)),
        plain(dtype, (outputs, channels, kernel, kernel)),
        plain("float32", (outputs,)),
        y if changes.pop("residual", False) else None,
    )
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "groups": 1, "activation": "Relu"}
    return Problem(kind=Kind.CONVOLUTION, inputs=inputs, outputs=(y,), attributes={**attributes, **changes})


def pair() -> Problem:
    """A residual block's end: 64 channels at 14x14, and 40 at 28x28 read with strides."""
    one = convolution(64, 256, 14, 1)
    inputs = (*one.inputs, pixels((2, 40, 28, 28)), plain("float16", (256, 40, 1, 1)))
    return dataclasses.replace(one, inputs=inputs, attributes={**one.attributes, "pair": {"strides": [2, 2]}})


def pooled(given: Problem, kernel: int = 2, strides: int = 2, pad: int = 0) -> Problem:
    """With a max pool behind it."""
    y = given.outputs[0]
    n, c, *sizes = y.shape
    height, width = ((size + 2 * pad - kernel) // strides + 1 for size in sizes)
    pool = {"kernel": [kernel] * 2, "strides": [strides] * 2, "pads": [pad] * 4}
    return dataclasses.replace(
        given, outputs=(pixels((n, c, height, width), y.dtype),), attributes={**given.attributes, "pool": pool}
    )


def product(
    rows: int = 128, depth: int = 768, columns: int = 3072, batch: tuple[int, ...] = (), **changes: Any
) -> Problem:
    """Activations and weights in C order; a, b and attributes may be given."""
    dtype = changes.pop("dtype", "float16")
    a = changes.pop("a", plain(dtype, (*batch, rows, depth)))
    b = changes.pop("b", plain(dtype, (depth, columns)))
    y = plain(changes.pop("out", dtype), (*batch, rows, columns))
    residual = y if changes.pop("residual", False) else None
    attributes = {"alpha": 1.0, "activation": "", "activation_parameters": {}, "gated": False, **changes}
    inputs = (a, b, plain("float32", (columns,)), residual)
    return Problem(kind=Kind.PRODUCT, inputs=inputs, outputs=(y,), attributes=attributes)


def scores() -> Problem:
    """Q K^T of twelve heads that lie in rows of 768."""
    heads = TensorType(dtype="float16", shape=(2, 12, 128, 64), strides=(128 * 768, 64, 768, 1))
    turned = TensorType(dtype="float16", shape=(2, 12, 64, 128), strides=(128 * 768, 64, 1, 768))
    return dataclasses.replace(product(128, 64, 128, (2, 12), a=heads, b=turned), inputs=(heads, turned, None, None))


def form(problem: Problem, constant: frozenset[int] = CONSTANT) -> Form:
    found = hopper_form.of_problem(problem, constant)
    assert found is not None
    return found


def maps(problem: Problem, constant: frozenset[int] = CONSTANT) -> list[TensorMap]:
    """The tensor maps of the first candidate's kernel."""
    candidate = GEMM.candidates(problem, HOPPER, constant)[0]
    return [each.tensor_map for each in kernel_of(candidate.build()).arguments if each.tensor_map is not None]


def kernel_of(made: Implementation) -> Any:
    return made.steps[0].kernel


def test_every_tile_asks_for_its_weights_in_the_same_words_so_that_they_are_packed_once() -> None:
    makers = {each.build().constants["weights"] for each in GEMM.candidates(convolution(), HOPPER, CONSTANT)}
    assert len(makers) > 1
    assert len({(make.func, make.args) for make in makers}) == 1


def test_a_pointwise_convolution_is_a_product_of_its_pixels() -> None:
    found = form(convolution(64, 128, 14, 1))
    assert isinstance(found.a, Matrix)
    assert (found.rows, found.columns, found.a.stride, found.picture) == (2 * 14 * 14, 128, 64, (14, 14))


def test_a_strided_pointwise_convolution_reads_windows() -> None:
    assert isinstance(form(convolution(64, 128, 14, 1, strides=[2, 2])).a, Windows)


def test_window_corners_are_what_im2col_mode_wants() -> None:
    first = maps(convolution(64, 128, 14, 3, pads=[2, 1, 2, 0], dilations=[2, 1], strides=[1, 2]))[0]
    assert first.im2col is not None
    assert (first.im2col.lower, first.im2col.upper) == ((-1, -2), (0 - 2, 2 - 4))
    assert first.element_strides == (1, 2, 1, 1)
    assert (first.dims, first.strides) == ((64, 14, 14, 2), (128, 14 * 128, 14 * 14 * 128))


def test_a_slice_of_a_wider_buffer_is_read_and_written_with_its_strides() -> None:
    problem = convolution(64, 128, 14, 1, wide_in=96, wide_out=256)
    first, *_, out = maps(problem)
    assert (first.strides, out.strides, out.dims) == ((192,), (512,), (128, 2 * 14 * 14))


def test_rows_of_a_batch_with_one_set_of_weights_are_one_matrix() -> None:
    assert (form(product(128, batch=(8,))).rows, form(product(128, batch=(8,))).batched) == (1024, False)


def test_heads_are_a_batch_in_two_dimensions_and_their_transpose_costs_nothing() -> None:
    found = form(scores(), frozenset())
    assert (found.batch, found.rows, found.k_major) == ((12, 2), 128, True)
    left, right, _ = maps(scores(), frozenset())
    assert left.dims == right.dims == (64, 128, 12, 2)
    assert left.strides == (1536, 128, 128 * 1536)


def test_a_second_operand_with_contiguous_columns_is_not_k_major() -> None:
    values = plain("float16", (2, 12, 128, 64))
    problem = product(128, 128, 64, (2, 12), b=values)
    found = form(dataclasses.replace(problem, inputs=(*problem.inputs[:2], None, None)), frozenset())
    assert (found.k_major, found.b is not None and found.b.rows) == (False, 128)


def test_a_repeated_matrix_of_a_batch_has_one_place() -> None:
    """One K for all heads: its dimension has an extent of 1, since the copy engine knows no stride of 0."""
    shared = TensorType(dtype="float16", shape=(2, 12, 64, 128), strides=(8192, 0, 1, 64))
    problem = dataclasses.replace(scores(), inputs=(scores().inputs[0], shared, None, None))
    assert maps(problem, frozenset())[1].dims == (64, 128, 1, 2)


@pytest.mark.parametrize(
    ("problem", "constant"),
    [
        (convolution(groups=2), CONSTANT),
        (convolution(), frozenset({2})),
        (convolution(), frozenset({1})),
        (convolution(dtype="float32"), CONSTANT),
        (convolution(channels=7), CONSTANT),
        (convolution(outputs=12), CONSTANT),
        (convolution(kernel=1, strides=[9, 9]), CONSTANT),
        (product(b=TensorType(dtype="float16", shape=(768, 3072), strides=(2, 1536))), frozenset({2})),
        (dataclasses.replace(product(), kind=Kind.ATTENTION), CONSTANT),
    ],
    ids=[
        "groups",
        "weights that change",
        "a bias that changes",
        "float32",
        "pixels of 14 bytes",
        "results of 24 bytes",
        "strides past the copy engine's",
        "no contiguous dimension",
        "another kind",
    ],
)
def test_what_the_kernels_cannot_do_is_not_offered(problem: Problem, constant: frozenset[int]) -> None:
    assert GEMM.candidates(problem, HOPPER, constant) == SPLIT.candidates(problem, HOPPER, constant) == ()


@pytest.mark.parametrize("capability", [80, 89, 100, 120])
def test_other_architectures_get_nothing(capability: int) -> None:
    device = dataclasses.replace(HOPPER, capability=capability)
    for tactic in (GEMM, SPLIT, HALO):
        assert tactic.candidates(convolution(64, 64), device, CONSTANT) == ()


@pytest.mark.parametrize("tactic", [GEMM, SPLIT, HALO], ids=lambda tactic: tactic.name)
def test_names_are_distinct_and_enough_to_find_a_candidate_again(tactic: Any) -> None:
    problem = convolution(64, 64)
    names = [each.name for each in tactic.candidates(problem, HOPPER, CONSTANT)]
    assert names
    assert len(set(names)) == len(names)
    assert names == [each.name for each in tactic.candidates(problem, HOPPER, CONSTANT)]


def test_large_products_prefer_large_tiles_and_small_ones_small() -> None:
    large = GEMM.candidates(convolution(256, 256, 112), HOPPER, CONSTANT)[0].name
    small = GEMM.candidates(product(128, 768, 768), HOPPER, CONSTANT)[0].name
    assert large.startswith(("128x2", "192x128"))
    assert small.startswith("64x")


def test_of_one_tile_more_stages_are_tried_before_more_room_for_results() -> None:
    """On an H200 every tile that had the choice was faster so, by up to a quarter."""
    names = [each.name for each in GEMM.candidates(convolution(256, 256, 112), HOPPER, CONSTANT)]
    assert names.index("128x256, 3 stages, 1 staged") < names.index("128x256, 2 stages, 2 staged")


def test_every_tile_fits_into_shared_memory_and_has_two_stages_or_more() -> None:
    for problem in (convolution(out="float32"), product(1024, 768, 2304), convolution(512, 2048, 7, 1)):
        found = form(problem)
        for tile in hopper_gemm.tiles(found, HOPPER):
            assert tile.shared_bytes(found) <= HOPPER.shared_bytes
            assert 2 <= tile.stages <= hopper_gemm.SLOTS


def test_ping_pong_has_an_even_number_of_staging_tiles() -> None:
    """With an odd number a group would wait for the other's, in an order that may never come."""
    assert {tile.staging for tile in hopper_gemm.tiles(form(convolution()), HOPPER) if tile.pingpong} == {2}


def test_splits_divide_the_columns_and_no_block_is_without_work() -> None:
    for problem in (product(128, 768, 768), product(8, 25088, 4096), convolution(512, 512, 7)):
        found = form(problem)
        for tile in hopper_split_gemm.tiles(found, HOPPER):
            assert tile.columns // tile.splits % 16 == 0
            assert tile.splits <= hopper_launch.steps(found)
            assert 1 <= tile.stages <= hopper_split_gemm.SLOTS
            assert tile.shared_bytes(found) <= HOPPER.shared_bytes


def test_splitting_is_not_offered_where_tiles_abound() -> None:
    assert SPLIT.candidates(convolution(64, 256, 224), HOPPER, CONSTANT) == ()


def test_weights_are_packed_by_tap_with_each_taps_channels_filled_up() -> None:
    weights = np.arange(16 * 48 * 9, dtype=np.float16).reshape(16, 48, 3, 3)
    found = form(convolution(48, 16))
    assert hopper_launch.chunk(found) == 16
    packed = hopper_launch.pack_weights(found, {1: weights}).reshape(9, 3, 16, 16)
    np.testing.assert_array_equal(packed[5, :, 3].reshape(-1), weights[3, :, 1, 2])
    wide = hopper_launch.pack_weights(form(convolution(56, 16)), {1: np.ones((16, 56, 3, 3), np.float16)})
    assert wide.shape == (9, 16, 64)
    assert not wide[:, :, 56:].any()


def test_the_pairs_weights_stand_behind_the_first() -> None:
    first, second = np.full((256, 64, 1, 1), 2, np.float16), np.full((256, 40, 1, 1), 3, np.float16)
    packed = hopper_launch.pack_weights(form(pair()), {1: first, 5: second})
    assert packed.shape == (2, 256, 64)
    np.testing.assert_array_equal(np.unique(packed[0]), [2])
    np.testing.assert_array_equal(packed[1, 0], [3] * 40 + [0] * 24)


def test_a_products_weights_are_packed_column_by_column() -> None:
    weights = np.arange(72 * 16, dtype=np.float32).astype(ml_dtypes.bfloat16).reshape(72, 16)
    packed = hopper_launch.pack_weights(form(product(8, 72, 16, dtype="bfloat16")), {1: weights})
    np.testing.assert_array_equal(packed[0, 5], weights[:64, 5])
    np.testing.assert_array_equal(packed[1, 5], [*weights[64:, 5], *[0] * 56])


def test_weights_repeated_over_a_batch_are_packed_once() -> None:
    weights = np.arange(64 * 16, dtype=np.float16).reshape(64, 16)
    repeated = TensorType(dtype="float16", shape=(3, 64, 16), strides=(0, 16, 1))
    found = form(product(8, 64, 16, (3,), b=repeated))
    packed = hopper_launch.pack_weights(found, {1: np.broadcast_to(weights, (3, 64, 16))})
    np.testing.assert_array_equal(packed[0], weights.T)


def test_a_bias_is_filled_up_to_whole_tiles_and_a_single_number_repeated() -> None:
    np.testing.assert_array_equal(hopper_launch.pack_bias(4, {2: np.array([1, 2], np.float16)}), [1, 2, 0, 0])
    np.testing.assert_array_equal(hopper_launch.pack_bias(3, {2: np.array([5.0])}), [5, 5, 5])
    np.testing.assert_array_equal(hopper_launch.pack_bias(2, {}), [0, 0])


def test_the_geometry_says_what_the_kernel_reads() -> None:
    found = form(convolution(48, 40, 9, 3, strides=[1, 2], pads=[1, 0, 1, 0], activation="Clip", wide_out=40))
    numbers = struct.unpack("<25i3f", hopper_launch.geometry(found, 64, 64))
    assert numbers[:4] == (2, 1, 2, 7)  # 2 x 9 x 4 pixels; 9 taps of 3 chunks of 16 in stages of 4
    assert numbers[4:8] == (3, 3, 27, 27)
    assert numbers[8:16] == (4, 36, 2, 1, 0, 1, 1, 1)
    assert numbers[24:] == (40, 1.0, -np.inf, np.inf)


def test_a_halo_convolution_takes_few_channels_and_unit_strides_alone() -> None:
    assert HALO.candidates(convolution(64, 96), HOPPER, CONSTANT)
    for other in (convolution(128, 64), convolution(64, 64, strides=[2, 2]), convolution(64, 64, kernel=1), pair()):
        assert HALO.candidates(other, HOPPER, CONSTANT) == ()
    assert HALO.candidates(convolution(64, 64, out="float32"), HOPPER, CONSTANT) == ()


def test_a_halo_convolutions_weights_have_64_channels_a_tap() -> None:
    weights = np.random.default_rng(0).standard_normal((16, 40, 3, 3)).astype(np.float16)
    packed = hopper_halo.pack_weights({1: weights}).reshape(16, 9, 64)
    np.testing.assert_array_equal(packed[7, 4, :40], weights[7, :, 1, 1])
    assert not packed[:, :, 40:].any()


FAMILIES = {
    "windows": (GEMM, convolution(), CONSTANT),
    "chunks of 16, float32 results": (GEMM, convolution(48, 72, out="float32", residual=True), CONSTANT),
    "pair": (GEMM, pair(), CONSTANT),
    "bfloat16, gelu": (GEMM, product(1024, dtype="bfloat16", activation="Gelu"), CONSTANT),
    "heads": (GEMM, scores(), frozenset[int]()),
    "columns not k-major": (GEMM, product(300, b=plain("float16", (768, 3072))), frozenset({2})),
    "split": (SPLIT, product(128, 768, 768, residual=True, activation="Tanh"), CONSTANT),
    "split windows": (SPLIT, convolution(512, 512, 7, residual=True, activation="Sigmoid", gated=True), CONSTANT),
    "halo": (HALO, convolution(64, 96, residual=True), CONSTANT),
    "pooled": (GEMM, pooled(convolution(256, 256, 28)), CONSTANT),
    "pooled split": (SPLIT, pooled(convolution(512, 512, 14)), CONSTANT),
    "pooled halo": (HALO, pooled(convolution(64, 96, dtype="bfloat16")), CONSTANT),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_compiles_for_hopper_without_spilling(family: str) -> None:
    tactic, problem, constant = FAMILIES[family]
    texts: list[str] = []
    build(tactic.candidates(problem, HOPPER, constant)[0], texts)
    said = compiler.resources(texts[0], HOPPER.architecture)
    assert "0 bytes spill stores, 0 bytes spill loads" in said
    assert "C7508" not in said  # setmaxnreg ignored


def build(candidate: Candidate, texts: list[str]) -> None:
    """Build with a compiler that keeps the text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "compile", lambda text, _architecture, _options=(): texts.append(text) or b"")
        candidate.build()


@pytest.mark.parametrize("start", ["128x128 ping-pong", "192x128, 4", "128x256, 3"])
def test_large_tiles_compile_without_spilling(start: str) -> None:
    assert "0 bytes spill stores" in compiler.resources(text_of(convolution(256, 256), start), HOPPER.architecture)


def test_equal_tiles_of_different_layers_share_their_machine_code() -> None:
    assert text_of(convolution(256, 256, 14), "192x128, 4") == text_of(convolution(128, 512, 28), "192x128, 4")


def text_of(problem: Problem, start: str) -> str:
    """The kernel's text for the tile whose name starts so, whether or not it is among the best."""
    tile = next(each for each in hopper_gemm.tiles(form(problem), HOPPER) if each.name.startswith(start))
    choices = {"STAGING": tile.staging, "PINGPONG": int(tile.pingpong)}
    return hopper_launch.source("hopper_gemm.cu", form(problem), (tile.warpgroups, tile.columns, tile.stages), choices)


def test_every_second_kernel_in_a_row_walks_backwards() -> None:
    forwards = [built(GEMM, convolution(128)), built(HALO, convolution(64, 64)), built(GEMM, convolution(128))]
    other = built(SPLIT, product(128, 768, 768))
    steps = hopper_order.alternate([*forwards, other, forwards[0]])
    assert [backwards(step) for step in steps] == [False, True, False, None, True]
    assert steps[0] == forwards[0]


def built(tactic: Any, problem: Problem) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "compile", lambda _text, _architecture, _options=(): b"")
        return tactic.candidates(problem, HOPPER, CONSTANT)[0].build().steps[0]


def backwards(step: Any) -> bool | None:
    at = hopper_order.REVERSED_AT.get(step.kernel.function)
    numbers = bytes.fromhex(step.kernel.arguments[-1].value)
    return None if at is None else struct.unpack_from("<i", numbers, at) == (1,)
