"""Every layer: the shape inferred as it is added is the one that ONNX Runtime computes, and so are the numbers."""

import math

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from enginewright_builder.network import lowering
from enginewright_builder.network.definition import Network

RANDOM = np.random.default_rng(3)
IMAGE, ROWS, HEADS = (2, 4, 6, 6), (2, 5, 8), (2, 2, 3, 4)


def numbers(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def run(network, feeds):
    model = ir.to_proto(lowering.to_onnx(network)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def computed(shape, write, *, free=True):
    """What a layer gives for a random input, held to the shape that it was said to have; and the input."""
    network = Network()
    sizes = ("batch", *shape[1:]) if free else shape
    made = write(network, network.add_input("x", sizes))
    network.mark_output(made)
    x = numbers(*shape)
    (result,) = run(network, {"x": x})
    told = [shape[0] if not isinstance(size, int) else size for size in made.shape]
    assert list(result.shape) == told
    assert made.dtype.numpy() == result.dtype
    return result, x


def close(result, wanted):
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)


KERNEL, BIAS = numbers(6, 4, 3, 3), numbers(6)


def test_a_convolution_is_the_sum_over_its_window():
    result, x = computed(IMAGE, lambda n, x: n.add_convolution(x, 6, 3, KERNEL, BIAS, stride=2, padding=1))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    close(result, np.einsum("bchwij,mcij->bmhw", windows, KERNEL) + BIAS[:, None, None])


def test_weights_may_be_flat_and_wide():
    write = [
        lambda n, x, k=kernel: n.add_convolution(x, 6, (3, 3), k)
        for kernel in (KERNEL, KERNEL.ravel().astype(np.float64))
    ]
    network = Network()
    x = network.add_input("x", IMAGE)
    for each in write:
        network.mark_output(each(network, x))
    first, second = run(network, {"x": numbers(*IMAGE)})
    np.testing.assert_array_equal(first, second)


def test_a_deconvolution_spreads_each_element_over_its_window():
    kernel = numbers(4, 3, 2, 2)
    result, x = computed(IMAGE, lambda n, x: n.add_deconvolution(x, 3, 2, kernel, stride=2))
    spread = np.einsum("bchw,cmij->bmhiwj", x, kernel)
    close(result, spread.reshape(2, 3, 12, 12))


@pytest.mark.parametrize(("kind", "reduce"), [("max", np.max), ("average", np.mean)])
def test_a_pool_takes_one_number_of_each_window(kind, reduce):
    result, x = computed(IMAGE, lambda n, x: n.add_pooling(x, kind, 2))
    close(result, reduce(x.reshape(2, 4, 3, 2, 3, 2), axis=(3, 5)))
    result, x = computed(IMAGE, lambda n, x: n.add_pooling(x, kind))
    close(result, reduce(x, axis=(2, 3), keepdims=True))


def test_a_pool_that_rounds_up_has_caffes_size():
    result, _ = computed(IMAGE, lambda n, x: n.add_pooling(x, "max", 3, stride=2, round_up=True))
    assert result.shape == (2, 4, 3, 3)


def test_lrn_divides_by_the_squares_around():
    result, x = computed(IMAGE, lambda n, x: n.add_lrn(x, 3, alpha=0.3, beta=0.5, k=2.0))
    square = np.pad(x**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    close(result, x / np.sqrt(2.0 + 0.1 * (square[:, :-2] + square[:, 1:-1] + square[:, 2:])))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "relu": ((), lambda x: np.maximum(x, 0)),
    "sigmoid": ((), sigmoid),
    "tanh": ((), np.tanh),
    "leaky_relu": ((0.1,), lambda x: np.where(x > 0, x, np.float32(0.1) * x)),
    "elu": ((0.5,), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    "clip": ((-0.5, 0.25), lambda x: np.clip(x, -0.5, 0.25)),
    "silu": ((), lambda x: x * sigmoid(x)),
    "gelu": ((), lambda x: x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))) / 2),
    "softplus": ((), lambda x: np.log1p(np.exp(x))),
    "softsign": ((), lambda x: x / (1 + np.abs(x))),
    "hard_sigmoid": ((0.25, 0.5), lambda x: np.clip(0.25 * x + 0.5, 0, 1)),
    "hard_swish": ((), lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "thresholded_relu": ((0.3,), lambda x: np.where(x > 0.3, x, 0)),
    "selu": ((), lambda x: 1.05070098 * np.where(x > 0, x, 1.67326324 * np.expm1(x))),
    "celu": ((0.5,), lambda x: np.maximum(x, 0) + np.minimum(0, 0.5 * np.expm1(x / 0.5))),
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_activation_is_its_formula(kind):
    parameters, formula = ACTIVATIONS[kind]
    result, x = computed(ROWS, lambda n, x: n.add_activation(x, kind, *parameters))
    close(result, formula(x))


def test_a_scale_multiplies_then_adds_then_raises():
    result, x = computed(IMAGE, lambda n, x: n.add_scale(x, shift=3 * np.ones(4), scale=0.1, power=[2, 1, 2, 1]))
    close(result, (x * 0.1 + 3) ** np.array([2, 1, 2, 1])[:, None, None])


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        *(("sum", np.add), ("sub", np.subtract), ("prod", np.multiply), ("div", np.divide)),
        *(("max", np.maximum), ("min", np.minimum), ("greater", np.greater), ("less", np.less)),
    ],
)
def test_two_tensors_meet_element_by_element(kind, formula):
    other = numbers(5, 1)
    result, x = computed(ROWS, lambda n, x: n.add_elementwise(x, n.add_constant("other", other), kind))
    close(result, formula(x, other))


