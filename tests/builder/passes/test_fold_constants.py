"""What depends on constants alone is computed ahead, within bounds, and never what may differ each time."""

import numpy as np
import onnx
import pytest

from enginewright_builder.network import layers
from enginewright_builder.passes.fold_constants import FoldConstants
from enginewright_builder.passes.no_ops import NoOps

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph '


def test_a_chain_on_constants_becomes_one_constant(network_of, applied, layer_lines):
    network = network_of(
        HEAD + "(float[2] x) => (float[2] y) { d = Add(a, b) e = Mul(d, d) f = Neg(e) y = Add(x, f) }",
        a=np.float32([1, 2]),
        b=np.float32([3, 4]),
    )
    report = applied(FoldConstants(), network)
    assert report.details == ("Add:d: Add", "Mul:e: Mul", "Neg:f: Neg")
    assert layer_lines(network) == ["Add:y: y = Add(x, f) : float32[2]"]
    assert set(network.graph.initializers) == {"f"}


def test_shape_arithmetic_on_known_shapes_is_folded(network_of, applied, layer_lines):
    network = network_of(
        HEAD + "(float[2,3,4] x) => (float[2,12] y) { s = Shape(x) n = Gather(s, zero) m = Unsqueeze(n, axes) "
        "t = Concat<axis = 0>(m, rest) y = Reshape(x, t) }",
        zero=np.int64(0),
        axes=np.int64([0]),
        rest=np.int64([-1]),
    )
    applied(FoldConstants(), network)
    assert layer_lines(network) == ["Reshape:y: y = Reshape(x, t) : float32[2,12]"]


@pytest.mark.parametrize(("start", "end", "want"), [(0, 2, [2, 3]), (-2, 99, [3, 4]), (-99, -1, [2, 3]), (2, 1, [])])
def test_a_part_of_a_shape_is_clamped_as_onnx_says(network_of, applied, start, end, want):
    network = network_of(
        HEAD + f"(float[2,3,4] x) => (int64[{len(want)}] y) {{ s = Shape<start = {start}, end = {end}>(x) y = Neg(s) }}"
    )
    applied(FoldConstants(), network)
    assert network.constant(network.graph.initializers["s"]).tolist() == want


def test_a_shape_that_is_free_is_left_to_be_computed(network_of, applied):
    network = network_of(HEAD + "(float[N,3] x) => (int64[2] y) { s = Shape(x) y = Neg(s) }")
    assert applied(FoldConstants(), network).changed == 0


def test_a_result_that_would_make_the_plan_grow_is_declined(network_of, applied):
    network = network_of(
        HEAD + "(float[1] x) => (float[1,1000000] y) { e = Expand(one, shape) y = Mul(x, e) }",
        one=np.float32([[1]]),
        shape=np.int64([1, 1_000_000]),
    )
    report = applied(FoldConstants(), network)
    assert report.changed == 0
    assert "4000000 bytes would make the plan grow" in report.declined[0]


def test_layers_that_grow_little_by_little_make_no_more_than_there_is_room_for(network_of):
    layers = " ".join(f"c{i + 1} = Concat<axis = 0>(c{i}, c{i}, c{i}, c{i})" for i in range(12))
    network = network_of(
        HEAD + f"(float[1] x) => (float[1] y) {{ {layers} s = ReduceSum<keepdims = 0>(c12) y = Add(x, s) }}",
        c0=np.ones(1024, np.float32),
    )
    report = FoldConstants(room=1 << 20).apply(network)
    assert sum(value.const_value.nbytes for value in network.graph.initializers.values()) < 1 << 20
    assert "bytes is more than the" in report.declined[0]


def test_what_a_model_says_of_a_size_is_not_believed(network_of):
    source = onnx.parser.parse_model(
        HEAD + "(float[1] x) => (float[1] y) { n = Round(a) m = Cast<to = 7>(n) r = Range(zero, m, one)"
        " s = ReduceSum<keepdims = 0>(r) f = Cast<to = 1>(s) y = Add(x, f) }"
    )
    source.graph.value_info.append(onnx.helper.make_tensor_value_info("r", onnx.TensorProto.INT64, [1]))
    network = network_of(source, a=np.float32(1e9), zero=np.int64(0), one=np.int64(1))
    report = FoldConstants().apply(network)
    assert "Range:r is not computed ahead: its result of 8000000000 bytes" in report.declined[0]


def test_what_is_random_is_never_computed_ahead(network_of):
    network = network_of(
        HEAD + "(float[2] x) => (float[2] y) { r = RandomNormalLike(a) y = Add(x, r) }", a=np.float32([1, 2])
    )
    report = FoldConstants().apply(network)
    assert (report.changed, layers.count(network)) == (0, 2)
    assert "RandomNormalLike may give another result each time" in report.declined[0]


def test_quantized_weights_stay_quantized(network_of, applied):
    network = network_of(
        HEAD + "(float[2] x) => (float[2] y) { w = DequantizeLinear(q, s) y = Add(x, w) }",
        q=np.int8([1, 2]),
        s=np.float32(0.5),
    )
    assert applied(FoldConstants(), network).changed == 0


