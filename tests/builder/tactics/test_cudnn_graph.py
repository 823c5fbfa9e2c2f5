"""cuDNN's graphs as sketches: what they say of the tensors in memory, and what is none."""

import numpy as np
import pytest

from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain, row_major
from enginewright_builder.tactics.cudnn_graph import GraphSketch, GraphTensor, packed_channels_last, sketch
from enginewright_runtime.engine.cuda.program import Pointer, Space

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 << 10)
KNOWN = frozenset({1, 2})


def half(*shape: int, pitch: int = 0) -> TensorType:
    """Channels last; `pitch` is the number of channels of the buffer that it is a slice of."""
    strides = channels_last((shape[0], pitch or shape[1], *shape[2:]))
    return TensorType(dtype="float16", shape=shape, strides=strides)


def convolution(x: TensorType, weights: TensorType, y: TensorType, **more: object) -> Problem:
    spatial = len(x.shape) - 2
    attributes = {
        "strides": (1,) * spatial, "pads": (1,) * 2 * spatial, "dilations": (1,) * spatial, "groups": 1,
        "activation": "Relu", "activation_parameters": {}, "gated": False,
    }  # fmt: skip
    bias, residual = more.pop("bias", None), more.pop("residual", None)
    kind = more.pop("kind", Kind.CONVOLUTION)
    return Problem(kind=kind, inputs=(x, weights, bias, residual), outputs=(y,), attributes=attributes | more)  # type: ignore[arg-type]


def drawn(problem: Problem, constant: frozenset[int] = KNOWN) -> GraphSketch:
    made = sketch(problem, constant)
    assert made is not None
    return made