def test_a_power_and_equals_meet_element_by_element():
    result, x = computed(ROWS, lambda n, x: n.add_elementwise(n.add_elementwise(x, x, "prod"), x, "pow"))
    close(result, (x * x) ** x)
    result, x = computed(ROWS, lambda n, x: n.add_elementwise(x, n.add_activation(x, "relu"), "equal"))
    np.testing.assert_array_equal(result, x >= 0)


@pytest.mark.parametrize(("kind", "formula"), [("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor)])
def test_truths_meet_element_by_element(kind, formula):
    bounds = np.float32(0), numbers(5, 1)

    def write(network, x):
        limits = [network.add_constant(name, bound) for name, bound in zip("ab", bounds, strict=True)]
        return network.add_elementwise(*(network.add_elementwise(x, each, "greater") for each in limits), kind)

    result, x = computed(ROWS, write)
    np.testing.assert_array_equal(result, formula(*(x > bound for bound in bounds)))


def test_a_fully_connected_layer_flattens_its_input():
    kernel, bias = numbers(7, 144), numbers(7)
    result, x = computed(IMAGE, lambda n, x: n.add_fully_connected(x, 7, kernel, bias))
    close(result, x.reshape(2, 144) @ kernel.T + bias)


def test_a_matrix_product_turns_its_sides():
    result, x = computed(ROWS, lambda n, x: n.add_matmul(x, x, transpose_b=True))
    close(result, x @ x.transpose(0, 2, 1))
    result, x = computed(ROWS, lambda n, x: n.add_matmul(x, x, transpose_a=True))
    close(result, x.transpose(0, 2, 1) @ x)


def softmax(x, axis=-1):
    shares = np.exp(x - x.max(axis, keepdims=True))
    return shares / shares.sum(axis, keepdims=True)


def test_attention_weighs_the_values_by_its_scores():
    mask = np.array([0, -np.inf, 0], np.float32)
    result, x = computed(HEADS, lambda n, x: n.add_attention(x, x, x, n.add_constant("mask", mask)))
    close(result, softmax(x @ x.transpose(0, 1, 3, 2) / 2 + mask) @ x)


def test_softmax_sums_to_one_along_its_axis():
    result, x = computed(ROWS, lambda n, x: n.add_softmax(x, 1))
    close(result, softmax(x, 1))


def normal(x, axes, epsilon=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def test_each_normalization_is_its_formula():
    scale, bias = numbers(4), numbers(4)
    planes = scale[:, None, None], bias[:, None, None]
    result, x = computed(
        IMAGE, lambda n, x: n.add_normalization(x, "batch", scale, bias, mean=bias, variance=scale**2, epsilon=0.1)
    )
    close(result, (x - planes[1]) / np.sqrt(planes[0] ** 2 + 0.1) * planes[0] + planes[1])
    result, x = computed(IMAGE, lambda n, x: n.add_normalization(x, "instance", scale, bias))
    close(result, normal(x, (2, 3)) * planes[0] + planes[1])
    result, x = computed(IMAGE, lambda n, x: n.add_normalization(x, "group", scale, bias, groups=2))
    grouped = normal(x.reshape(2, 2, 72), 2).reshape(x.shape)
    close(result, grouped * planes[0] + planes[1])
    result, x = computed(HEADS, lambda n, x: n.add_normalization(x, "layer", scale, bias))
    close(result, normal(x, 3) * scale + bias)
    result, x = computed(HEADS, lambda n, x: n.add_normalization(x, "rms", scale))
    close(result, x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale)


def test_concatenation_shuffle_and_reduction_move_what_they_say():
    result, x = computed(ROWS, lambda n, x: n.add_concatenation([x, x], 2))
    close(result, np.concatenate([x, x], 2))
    result, x = computed(
        ROWS, lambda n, x: n.add_shuffle(x, first_transpose=(0, 2, 1), reshape=(0, 4, -1), second_transpose=(0, 2, 1))
    )
    close(result, x.transpose(0, 2, 1).reshape(2, 4, 10).transpose(0, 2, 1))
    for kind, reduce in (("sum", np.sum), ("average", np.mean), ("max", np.max), ("min", np.min), ("prod", np.prod)):
        result, x = computed(ROWS, lambda n, x, kind=kind: n.add_reduce(x, kind, (1, -1)))
        close(result, reduce(x, (1, 2)))


def test_topk_gives_values_and_places():
    network = Network()
    for made in network.add_topk(network.add_input("x", ("batch", 8)), 3, kind="min"):
        assert list(made.shape)[1] == 3
        network.mark_output(made)
    x = numbers(2, 8)
    values, places = run(network, {"x": x})
    close(values, np.sort(x, 1)[:, :3])
    np.testing.assert_array_equal(places, np.argsort(x, 1)[:, :3])


def test_gather_takes_slices():
    table = numbers(10, 4)
    network = Network()
    indices = network.add_input("indices", ("batch", 3), "int64")
    made = network.mark_output(network.add_gather(network.add_constant("table", table), indices))
    assert [str(size) for size in made.shape] == ["batch", "3", "4"]
    (result,) = run(network, {"indices": np.array([[1, 2, 9], [0, 0, -1]])})
    close(result, table[[[1, 2, 9], [0, 0, -1]]])


def test_resize_repeats_the_nearest():
    result, x = computed(IMAGE, lambda n, x: n.add_resize(x, scales=(1, 1, 2, 2), coordinates="asymmetric"))
    close(result, x.repeat(2, 2).repeat(2, 3))


def keys(distance):
    """Keys's cubic (1981), with ONNX's coefficient."""
    d, a = np.abs(distance), -0.75
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


@pytest.mark.parametrize(("mode", "weigh"), [("linear", lambda d: np.maximum(1 - np.abs(d), 0)), ("cubic", keys)])
def test_resize_weighs_the_neighbours_by_their_distance(mode, weigh):
    network = Network()
    x = network.add_input("x", (1, 1, 12, 1))
    for coordinates in ("half_pixel", "align_corners"):
        network.mark_output(network.add_resize(x, shape=(1, 1, 23, 1), mode=mode, coordinates=coordinates))
    line = numbers(1, 1, 12, 1)
    places = (np.arange(23) + 0.5) * 12 / 23 - 0.5, np.arange(23) / 2
    for given, at in zip(run(network, {"x": line}), places, strict=True):
        wanted = weigh(at[:, None] - np.arange(12)) @ line[0, 0, :, 0]
        close(given[0, 0, 4:-4, 0], wanted[4:-4])  # where no edge is near


def lstm(x, kernel, recurrence, bias, hidden):
    """Steps (steps, batch, features), gates in ONNX's order: input, output, forget, cell."""
    state = cell = np.zeros((x.shape[1], hidden), np.float32)
    outputs = []
    for step in x:
        gates = step @ kernel.T + state @ recurrence.T + bias[: 4 * hidden] + bias[4 * hidden :]
        i, o, f, c = np.split(gates, 4, axis=1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
        state = sigmoid(o) * np.tanh(cell)
        outputs.append(state)
    return np.stack(outputs)


def test_an_lstm_goes_forward_and_back():
    kernel, recurrence, bias = numbers(2, 16, 8), numbers(2, 16, 4), numbers(2, 32)

    def write(network, x):
        return network.add_rnn(x, "lstm", 4, kernel, recurrence, bias, direction="bidirectional").outputs

    result, x = computed((5, 2, 8), write, free=False)
    there = lstm(x, kernel[0], recurrence[0], bias[0], 4)
    back = lstm(x[::-1], kernel[1], recurrence[1], bias[1], 4)[::-1]
    close(result, np.concatenate([there, back], 2))


def test_a_gru_resets_its_state():
    kernel, recurrence = numbers(1, 12, 8), numbers(1, 12, 4)
    result, x = computed(
        (3, 2, 8), lambda n, x: n.add_rnn(x, "gru", 4, kernel, recurrence, reset_after=True).outputs, free=False
    )
    state, (kz, kr, kh), (rz, rr, rh) = np.zeros((2, 4)), np.split(kernel[0], 3), np.split(recurrence[0], 3)
    for step, got in zip(x, result, strict=True):
        update, reset = sigmoid(step @ kz.T + state @ rz.T), sigmoid(step @ kr.T + state @ rr.T)
        state = (1 - update) * np.tanh(step @ kh.T + reset * (state @ rh.T)) + update * state
        close(got, state)


def test_any_other_operator_goes_by_its_name():
    result, x = computed(ROWS, lambda n, x: n.add_operator("CumSum", [x, n.add_constant("axis", np.array(1))])[0])
    close(result, x.cumsum(1))
