"""Narrow layers, wide borders: types, casts, what stays, and that the outputs stay near."""

import numpy as np
import onnx_ir as ir
import pytest

from enginewright_builder.network import lowering
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.precision import NarrowFloats, narrowed

GENERATOR = np.random.default_rng(9)


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def head(x="2,4,5,5", y="2,4,5,5", more=""):
    return f'<ir_version: 8, opset_import: ["" : 17]> agraph (float[{x}] x{more}) => (float[{y}] y) '


def kinds(network):
    return [(node.op_type, node.outputs[0].dtype.name) for node in network.layers()]


def test_the_border_keeps_its_types_and_all_between_is_narrow(network_of, near):
    network = network_of(head() + "{ c = Conv(x, w) r = Relu(c) y = Add(r, x) }", w=floats(4, 4, 1, 1))
    report = near(NarrowFloats(), network)
    assert kinds(network) == [("Cast", "FLOAT16"), ("Conv", "FLOAT16"), ("Relu", "FLOAT16"), ("Add", "FLOAT16"),
                              ("Cast", "FLOAT")]  # fmt: skip
    assert report.changed == 3
    assert [value.dtype.name for value in network.graph.initializers.values()] == ["FLOAT16"]


def test_fused_layers_become_narrow_whole(network_of, near):
    network = network_of(head() + "{ c = Conv(x, w, b) y = Relu(c) }", w=floats(4, 4, 1, 1), b=floats(4))
    FuseEpilogues().apply(network)
    near(NarrowFloats(), network)
    assert kinds(network)[1] == ("FusedConv", "FLOAT16")


def test_a_rule_keeps_a_layer_wide_by_its_name(network_of, near):
    network = network_of(head() + "{ c = Conv(x, w) s = Sigmoid(c) y = Relu(s) }", w=floats(4, 4, 1, 1))
    report = near(NarrowFloats(keep=("Sigm*",)), network)
    assert ("Sigmoid", "FLOAT") in kinds(network)
    assert report.declined == ("Sigmoid:s: stays in float32, as the rule 'Sigm*' says",)


@pytest.mark.parametrize(("number", "why"), [(1e5, "holds 1e+05, beyond the largest 65504"),
                                             (1e-12, "is 1e-12, which would become 0")])  # fmt: skip
def test_a_constant_out_of_range_keeps_its_layer_wide(network_of, near, number, why):
    network = network_of(head() + "{ c = Relu(x) d = Mul(c, k) y = Tanh(d) }", k=np.float32(number))
    report = near(NarrowFloats(), network)
    assert ("Mul", "FLOAT") in kinds(network)
    assert report.declined == (f"Mul:d: stays in float32, its constant k {why}",)


def test_a_masks_lowest_number_becomes_the_lowest_of_the_narrow_type(network_of, near):
    network = network_of(
        head(more=", bool[2,4,5,5] m") + "{ d = Where(m, x, k) y = Softmax(d) }", k=np.float32(np.finfo(np.float32).min)
    )
    report = near(NarrowFloats(), network)
    assert "constant k: what lies below the type's range became its lowest number" in report.details
    assert float(narrowed(np.float32([-3e38]), ir.DataType.FLOAT16)[0]) == -65504


def test_scales_of_a_resize_stay_float32(network_of, near):
    network = network_of(
        head(y="2,4,10,10") + "{ r = Relu(x) y = Resize(r, , s) }", s=np.array([1, 1, 2, 2], np.float32)
    )
    near(NarrowFloats(), network)
    assert kinds(network)[2] == ("Resize", "FLOAT16")
    assert network.graph.initializers["s"].dtype is ir.DataType.FLOAT


def test_what_counts_stays_float32(network_of, near):
    network = network_of(head(y="2,4,5,5") + "{ r = Softmax(x) y = CumSum(r, a) }", a=np.array(3))
    report = near(NarrowFloats(), network)
    assert report.declined == ("CumSum:y: stays in float32, CumSum works with numbers that need it",)


def test_angles_are_computed_in_float32_from_the_start(network_of, near):
    source = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2,9,1] x, float[2,9,8] v) => (float[2,9,8] y) '
    network = network_of(
        source + "{ a = Mul(x, k) b = MatMul(a, f) c = Concat<axis = -1>(b, b) d = Cos(c) e = Neg(v) y = Mul(d, e) }",
        k=np.float32(1000), f=np.geomspace(1, 0.1, 4, dtype=np.float32).reshape(1, 4),
    )  # fmt: skip
    report = near(NarrowFloats(), network)
    assert ("MatMul", "FLOAT") in kinds(network)
    assert ("Neg", "FLOAT16") in kinds(network)
    assert report.declined[0] == "Mul:a: stays in float32, what it computes is for a layer that does"


def test_an_inner_value_that_is_an_output_too_keeps_name_and_type(network_of, near):
    source = head().replace("=> (float[2,4,5,5] y)", "=> (float[2,4,5,5] y, float[2,4,5,5] c)")
    network = network_of(source + "{ c = Relu(x) y = Neg(c) }")
    near(NarrowFloats(), network)


def test_what_a_body_captures_is_wide_again(network_of, near):
    network = network_of(
        head(more=", bool t") + "{ c = Relu(x) b = If(t) "
        "<then_branch = g () => (float[2,4,5,5] p) { p = Neg(c) }, "
        "else_branch = e () => (float[2,4,5,5] q) { q = Abs(c) }> y = Tanh(b) }"
    )
    near(NarrowFloats(), network)
    assert ("If", "FLOAT") in kinds(network)


def test_comparisons_take_narrow_numbers_and_give_what_they_gave(network_of, near):
    network = network_of(head() + "{ c = Relu(x) g = Greater(c, k) y = Where(g, x, c) }", k=np.float32(0.5))
    near(NarrowFloats(), network)
    assert ("Greater", "BOOL") in kinds(network)


def test_bfloat16_has_float32s_range(network_of):
    network = network_of(head() + "{ d = Mul(x, k) y = Relu(d) }", k=np.float32(1e30))
    report = NarrowFloats(dtype=ir.DataType.BFLOAT16).apply(network)
    assert (report.changed, report.declined) == (2, ())
    assert kinds(network)[1] == ("Mul", "BFLOAT16")
    assert lowering.to_onnx(network).graph.initializers["k_bfloat16"].dtype is ir.DataType.BFLOAT16
