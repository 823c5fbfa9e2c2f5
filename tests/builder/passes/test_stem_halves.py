"""A stem of few windows multiplies in float32, and its readers get what rounding its result loses as well."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from enginewright_builder.network import fused, lowering
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.precision import NarrowFloats
from enginewright_builder.passes.stem_halves import StemInHalves

GENERATOR = np.random.default_rng(23)
HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2,3,17,17] x) => (float[2,{}] y) '
STEM = "a = Conv<strides = [2, 2]>(x, w, k) r = Relu(a) "
READER = "y = Conv(r, v)"


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def network(network_of, body=STEM + READER, y="8,6,6", channels=16, window=3, groups=1):
    made = network_of(
        HEAD.format(y) + "{ " + body + " }",
        w=floats(channels, 3, window, window), k=floats(channels), v=floats(8, channels // groups, 3, 3),
    )  # fmt: skip
    FuseEpilogues().apply(made)
    return made


def narrow(*given, **more):
    made = network(*given, **more)
    NarrowFloats(stems=True).apply(made)
    return made


def types(node):
    return [value.dtype.name for value in (*node.inputs[:2], *node.outputs)]


def test_a_stem_of_few_windows_multiplies_in_float32_and_the_rest_does_not(network_of, near):
    made = network(network_of)
    report = near(NarrowFloats(stems=True), made)
    stem, reader, _cast = made.layers()
    assert types(stem) == ["FLOAT", "FLOAT", "FLOAT16"]
    assert types(reader) == ["FLOAT16", "FLOAT16", "FLOAT16"]
    assert report.details[0].startswith("Conv:a+Relu:r: multiplies in float32 and rounds its result alone")


@pytest.mark.parametrize(("window", "stems"), [(5, True), (3, False)], ids=["many windows", "no kernels for it"])
def test_other_stems_are_narrow(network_of, near, window, stems):
    made = network(network_of, window=window, y="8,5,5" if window == 5 else "8,6,6")
    near(NarrowFloats(stems=stems), made)
    assert [types(node) for node in made.layers()][1] == ["FLOAT16", "FLOAT16", "FLOAT16"]


def test_a_stem_of_an_activation_that_its_kernels_do_not_know_is_narrow(network_of, near):
    made = network(network_of, STEM.replace("Relu(a)", "Softplus(a)") + READER)
    near(NarrowFloats(stems=True), made)
    assert {value.dtype.name for node in made.layers() if "Conv" in node.op_type for value in node.inputs} == {
        "FLOAT16"
    }


def test_a_stem_of_what_another_layer_made_is_narrow(network_of, near):
    made = network(network_of, "n = Neg(x) " + STEM.replace("(x", "(n") + READER)
    near(NarrowFloats(stems=True), made)
    assert {value.dtype.name for node in made.layers() if fused.is_fused(node) for value in node.inputs} == {"FLOAT16"}


def test_all_readers_of_a_stem_get_both_halves(network_of, near):
    made = narrow(network_of, STEM + "b = Conv(r, v) c = Conv(r, v) y = Add(b, c)")
    assert near(StemInHalves(), made).changed == 1
    stem, *readers = (node for node in made.layers() if "Conv" in node.op_type)
    assert fused.in_halves(stem)
    assert list(stem.outputs[0].shape) == [2, 32, 8, 8]
    assert [list(reader.inputs[1].shape) for reader in readers] == [[8, 32, 3, 3]] * 2


def test_both_halves_together_are_what_float32_gives(network_of):
    made = network(network_of, STEM.replace("r =", "y ="), y="16,8,8")
    x = floats(2, 3, 17, 17)
    (want,) = run(made, x)
    (stem,) = made.layers()
    stem.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
    fused.give_halves(stem)
    high, low = np.split(run(made, x)[0].astype(np.float32), 2, axis=1)
    np.testing.assert_array_equal(high, want.astype(np.float16))
    np.testing.assert_allclose(high + low, want, rtol=2.0**-21, atol=2.0**-24)


@pytest.mark.parametrize(
    ("body", "more", "why"),
    [
        (STEM + "y = MaxPool<kernel_shape = [2, 2]>(r)", {"y": "16,7,7"}, "MaxPool:y is no plain convolution of it"),
        (STEM + "b = Conv<group = 2>(r, v) y = Relu(b)", {"groups": 2}, "Conv:b+Relu:y is no plain convolution of it"),
        (STEM + "b = Conv(r, v) c = Neg(r) d = Conv(c, v) y = Add(b, d)", {}, "Neg:c is no plain convolution of it"),
    ],
    ids=["pool", "groups", "one of two"],
)  # fmt: skip
def test_a_stem_is_rounded_where_a_reader_takes_no_halves(network_of, near, body, more, why):
    made = narrow(network_of, body, **more)
    report = near(StemInHalves(), made)
    assert report.changed == 0
    assert report.declined[0].startswith("Conv:a+Relu:r: its result is rounded, ")
    assert report.declined[0].endswith(why)


def test_a_stem_of_many_channels_is_rounded(network_of, near):
    report = near(StemInHalves(), narrow(network_of, channels=40))
    assert (report.changed, report.declined) == (0, ())


def run(made, x):
    model = ir.to_proto(lowering.to_onnx(made)).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})
