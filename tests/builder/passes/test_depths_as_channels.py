"""3-D convolutions as 2-D ones: outputs stay, and what between them can stays in pictures."""

import numpy as np
import pytest

from enginewright_builder.network import layers
from enginewright_builder.passes.depths_as_channels import DepthsAsChannels

GENERATOR = np.random.default_rng(29)
SAME = "kernel_shape = [3, 3, 3], pads = [1, 1, 1, 1, 1, 1]"


def floats(*shape):
    return (GENERATOR.standard_normal(shape) * 0.3).astype(np.float32)


def network(network_of, body, x="1,2,8,6,5", y="1,3,8,6,5", opset=17, **constants):
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[{x}] x) => (float[{y}] y) '
    return network_of(head + "{ " + body + " }", **constants)


def ranks(net, operator):
    return {len(node.outputs[0].shape) for node in net.layers() if node.op_type == operator}


@pytest.mark.parametrize("depth", [1, 2, 8, 7, 12])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_convolution_is_of_blocks_of_depths_and_of_those_beside_them(network_of, applied, depth, batch):
    shape = f"{depth},6,5"
    net = network(network_of, f"y = Conv<{SAME}>(x, w, b)", x=f"{batch},2,{shape}", y=f"{batch},3,{shape}",
                  w=floats(3, 2, 3, 3, 3), b=floats(3))  # fmt: skip
    assert applied(DepthsAsChannels(), net).changed == 1
    assert ranks(net, "Conv") == {4}


@pytest.mark.parametrize(
    ("attributes", "weights", "y"),
    [
        ("kernel_shape = [3, 1, 1], pads = [1, 0, 0, 1, 0, 0]", (3, 2, 3, 1, 1), "1,3,8,6,5"),
        ("kernel_shape = [5, 3, 3], pads = [2, 0, 1, 2, 2, 0], strides = [1, 2, 1]", (3, 2, 5, 3, 3), "1,3,8,3,4"),
        ("kernel_shape = [3, 2, 3], pads = [1, 1, 2, 1, 0, 2], dilations = [1, 1, 2]", (3, 2, 3, 2, 3), "1,3,8,6,5"),
    ],
)
def test_windows_may_have_any_form_beside_the_depth(network_of, applied, attributes, weights, y):
    net = network(network_of, f"y = Conv<{attributes}>(x, w)", y=y, w=floats(*weights))
    assert applied(DepthsAsChannels(), net).changed == 1


@pytest.mark.parametrize("opset", [11, 17, 18, 21])
def test_an_hourglass_stays_in_pictures_from_end_to_end(network_of, applied, opset):
    body = (
        f"a = Conv<{SAME}>(x, wa, ba) r = Relu(a) p = MaxPool<kernel_shape = [2, 2, 2], strides = [2, 2, 2]>(r) "
        f"c = Conv<{SAME}>(p, wc) s = LeakyRelu<alpha = 0.3>(c) "
        "t = ConvTranspose<kernel_shape = [3, 3, 3], strides = [2, 2, 2], pads = [0, 0, 0, 1, 1, 1]>(s, wt, bt) "
        f"j = Concat<axis = 1>(t, r) d = Conv<{SAME}>(j, wd) e = Add(d, a) y = Conv<kernel_shape = [1, 1, 1]>(e, we)"
    )
    net = network(network_of, body, x="2,1,8,4,6", y="2,2,8,4,6", opset=opset, wa=floats(3, 1, 3, 3, 3), ba=floats(3),
                  wc=floats(5, 3, 3, 3, 3), wt=floats(5, 4, 3, 3, 3), bt=floats(4), wd=floats(3, 7, 3, 3, 3),
                  we=floats(2, 3, 1, 1, 1))  # fmt: skip
    report = applied(DepthsAsChannels(), net)
    assert (report.changed, report.declined) == (10, ())
    assert layers.kinds(net)["Transpose"] == 2
    assert ranks(net, "Conv") | ranks(net, "ConvTranspose") | ranks(net, "MaxPool") == {4}


@pytest.mark.parametrize(
    ("attributes", "depth"),
    [
        ("kernel_shape = [2, 2, 2], strides = [2, 2, 2]", 2),
        ("kernel_shape = [4, 3, 3], strides = [2, 1, 1], pads = [1, 1, 1, 1, 1, 1]", 4),
        ("kernel_shape = [5, 3, 3], strides = [3, 1, 1], pads = [1, 1, 1, 1, 1, 1]", 5),
        ("kernel_shape = [3, 3, 3], pads = [1, 1, 1, 1, 1, 1]", 3),
    ],
)
def test_transposed_convolutions_give_a_block_a_depth(network_of, applied, attributes, depth):
    stride = {2: 2, 4: 2, 5: 3, 3: 1}[depth]
    size = "12,10" if depth == 2 else "6,5"
    net = network(network_of, f"a = Conv<{SAME}>(x, w) y = ConvTranspose<{attributes}>(a, v)",
                  y=f"1,4,{8 * stride},{size}", w=floats(3, 2, 3, 3, 3),
                  v=floats(3, 4, depth, *((2, 2) if depth == 2 else (3, 3))))  # fmt: skip
    assert applied(DepthsAsChannels(), net).changed == 2


def test_what_is_read_elsewhere_is_turned_back_for_that(network_of, applied):
    net = network(network_of, f"a = Conv<{SAME}>(x, w) n = Softmax<axis = 1>(a) m = Mul(a, n) y = Conv<{SAME}>(m, v)",
                  w=floats(3, 2, 3, 3, 3), v=floats(3, 3, 3, 3, 3))  # fmt: skip
    assert applied(DepthsAsChannels(), net).changed == 3
    assert layers.kinds(net)["Softmax"] == 1


@pytest.mark.parametrize(
    ("body", "constants", "why"),
    [
        ("y = Conv<kernel_shape = [3, 3, 3], pads = [0, 1, 1, 2, 1, 1]>(x, w)", (3, 2, 3, 3, 3), "one for one"),
        (f"y = Conv<{SAME}, group = 2>(x, w)", (4, 1, 3, 3, 3), "it is grouped"),
        (f"y = Conv<{SAME}>(x, w)", (65, 2, 3, 3, 3), "it has 65 output channels, and up to 64 are few"),
        ("y = Conv<kernel_shape = [1, 1, 1]>(x, w)", (3, 2, 1, 1, 1), "it looks at one depth alone"),
        ('y = Conv<kernel_shape = [3, 3, 3], auto_pad = "SAME_UPPER">(x, w)', (3, 2, 3, 3, 3), "it pads by itself"),
        ("y = Conv<kernel_shape = [5, 1, 1], pads = [2, 0, 0, 2, 0, 0]>(x, w)", (32, 2, 5, 1, 1), "further than"),
    ],
)
def test_others_are_declined_and_stay(network_of, applied, body, constants, why):
    net = network(network_of, body, y=f"1,{constants[0]},8,6,5", w=floats(*constants))
    report = applied(DepthsAsChannels(), net)
    assert report.changed == 0
    assert why in report.declined[0]
    assert list(net.graph.initializers) == ["w"]
