"""Where values lie: each is found again through its strides, moves cost nothing, and borders are plain."""

import numpy as np
import onnx
import pytest
from layouts.placed import placed

from enginewright_builder.device import layout, tensors, views
from enginewright_builder.importers import from_onnx
from enginewright_runtime.errors import UnsupportedError

GENERATOR = np.random.default_rng(3)


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


@pytest.fixture
def network_of(tmp_path):
    def load(body, x="2,8,5,5", outputs="float[n,m,o,p] y", **constants):
        model = onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : 17]> agraph (float[{x}] x) => ({outputs}) {{ {body} }}'
        )
        for name, array in constants.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        onnx.save(model, tmp_path / "m.onnx")
        return from_onnx.load(tmp_path / "m.onnx")

    return load


def test_activations_between_convolutions_lie_channels_last_and_borders_do_not(network_of):
    network = network_of("a = Conv(x, w) b = Relu(a) y = Conv(b, w)", w=floats(8, 8, 1, 1))
    found = placed(network)
    assert [found.places[name].type.is_channels_last for name in "xaby"] == [False, True, True, False]


def test_a_product_keeps_c_order_beside_a_convolution(network_of):
    found = placed(network_of("a = Conv(x, w) b = MatMul(a, v) y = Relu(b)", w=floats(8, 8, 1, 1), v=floats(5, 5)))
    assert found.places["b"].type.is_contiguous


def test_what_is_concatenated_is_written_in_place(network_of):
    network = network_of(
        "a = Conv(x, w) b = Relu(a) c = Concat<axis = 1>(a, b) "
        "d = Conv(x, w) e = Concat<axis = 1>(c, d) y = Conv(e, v)",
        w=floats(8, 8, 1, 1),
        v=floats(4, 24, 1, 1),
    )
    found = placed(network)
    assert found.free == {"c", "e"}
    assert [found.places[name].offset_elements for name in "abd"] == [0, 8, 16]
    assert {found.places[name].root for name in "abcde"} == {"e"}
    assert layout.executed_layers(network, found) == 4


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("a = Relu(x) b = Concat<axis = 1>(x, a) y = Neg(b)", "an input of the network"),
        ("a = Relu(x) b = Concat<axis = 1>(a, a) y = Neg(b)", "one value twice"),
        ("a = Relu(x) b = Concat<axis = 3>(a, k) y = Neg(b)", "a constant"),
        ("a, c = Split<axis = 1>(x) d = Relu(c) b = Concat<axis = 1>(a, d) y = Neg(b)", "a view"),
        ("a = Relu(x) c = Neg(x) b = Concat<axis = 3>(a, c) y = Neg(b)", "parts at odd addresses"),
    ],
)
def test_a_concatenation_stays_where_an_input_cannot_be_written_in_place(network_of, body, why):
    found = placed(network_of(body, k=floats(2, 8, 5, 1)))
    assert "b" not in found.free, why


WIDE = "a = Conv(x, w) p, q = Split<axis = 1>(a, s) b = Conv(p, v) c = Relu(b) "


def wide():
    return {"w": floats(12, 8, 1, 1), "v": floats(8, 4, 1, 1), "s": np.array([4, 8])}


def test_a_split_whose_last_part_begins_a_concatenation_shares_its_buffer(network_of):
    network = network_of(WIDE + "d = Concat<axis = 1>(q, c) y = Conv(d, u)", u=floats(4, 16, 1, 1), **wide())
    found = placed(network)
    assert found.free == {"p", "q", "d"}
    assert [(found.places[name].root, found.places[name].offset_elements) for name in "apqdc"] == [
        ("a", 0), ("a", 0), ("a", 4), ("a", 4), ("a", 12)
    ]  # fmt: skip
    assert found.places["a"].type.strides[3] == 20


def test_a_split_part_that_does_not_begin_the_concatenation_is_copied(network_of):
    network = network_of(WIDE + "d = Concat<axis = 1>(c, q) y = Conv(d, u)", u=floats(4, 16, 1, 1), **wide())
    assert placed(network).free == {"p", "q"}


def test_a_split_part_that_is_an_output_is_copied(network_of):
    network = network_of(
        WIDE + "d = Concat<axis = 1>(q, c) y = Conv(d, u)",
        u=floats(4, 16, 1, 1),
        outputs="float[n,m,o,p] y, float[n,k,o,p] q",
        **wide(),
    )
    assert placed(network).free == set()


def test_an_output_can_be_what_a_concatenation_fills(network_of):
    network = network_of("a = Relu(x) c = Neg(x) y = Concat<axis = 0>(a, c)", x="2,8,4,4")
    found = placed(network)
    assert (found.free, found.places["c"].root) == ({"y"}, "y")