def test_an_integer_division_by_zero_is_left_for_the_run(network_of):
    network = network_of(
        HEAD + "(int64[1] x) => (int64[1] y) { d = Div(a, zero) y = Add(x, d) }", a=np.int64([1]), zero=np.int64([0])
    )
    report = FoldConstants().apply(network)
    assert report.declined == ("Div:d is not computed ahead: it divides an integer by zero",)


def test_a_layer_that_onnx_runtime_refuses_is_named_and_the_others_are_folded(network_of):
    network = network_of(
        HEAD + "(float[2] x) => (float[2] y) "
        "{ good = Neg(a) bad = Gather(a, far) w = Add(good, bad) v = Add(x, w) y = Add(v, good) }",
        a=np.float32([1, 2]),
        far=np.int64([7, 7]),
    )
    report = FoldConstants().apply(network)
    assert report.details == ("Neg:good: Neg",)
    assert report.declined[0].startswith("Gather:bad is not computed ahead: ONNX Runtime says:")


@pytest.mark.parametrize(("condition", "operator"), [(True, "Neg"), (False, "Abs")])
def test_a_branch_that_is_always_taken_is_inlined(network_of, applied, condition, operator):
    network = network_of(
        HEAD + "(float[2] x) => (float[2] y) { a = Relu(x) y = If(c) "
        "<then_branch = t () => (float[2] p) { k = Constant<value = float {2.0}>() m = Mul(a, k) p = Neg(m) }, "
        "else_branch = e () => (float[2] q) { k = Constant<value = float {3.0}>() m = Mul(a, k) q = Abs(m) }> }",
        c=np.bool_(condition),
    )
    applied(FoldConstants(), network)
    assert [node.op_type for node in network.layers()] == ["Relu", "Mul", operator]


def test_a_constant_output_stays_a_layer(network_of, applied):
    network = network_of(
        HEAD + "(float[2] x) => (float[2] y, float[2] z) { y = Neg(x) b = Neg(a) z = Abs(b) }", a=np.float32([1, 2])
    )
    applied(FoldConstants(), network)
    assert [node.op_type for node in network.layers()] == ["Neg", "Abs"]


def test_a_bound_of_range_from_a_branch_is_made_a_scalar(network_of):
    network = network_of(
        HEAD + "(int64 x) => (int64[n] y) { y = Range(zero, x, one) }", zero=np.int64([0]), one=np.int64([1])
    )
    report = FoldConstants().apply(network)
    assert report.details == ("Range:y: its bound zero is a scalar", "Range:y: its bound one is a scalar")


def test_a_result_whose_size_is_known_only_once_others_are_folded_is_folded_then(network_of, applied, layer_lines):
    network = network_of(
        HEAD + "(float[2,3] x) => (float y) { s = Shape(x) n = Size(s) a = Range(zero, n, one) "
        "y = ReduceSum<keepdims = 0>(x, a) }",
        zero=np.int64(0),
        one=np.int64(1),
    )
    applied(FoldConstants(), network)
    assert layer_lines(network) == ["ReduceSum:y: y = ReduceSum(x, a, keepdims=0) : float32[]"]


MASK = (
    "(float[8,12,128,128] x) => (float[8,12,128,128] y) "
    "{ e = Expand(seen, shape) m = Where(e, zero, low) s = Add(x, m) y = Relu(s) }"
)


def test_a_mask_that_is_written_out_for_all_rows_stays_one_row(network_of, applied, layer_lines):
    seen = np.arange(128).reshape(1, 1, 1, 128) < 100
    network = network_of(
        HEAD + MASK, seen=seen, shape=np.int64([8, 1, 128, 128]), zero=np.float32(0), low=np.float32(-1e4)
    )
    applied(FoldConstants(), network)
    assert [line.split(" : ")[0] for line in layer_lines(network)] == [
        "Add:s: s = Add(x, m_small)",
        "Relu:y: y = Relu(s)",
    ]
    assert network.graph.initializers["m_small"].const_value.nbytes == 4 * 128


def test_a_mask_that_hides_nothing_is_nothing(network_of, applied, layer_lines):
    network = network_of(
        HEAD + MASK, seen=np.ones((1, 1, 1, 128), bool), shape=np.int64([8, 1, 128, 128]), zero=np.float32(0),
        low=np.float32(-1e4),
    )  # fmt: skip
    applied(FoldConstants(), network)
    applied(NoOps(), network)
    assert layer_lines(network) == ["Relu:y: y = Relu(x) : float32[8,12,128,128]"]


def test_an_expansion_that_makes_its_reader_larger_stays(network_of, applied):
    network = network_of(
        HEAD + "(float[1,1,1,128] x) => (float[8,1,128,128] y) "
        "{ e = Expand(seen, shape) n = Not(e) c = Cast<to = 1>(n) y = Mul(x, c) }",
        seen=np.ones((1, 1, 1, 128), bool), shape=np.int64([8, 1, 128, 128]),
    )  # fmt: skip
    applied(FoldConstants(), network)
    assert [node.op_type for node in network.layers()] == ["Expand", "Mul"]