def seen(tensor: GraphTensor, memory: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[int]:
    """The elements in the order of the tensor's dimensions: which memory it says they are in."""
    strides = tuple(8 * stride for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(memory, tensor.dims, strides).reshape(-1).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("shape", "weights"),
    [((2, 4, 5), (6, 4, 3)), ((2, 4, 5, 3), (6, 4, 3, 3)), ((2, 4, 5, 3, 2), (6, 4, 3, 3, 3))],
)
def test_images_of_one_to_three_dimensions_say_where_their_elements_lie(
    shape: tuple[int, ...], weights: tuple[int, ...]
) -> None:
    x, y = half(*shape, pitch=7), half(shape[0], 6, *shape[2:])
    made = drawn(convolution(x, plain("float16", weights), y))
    memory = np.arange(4096)
    strides = tuple(8 * stride for stride in x.strides)
    want = np.lib.stride_tricks.as_strided(memory, x.shape, strides).reshape(-1).tolist()
    assert seen(made.first, memory) == want
    assert len(made.first.dims) == max(len(shape), 4)
    assert {len(values) for values in made.window.values()} == {max(len(shape), 4) - 2}


def test_asymmetric_padding_keeps_its_sides() -> None:
    made = drawn(convolution(half(1, 8, 5, 5), plain("float16", (8, 8, 3, 3)), half(1, 8, 6, 6), pads=(0, 1, 2, 3)))
    assert (made.window["pre_padding"], made.window["post_padding"]) == ((0, 1), (2, 3))


def test_constant_weights_are_packed_as_the_sketch_says_they_lie() -> None:
    made = drawn(convolution(half(1, 8, 5, 5), plain("float16", (6, 8, 3, 3)), half(1, 6, 5, 5)))
    weights = np.arange(6 * 8 * 9, dtype=np.int64).reshape(6, 8, 3, 3)
    packed = packed_channels_last({1: weights}).reshape(-1)
    assert made.second.pointer == Pointer(space=Space.CONSTANT, name="weights")
    assert seen(made.second, packed) == weights.reshape(-1).tolist()


@pytest.mark.parametrize("layout", [channels_last, row_major])
def test_weights_that_are_computed_stay_where_they_lie(layout: object) -> None:
    strides = layout((6, 8, 3, 3))  # type: ignore[operator]
    weights = TensorType(dtype="float16", shape=(6, 8, 3, 3), strides=strides)
    made = drawn(convolution(half(1, 8, 5, 5), weights, half(1, 6, 5, 5)), frozenset())
    assert (made.second.strides, made.second.pointer) == (strides, Pointer(space=Space.OPERAND, name="1"))


def test_images_with_the_channels_first_keep_their_weights_so() -> None:
    x, y = plain("float32", (1, 3, 9, 9)), plain("float32", (1, 7, 9, 9))
    made = drawn(convolution(x, plain("float32", (7, 3, 3, 3)), y))
    assert not made.pack
    assert made.second.strides == row_major((7, 3, 3, 3))


def test_an_image_of_one_pixel_shows_the_layout_of_its_channels() -> None:
    one = TensorType(dtype="float16", shape=(2, 8, 1, 1), strides=(8, 1, 1, 1))
    made = drawn(convolution(one, plain("float16", (8, 8, 1, 1)), one, pads=(0,) * 4))
    assert made.first.strides == made.output.strides == (8, 1, 8, 8)


def test_depthwise_weights_need_no_packing_and_show_the_layout_all_the_same() -> None:
    made = drawn(convolution(half(1, 8, 5, 5), plain("float16", (8, 1, 3, 3)), half(1, 8, 5, 5), groups=8))
    assert not made.pack
    assert made.second.strides == channels_last((8, 1, 3, 3))


def test_a_slice_of_a_wider_buffer_is_only_its_strides() -> None:
    made = drawn(convolution(half(1, 8, 5, 5), plain("float16", (8, 8, 3, 3)), half(1, 8, 5, 5, pitch=32)))
    assert made.output.strides == (800, 1, 160, 32)


def test_a_transposed_convolution_is_the_gradient_and_its_bias_counts_what_it_makes() -> None:
    problem = convolution(
        half(1, 8, 5, 5), plain("float16", (8, 3, 4, 4)), half(1, 6, 10, 10), kind=Kind.TRANSPOSED_CONVOLUTION,
        strides=(2, 2), groups=2, bias=plain("float16", (6,)),
    )  # fmt: skip
    made = drawn(problem)
    assert made.operation == "conv_dgrad"
    assert made.bias is not None
    assert made.bias.dims == (1, 6, 1, 1)


def matrices(a: TensorType, b: TensorType, y: TensorType, bias: TensorType | None = None) -> Problem:
    attributes = {"alpha": 1.0, "activation": "", "activation_parameters": {}, "gated": False}
    return Problem(kind=Kind.PRODUCT, inputs=(a, b, bias, None), outputs=(y,), attributes=attributes)


def test_a_product_of_two_matrices_is_a_batch_of_one() -> None:
    f16 = plain("float16", (3, 5))
    made = drawn(matrices(f16, plain("float16", (5, 7)), plain("float16", (3, 7)), plain("float16", (7,))))
    assert (made.first.dims, made.second.dims, made.output.dims) == ((1, 3, 5), (1, 5, 7), (1, 3, 7))
    assert made.bias is not None
    assert (made.bias.dims, made.bias.strides[-1]) == ((1, 1, 7), 1)


def test_a_repeated_matrix_has_a_batch_of_one() -> None:
    shared = TensorType(dtype="float16", shape=(4, 5, 7), strides=(0, 7, 1))
    made = drawn(matrices(plain("float16", (4, 3, 5)), shared, plain("float16", (4, 3, 7))))
    assert (made.second.dims, made.second.strides) == ((1, 5, 7), (35, 7, 1))


def attention(d: int = 64, dtype: str = "float16") -> Problem:
    q = TensorType(dtype=dtype, shape=(2, 3, 5, d), strides=(15 * d, d, 3 * d, 1))
    mask = TensorType(dtype=dtype, shape=(2, 3, 5, 5), strides=(5, 0, 0, 1))
    return Problem(kind=Kind.ATTENTION, inputs=(q, q, q, mask), outputs=(q,), attributes={"scale": 0.125})


def test_attention_takes_heads_between_the_rows_and_a_mask_that_repeats() -> None:
    made = drawn(attention())
    assert made.first.strides == (960, 64, 192, 1)
    assert made.bias is not None
    assert made.bias.dims == (2, 1, 1, 5)


@pytest.mark.parametrize(
    ("problem", "why"),
    [
        (attention(60), "heads that its kernels do not read at once"),
        (attention(64, "float32"), "attention in float32"),
        (convolution(plain("int8", (1, 8, 5, 5)), plain("int8", (8, 8, 3, 3)), plain("int8", (1, 8, 5, 5))), "int8"),
        (convolution(half(1, 8, 5, 5), plain("float16", (8, 8, 3, 3)), half(1, 8, 5, 5), activation="Selu"), "Selu"),
        (
            convolution(
                half(1, 8, 5, 5), plain("float16", (8, 8, 3, 3)), half(1, 8, 5, 5), activation="Elu",
                activation_parameters={"alpha": 0.5},
            ),
            "an Elu of another slope",
        ),
        (convolution(half(1, 8, 5, 5), plain("float16", (8, 8, 3, 3)), half(1, 8, 1, 1), pads=(-1,) * 4), "cropping"),
        (convolution(half(1, 8, 0, 5), plain("float16", (8, 8, 3, 3)), half(1, 8, 0, 5)), "nothing to do"),
        (Problem(kind=Kind.POOLING, inputs=(half(1, 8, 4, 4),), outputs=(half(1, 8, 2, 2),)), "pooling"),
    ],
)  # fmt: skip
def test_what_cudnn_has_no_graph_for_is_not_taken(problem: Problem, why: str) -> None:
    assert sketch(problem, KNOWN) is None, why