def test_moves_are_views(network_of):
    network = network_of(
        "a = Relu(x) b = Transpose<perm = [0, 2, 3, 1]>(a) c = Reshape(b, s) d, e = Split<axis = 1>(c) "
        "f = Unsqueeze(d, u) g = Slice(e, u, z, u) h = Squeeze(f, u) y = Neg(h) q = Neg(g)",
        x="2,8,4,4",
        outputs="float[n,m,o] y, float[n,k,o] q",
        s=np.array([2, 16, 8]),
        u=np.array([1]),
        z=np.array([9]),
    )
    found = placed(network)
    assert found.free == {"b", "c", "d", "e", "f", "g", "h"}
    assert {found.places[name].root for name in found.free} == {"a"}


@pytest.mark.parametrize(("index", "place"), [(0, 0), (2, 16), (-1, 24)])
def test_one_row_of_many_is_a_view(network_of, index, place):
    network = network_of("a = Relu(x) b = Gather<axis = 1>(a, i) y = Neg(b)", x="2,4,8", outputs="float[n,m] y",
                         i=np.array(index))  # fmt: skip
    found = placed(network)
    assert (found.free, found.places["b"].offset_elements) == ({"b"}, place)


def test_many_rows_are_a_copy(network_of):
    network = network_of("a = Relu(x) b = Gather<axis = 1>(a, i) y = Neg(b)", x="2,4,8", outputs="float[n,m,o] y",
                         i=np.array([0, 1]))  # fmt: skip
    assert placed(network).free == set()


def test_a_layer_writes_in_the_order_that_the_transpose_after_it_wants(network_of):
    network = network_of(
        "a = Softmax(x) b = Transpose<perm = [0, 2, 1, 3]>(a) c = Reshape(b, s) y = MatMul(c, w)",
        x="2,4,6,8",
        outputs="float[n,m,o] y",
        s=np.array([2, 6, 32]),
        w=floats(32, 8),
    )
    found = placed(network)
    assert found.free == {"b", "c"}
    assert found.places["c"].type.is_contiguous


def test_a_convolution_is_not_given_a_view_that_it_cannot_read(network_of):
    network = network_of("a = Transpose<perm = [0, 1, 3, 2]>(x) y = Conv(a, w)", x="2,8,5,4", w=floats(8, 8, 1, 1))
    assert placed(network).free == set()


def test_pixels_first_given_from_outside_are_read_as_they_are(network_of):
    network = network_of("a = Transpose<perm = [0, 3, 1, 2]>(x) y = Conv(a, w)", x="2,5,5,8", w=floats(8, 8, 1, 1))
    found = placed(network)
    assert found.free == {"a"}
    assert found.places["a"].type.is_channels_last


def test_a_pooled_picture_is_flattened_for_nothing(network_of):
    network = network_of(
        "a = Conv(x, w) b = GlobalAveragePool(a) c = Flatten(b) y = Gemm(c, v)",
        outputs="float[n,m] y",
        w=floats(8, 8, 1, 1),
        v=floats(8, 3),
    )
    assert placed(network).free == {"c"}


def test_a_picture_with_pixels_is_flattened_by_a_copy(network_of):
    network = network_of(
        "a = Conv(x, w) c = Flatten(a) y = Gemm(c, v)", outputs="float[n,m] y", w=floats(8, 8, 1, 1), v=floats(200, 3)
    )
    assert placed(network).free == set()


def test_a_kernel_of_its_own_gets_c_order(network_of):
    network = network_of(
        "a = Conv(x, w) b = Transpose<perm = [0, 2, 1, 3]>(a) y, i = TopK(b, k)",
        w=floats(8, 8, 1, 1),
        k=np.array([2]),
        outputs="float[n,m,o,p] y, int64[n,m,o,p] i",
    )
    assert layout.assign(network).places["b"].type.is_contiguous


@pytest.mark.parametrize(
    ("old", "strides", "new", "wanted"),
    [
        ((2, 3, 4), (12, 4, 1), (6, 4), (4, 1)),
        ((2, 3, 4), (12, 4, 1), (2, 2, 6), (12, 6, 1)),
        ((2, 3, 4), (24, 4, 1), (6, 4), None),
        ((2, 4, 1, 1), (4, 1, 4, 4), (2, 4), (4, 1)),
        ((4, 3), (1, 4), (12,), None),
        ((6, 4), (8, 2), (2, 3, 1, 4), (24, 8, 8, 2)),
        ((), (), (1, 1), (1, 1)),
    ],
)
def test_reshaping_finds_strides_where_there_are_any(old, strides, new, wanted):
    assert views.reshaped(old, strides, new) == wanted


def test_a_shape_that_is_known_too_late_is_refused_by_name(network_of):
    network = network_of("a = NonZero(x) y = Transpose(a)", outputs="int64[n,m] y")
    with pytest.raises(UnsupportedError, match="The value 'a' has no place on the device"):
        layout.assign(network)


def test_the_strides_of_a_tensor_in_c_order_are_plain():
    assert tensors.plain("float32", (2, 3)).strides == (3, 1)
